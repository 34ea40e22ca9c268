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

mod debian_version;
mod index;
mod newest;
pub mod packages;
pub mod relation;
pub mod release;
mod source;
#[cfg(test)]
pub mod testing;

pub use newest::SignedRelease;
pub use source::Archive;

use std::path::{Path, PathBuf};

use anyhow::Result;
use jiff::Timestamp;
use rayon::prelude::*;

use crate::hash::Hash;
use crate::recipe::Recipe;
use packages::{Index, MultiArch, Package, Priority, Span};
use release::VerifiedRelease;

/// Where bytes come from. Used from several threads at once.
pub trait Fetch: Sync {
    /// The `InRelease` at an address as it is now, unverified; may answer with `known` when that is still
    /// what is there.
    fn release(&self, url: &str, known: Option<&SignedRelease>) -> Result<SignedRelease>;
    /// The newest release of a suite that was verified here before, by the name of its archive.
    fn known_release(&self, archive: &str, suite: &str) -> Option<SignedRelease>;
    /// Remembers the newest release of a suite.
    fn remember_release(&self, archive: &str, suite: &str, release: &SignedRelease) -> Result<()>;
    /// A file with this content, whose hash has been checked.
    fn blob(&self, url: &str, sha256: &Hash, size: u64) -> Result<PathBuf>;
    /// A folder that `make` has filled, now or earlier.
    fn derived(&self, recipe: &Recipe, make: &dyn Fn(&Path) -> Result<()>) -> Result<PathBuf>;
    /// Tells the person something that is no error.
    fn note(&self, line: &str);
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
        let releases = newest::releases(&suites, keys, now, fetch)?;
        let mut wanted = Vec::new();
        for (number, ((archive, suite), release)) in suites.iter().zip(&releases).enumerate() {
            wanted.extend(index::indices_of(archive, suite, number, release, architectures)?);
        }
        // The big ones first, so that none is left for one thread at the end; order restored after.
        let mut order: Vec<usize> = (0..wanted.len()).collect();
        order.sort_by_key(|number| std::cmp::Reverse(wanted[*number].size()));
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

    /// An error about this package's stanza.
    pub fn malformed(&self, problem: impl std::fmt::Display) -> anyhow::Error {
        packages::malformed(&format!("{}: {} {}", self.index.origin, self.name(), self.version()), problem)
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

/// What went wrong, and what to do about it, is for the one who fetches to say.
fn reading(archive: &Archive) -> String {
    format!("reading the archive `{}`", archive.name)
}

#[cfg(test)]
mod tests;
