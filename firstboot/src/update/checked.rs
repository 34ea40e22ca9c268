//! What was found when it was last looked for updates: kept on the state partition, for `firstboot status`.

use std::path::Path;

use anyhow::Context as _;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::client::{TOPIC, image};
use crate::disk::Size;
use crate::finding::{Finding, Severity};
use crate::state::State;
use crate::status;
use crate::version::Version;

/// Relative to the state's folder.
const FILE: &str = "update-check.json";

/// What was found when it was last looked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Checked {
    /// When that was.
    pub at: Timestamp,
    /// Until when it counts.
    pub expires: Timestamp,
    /// The system that ran.
    pub running: Version,
    /// What may be installed, if anything.
    pub newer: Option<Newer>,
}

/// A version that may be installed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Newer {
    /// Its version.
    pub version: Version,
    /// Bytes to fetch at most.
    pub fetch: u64,
    /// Bytes of the compressed image, for comparison.
    pub image: u64,
    /// Packages that change.
    pub packages: usize,
    /// Security fixes that they bring.
    pub fixes: Vec<String>,
    /// Why it is not installed by itself, if it is not.
    pub failed: Option<String>,
}

impl Checked {
    /// Keeps it.
    pub(super) fn write(&self, root: &Path) -> anyhow::Result<()> {
        State::at(root).write(FILE, &serde_json::to_vec_pretty(self)?)
    }
}

/// What was found when it was last looked, if that was by the system that runs.
///
/// # Errors
/// It cannot be read.
pub fn last_check(root: &Path) -> anyhow::Result<Option<Checked>> {
    let Some(bytes) = State::at(root).read(FILE)? else { return Ok(None) };
    let checked: Checked = serde_json::from_slice(&bytes).with_context(|| format!("reading {FILE}"))?;
    let (_, running) = image(root)?;
    Ok((checked.running == running).then_some(checked))
}

/// Writes down what the owner is told of updates.
///
/// # Errors
/// It cannot be written.
pub fn tell(root: &Path) -> anyhow::Result<()> {
    let checked = last_check(root)?;
    let newer = checked.as_ref().and_then(|checked| checked.newer.as_ref());
    let finding = newer.filter(|newer| newer.failed.is_none()).map(|newer| Finding {
        id: "update-there".into(),
        severity: Severity::Notice,
        message: newer.to_string(),
        next: "firstboot update install".into(),
    });
    status::record(root, TOPIC, finding.as_slice())
}

impl std::fmt::Display for Newer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { version, fetch, image, packages, fixes, failed } = self;
        write!(f, "version {version}: {} to fetch", Size(*fetch))?;
        if *image > 0 {
            write!(f, " ({} % of the image)", fetch * 100 / image)?;
        }
        write!(f, ", {packages} packages change")?;
        if !fixes.is_empty() {
            write!(f, ", security fixes: {}", fixes.join(", "))?;
        }
        match failed {
            Some(reason) => write!(f, "; it was tried before and failed: {reason}"),
            None => Ok(()),
        }
    }
}
