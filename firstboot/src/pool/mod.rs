//! The pool: the disks that keep what must not be lost.
//!
//! ```text
//! disks + [pool] of the settings ── plan ──▶ Plan ── setup ──▶ an encrypted pool ── import, at every boot ──▶ in use
//!                                            shown, agreed to, then done as it is
//! ```
//!
//! | dataset | |
//! |---|---|
//! | `tank` | not encrypted and empty; its user properties hold the key's slots |
//! | `tank/data` | encrypted, at `/mnt/tank`: what the owner keeps |
//! | `tank/data/larder` | at `/var/lib/larder`: what the appliance must not lose and nobody else may read |

pub mod adopt;
pub mod at_boot;
pub mod copies;
pub mod import;
mod known;
pub mod look;
pub mod plan;
pub mod setup;
pub mod status;

use std::path::{Path, PathBuf};

pub use known::Known;

/// Name of the encrypted dataset below the pool's.
pub const DATA: &str = "data";
/// Name of the appliance's own dataset below [`DATA`].
pub const SYSTEM: &str = "larder";
/// Where that one is mounted.
pub const SYSTEM_FOLDER: &str = "/var/lib/larder";
/// User property of the pool's root dataset: `complete`, or `under-way:ID` while it is being set up.
pub const SETUP_PROPERTY: &str = "larder:setup";

/// Where a pool's data is mounted.
pub fn mountpoint(pool: &str) -> PathBuf {
    Path::new("/mnt").join(pool)
}
