//! What a profile file says, before it is joined with its base and checked.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use crate::archive::Archive;
use crate::lint::Skip;
use crate::toml_file::SchemaVersion;

/// A profile file, key by key. Everything but `schema` may be left to the base.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ProfileFile {
    /// Version of this format: 1.
    #[serde(rename = "schema")]
    pub _schema: SchemaVersion<1>,
    /// The base profile; a base has none itself.
    pub inherits: Option<String>,
    /// One line for people.
    pub description: Option<String>,
    /// Signed sources of packages.
    #[serde(default, rename = "archive")]
    pub archives: Vec<Archive>,
    /// What to install.
    #[serde(default)]
    pub packages: PackagesTable,
    /// Overlay folders that go into the image.
    #[serde(default)]
    pub overlays: BTreeSet<String>,
    /// Kernel, modules and firmware.
    #[serde(default)]
    pub kernel: KernelTable,
    /// Which files of the packages stay out of the image.
    #[serde(default)]
    pub files: FilesTable,
    /// What lints find and this profile accepts.
    #[serde(default)]
    pub lint: LintTable,
    /// Values for the overlays' templates.
    #[serde(default)]
    pub variables: BTreeMap<String, toml::Value>,
}

/// `[packages]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct PackagesTable {
    /// Names, each optionally `name:arch`.
    pub include: BTreeSet<String>,
    /// Names that must not be installed.
    pub forbid: BTreeSet<String>,
    /// Names that count as installed, because larder itself does their job.
    pub provided: BTreeSet<String>,
    /// Package name = suite that it must come from.
    pub pins: BTreeMap<String, String>,
    /// Debian architectures, the machine's own first.
    pub architectures: Vec<String>,
}

/// `[kernel]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct KernelTable {
    /// Words of the kernel command line.
    pub command_line: Vec<String>,
    /// Modules kept: names, or globs of paths below `kernel/`.
    pub modules: Vec<String>,
    /// Modules that the initrd needs.
    pub initrd_modules: Vec<String>,
    /// Globs of firmware files kept besides those that kept modules name.
    pub firmware: Vec<String>,
}

/// `[files]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct FilesTable {
    /// Globs of packaged paths that the image does not want.
    pub exclude: Vec<String>,
    /// Globs kept even where `exclude` matches.
    pub keep: Vec<String>,
    /// Paths removed after configuration.
    pub remove: Vec<String>,
    /// Globs of programs that lose their set-user-id and set-group-id bits.
    pub drop_setuid: Vec<String>,
}

/// `[lint]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct LintTable {
    /// Findings that are right in this image, each with its reason.
    pub skip: Vec<Skip>,
}
