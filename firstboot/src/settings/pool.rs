//! `[pool]`: which disks keep what must not be lost. Without a layout, or a pool to adopt, the console asks.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, de};

/// All keys of the table.
pub(super) const KEYS: &[&str] = &["name", "layout", "disks", "spares", "erase", "adopt"];

/// `[pool]`
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Pool {
    /// What the pool is called, and the folder in `/mnt` where it is mounted.
    pub name: PoolName,
    /// How the disks keep data together; without it no disk is touched until somebody at the console says so.
    pub layout: Option<Layout>,
    /// Names in `/dev/disk/by-id`. Without any: all empty disks but the one that the system was started from.
    pub disks: Vec<DiskId>,
    /// Disks that wait until another one fails.
    pub spares: Vec<DiskId>,
    /// Those of all these disks that hold something, which may be lost.
    pub erase: Vec<DiskId>,
    /// A pool to take over instead: its name or its number.
    pub adopt: Option<String>,
}

/// How the disks of a pool keep data together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layout {
    /// What suits the number of disks.
    Auto,
    /// One disk; what it loses is lost.
    Single,
    /// The same on every disk.
    Mirror,
    /// Pairs of disks, each pair a mirror.
    Mirrors,
    /// One disk may fail.
    Raidz1,
    /// Two disks may fail.
    Raidz2,
}

/// Name of a pool, as zpool-create(8) allows it and nothing that a shell or a path would trip over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PoolName(String);

/// A name in `/dev/disk/by-id`, with or without that folder.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct DiskId(String);

impl PoolName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn parse(text: String) -> Result<Self, String> {
        // zpool-create(8), and what names devices in `zpool status`.
        const TAKEN: [&str; 7] = ["mirror", "raidz", "draid", "spare", "log", "cache", "special"];
        let bad = |why: &str| {
            Err(format!("`{text}` is no name for a pool: {why}; use letters, digits, `-` and `_`, such as `tank`"))
        };
        if !text.starts_with(|c: char| c.is_ascii_alphabetic()) {
            return bad("it does not begin with a letter");
        }
        if text.len() > 32 {
            return bad("it has more than 32 letters");
        }
        if !text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)) {
            return bad("it has other characters");
        }
        if let Some(word) = TAKEN.iter().find(|word| text.starts_with(*word)) {
            return bad(&format!("ZFS keeps `{word}` for itself"));
        }
        Ok(Self(text))
    }
}

impl Default for PoolName {
    fn default() -> Self {
        Self("tank".to_owned())
    }
}

impl DiskId {
    /// The name without its folder: `nvme-CT1000P3_SSD_2244A1`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Takes a name, with or without `/dev/disk/by-id/` before it.
    ///
    /// # Errors
    /// It is another path, or stands for a partition.
    pub fn parse(text: &str) -> Result<Self, String> {
        const FOLDER: &str = "/dev/disk/by-id/";
        let name = text.strip_prefix(FOLDER).unwrap_or(text);
        if name.is_empty() || name.contains('/') {
            return Err(format!("`{text}` is no name that stays the same; `firstboot plan` lists those in {FOLDER}"));
        }
        match name.rsplit_once("-part") {
            Some((disk, number)) if number.parse::<u32>().is_ok() => {
                Err(format!("`{text}` is a part of a disk; write `{disk}` for the whole one"))
            }
            _ => Ok(Self(name.to_owned())),
        }
    }
}

impl<'de> Deserialize<'de> for PoolName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for DiskId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

impl fmt::Display for PoolName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for DiskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Single => "single",
            Self::Mirror => "mirror",
            Self::Mirrors => "mirrors",
            Self::Raidz1 => "raidz1",
            Self::Raidz2 => "raidz2",
        })
    }
}
