//! What the solver is asked.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::archive::Archive;

/// The input of the solver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct PackageRequest {
    /// Package names, each optionally `name:arch`.
    pub include: BTreeSet<String>,
    /// Names that must not be installed.
    pub forbid: BTreeSet<String>,
    /// Names that count as installed, because larder itself does their job (`linux-initramfs-tool`).
    pub provided: BTreeSet<String>,
    /// Package name -> suite that it comes from, whatever its priority.
    pub pins: BTreeMap<String, String>,
    /// Whether packages marked `Essential: yes` are added. A tools tree lists what it uses instead.
    pub essential: bool,
    /// The machine's architecture first, then foreign ones (`i386`).
    pub architectures: Vec<String>,
    /// Signed sources of packages.
    pub archives: Vec<Archive>,
}
