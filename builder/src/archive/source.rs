//! Where an archive is, and what of it is wanted.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One signed source of packages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
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
