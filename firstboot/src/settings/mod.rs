//! The owner's settings, `nas.toml`: one versioned file, read by the appliance and by larder, which refuses to put a file on
//! a stick that the appliance would refuse.
//!
//! Every key is in [`EXAMPLE`], with what it is for. What is not in the file has a default that works: an empty file but
//! for `schema = 1` is a usable one. Unknown keys, wrong values and repetitions are errors that say where.
//!
//! A table that a later feature brings is one more module here and one more field of [`Settings`].

mod keys;
mod network;
mod pool;
mod ssh;
mod system;

use std::path::Path;

use serde::Deserialize;

pub use keys::{Keys, MIN_PASSPHRASE, MIN_PIN, Tang, TangUrl, Thumbprint, Tpm};
pub use network::{Address, Interface, Network};
pub use pool::{DiskId, Layout, Pool, PoolName};
pub use ssh::{PublicKey, Ssh};
pub use system::{HostName, System, TimeZone};

use crate::report::Mistake;
use crate::toml_file::{self, SchemaVersion};

/// Name of the file on the seed partition, and on a stick labelled LARDER.
pub const FILE_NAME: &str = "nas.toml";
/// Version of the format.
pub const SCHEMA: u32 = 1;
/// A file with every key, commented out, each with its explanation.
pub const EXAMPLE: &str = include_str!("example.toml");
/// No settings are longer; what is, is another file.
const MAX_SIZE: u64 = 1 << 20;

/// What an appliance is told.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Settings {
    /// Version of the format.
    pub schema: SchemaVersion<SCHEMA>,
    /// Name and clock.
    #[serde(default)]
    pub system: System,
    /// How it is reached.
    #[serde(default)]
    pub network: Network,
    /// Who may log in from elsewhere.
    #[serde(default)]
    pub ssh: Ssh,
    /// Where data is kept.
    #[serde(default)]
    pub pool: Pool,
    /// What opens it.
    #[serde(default)]
    pub keys: Keys,
}

/// Tables with their keys: for those who write a key into the wrong one.
const KEYS: &[(&str, &[&str])] = &[
    ("system", system::KEYS),
    ("network", network::KEYS),
    ("ssh", ssh::KEYS),
    ("pool", pool::KEYS),
    ("keys", keys::KEYS),
];

impl Settings {
    /// Parses the text of the file that people know as `name`.
    ///
    /// # Errors
    /// The first thing that is wrong, with line and column, and what may have been meant.
    pub fn parse(text: &str, name: &str) -> Result<Self, Mistake> {
        // Notepad puts a byte order mark before what it saves as UTF-8.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        toml_file::parse(text, name).map_err(|mistake| match misplaced(&mistake.to_string()) {
            Some(hint) => mistake.hint(hint),
            None => mistake,
        })
    }

    /// Reads and parses a file, and gives its text too.
    ///
    /// # Errors
    /// It cannot be read, is no text, or is wrong.
    pub fn read(path: &Path) -> anyhow::Result<(Self, String)> {
        let name = path.display();
        let unreadable = |error| Mistake::new(format!("{name}: cannot be read")).because(error);
        let size = std::fs::metadata(path).map_err(unreadable)?.len();
        if size > MAX_SIZE {
            return Err(Mistake::new(format!("{name}: {size} bytes are too many for a settings file")).into());
        }
        let bytes = std::fs::read(path).map_err(unreadable)?;
        let text = String::from_utf8(bytes)
            .map_err(|_| Mistake::new(format!("{name}: is no UTF-8 text")).hint("save it as UTF-8"))?;
        let settings = Self::parse(&text, &name.to_string())?;
        Ok((settings, text))
    }
}

/// Which table an unknown key belongs into, when it is known in another one.
fn misplaced(message: &str) -> Option<String> {
    let (_, rest) = message.split_once("unknown field `")?;
    let (key, _) = rest.split_once('`')?;
    let (table, _) = KEYS.iter().find(|(_, keys)| keys.contains(&key))?;
    Some(format!("`{key}` belongs into the table [{table}]"))
}

#[cfg(test)]
mod tests;
