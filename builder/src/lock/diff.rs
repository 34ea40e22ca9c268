//! What changed between two locks.

use std::collections::BTreeMap;
use std::fmt;

use super::LockedPackage;

/// One package's change. Names carry the architecture where it is needed to tell them apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Another version.
    Changed {
        /// The package.
        name: String,
        /// Version before.
        old: String,
        /// Version after.
        new: String,
    },
    /// New in the lock.
    Added {
        /// The package.
        name: String,
        /// Its version.
        version: String,
    },
    /// No longer in the lock.
    Removed {
        /// The package.
        name: String,
        /// The version that it had.
        version: String,
    },
}

impl Change {
    /// The package.
    pub fn name(&self) -> &str {
        match self {
            Self::Changed { name, .. } | Self::Added { name, .. } | Self::Removed { name, .. } => name,
        }
    }

    /// Its versions before and after.
    pub fn versions(&self) -> (Option<&str>, Option<&str>) {
        match self {
            Self::Changed { old, new, .. } => (Some(old), Some(new)),
            Self::Added { version, .. } => (None, Some(version)),
            Self::Removed { version, .. } => (Some(version), None),
        }
    }
}

/// All changes, sorted by name. Its text is one line a change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Diff {
    changes: Vec<Change>,
}

impl Diff {
    pub(crate) fn between(old: &[LockedPackage], new: &[LockedPackage]) -> Self {
        let (old, new) = (by_label(old), by_label(new));
        let mut labels: Vec<&String> = old.keys().chain(new.keys()).collect();
        labels.sort();
        labels.dedup();
        let change = |label: &String| {
            let name = label.clone();
            match (old.get(label), new.get(label)) {
                (Some(before), None) => Some(Change::Removed { name, version: before.version.clone() }),
                (None, Some(after)) => Some(Change::Added { name, version: after.version.clone() }),
                (Some(before), Some(after)) if before.version != after.version => {
                    Some(Change::Changed { name, old: before.version.clone(), new: after.version.clone() })
                }
                // The same version with other content: an archive broke its own rules, so say it.
                (Some(before), Some(after)) if before.sha256 != after.sha256 => Some(Change::Changed {
                    name,
                    old: format!("{} (sha256 {})", before.version, before.sha256.short()),
                    new: format!("{} (sha256 {})", after.version, after.sha256.short()),
                }),
                _ => None,
            }
        };
        Self { changes: labels.into_iter().filter_map(change).collect() }
    }

    /// The changes.
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// Whether both locks have the same packages.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }
}

/// Packages by name, or `name:architecture` for the second architecture of a name.
pub(crate) fn by_label(packages: &[LockedPackage]) -> BTreeMap<String, &LockedPackage> {
    let native = packages.iter().map(|package| package.architecture.as_str()).find(|name| *name != "all");
    let count = |wanted: &str| packages.iter().filter(|package| package.name == wanted).count();
    let label = |package: &LockedPackage| {
        let foreign = package.architecture != "all" && Some(package.architecture.as_str()) != native;
        if foreign || count(&package.name) > 1 {
            format!("{}:{}", package.name, package.architecture)
        } else {
            package.name.clone()
        }
    };
    packages.iter().map(|package| (label(package), package)).collect()
}

impl fmt::Display for Diff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for change in &self.changes {
            match change {
                Change::Changed { name, old, new } => writeln!(f, "{name} {old} → {new}")?,
                Change::Added { name, version } => writeln!(f, "+ {name} {version}")?,
                Change::Removed { name, version } => writeln!(f, "- {name} {version}")?,
            }
        }
        Ok(())
    }
}
