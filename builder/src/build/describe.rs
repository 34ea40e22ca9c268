//! What is told about an image beside it: its SBOM, and the list of its files.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use firstboot::verity::RootHash;

use super::RootStages;
use super::image::Inputs;
use crate::deb::Ownership;
use crate::hash::Hash;
use crate::image::mtree::FileList;
use crate::kernel::zfs;
use crate::lock::LockedPackage;
use crate::recipe::Recipe;
use crate::sbom::{self, Facts, Packages};
use crate::session::Session;
use crate::store::Bucket;
use crate::tools::LockedTools;
use crate::tree::UnpackedPackage;

/// Raise when the same root gets another list.
const FILES_REVISION: u32 = 1;
/// Names of the files within the stages' entries.
const DOCUMENT: &str = "sbom.spdx.json";
const FACTS: &str = "packages.json";
const LIST: &str = "files.mtree";
/// The boot loader and the stub that the kernel lies in are files of this package.
const BOOT_PACKAGE: &str = "systemd-boot-efi";

/// The list of the files of a finished root, which `merged` shows; and the key of the stage.
pub(super) fn file_list(
    inputs: &Inputs<'_>,
    merged: impl FnOnce() -> anyhow::Result<PathBuf>,
) -> anyhow::Result<(PathBuf, Hash)> {
    let mut recipe = Recipe::new("files", FILES_REVISION);
    recipe.hash("root", &inputs.stages.root.key);
    let folder = inputs.session.store.entry(Bucket::Images, &recipe, |into| {
        let root = merged()?;
        let list = inputs.session.progress.step("File list", || FileList::of_tree(&root))?;
        Ok(fs_err::write(into.join(LIST), list.render())?)
    })?;
    Ok((folder.join(LIST), recipe.key()))
}

/// An image's SBOM.
#[derive(Debug)]
pub(super) struct Sbom {
    /// The document.
    pub(super) document: PathBuf,
    /// What the image's packages say of themselves, in the order of the lock.
    pub(super) facts: Vec<Facts>,
    /// Key of the stage.
    pub(super) key: Hash,
}

/// Writes the SBOM of the image with this root, unless it is in the store.
pub(super) fn sbom(inputs: &Inputs<'_>, root_hash: RootHash) -> anyhow::Result<Sbom> {
    let recipe = recipe(inputs, &root_hash);
    let Inputs { session, .. } = inputs;
    let folder = session
        .store
        .entry(Bucket::Images, &recipe, |into| session.progress.step("SBOM", || write(inputs, root_hash, into)))?;
    let facts = fs_err::read(folder.join(FACTS))?;
    Ok(Sbom {
        document: folder.join(DOCUMENT),
        facts: serde_json::from_slice(&facts).context("reading what the packages say of themselves")?,
        key: recipe.key(),
    })
}

fn recipe(inputs: &Inputs<'_>, root_hash: &RootHash) -> Recipe {
    let Inputs { profile, stages, .. } = inputs;
    let mut recipe = Recipe::new("sbom", sbom::REVISION);
    recipe
        .field("larder", env!("CARGO_PKG_VERSION"))
        .field("profile", &profile.name)
        .field("version", stages.version.as_str())
        .field("root hash", root_hash.to_string())
        .field("snapshot", stages.lock.snapshot.to_string())
        .field("overlays", overlays(stages).join("\n"))
        .hash("firstboot", &stages.programs.key)
        .hash("kernel", &stages.kernel.key)
        .hash("tools", &stages.tools.key)
        .hash("zfs tools", &stages.zfs_tools.key());
    for archive in &profile.packages.archives {
        recipe.field(&archive.name, format!("{} {}", archive.mirror, archive.suites.join(" ")));
    }
    for package in &stages.lock.packages {
        recipe.field(&package.name, format!("{} {}", package.sha256, package.source));
    }
    recipe
}

fn overlays(stages: &RootStages) -> Vec<String> {
    stages.overlays.overlays().iter().cloned().collect()
}

fn write(inputs: &Inputs<'_>, root_hash: RootHash, into: &Path) -> anyhow::Result<()> {
    let Inputs { session, profile, stages } = inputs;
    let boot = Chosen::of(session, &stages.image_tools, BOOT_PACKAGE)?;
    let zfs = Chosen::of(session, &stages.zfs_tools, zfs::SOURCE_PACKAGE)?;
    let image = sbom::Image {
        profile: &profile.name,
        version: &stages.version,
        root_hash,
        snapshot: stages.lock.snapshot,
        archives: &profile.packages.archives,
        packages: Packages { locked: &stages.lock.packages, unpacked: &stages.packages },
        boot: boot.packages(),
        zfs: zfs.packages(),
        kernel: &stages.kernel.version,
        program: &stages.programs.crates(&session.store)?,
        rust: &stages.programs.toolchain()?,
        overlays: overlays(stages),
    };
    let document = sbom::document(&image)?;
    session.progress.note(document.summary.to_string());
    fs_err::write(into.join(DOCUMENT), document.text)?;
    Ok(fs_err::write(into.join(FACTS), serde_json::to_vec(&document.facts)?)?)
}

/// Some packages of a tools tree.
struct Chosen {
    locked: Vec<LockedPackage>,
    unpacked: Vec<UnpackedPackage>,
}

impl Chosen {
    fn of(session: &Session, tree: &LockedTools, name: &str) -> anyhow::Result<Self> {
        let fetched: Vec<_> = tree.packages.iter().filter(|package| package.locked.name == name).cloned().collect();
        let unpacked = session.unpack(&fetched, Ownership::Ignore)?;
        Ok(Self { locked: fetched.into_iter().map(|package| package.locked).collect(), unpacked })
    }

    fn packages(&self) -> Packages<'_> {
        Packages { locked: &self.locked, unpacked: &self.unpacked }
    }
}
