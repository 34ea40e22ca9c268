//! Security fixes between two sets of packages, from the changelogs that the new packages carry.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use flate2::read::MultiGzDecoder;
use serde::Serialize;

use super::changelog::{self, Named};
use super::side::Side;
use crate::archive::relation::{self, Version};
use crate::deb::{self, Control, Deb, Source};
use crate::lock::{LockedPackage, by_label};
use crate::profile::Profile;
use crate::session::Session;

/// Where Debian Policy (12.7) puts changelogs: of packages that came to Debian, then of those made for it.
const CHANGELOGS: [&str; 2] = ["changelog.Debian.gz", "changelog.gz"];
/// Largest changelog that is read: the kernel's, the longest of all, takes 5 MB.
const LIMIT: u64 = 256 << 20;

/// What the changelog of one source package names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fix {
    /// The source package.
    pub source: String,
    /// Its version before.
    pub old: String,
    /// Its version now.
    pub new: String,
    /// `CVE-…` and `DSA-…`, the oldest first.
    pub ids: Vec<String>,
    /// Security suites that it came through.
    pub suites: BTreeSet<String>,
    /// Whether an entry calls itself urgent.
    pub urgent: bool,
}

/// A changelog that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unread {
    /// The source package.
    pub source: String,
    /// Why not.
    pub why: String,
}

/// A source package of which another version is in use.
struct Upgrade {
    old: String,
    new: String,
    /// Those of the new packages that were built from it.
    packages: Vec<usize>,
}

/// Reads the changelogs of all sources whose version changed, fetching packages where that is allowed.
pub fn find(session: &Session, old: &Side, new: &Side) -> anyhow::Result<(Vec<Fix>, Vec<Unread>)> {
    let changed = changed(old, new);
    let problem = fetch(session, new, &changed);
    let unpacked = Unpacked::open(session, new, &changed)?;
    let (mut fixes, mut unread) = (Vec::new(), Vec::new());
    for (source, upgrade) in upgrades(session, old, new, &changed, &unpacked) {
        match unpacked.named(&upgrade) {
            Ok(named) if named.is_empty() => {}
            Ok(Named { ids, suites, urgent }) => {
                fixes.push(Fix { source, old: upgrade.old, new: upgrade.new, ids, suites, urgent });
            }
            Err(error) => {
                let why = problem.as_ref().map_or_else(|| format!("{error:#}"), |problem| format!("{problem:#}"));
                unread.push(Unread { source, why });
            }
        }
    }
    Ok((fixes, unread))
}

/// Places of the new packages that were not there before, or in another version.
fn changed(old: &Side, new: &Side) -> Vec<usize> {
    let before: BTreeSet<_> = old.packages.iter().map(|package| package.sha256).collect();
    (0..new.packages.len()).filter(|&place| !before.contains(&new.packages[place].sha256)).collect()
}

/// Fetches what is neither unpacked nor in the store; what stopped it, if anything.
fn fetch(session: &Session, new: &Side, changed: &[usize]) -> Option<anyhow::Error> {
    let missing = |package: &&LockedPackage| deb::unpacked(&session.store, &package.sha256).is_none();
    let packages: Vec<_> = changed.iter().map(|&place| &new.packages[place]).filter(missing).cloned().collect();
    let archives = || -> anyhow::Result<_> {
        let profile =
            Profile::load(&session.project, &new.profile).or_else(|_| Profile::load(&session.project, "base"))?;
        Ok(profile.packages.archives)
    };
    archives().and_then(|archives| session.fetch_packages(&packages, &archives, new.snapshot)).err()
}

/// The changed packages that lie unpacked, by their places.
struct Unpacked {
    folders: BTreeMap<usize, PathBuf>,
    /// The same by name, for links from one package's documents to another's.
    by_name: BTreeMap<String, PathBuf>,
}

impl Unpacked {
    fn open(session: &Session, new: &Side, changed: &[usize]) -> anyhow::Result<Self> {
        let store = &session.store;
        let mut folders = BTreeMap::new();
        let (mut places, mut debs) = (Vec::new(), Vec::new());
        for &place in changed {
            let package = &new.packages[place];
            if let Some(folder) = deb::unpacked(store, &package.sha256) {
                folders.insert(place, folder);
            } else if let Some(file) = store.blob_of_size(&package.sha256, package.size) {
                places.push(place);
                let label = format!("{} {}", package.name, package.version);
                debs.push(Deb { label, sha256: package.sha256, file });
            }
        }
        // Nobody's files are needed but the documents': whoever asks may own them.
        let made = deb::unpack_all(store, &debs, deb::Ownership::Ignore, &session.progress)?;
        folders.extend(places.into_iter().zip(made));
        let by_name =
            folders.iter().map(|(&place, folder)| (new.packages[place].name.clone(), folder.clone())).collect();
        Ok(Self { folders, by_name })
    }

    /// What the changelog of an upgraded source names; the first of its packages that carries it will do.
    fn named(&self, upgrade: &Upgrade) -> anyhow::Result<Named> {
        let (old, new) = (relation::version(&upgrade.old)?, relation::version(&upgrade.new)?);
        let names = self
            .by_name
            .iter()
            .filter(|(_, folder)| upgrade.packages.iter().any(|place| self.folders.get(place) == Some(folder)));
        let unpacked = |name: &str| self.by_name.get(name).cloned();
        let mut documents =
            names.flat_map(|(name, _)| CHANGELOGS.map(|file| deb::find_document(&unpacked, name, file)));
        let document = documents.find_map(|document| document).context("none of its packages here has a changelog")?;
        Ok(changelog::between(&read_gzip(&document)?, &old, &new))
    }
}

fn read_gzip(path: &Path) -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    let file = MultiGzDecoder::new(fs_err::File::open(path)?);
    file.take(LIMIT).read_to_end(&mut bytes).with_context(|| format!("reading {}", path.display()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The sources whose version changed, by name.
fn upgrades(
    session: &Session,
    old: &Side,
    new: &Side,
    changed: &[usize],
    unpacked: &Unpacked,
) -> BTreeMap<String, Upgrade> {
    let before = Before::new(session, old);
    let labels: BTreeMap<_, _> =
        by_label(&new.packages).into_iter().map(|(label, package)| (package.sha256, label)).collect();
    let mut upgrades: BTreeMap<String, Upgrade> = BTreeMap::new();
    for &place in changed {
        let package = &new.packages[place];
        let control = || Control::read(unpacked.folders.get(&place)?).ok().map(|control| control.source);
        let source = new.source(place).cloned().or_else(control).unwrap_or_else(|| guess(package));
        let label = labels.get(&package.sha256).map_or("", String::as_str);
        let Some(old) = before.version(label, &source).filter(|old| *old != source.version) else { continue };
        let Source { name, version: new } = source;
        let upgrade =
            upgrades.entry(name).or_insert_with(|| Upgrade { old: old.to_owned(), new, packages: Vec::new() });
        // Of a source that was there in two versions, the older one tells all that is new.
        if parsed(old) < parsed(&upgrade.old) {
            old.clone_into(&mut upgrade.old);
        }
        upgrade.packages.push(place);
    }
    upgrades
}

/// The sources of the old packages.
struct Before {
    by_label: BTreeMap<String, Source>,
    /// The newest version of each source.
    by_name: BTreeMap<String, String>,
}

impl Before {
    fn new(session: &Session, old: &Side) -> Self {
        let places: BTreeMap<_, _> =
            old.packages.iter().enumerate().map(|(place, package)| (package.sha256, place)).collect();
        let (mut by_source, mut by_name) = (BTreeMap::new(), BTreeMap::<String, String>::new());
        for (label, package) in by_label(&old.packages) {
            let told = places.get(&package.sha256).and_then(|&place| old.source(place)).cloned();
            let control = || {
                let folder = deb::unpacked(&session.store, &package.sha256)?;
                Control::read(&folder).ok().map(|control| control.source)
            };
            let known = told.or_else(control);
            if let Some(Source { name, version }) = &known
                && by_name.get(name).is_none_or(|other| parsed(other) < parsed(version))
            {
                by_name.insert(name.clone(), version.clone());
            }
            by_source.insert(label, known.unwrap_or_else(|| guess(package)));
        }
        Self { by_label: by_source, by_name }
    }

    /// The version of a source that the package of this label was built from; where there was none, as a kernel's
    /// package has another name for each version, the one that others were built from.
    fn version(&self, label: &str, source: &Source) -> Option<&str> {
        let same_package = self.by_label.get(label).map(|source| &source.version);
        same_package.or_else(|| self.by_name.get(&source.name)).map(String::as_str)
    }
}

fn parsed(version: &str) -> Option<Version> {
    relation::version(version).ok()
}

/// A source of the same name and version, a rebuild's suffix left out: right for nine of ten packages.
fn guess(package: &LockedPackage) -> Source {
    let version = match package.version.rsplit_once("+b") {
        Some((version, number)) if number.bytes().all(|byte| byte.is_ascii_digit()) => version,
        _ => &package.version,
    };
    Source { name: package.name.clone(), version: version.to_owned() }
}
