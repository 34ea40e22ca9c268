//! `larder publish`: a build becomes the newest release of a channel.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use firstboot::update::channel::{self, Changes, Channel, Delta, Making, PackageChange, Release};
use firstboot::update::envelope::Envelope;
use firstboot::update::keys::TrustedKeys;
use firstboot::update::recipe::Bounds;
use firstboot::update::{MAX_ENVELOPE, Object, TrustError};
use firstboot::verity;
use indicatif::HumanBytes;
use jiff::{SignedDuration, Timestamp};

use super::delta::{self, Identity, Made, System};
use super::keys::{History, Signer};
use super::site::Site;
use crate::diff::{self, side::Side};
use crate::image::output::{Artifact, Manifest};
use crate::report::Mistake;
use crate::session::Session;
use crate::store::Scratch;
use crate::version::Version;

/// What is asked for besides the build.
#[derive(Debug)]
pub struct Options<'a> {
    /// Name of the channel.
    pub channel: &'a str,
    /// Days until the channel expires.
    pub days: u32,
    /// Oldest version that may install this release.
    pub minimum_version: Option<Version>,
    /// Releases that are kept.
    pub keep: usize,
    /// Who signs it; nobody, when that is done elsewhere.
    pub signer: Option<&'a Signer>,
}

/// What became of it.
#[derive(Debug)]
pub enum Published {
    /// It is there for everybody.
    Signed(PathBuf),
    /// It waits for signatures.
    Unsigned(PathBuf),
}

/// A build that can be published.
struct Build {
    side: Side,
    manifest: Manifest,
    system: System,
    download: u64,
}

impl Build {
    fn open(named: &str) -> anyhow::Result<Self> {
        let side = Side::open(named)?;
        let Some(build) = &side.build else {
            return Err(Mistake::new(format!("{named}: this is a lock, not a build"))
                .hint("name an output folder")
                .into());
        };
        let manifest = build.manifest.clone();
        let part = |artifact| -> anyhow::Result<(PathBuf, Object)> {
            let (path, file) = (side.artifact_path(artifact), side.artifact(artifact));
            let (path, file) = path.zip(file).with_context(|| format!("the manifest names no {artifact}"))?;
            let wanted = Object { sha256: file.sha256, size: file.size };
            let found = delta::object_of(&path).map_err(|error| {
                Mistake::new(format!("{}: cannot be read", path.display())).because(error).hint("build it again")
            })?;
            if found != wanted {
                let what = format!("{}: this is not the file that the manifest tells of", path.display());
                return Err(Mistake::new(what).hint("build it again, into a folder of its own").into());
            }
            Ok((path, wanted))
        };
        let (root, tree, uki) = (part(Artifact::Root)?, part(Artifact::Verity)?, part(Artifact::Uki)?);
        let download = side.artifact(Artifact::CompressedImage).map_or(0, |file| file.size);
        let system =
            System { root_hash: manifest.root_hash, root: root.0, tree: tree.0, uki: uki.0, uki_object: uki.1 };
        Ok(Self { side, manifest, system, download })
    }
}

/// Publishes a build.
///
/// # Errors
/// A [`Mistake`]: it is older than what is there, or the same version with other content; there are no keys; and so on.
pub fn publish(session: &Session, named: &str, to: &Path, options: &Options<'_>) -> anyhow::Result<Published> {
    let history = History::of(&session.project)?;
    let keys = history.trusted()?;
    let build = Build::open(named)?;
    check_name(options.channel)?;
    let site = Site::open(to)?;
    let now = Timestamp::now();
    let mut channel = match site.channel(options.channel, &build.manifest.profile)? {
        Some(envelope) => known(&envelope, keys, &site.path(options.channel, &build.manifest.profile))?,
        None => Channel {
            channel: options.channel.to_owned(),
            profile: build.manifest.profile.clone(),
            serial: 0,
            issued: now,
            expires: now,
            releases: Vec::new(),
        },
    };
    let is_new = check_version(&channel, &build)?;
    if is_new {
        let release = release(session, &site, &channel, &build, options)?;
        channel.releases.insert(0, release);
        channel.releases.truncate(options.keep.max(1));
    } else if let Some(newest) = channel.releases.first_mut() {
        newest.minimum_version.clone_from(&options.minimum_version);
    }
    channel.serial += 1;
    channel.issued = now;
    channel.expires = now
        .checked_add(SignedDuration::from_hours(24 * i64::from(options.days)))
        .context("that many days lead nowhere")?;
    let mut envelope = unsigned(&channel)?;
    site.put_manifest(&channel, &build.manifest)?;
    site.put_keys(&history)?;
    let Some(signer) = options.signer else {
        return Ok(Published::Unsigned(site.put_unsigned(&channel, &envelope)?));
    };
    signer.sign(&mut envelope)?;
    place(&site, &channel, &envelope, keys)
}

/// Puts a channel that was signed elsewhere into its place.
///
/// # Errors
/// A [`Mistake`]: it lacks signatures, is older than what is there, or names what is not there.
pub fn put_signed(session: &Session, file: &Path, to: &Path) -> anyhow::Result<Published> {
    let history = History::of(&session.project)?;
    let keys = history.trusted()?;
    let refuse = |error| Mistake::new(format!("{}: this cannot be published", file.display())).because(error);
    let envelope = Envelope::parse(&fs_err::read(file)?).map_err(refuse)?;
    let new: Channel = envelope.verify::<Channel>(keys).map_err(|error| unsigned_hint(error, file))?.into_inner();
    let site = Site::open(to)?;
    if let Some(there) = site.channel(&new.channel, &new.profile)? {
        let there = known(&there, keys, &site.path(&new.channel, &new.profile))?;
        if there.serial >= new.serial {
            let what = format!("{}: serial number {} does not follow {}", file.display(), new.serial, there.serial);
            return Err(Mistake::new(what)
                .hint("something else was published meanwhile: publish again, and sign that")
                .into());
        }
        if let (Some(there), Some(new)) = (there.releases.first(), new.releases.first())
            && there.version.is_newer_than(&new.version)
        {
            return Err(older(&new.version, &there.version).into());
        }
    }
    site.put_keys(&history)?;
    place(&site, &new, &envelope, keys)
}

fn place(site: &Site, channel: &Channel, envelope: &Envelope, keys: &TrustedKeys) -> anyhow::Result<Published> {
    // What appliances would refuse is not put where they find it.
    if let Err(error) = envelope.verify::<Channel>(keys) {
        let path = site.put_unsigned(channel, envelope)?;
        return match error {
            TrustError::Unsigned { .. } => Ok(Published::Unsigned(path)),
            error => Err(error.into()),
        };
    }
    let path = site.put_channel(channel, envelope)?;
    let _ = fs_err::remove_file(path.with_extension("unsigned.json"));
    site.prune()?;
    Ok(Published::Signed(path))
}

fn unsigned_hint(error: TrustError, file: &Path) -> Mistake {
    Mistake::new(format!("{}: this cannot be published", file.display()))
        .because(error)
        .hint(format!("sign it: `larder keys sign {} --key FILE`", file.display()))
}

fn check_name(channel: &str) -> Result<(), Mistake> {
    if channel::is_name(channel) {
        return Ok(());
    }
    Err(Mistake::new(format!("`{channel}` is no name for a channel"))
        .hint("use up to 64 small letters, digits and `-`, such as `stable`"))
}

/// The channel that lies at `path`, which must be ours. One that only older keys have signed is not: they may have been
/// replaced because somebody else has them, so a person looks at it and signs it anew.
fn known(envelope: &Envelope, keys: &TrustedKeys, path: &Path) -> anyhow::Result<Channel> {
    let verified = envelope.verify::<Channel>(keys).map_err(|error| {
        let path = path.display();
        Mistake::new(format!("{path}: this channel is not signed with the keys of this project")).because(error).hint(
            format!(
                "after a change of keys: `larder keys sign {path} --key FILE` with a new one; else publish to another \
                 folder, or from the project that made it"
            ),
        )
    })?;
    Ok(verified.into_inner())
}

/// Whether the build is newer than what is there; the very same again gives it more time.
fn check_version(channel: &Channel, build: &Build) -> Result<bool, Mistake> {
    let version = &build.manifest.version;
    let Some(newest) = channel.releases.first() else { return Ok(true) };
    if newest.version.is_newer_than(version) {
        return Err(older(version, &newest.version));
    }
    if version.is_newer_than(&newest.version) {
        return Ok(true);
    }
    if newest.root_hash == build.system.root_hash && newest.uki == build.system.uki_object {
        return Ok(false);
    }
    Err(Mistake::new(format!("version {version} was published with other content"))
        .hint("appliances that have it would never get this one: build it with a higher --version"))
}

fn older(version: &Version, newest: &Version) -> Mistake {
    Mistake::new(format!("version {version} is older than {newest}, which is published"))
        .hint("appliances never go back by themselves: build it with a higher --version")
}

fn release(
    session: &Session,
    site: &Site,
    channel: &Channel,
    build: &Build,
    options: &Options<'_>,
) -> anyhow::Result<Release> {
    let (system, manifest) = (&build.system, &build.manifest);
    let full = delta::full(session, system)?;
    let tree = delta::object_of(&system.tree)?;
    site.put(&system.tree, &tree)?;
    let mut deltas = Vec::new();
    for old in channel.releases.iter().take(options.keep.saturating_sub(1)) {
        let identity = Identity { root_hash: old.root_hash, uki: old.uki };
        let made = delta::between(session, identity, system, || restore(session, site, old))?;
        let making = making(&made);
        // Between major versions, a delta may be larger than the whole.
        if making.size() < self::making(&full).size() {
            put(site, &made)?;
            let share = 100.0 * making.size() as f64 / build.download.max(1) as f64;
            let size = HumanBytes(making.size());
            session.progress.note(format!("{:>12} from {}: {size}, {share:.1} % of the image", "Delta", old.version));
            deltas.push(Delta { from: old.version.clone(), from_root_hash: old.root_hash, from_uki: old.uki, making });
        }
    }
    put(site, &full)?;
    Ok(Release {
        version: manifest.version.clone(),
        minimum_version: options.minimum_version.clone(),
        root_hash: system.root_hash,
        root_size: system.root_size()?,
        tree,
        uki: system.uki_object,
        download: build.download,
        full: making(&full),
        deltas,
        changes: changes(session, site, channel, build)?,
    })
}

fn making(made: &Made) -> Making {
    Making { recipe: made.recipe.1, payload: made.payload.1 }
}

fn put(site: &Site, made: &Made) -> anyhow::Result<()> {
    [&made.recipe, &made.payload].into_iter().try_for_each(|(path, object)| site.put(path, object))
}

/// Makes an older system out of what was published, as an appliance would; so nobody has to keep builds.
fn restore(session: &Session, site: &Site, release: &Release) -> anyhow::Result<(System, Scratch)> {
    let scratch = session.store.scratch("release")?;
    let (recipe, payload) = (site.object(&release.full.recipe), site.object(&release.full.payload));
    let bounds =
        Bounds { root: release.root_size, uki: release.uki.size, payload: release.full.payload.size, old: None };
    let restored = (|| -> anyhow::Result<System> {
        let (root, uki) = delta::follow((&recipe, &payload), &bounds, None, scratch.path())?;
        let tree = site.object(&release.tree);
        verity::verify(fs_err::File::open(&root)?.file(), fs_err::File::open(&tree)?.file(), &release.root_hash)?;
        anyhow::ensure!(delta::object_of(&uki)? == release.uki, "the UKI is not what it was");
        Ok(System { root_hash: release.root_hash, root, tree, uki, uki_object: release.uki })
    })();
    let damaged = |error: anyhow::Error| {
        Mistake::new(format!("release {}, which was published, cannot be read", release.version))
            .because(error)
            .hint("restore the folder from a backup, or begin another one")
    };
    Ok((restored.map_err(damaged)?, scratch))
}

/// What is new since the release before; what cannot be told is left out.
fn changes(session: &Session, site: &Site, channel: &Channel, build: &Build) -> anyhow::Result<Option<Changes>> {
    let Some(before) = channel.releases.first() else { return Ok(None) };
    let manifest = site.manifest(channel, &before.version);
    if !manifest.is_file() {
        return Ok(None);
    }
    let difference = diff::compare(session, &Side::open(&manifest.display().to_string())?, &build.side, false)?;
    let text = |version: Option<&str>| version.map(str::to_owned);
    let packages = difference
        .package_versions()
        .map(|(name, old, new)| PackageChange { name: name.to_owned(), old: text(old), new: text(new) })
        .collect();
    let mut fixes: Vec<String> = difference.fixes().iter().flat_map(|fix| fix.ids.iter().cloned()).collect();
    fixes.sort();
    fixes.dedup();
    Ok(Some(Changes { from: before.version.clone(), packages, fixes }))
}

/// The envelope of a channel. One that is too long loses what is nice to know of old releases first, then old ways.
fn unsigned(channel: &Channel) -> anyhow::Result<Envelope> {
    let mut channel = channel.clone();
    for release in (0..channel.releases.len()).rev() {
        match Envelope::unsigned(&channel) {
            Err(TrustError::TooLong(_)) => channel.releases[release].changes = None,
            made => return made.map_err(|error| Mistake::new("no appliance would take this").because(error).into()),
        }
    }
    Envelope::unsigned(&channel).with_context(|| format!("the channel takes more than {}", HumanBytes(MAX_ENVELOPE)))
}
