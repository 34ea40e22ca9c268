//! `sets.toml`: what both sides are asked, and where they are meant to differ.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::Result;
use larder::archive::Archive;
use larder::profile::Profile;
use larder::project::Project;
use larder::solve::PackageRequest;
use larder::toml_file;
use serde::Deserialize;

/// A request, and what is expected of the answers besides being the same.
#[derive(Debug, Clone)]
pub struct Set {
    pub name: String,
    pub request: PackageRequest,
    /// Both must refuse, and name these packages.
    pub refused: BTreeSet<String>,
    pub differs: Option<Difference>,
}

/// A difference that is meant to be.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Difference {
    pub because: Reason,
    /// Packages that only larder installs.
    #[serde(default)]
    pub larder: BTreeSet<String>,
    /// Packages that only apt installs.
    #[serde(default)]
    pub apt: BTreeSet<String>,
}

/// Why; each is a claim that is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// apt decides between alternatives as soon as it meets them; larder when all that leaves no choice is
    /// known, and then a package that comes anyway is often enough. So larder's packages are part of apt's.
    ComesAnyway,
    /// Several packages provide a name that is no package, and none is more important. larder takes the
    /// first by name, apt the one whose name comes up last in the indices, in whatever field.
    EqualProviders,
    /// apt considers one version of each package and refuses; larder goes to other versions where only they
    /// satisfy what is asked for, such as the libraries of a pinned program.
    OtherVersions,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct SetsFile {
    #[serde(rename = "set")]
    sets: Vec<SetTable>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct SetTable {
    name: String,
    #[serde(default)]
    profile: Option<String>,
    #[serde(default)]
    include: BTreeSet<String>,
    #[serde(default)]
    forbid: BTreeSet<String>,
    #[serde(default)]
    provided: BTreeSet<String>,
    #[serde(default)]
    pins: BTreeMap<String, String>,
    #[serde(default)]
    essential: bool,
    #[serde(default)]
    foreign: Vec<String>,
    #[serde(default)]
    refused: BTreeSet<String>,
    differs: Option<Difference>,
}

/// The sets; those of the same architectures are neighbours.
pub fn load(project: &Project) -> Result<Vec<Set>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/apt/sets.toml");
    let file: SetsFile = toml_file::read(&path)?;
    let mut names = BTreeSet::new();
    for set in &file.sets {
        anyhow::ensure!(names.insert(&set.name), "{}: two sets are called `{}`", path.display(), set.name);
    }
    let mut sets = file.sets.into_iter().map(|set| set.complete(project)).collect::<Result<Vec<_>>>()?;
    sets.sort_by(|a, b| a.request.architectures.cmp(&b.request.architectures));
    Ok(sets)
}

impl SetTable {
    /// Adds what the profile says: archives, architecture, and for a set of a whole profile its packages.
    fn complete(self, project: &Project) -> Result<Set> {
        let base = Profile::load(project, self.profile.as_deref().unwrap_or("base"))?.packages;
        let request = match self.profile {
            Some(_) => base,
            None => PackageRequest {
                include: self.include,
                forbid: self.forbid,
                provided: self.provided,
                pins: self.pins,
                essential: self.essential,
                archives: if self.foreign.is_empty() { base.archives } else { release_only(&base.archives) },
                architectures: base.architectures.into_iter().chain(self.foreign).collect(),
            },
        };
        Ok(Set { name: self.name, request, refused: self.refused, differs: self.differs })
    }
}

/// Updates reach the architectures at different times, and `Multi-Arch: same` packages of two versions
/// cannot be installed together. The release itself stands still.
fn release_only(archives: &[Archive]) -> Vec<Archive> {
    let mut debian = archives[0].clone();
    debian.suites.truncate(1);
    vec![debian]
}
