//! Signed Debian archives: which packages exist.
//!
//! The chain of trust: a key file in `profiles/archives/` → the signature of `InRelease`
//! ([`release`]) → the hash of each `Packages` index ([`packages`]) → the hash of each `.deb`.
//! A [`Universe`] is all packages of all suites that a profile names; how bytes are fetched and
//! kept is the caller's, by the trait [`Fetch`].
//!
//! ```text
//! MIRROR/dists/SUITE/InRelease
//! MIRROR/dists/SUITE/COMPONENT/binary-ARCH/Packages.xz
//! MIRROR/dists/SUITE/COMPONENT/binary-ARCH/by-hash/SHA256/…   the same files under their hashes
//! MIRROR/pool/…                                               the packages
//! ```

pub mod packages;
pub mod relation;
pub mod release;
mod source;
#[cfg(test)]
pub mod testing;

pub use source::Archive;

use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use rayon::prelude::*;

use crate::hash::Hash;
use crate::report::Mistake;
use packages::{Index, MultiArch, Package, Priority, Span};
use release::{Expected, Keyring, Listed, VerifiedRelease};

/// Where bytes come from. Used from several threads at once.
pub trait Fetch: Sync {
    /// The newest `InRelease`, unverified.
    fn release(&self, url: &str) -> Result<Vec<u8>>;
    /// A file with this content, whose hash has been checked.
    fn blob(&self, url: &str, sha256: &Hash, size: u64) -> Result<PathBuf>;
}

/// Number of a package in its [`Universe`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PackageId(u32);

impl PackageId {
    /// The package at a place in [`Universe::ids`].
    pub(crate) fn from_index(index: usize) -> Self {
        Self(u32::try_from(index).expect("solvers only return the numbers that they were given"))
    }

    /// Its place in [`Universe::ids`].
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// One suite that was loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suite {
    /// Name of the archive in the profile.
    pub archive: String,
    /// Name of the suite as the profile writes it.
    pub name: String,
    /// When it was published.
    pub date: Timestamp,
    /// Digest of its InRelease file.
    pub sha256: Hash,
    /// apt's priority of its versions.
    pub priority: i32,
}

/// All packages that requests may choose from.
#[derive(Debug, Default)]
pub struct Universe {
    suites: Vec<Suite>,
    indices: Vec<Index>,
    packages: Vec<Package>,
}

impl Universe {
    /// Fetches, verifies and reads the indices of `archives` for `architectures`. `keys` is the folder
    /// of the archives' keys (`profiles/archives`), `now` the time at which releases must be valid.
    pub fn load(
        archives: &[Archive],
        architectures: &[String],
        keys: &Path,
        now: Timestamp,
        fetch: &dyn Fetch,
    ) -> Result<Self> {
        let suites: Vec<(&Archive, &str)> = archives
            .iter()
            .flat_map(|archive| archive.suites.iter().map(move |suite| (archive, suite.as_str())))
            .collect();
        let releases = suites
            .par_iter()
            .map(|(archive, suite)| load_release(archive, suite, keys, now, fetch))
            .collect::<Result<Vec<_>>>()?;
        let mut wanted = Vec::new();
        for (number, ((archive, suite), release)) in suites.iter().zip(&releases).enumerate() {
            wanted.extend(indices_of(archive, suite, number, release, architectures)?);
        }
        // The big ones first, so that none is left for one thread at the end; order restored after.
        let mut order: Vec<usize> = (0..wanted.len()).collect();
        order.sort_by_key(|number| std::cmp::Reverse(wanted[*number].listed.size));
        let mut loaded = order
            .par_iter()
            .with_max_len(1)
            .map(|number| Ok((*number, wanted[*number].load(*number, fetch)?)))
            .collect::<Result<Vec<_>>>()?;
        loaded.sort_by_key(|(number, _)| *number);
        let mut universe = Self {
            suites: suites
                .iter()
                .zip(&releases)
                .map(|((archive, suite), release)| describe(archive, suite, release))
                .collect(),
            ..Self::default()
        };
        for (_, (index, packages)) in loaded {
            universe.indices.push(index);
            universe.packages.extend(packages);
        }
        Ok(universe)
    }

    /// The suites, in the profile's order.
    pub fn suites(&self) -> &[Suite] {
        &self.suites
    }

    /// How many packages there are.
    pub fn len(&self) -> usize {
        self.packages.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.packages.is_empty()
    }

    /// Every package.
    pub fn ids(&self) -> impl Iterator<Item = PackageId> + use<> {
        (0..u32::try_from(self.packages.len()).unwrap_or(u32::MAX)).map(PackageId)
    }

    /// A package by its number in this universe.
    pub fn package(&self, id: PackageId) -> PackageView<'_> {
        let package = &self.packages[id.index()];
        let index = &self.indices[package.index as usize];
        PackageView { package, index, suite: &self.suites[index.release] }
    }

    #[cfg(test)]
    pub(crate) fn of_texts(suites: Vec<(Suite, String)>) -> Result<Self> {
        let mut universe = Self::default();
        for (number, (suite, text)) in suites.into_iter().enumerate() {
            let index = Index { origin: format!("{} {} Packages", suite.archive, suite.name), release: number, text };
            universe.packages.extend(packages::parse(&index, u32::try_from(number)?)?);
            universe.indices.push(index);
            universe.suites.push(suite);
        }
        Ok(universe)
    }
}

/// A package's fields.
#[derive(Debug, Clone, Copy)]
pub struct PackageView<'u> {
    package: &'u Package,
    index: &'u Index,
    suite: &'u Suite,
}

impl<'u> PackageView<'u> {
    fn text(&self, span: Span) -> &'u str {
        span.of(&self.index.text)
    }

    /// Its name.
    pub fn name(&self) -> &'u str {
        self.text(self.package.name)
    }

    /// Its version.
    pub fn version(&self) -> &'u str {
        self.text(self.package.version)
    }

    /// `amd64`, `all`.
    pub fn architecture(&self) -> &'u str {
        self.text(self.package.architecture)
    }

    /// Name of the source package that it was built from.
    pub fn source(&self) -> &'u str {
        match self.text(self.package.source).split_whitespace().next() {
            Some(name) => name,
            None => self.name(),
        }
    }

    /// `Pre-Depends`, unparsed.
    pub fn pre_depends(&self) -> &'u str {
        self.text(self.package.pre_depends)
    }

    /// `Depends`, unparsed.
    pub fn depends(&self) -> &'u str {
        self.text(self.package.depends)
    }

    /// `Provides`, unparsed.
    pub fn provides(&self) -> &'u str {
        self.text(self.package.provides)
    }

    /// `Conflicts`, unparsed.
    pub fn conflicts(&self) -> &'u str {
        self.text(self.package.conflicts)
    }

    /// `Breaks`, unparsed.
    pub fn breaks(&self) -> &'u str {
        self.text(self.package.breaks)
    }

    /// Path of the .deb below the archive's base address.
    pub fn filename(&self) -> &'u str {
        self.text(self.package.filename)
    }

    /// Length of the .deb.
    pub fn size(&self) -> u64 {
        self.package.size
    }

    /// Digest of the .deb.
    pub fn sha256(&self) -> Hash {
        self.package.sha256
    }

    /// How it serves other architectures.
    pub fn multi_arch(&self) -> MultiArch {
        self.package.multi_arch
    }

    /// Its priority.
    pub fn priority(&self) -> Priority {
        self.package.priority
    }

    /// Whether dpkg insists on it.
    pub fn essential(&self) -> bool {
        self.package.essential
    }

    /// The suite that offers it.
    pub fn suite(&self) -> &'u Suite {
        self.suite
    }

    /// An error about this package's stanza, with file and line.
    pub fn malformed(&self, problem: impl std::fmt::Display) -> anyhow::Error {
        packages::malformed(self.index, self.package.start as usize, problem)
    }
}

fn describe(archive: &Archive, suite: &str, release: &VerifiedRelease) -> Suite {
    Suite {
        archive: archive.name.clone(),
        name: suite.to_owned(),
        date: release.date(),
        sha256: release.sha256(),
        priority: release.priority(),
    }
}

fn load_release(
    archive: &Archive,
    suite: &str,
    keys: &Path,
    now: Timestamp,
    fetch: &dyn Fetch,
) -> Result<VerifiedRelease> {
    let keyring = Keyring::open(keys, &archive.keys)?;
    let url = format!("{}/dists/{suite}/InRelease", archive.mirror.trim_end_matches('/'));
    let bytes = fetch.release(&url).with_context(|| reading(archive))?;
    VerifiedRelease::verify(&bytes, &keyring, &Expected { url: &url, suite, now })
}

/// What went wrong, and what to do about it, is for the one who fetches to say.
fn reading(archive: &Archive) -> String {
    format!("reading the archive `{}`", archive.name)
}

/// An index to be read.
struct Wanted<'a> {
    archive: &'a Archive,
    release: usize,
    origin: String,
    url: String,
    listed: Listed,
    compression: Compression,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Compression {
    Xz,
    Gzip,
    None,
}

/// Smallest first.
const FORMS: [(&str, Compression); 3] = [(".xz", Compression::Xz), (".gz", Compression::Gzip), ("", Compression::None)];

/// The indices of one suite's components for the wanted architectures.
fn indices_of<'a>(
    archive: &'a Archive,
    suite: &str,
    number: usize,
    release: &VerifiedRelease,
    architectures: &[String],
) -> Result<Vec<Wanted<'a>>> {
    let all = release.has_index_for_all().then_some("all");
    let mut wanted = Vec::new();
    for component in &archive.components {
        let before = wanted.len();
        for architecture in architectures.iter().map(String::as_str).chain(all) {
            let folder = format!("{component}/binary-{architecture}");
            let found = FORMS.iter().find_map(|(ending, form)| {
                let path = format!("{folder}/Packages{ending}");
                release.file(&path).map(|listed| (path, listed, *form))
            });
            let Some((path, listed, compression)) = found else {
                continue;
            };
            let base = format!("{}/dists/{suite}", archive.mirror.trim_end_matches('/'));
            let url = if release.by_hash() {
                format!("{base}/{folder}/by-hash/SHA256/{}", listed.sha256)
            } else {
                format!("{base}/{path}")
            };
            wanted.push(Wanted {
                archive,
                release: number,
                origin: format!("{} {suite} {folder}/Packages", archive.name),
                url,
                listed,
                compression,
            });
        }
        if wanted.len() == before {
            let problem = format!(
                "the suite `{suite}` of the archive `{}` has no component `{component}` for {}",
                archive.name,
                architectures.join(", ")
            );
            return Err(Mistake::new(problem).hint("correct `components` or `architectures` in the profile").into());
        }
    }
    Ok(wanted)
}

impl Wanted<'_> {
    fn load(&self, number: usize, fetch: &dyn Fetch) -> Result<(Index, Vec<Package>)> {
        let path =
            fetch.blob(&self.url, &self.listed.sha256, self.listed.size).with_context(|| reading(self.archive))?;
        let file = fs_err::read(&path)?;
        let text = decompress(&file, self.compression).with_context(|| format!("decompressing {}", self.origin))?;
        let index = Index { origin: self.origin.clone(), release: self.release, text };
        let packages = packages::parse(&index, u32::try_from(number)?)?;
        Ok((index, packages))
    }
}

fn decompress(file: &[u8], compression: Compression) -> Result<String> {
    // Indices compress about sixfold.
    let mut text = Vec::with_capacity(file.len() * 6);
    match compression {
        Compression::Xz => xz2::read::XzDecoder::new_multi_decoder(file).read_to_end(&mut text)?,
        Compression::Gzip => flate2::read::MultiGzDecoder::new(file).read_to_end(&mut text)?,
        Compression::None => (&mut &*file).read_to_end(&mut text)?,
    };
    Ok(String::from_utf8(text)?)
}

#[cfg(test)]
mod tests;
