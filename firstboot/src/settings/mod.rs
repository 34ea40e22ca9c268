//! The owner's settings, `nas.toml`: one versioned file, read by the appliance and by larder, which refuses to put a file on
//! a stick that the appliance would refuse.
//!
//! Every key is in [`EXAMPLE`], with what it is for. What is not in the file has a default that works: an empty file but
//! for `schema = 1` is a usable one. Unknown keys, wrong values and repetitions are errors that say where.
//!
//! A table that a later feature brings is one more module here and one more field of [`Settings`].

mod keys;
mod mistakes;
mod network;
mod pool;
mod reference;
mod secrets;
pub mod sources;
mod ssh;
mod system;
mod updates;

use std::path::Path;
use std::sync::LazyLock;

use serde::Deserialize;

pub use keys::{Keys, MIN_PASSPHRASE, MIN_PIN, Tang, TangUrl, Thumbprint, Tpm};
pub use mistakes::{mistakes, understood};
pub use network::{Address, Interface, Network};
pub use pool::{DiskId, Layout, Pool, PoolName};
pub use reference::reference;
pub use secrets::without_secrets;
pub use ssh::{PublicKey, Ssh};
pub use system::{HostName, System, TimeZone};
pub use updates::{Automatic, ChannelName, Rate, ServerUrl, Updates, Window};

use crate::report::Mistake;
use crate::toml_file::{self, SchemaVersion};

/// Name of the file on the seed partition, and on a stick labelled LARDER.
pub const FILE_NAME: &str = "nas.toml";
/// Version of the format.
pub const SCHEMA: u32 = 1;
/// A file with every key, commented out, each with its explanation.
pub const EXAMPLE: &str = include_str!("example.toml");
/// The example with everything switched on: what a file with all keys looks like.
pub static FULL_EXAMPLE: LazyLock<String> = LazyLock::new(|| {
    let switched_on = |line: &str| match line.strip_prefix('#') {
        Some(rest) if !rest.starts_with(' ') || rest.starts_with("    ") => rest.to_owned(),
        _ => line.to_owned(),
    };
    // The example's recovery key is refused.
    let key = "TESTS-KEYS6-ARE0G-N0T1H-SECRJ-ETATC-A000Q-7J2KQ";
    EXAMPLE.replace(crate::key::recovery::EXAMPLE, key).lines().map(|line| switched_on(line) + "\n").collect()
});
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
    /// Where newer systems come from.
    #[serde(default)]
    pub updates: Updates,
}

/// Tables with their keys: for those who write a key into the wrong one.
const KEYS: &[(&str, &[&str])] = &[
    ("system", system::KEYS),
    ("network", network::KEYS),
    ("ssh", ssh::KEYS),
    ("pool", pool::KEYS),
    ("keys", keys::KEYS),
    ("updates", updates::KEYS),
];

impl Settings {
    /// Parses the text of the file that people know as `name`.
    ///
    /// # Errors
    /// The first thing that is wrong, with line and column, and what may have been meant.
    pub fn parse(text: &str, name: &str) -> Result<Self, Mistake> {
        Self::parse_or_locate(without_mark(text), name).map_err(|(mistake, _)| mistake)
    }

    /// The same for a text without a byte order mark; says at which byte the mistake is, too.
    fn parse_or_locate(text: &str, name: &str) -> Result<Self, (Mistake, usize)> {
        toml_file::parse_or_locate(text, name).map_err(|(mistake, offset)| match misplaced(&mistake.to_string()) {
            Some(hint) => (mistake.hint(hint), offset),
            None => (mistake, offset),
        })
    }

    /// Reads and parses a file, and gives its text too.
    ///
    /// # Errors
    /// It cannot be read, is no text, or is wrong.
    pub fn read(path: &Path) -> anyhow::Result<(Self, String)> {
        let text = read_text(path)?;
        let settings = Self::parse(&text, &path.display().to_string())?;
        Ok((settings, text))
    }
}

/// Reads what should be a settings file.
///
/// # Errors
/// It cannot be read, is too long, or is no text.
pub fn read_text(path: &Path) -> Result<String, Mistake> {
    use std::io::Read as _;
    let name = path.display();
    let unreadable = |error| Mistake::new(format!("{name}: cannot be read")).because(error);
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(unreadable)?;
    file.take(MAX_SIZE + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    text_of(bytes, &name.to_string())
}

/// The text of what was read from the file that people know as `name`.
fn text_of(bytes: Vec<u8>, name: &str) -> Result<String, Mistake> {
    if bytes.len() as u64 > MAX_SIZE {
        return Err(Mistake::new(format!("{name}: more than {MAX_SIZE} bytes are too many for a settings file")));
    }
    String::from_utf8(bytes).map_err(|_| Mistake::new(format!("{name}: is no UTF-8 text")).hint("save it as UTF-8"))
}

/// Notepad puts a byte order mark before what it saves as UTF-8.
fn without_mark(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
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
