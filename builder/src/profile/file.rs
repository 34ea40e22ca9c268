//! What a profile file says, before it is joined with its base and checked.

use std::collections::{BTreeMap, BTreeSet};

use firstboot::hardware::{Device, Graphics, Hazard, Match, Memory, Size};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::archive::Archive;
use crate::lint::Skip;
use crate::toml_file::SchemaVersion;

/// A profile file, key by key. Everything but `schema` may be left to the base.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ProfileFile {
    /// Version of this format: 1.
    #[serde(rename = "schema")]
    #[schemars(with = "u32", range(min = 1, max = 1))]
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
    /// Which machines it is for.
    #[serde(default, rename = "match")]
    pub matches: Match,
    /// What is on the board.
    #[serde(default, rename = "device")]
    pub devices: Vec<Device>,
    /// What is known to go wrong there.
    #[serde(default, rename = "hazard")]
    pub hazards: Vec<Hazard>,
    /// How video is encoded and decoded.
    pub graphics: Option<Graphics>,
    /// How memory is shared out.
    #[serde(default)]
    pub memory: Memory,
    /// What it starts from.
    #[serde(default)]
    pub boot: BootTable,
    /// How large it may become.
    #[serde(default)]
    pub budget: BudgetTable,
    /// Which files of the packages stay out of the image.
    #[serde(default)]
    pub files: FilesTable,
    /// What lints find and this profile accepts.
    #[serde(default)]
    pub lint: LintTable,
    /// Values for the overlays' templates.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, serde_json::Value>")]
    pub variables: BTreeMap<String, toml::Value>,
}

/// `[packages]`
#[derive(Debug, Default, Deserialize, JsonSchema)]
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
#[derive(Debug, Default, Deserialize, JsonSchema)]
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
    /// Modules that can drive many chips: of their firmware only what `[[device]]` names is kept.
    pub firmware_of_devices: BTreeSet<String>,
    /// Globs of microcode for the processors, which the kernel loads before anything else.
    pub microcode: Vec<String>,
}

/// `[boot]`
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct BootTable {
    /// What the image is written to.
    pub medium: Option<Medium>,
    /// The smallest such medium that the image must fit with both systems and its state.
    pub minimum_size: Option<Size>,
}

/// What a machine starts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Medium {
    /// Soldered flash memory.
    Emmc,
    /// A stick or a drive at a USB port.
    Usb,
    /// An NVMe drive.
    Nvme,
    /// Whatever the owner chooses.
    Any,
}

/// `[budget]`
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct BudgetTable {
    /// Of the root file system.
    pub root: Option<Size>,
    /// Of the compressed image.
    pub compressed: Option<Size>,
}

/// `[files]`
#[derive(Debug, Default, Deserialize, JsonSchema)]
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
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct LintTable {
    /// Findings that are right in this image, each with its reason.
    pub skip: Vec<Skip>,
}
