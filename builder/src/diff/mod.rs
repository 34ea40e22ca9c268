//! `larder diff A B`: what changed between two builds, or two locks.
//!
//! Everything comes from what a build leaves behind: the manifest (packages, their sources and sizes, artifacts), the
//! file list, and the changelogs in the packages themselves. Nothing is looked up elsewhere, so a security fix is
//! listed when a changelog names it, and only then.

pub mod changelog;
pub mod fixes;
pub mod side;
mod text;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;

use crate::image::mtree::{Entry, FileList};
use crate::image::output::Artifact;
use crate::lock::{Change, Diff, by_label};
use crate::report::Mistake;
use crate::session::Session;
use fixes::{Fix, Unread};
use side::Side;

/// Version of the JSON form; raised when a reader of the old one would be misled.
const SCHEMA: u32 = 1;

/// What changed. Its text is for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// [`SCHEMA`].
    schema: u32,
    /// The two sides, by name.
    sides: Moved<String>,
    /// Kernel, as `uname -r` says it; builds only.
    kernel: Option<Moved<String>>,
    /// ZFS; builds only.
    zfs: Option<Moved<String>>,
    /// Root hash of the root file system; builds only.
    root_hash: Option<Moved<String>>,
    /// Security fixes, by source package.
    fixes: Vec<Fix>,
    /// Changelogs that could not be read: fixes in them are missing above.
    unread: Vec<Unread>,
    /// Packages, by name.
    packages: Vec<PackageChange>,
    /// Artifacts; builds only.
    artifacts: Vec<ArtifactChange>,
    /// Files of the image; where both builds have their list.
    files: Option<Files>,
}

/// Something on both sides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Moved<T> {
    old: T,
    new: T,
}

impl<T: PartialEq> Moved<T> {
    fn is_same(&self) -> bool {
        self.old == self.new
    }
}

/// A package that is on one side only, or has two versions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PackageChange {
    name: String,
    /// Absent when it was added.
    old: Option<PackageState>,
    /// Absent when it was removed.
    new: Option<PackageState>,
}

/// A package on one side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PackageState {
    version: String,
    /// Bytes on a disk, as the package itself estimates; builds only.
    installed_size: Option<u64>,
}

/// A file of the output folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ArtifactChange {
    /// Its kind: how its name ends.
    artifact: String,
    /// Bytes.
    size: Moved<u64>,
    /// Whether both are the same to the byte.
    same: bool,
}

/// Files of the image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Files {
    added: usize,
    removed: usize,
    changed: usize,
    /// Each of them; only when asked for.
    list: Option<Vec<FileChange>>,
}

/// One file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileChange {
    path: PathBuf,
    /// Absent when it was added.
    old: Option<Entry>,
    /// Absent when it was removed.
    new: Option<Entry>,
}

/// Compares two sides; `list_files` wants each changed file.
///
/// # Errors
/// A [`Mistake`] when files are to be listed and a side has no list of them.
pub fn compare(session: &Session, old: &Side, new: &Side, list_files: bool) -> anyhow::Result<Difference> {
    let (fixes, unread) = fixes::find(session, old, new)?;
    let of_builds = |get: &dyn Fn(&side::Build) -> String| {
        let (old, new) = (old.build.as_ref()?, new.build.as_ref()?);
        Some(Moved { old: get(old), new: get(new) })
    };
    Ok(Difference {
        schema: SCHEMA,
        sides: Moved { old: old.name.clone(), new: new.name.clone() },
        kernel: of_builds(&|build| build.manifest.kernel.clone()),
        zfs: of_builds(&|build| build.manifest.zfs.clone()),
        root_hash: of_builds(&|build| build.manifest.root_hash.to_string()),
        fixes,
        unread,
        packages: packages(old, new),
        artifacts: artifacts(old, new),
        files: files(old, new, list_files)?,
    })
}

impl Difference {
    /// Name, version before and version now of each package that changed.
    pub fn package_versions(&self) -> impl Iterator<Item = (&str, Option<&str>, Option<&str>)> {
        fn version(state: &Option<PackageState>) -> Option<&str> {
            state.as_ref().map(|state| state.version.as_str())
        }
        self.packages.iter().map(|package| (package.name.as_str(), version(&package.old), version(&package.new)))
    }

    /// The security fixes that changelogs name.
    pub fn fixes(&self) -> &[Fix] {
        &self.fixes
    }

    /// Whether both sides are the same: packages, and every artifact that both have.
    pub fn is_empty(&self) -> bool {
        self.packages.is_empty() && self.artifacts.iter().all(|artifact| artifact.same)
    }
}

fn packages(old: &Side, new: &Side) -> Vec<PackageChange> {
    let (before, after) = (states(old), states(new));
    let change = |change: &Change| {
        let name = change.name();
        let versions = change.versions();
        let state = |states: &BTreeMap<String, PackageState>, version: Option<&str>| {
            Some(PackageState { version: version?.to_owned(), ..states.get(name)?.clone() })
        };
        PackageChange { name: name.to_owned(), old: state(&before, versions.0), new: state(&after, versions.1) }
    };
    Diff::between(&old.packages, &new.packages).changes().iter().map(change).collect()
}

fn states(side: &Side) -> BTreeMap<String, PackageState> {
    let sizes: BTreeMap<_, _> = side
        .build
        .iter()
        .flat_map(|build| &build.manifest.packages)
        .map(|package| (package.sha256, package.installed_size))
        .collect();
    let state = |(label, package): (String, &crate::lock::LockedPackage)| {
        let state =
            PackageState { version: package.version.clone(), installed_size: sizes.get(&package.sha256).copied() };
        (label, state)
    };
    by_label(&side.packages).into_iter().map(state).collect()
}

fn artifacts(old: &Side, new: &Side) -> Vec<ArtifactChange> {
    let change = |artifact: &Artifact| {
        let (before, after) = (old.artifact(*artifact)?, new.artifact(*artifact)?);
        Some(ArtifactChange {
            artifact: artifact.to_string(),
            size: Moved { old: before.size, new: after.size },
            same: before.sha256 == after.sha256,
        })
    };
    Artifact::ALL.iter().filter_map(change).collect()
}

fn files(old: &Side, new: &Side, list: bool) -> anyhow::Result<Option<Files>> {
    let (before, after) = (old.file_list()?, new.file_list()?);
    if let (Some(before), Some(after)) = (&before, &after) {
        return Ok(Some(Files::between(before, after, list)));
    }
    let without = if before.is_none() { old } else { new };
    if list {
        return Err(Mistake::new(format!("{}: there is no list of its files", without.name))
            .hint("compare the output folders of two builds, with their *.mtree files")
            .into());
    }
    Ok(None)
}

impl Files {
    fn between(old: &FileList, new: &FileList, list: bool) -> Self {
        let mut paths: Vec<_> = old.0.keys().chain(new.0.keys()).collect();
        paths.sort();
        paths.dedup();
        let change = |path: &PathBuf| {
            let (old, new) = (old.0.get(path), new.0.get(path));
            (old != new).then(|| FileChange { path: path.clone(), old: old.cloned(), new: new.cloned() })
        };
        let changes: Vec<_> = paths.into_iter().filter_map(change).collect();
        let count = |wanted: fn(&FileChange) -> bool| changes.iter().filter(|change| wanted(change)).count();
        Self {
            added: count(|change| change.old.is_none()),
            removed: count(|change| change.new.is_none()),
            changed: count(|change| change.old.is_some() && change.new.is_some()),
            list: list.then_some(changes),
        }
    }
}

#[cfg(test)]
mod tests;
