//! Hardware profiles: `profiles/NAME.toml`, which may inherit from one base, one level deep.
//!
//! Parse, then validate: [`file::ProfileFile`] is what the TOML says, [`Profile`] is what the rest of
//! the builder may rely on. Lists of the base come first and the profile's own are added; a scalar or
//! a table key set by both with different values is an error, so that nothing is overridden silently.

pub mod file;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

/// A validated profile, base included.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Profile {
    /// The file's stem.
    pub name: String,
    /// One line for people.
    pub description: String,
    /// What to install, and from where.
    pub packages: PackageRequest,
    /// Overlay folders that go into the image, in the order of their names.
    pub overlays: BTreeSet<String>,
    /// Kernel, modules and firmware.
    pub kernel: Kernel,
    /// Globs of paths (no leading slash) that packages ship and the image does not want.
    pub exclude: Vec<String>,
    /// Globs that are kept even where `exclude` matches.
    pub keep: Vec<String>,
    /// Paths removed once the packages are configured (build residue, package manager).
    pub remove: Vec<String>,
    /// Values for the overlays' templates.
    pub variables: BTreeMap<String, toml::Value>,
}

/// The input of the solver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct PackageRequest {
    /// Package names, each optionally `name:arch`.
    pub include: BTreeSet<String>,
    /// Names that must not be installed.
    pub forbid: BTreeSet<String>,
    /// Package name -> suite that it comes from, whatever its priority.
    pub pins: BTreeMap<String, String>,
    /// Whether packages marked `Essential: yes` are added. A tools tree lists what it uses instead.
    pub essential: bool,
    /// The machine's architecture first, then foreign ones (`i386`).
    pub architectures: Vec<String>,
    /// Signed sources of packages.
    pub archives: Vec<Archive>,
}

/// One signed source of packages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Archive {
    /// Short name, used in locks.
    pub name: String,
    /// Base address: `dists/` and `pool/` are below it.
    pub mirror: String,
    /// Address of the dated copies, with `{timestamp}`; where pinned files go when the mirror drops them.
    pub snapshot: Option<String>,
    /// Suites, such as `trixie-updates`.
    pub suites: Vec<String>,
    /// Components, such as `non-free-firmware`.
    pub components: Vec<String>,
    /// Key files below `profiles/archives/`; a signature by any of them is accepted.
    pub keys: Vec<String>,
}

/// Kernel, modules and firmware of an image.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Kernel {
    /// Words of the kernel command line; `roothash=` is added by the build.
    pub command_line: Vec<String>,
    /// Modules kept in the root: names (`igc`) or globs of paths below `kernel/` (`drivers/net/ethernet/intel/**`).
    pub modules: Vec<String>,
    /// Modules that the initrd needs, names only; they are kept in the root too.
    pub initrd_modules: Vec<String>,
    /// Globs of firmware files kept besides those that kept modules name.
    pub firmware: Vec<String>,
}
