//! What is remembered of the systems on this disk, on the state partition: which one was good last, with which pools, and
//! which ones failed.

use std::path::Path;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::pool::Known;
use crate::state::State;
use crate::verity::RootHash;
use crate::version::Version;

/// Its file. The other system reads it, too, be it older or newer: what one does not know, it leaves aside.
const FILE: &str = "systems.json";
/// Failed versions that are remembered.
const KEPT: usize = 16;

/// All of it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Memory {
    /// The last start that was good.
    pub last_good: Option<Good>,
    /// Systems that were tried in vain, the newest entry last.
    pub failed: Vec<Failed>,
}

/// A start that was good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Good {
    /// Of this system.
    pub root_hash: RootHash,
    /// Pools that were imported.
    pub pools: Vec<Known>,
}

/// A system that was tried in vain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Failed {
    /// Its version.
    pub version: Version,
    /// What was wrong, as far as it is known.
    pub reason: String,
}

impl Memory {
    /// That of the system below `root`; nothing is remembered when there is no file.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read(root: &Path) -> anyhow::Result<Self> {
        let Some(bytes) = State::at(root).read(FILE)? else { return Ok(Self::default()) };
        serde_json::from_slice(&bytes).with_context(|| format!("reading {FILE} of the state partition"))
    }

    /// # Errors
    /// It cannot be written.
    pub fn write(&self, root: &Path) -> anyhow::Result<()> {
        State::at(root).write(FILE, &serde_json::to_vec_pretty(self)?)
    }

    /// Why a version failed, if it did.
    pub fn failure(&self, version: &Version) -> Option<&str> {
        self.failed.iter().find(|failed| failed.version == *version).map(|failed| failed.reason.as_str())
    }

    /// Remembers that a version failed. The first reason stays: what follows is a consequence.
    pub fn remember_failure(&mut self, version: &Version, reason: &str) {
        if self.failure(version).is_none() {
            self.failed.push(Failed { version: version.clone(), reason: reason.to_owned() });
            let surplus = self.failed.len().saturating_sub(KEPT);
            self.failed.drain(..surplus);
        }
    }

    /// A version is good after all, or is to be tried again.
    pub fn forget_failure(&mut self, version: &Version) {
        self.failed.retain(|failed| failed.version != *version);
    }

    /// The system with this root hash was started and is good. Of the pools that were known before, those that `is_ours`
    /// are remembered even when they are not there now: their disks may come back.
    pub fn remember_good(&mut self, root_hash: RootHash, mut pools: Vec<Known>, is_ours: impl Fn(&Known) -> bool) {
        let before = self.last_good.take().map(|good| good.pools).unwrap_or_default();
        for pool in before {
            if is_ours(&pool) && pools.iter().all(|other| other.guid != pool.guid) {
                pools.push(pool);
            }
        }
        self.last_good = Some(Good { root_hash, pools });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zfs::Guid;

    fn version(text: &str) -> Version {
        text.parse().unwrap()
    }

    fn pool(guid: u64) -> Known {
        Known { guid: Guid(guid), name: "tank".into(), disks: Vec::new() }
    }

    #[test]
    fn it_is_read_back_and_what_a_newer_system_added_is_left_aside() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(Memory::read(root.path()).unwrap(), Memory::default());
        let mut memory = Memory::default();
        memory.remember_failure(&version("2"), "it did not start");
        memory.remember_good(RootHash::from([1; 32]), vec![pool(1)], |_| false);
        memory.write(root.path()).unwrap();
        assert_eq!(Memory::read(root.path()).unwrap(), memory);
        let path = root.path().join("state/larder/systems.json");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replacen('{', "{\"of-a-newer-system\": 1,", 1)).unwrap();
        assert_eq!(Memory::read(root.path()).unwrap(), memory);
    }

    #[test]
    fn the_first_reason_of_a_failure_stays_until_the_version_is_good() {
        let mut memory = Memory::default();
        memory.remember_failure(&version("2"), "ZFS");
        memory.remember_failure(&version("2"), "three starts");
        assert_eq!(memory.failure(&version("2")), Some("ZFS"));
        memory.forget_failure(&version("2"));
        assert_eq!(memory.failure(&version("2")), None);
        (0..40).for_each(|number| memory.remember_failure(&version(&number.to_string()), "x"));
        assert_eq!((memory.failed.len(), memory.failure(&version("39"))), (KEPT, Some("x")));
    }

    #[test]
    fn our_pool_is_remembered_while_its_disks_are_away_and_a_stranger_is_not() {
        let mut memory = Memory::default();
        memory.remember_good(RootHash::from([1; 32]), vec![pool(1), pool(2)], |_| false);
        memory.remember_good(RootHash::from([1; 32]), vec![], |pool| pool.guid == Guid(1));
        assert_eq!(memory.last_good.unwrap().pools, [pool(1)]);
    }
}
