//! The pipeline: from a profile to an output folder. Each stage is an entry of the store, keyed by
//! the hash of what went in, so a stage whose inputs did not change is not run again.
//!
//! ```text
//! lock ─ fetch ─┬─ unpack ─ compose ─ configure ────────────┬─ finish ─┬─ erofs ─ verity ─┐
//!               └─ unpack kernel, firmware ─ modules, ZFS ─┬┤          └─ lints ──────────┤
//!                                     overlays ────────────┼┤                             ├─ UKI ─ image
//!                                     firstboot ───────────┼┘                             │
//!                                                          └─ initrd ─────────────────────┘
//!                                       beside the image: SBOM, file list
//! ```

mod appliance;
mod budget;
mod describe;
mod explain;
mod image;
mod kernel;
mod lint;
mod origin;
mod publish;
mod root;
mod sizes;

pub use appliance::ensure_target;
pub use explain::Explanation;
pub use origin::Origin;
pub use sizes::Sizes;

use std::collections::HashMap;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::thread::{self, ScopedJoinHandle};

use anyhow::Context as _;

use crate::deb::Ownership;
use crate::image::output::Manifest;
use crate::image::version::Version;
use crate::kernel::is_hardware;
use crate::lint::Report;
use crate::lock::Lock;
use crate::profile::Profile;
use crate::session::{FetchedPackage, Session};
use crate::tools::{LockedTools, Tools, ToolsTree};
use crate::tree::UnpackedPackage;
use crate::{namespace, overlay, release::keys};

/// The time of every file in an image, and what build scripts believe is now: the release of trixie,
/// 2025-08-09. A constant, so that an unchanged file stays the same block in the next image; when an
/// image was made is in its manifest.
pub const EPOCH: i64 = 1_754_697_600;

/// What a build is asked for besides the profile.
#[derive(Debug, Clone)]
pub struct Options {
    /// Version of the image; the date of the lock when there is none.
    pub version: Option<Version>,
    /// The output folder.
    pub out: PathBuf,
}

/// A finished build.
#[derive(Debug, Clone)]
pub struct Built {
    /// The disk image.
    pub image: PathBuf,
    /// What is in the output folder.
    pub manifest: Manifest,
    /// The stages that it went through.
    pub explanation: Explanation,
}

/// Enters the namespace in which images are made; first thing in the process, while it has one thread.
pub fn enter_namespace() -> anyhow::Result<()> {
    namespace::enter()
}

/// Builds the image of `profile` and fills the output folder. The process must be in its namespace
/// ([`enter_namespace`]).
pub fn build(session: &Session, profile: &Profile, options: &Options) -> anyhow::Result<Built> {
    twice(session, || {
        let stages = Stages::run(session, profile, options.version.clone())?;
        publish::publish(session, &stages, &options.out)
    })
}

/// Builds the disk image alone, at `path`.
pub fn build_disk(session: &Session, profile: &Profile, path: &Path) -> anyhow::Result<()> {
    twice(session, || {
        let stages = Stages::run(session, profile, None)?;
        publish::build_disk(session, &stages, path)
    })
}

/// Runs once more what finds parts of an image that were damaged in the store since they were made, and are
/// gone now.
fn twice<T>(session: &Session, run: impl Fn() -> anyhow::Result<Option<T>>) -> anyhow::Result<T> {
    if let Some(result) = run()? {
        return Ok(result);
    }
    session.progress.note("parts of the image were damaged in the cache: making them again");
    run()?.context("parts of the image are damaged as soon as they are made")
}

/// Makes the finished root of `profile` and looks it over.
///
/// # Errors
/// A [`Mistake`](crate::report::Mistake) that lists what the lints found and the profile does not accept.
pub fn lint(session: &Session, profile: &Profile) -> anyhow::Result<Report> {
    lint::check(session, profile, &RootStages::of(session, profile)?.root)
}

/// Everything that an image is put together from.
#[derive(Debug)]
struct Stages {
    profile: Profile,
    version: Version,
    lock: Lock,
    kernel: String,
    zfs: String,
    boot_loader: PathBuf,
    parts: image::Parts,
}

impl Stages {
    fn run(session: &Session, profile: &Profile, version: Option<Version>) -> anyhow::Result<Self> {
        budget::check_medium(profile)?;
        let stages = RootStages::run(session, profile, version)?;
        let inputs = image::Inputs { session, profile, stages: &stages };
        // On threads of their own: they wait for others, which must not take a worker from rayon. On one core it has
        // only one, and those others may need it.
        let (parts, linted) = thread::scope(|threads| {
            let linted = threads.spawn(|| lint::check(session, profile, &stages.root));
            (image::parts(&inputs), join(linted))
        });
        linted?;
        let parts = parts?;
        budget::check_root(profile, fs_err::metadata(&parts.root)?.len())?;
        let zfs = kernel::zfs_version(&stages.zfs_tools)?.to_owned();
        let RootStages { version, lock, tools, kernel, .. } = stages;
        let boot_loader = tools.root.join(image::BOOT_LOADER);
        Ok(Self { profile: profile.clone(), version, lock, kernel: kernel.version, zfs, boot_loader, parts })
    }
}

/// Everything up to the finished root tree.
#[derive(Debug)]
struct RootStages {
    version: Version,
    lock: Lock,
    packages: Vec<UnpackedPackage>,
    overlays: overlay::Plan,
    tools: ToolsTree,
    image_tools: LockedTools,
    zfs_tools: LockedTools,
    kernel: kernel::KernelStage,
    programs: appliance::Programs,
    root: Layered,
}

impl RootStages {
    /// The root of an image of the default version.
    fn of(session: &Session, profile: &Profile) -> anyhow::Result<Self> {
        Self::run(session, profile, None)
    }

    fn run(session: &Session, profile: &Profile, version: Option<Version>) -> anyhow::Result<Self> {
        let image_tools = Tools::load(&session.project, "image")?.locked(session)?;
        let tools = image_tools.prepare(session)?;
        let Sources { lock, packages, zfs_tools } = Sources::gather(session, profile)?;
        let version = version.map_or_else(|| default_version(&lock), Ok)?;
        let overlays = overlays(session, profile, &version)?;

        let (hardware, system): (Vec<_>, Vec<_>) =
            packages.into_iter().partition(|package| is_hardware(&package.locked.name));
        let system = session.unpack(&system, Ownership::Keep)?;
        // dpkg's scripts take one core for as long as everything up to the finished root takes otherwise, so all
        // that they do not wait for is done beside them.
        let (packages, kernel, programs, root) = thread::scope(|threads| {
            let programs = threads.spawn(|| appliance::programs(session));
            let kernel = threads.spawn(|| {
                let hardware = session.unpack(&hardware, Ownership::Keep)?;
                let packages = in_order(&lock, [system.clone(), hardware].concat());
                let inputs =
                    kernel::Inputs { session, profile, packages: &packages, tools: &tools, zfs_tools: &zfs_tools };
                kernel::prepare(&inputs).map(|kernel| (kernel, packages))
            });
            let composed = root::composed(session, profile, &system)?;
            let configured = root::configured(session, profile, &composed)?;
            let (programs, (kernel, packages)) = (join(programs)?, join(kernel)?);
            let root = root::finished(session, &configured, &overlays, &kernel, &programs)?;
            anyhow::Ok((packages, kernel, programs, root))
        })?;
        Ok(Self { version, lock, packages, overlays, tools, image_tools, zfs_tools, kernel, programs, root })
    }
}

/// The result of a thread, or its panic.
fn join<T>(thread: ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| resume_unwind(panic))
}

/// The packages in the order of their lock.
fn in_order(lock: &Lock, mut packages: Vec<UnpackedPackage>) -> Vec<UnpackedPackage> {
    let places: HashMap<_, _> =
        lock.packages.iter().enumerate().map(|(place, locked)| (locked.sha256, place)).collect();
    packages.sort_by_key(|package| places.get(&package.sha256));
    packages
}

/// The packages of an image, and the tools tree that compiles ZFS for their kernel.
struct Sources {
    lock: Lock,
    packages: Vec<FetchedPackage>,
    zfs_tools: LockedTools,
}

impl Sources {
    /// Packages and tools that fit each other. Locks that were made on different days may name two
    /// kernels, or two versions of ZFS; made anew together, they fit again.
    fn gather(session: &Session, profile: &Profile) -> anyhow::Result<Self> {
        let zfs = Tools::load(&session.project, "zfs")?;
        let sources = Self::read(session, profile, &zfs)?;
        let misfit = match sources.check() {
            Ok(()) => return Ok(sources),
            Err(misfit) if session.may_relock() => misfit,
            Err(misfit) => return Err(misfit),
        };
        session.progress.note(misfit.to_string());
        for lockable in [profile.lockable(&session.project), zfs.lockable(&session.project)] {
            session.relock_aloud(&lockable, "does not fit the other lock")?;
        }
        let sources = Self::read(session, profile, &zfs)?;
        sources.check().map(|()| sources)
    }

    fn read(session: &Session, profile: &Profile, zfs: &Tools) -> anyhow::Result<Self> {
        let (lock, packages) = session.locked_packages(&profile.lockable(&session.project))?;
        Ok(Self { lock, packages, zfs_tools: zfs.locked(session)? })
    }

    fn check(&self) -> anyhow::Result<()> {
        kernel::check_zfs_tools(&self.lock, &self.zfs_tools)
    }
}

/// The profile's overlays, for an image of this version.
fn overlays(session: &Session, profile: &Profile, version: &Version) -> anyhow::Result<overlay::Plan> {
    let mut variables = profile.variables.clone();
    let hardware = serde_json::to_string_pretty(&profile.description(&session.project)?)?;
    let release_keys = keys::for_image(&session.project)?;
    let ours = [
        ("profile", profile.name.as_str()),
        ("version", version.as_str()),
        ("hardware", &hardware),
        ("release_keys", &release_keys),
    ];
    for (name, value) in ours {
        variables.insert(name.to_owned(), toml::Value::from(value));
    }
    overlay::plan(&session.project.overlays(), &profile.overlays, &variables)
}

/// Newer locks give higher versions: the date of the newest signed index.
fn default_version(lock: &Lock) -> anyhow::Result<Version> {
    Ok(lock.snapshot.strftime("%Y%m%d.%H%M").to_string().parse()?)
}

/// Folders of a root tree, topmost first, and the key of what they show together.
#[derive(Debug, Clone)]
struct Layered {
    folders: Vec<PathBuf>,
    /// Those of them in which programs wrote while the image was made.
    written: Vec<PathBuf>,
    key: crate::hash::Hash,
}
