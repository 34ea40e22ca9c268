//! Lock files: exactly which packages an image consists of.
//!
//! `profiles/NAME.lock` for a profile, `profiles/tools/NAME.lock` for a tools tree; TOML, committed,
//! sorted by package name, so that an update is a readable diff. The lock is all that a build needs
//! to know about archives:
//!
//! ```toml
//! version = 1
//! snapshot = "2026-11-21T02:10:46Z"    # the newest release among the suites
//! request = "…"                        # digest of what the profile asked for
//!
//! [[release]]                          # what was resolved against
//! archive = "debian"
//! suite = "trixie"
//! date = "2026-09-12T07:55:41Z"
//! sha256 = "…"
//!
//! [[package]]
//! name = "mawk"
//! version = "1.3.4.20250131-1"
//! architecture = "amd64"
//! sha256 = "…"
//! size = 140808
//! source = "debian:pool/main/m/mawk/mawk_1.3.4.20250131-1_amd64.deb"
//! ```

mod diff;
mod format;

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub(crate) use diff::by_label;
pub use diff::{Change, Diff};

use crate::archive::{PackageView, Suite, Universe};
use crate::hash::Hash;
use crate::recipe::Recipe;
use crate::report::{self, Mistake};
use crate::solve::{self, PackageRequest};
use crate::store::files;

/// Something with a lock: a profile or a tools tree.
#[derive(Debug, Clone)]
pub struct Lockable<'a> {
    /// `profiles/NAME.lock` or `profiles/tools/NAME.lock`.
    pub path: PathBuf,
    /// The verb that makes the lock anew, for messages.
    pub command: String,
    /// What the lock must answer.
    pub request: &'a PackageRequest,
}

/// A resolved request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lock {
    /// Date of the newest release; the snapshot archive has everything at that time.
    pub snapshot: Timestamp,
    /// What was asked: see [`request_hash`].
    pub request: Hash,
    /// The suites, sorted by archive and name.
    pub releases: Vec<LockedRelease>,
    /// The packages, sorted by name and architecture.
    pub packages: Vec<LockedPackage>,
}

/// A suite that was resolved against.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockedRelease {
    /// Name of the archive in the profile.
    pub archive: String,
    /// The suite.
    pub suite: String,
    /// When it was published.
    pub date: Timestamp,
    /// Digest of its InRelease.
    pub sha256: Hash,
}

/// One package of the image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct LockedPackage {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// `amd64`, `all`.
    pub architecture: String,
    /// Digest of the .deb.
    pub sha256: Hash,
    /// Length of the .deb.
    pub size: u64,
    /// `ARCHIVE:PATH`; the path is below the archive's mirror.
    pub source: String,
}

impl LockedPackage {
    /// Name of the archive in the profile, and the path below its mirror.
    pub fn location(&self) -> (&str, &str) {
        // The parser refuses a source without a colon.
        self.source.split_once(':').unwrap_or(("", &self.source))
    }

    fn of(package: PackageView<'_>) -> Self {
        Self {
            name: package.name().to_owned(),
            version: package.version().to_owned(),
            architecture: package.architecture().to_owned(),
            sha256: package.sha256(),
            size: package.size(),
            source: format!("{}:{}", package.suite().archive, package.filename()),
        }
    }
}

/// Where the lock of a profile is: `folder` is `profiles` or `profiles/tools`.
pub fn path(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.lock"))
}

/// Digest of what a lock answers: the request and the solver's rules. Mirrors are left out, as the
/// same signed content is behind each of them.
pub fn request_hash(request: &PackageRequest) -> Result<Hash> {
    let mut request = request.clone();
    for archive in &mut request.archives {
        archive.mirror.clear();
        archive.snapshot = None;
    }
    let text = serde_json::to_vec(&request).context("writing down the package request")?;
    Ok(Recipe::new("lock", solve::REVISION).field("request", text).key())
}

/// Solves a request against the archives' packages.
pub fn resolve(request: &PackageRequest, universe: &Universe) -> Result<Lock> {
    let solution = solve::solve(request, universe)?;
    let snapshot = universe.suites().iter().map(|suite| suite.date).max();
    let mut releases: Vec<LockedRelease> = universe.suites().iter().map(LockedRelease::of).collect();
    releases.sort_by(|a, b| (&a.archive, &a.suite).cmp(&(&b.archive, &b.suite)));
    Ok(Lock {
        snapshot: snapshot.context("a universe without suites")?,
        request: request_hash(request)?,
        releases,
        packages: solution.iter().map(|id| LockedPackage::of(universe.package(*id))).collect(),
    })
}

impl LockedRelease {
    fn of(suite: &Suite) -> Self {
        Self { archive: suite.archive.clone(), suite: suite.name.clone(), date: suite.date, sha256: suite.sha256 }
    }
}

impl Lock {
    /// Reads a lock file. `None` when there is none.
    pub fn read(path: &Path) -> Result<Option<Self>> {
        let text = match fs_err::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        Self::parse(&text, path).map(Some)
    }

    /// Reads a lock's text; `path` is for messages.
    pub fn parse(text: &str, path: &Path) -> Result<Self> {
        format::parse(text).map_err(|problem| {
            Mistake::new(format!("{}:{}: {}", path.display(), problem.line, problem.what))
                .hint("locks are written by larder: restore the file from version control, or remove it and run `larder lock`")
                .into()
        })
    }

    /// The lock file's text; `command` is what makes it (`larder lock --profile nas`).
    pub fn render(&self, command: &str) -> String {
        format::render(self, command)
    }

    /// Writes the lock file: the old one stays until the new one is complete and on disk.
    pub fn write(&self, path: &Path, command: &str) -> Result<()> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let name = path.file_name().context("a lock has a name")?.to_string_lossy();
        // One name for all writers, who take turns: what a killed one leaves, the next one uses.
        let staged = folder.join(format!(".{name}.new"));
        let write = |mut file: std::fs::File| -> Result<()> {
            file.set_len(0)?;
            file.write_all(self.render(command).as_bytes())?;
            file.sync_all()?;
            fs_err::rename(&staged, path)?;
            Ok(fs_err::File::open(folder)?.sync_all()?)
        };
        let written = files::open_locked(&staged).map_err(anyhow::Error::from).and_then(|file| {
            write(file).inspect_err(|_| {
                let _ = fs_err::remove_file(&staged);
            })
        });
        written.map_err(|error| {
            let hint = "make room there, or let the folder be written";
            report::blame_disk(error.context(format!("writing {}", path.display())), path, hint)
        })
    }

    /// Whether this lock answers the request.
    pub fn matches(&self, request: &PackageRequest) -> Result<bool> {
        Ok(self.request == request_hash(request)?)
    }

    /// What changes from `old` to `new`.
    pub fn diff(old: &Self, new: &Self) -> Diff {
        Diff::between(&old.packages, &new.packages)
    }
}

#[cfg(test)]
mod tests;
