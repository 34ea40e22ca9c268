//! What `zpool status -j --json-int` says.

use std::collections::BTreeMap;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::Guid;
use crate::command::Run;

/// State of a pool, a group or a disk (`vdev_state_t`; zpoolconcepts(7), Device Failure and Recovery).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all(serialize = "kebab-case", deserialize = "SCREAMING_SNAKE_CASE"))]
pub enum PoolState {
    /// As it should be.
    Online,
    /// Works, with less to fall back on.
    Degraded,
    /// Too many errors.
    Faulted,
    /// Taken out by somebody.
    Offline,
    /// Pulled out.
    Removed,
    /// Cannot be opened. In JSON, zpool calls a disk of which that is so by the name of the constant (`vdev_state_str`).
    #[serde(alias = "CANT_OPEN")]
    Unavail,
    /// A spare that waits.
    Avail,
    /// A spare that has taken a disk's place.
    Inuse,
    /// Stopped, as a disk no longer answers.
    Suspended,
    /// Another one.
    #[serde(other)]
    Unknown,
}

/// What a pool says about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct PoolStatus {
    /// Its name.
    pub name: String,
    /// Its number.
    pub guid: Guid,
    /// How it is.
    pub state: PoolState,
    /// What ZFS says is wrong, if anything.
    pub status: Option<String>,
    /// The last scrub or resilver, or the one that is under way.
    pub scan: Option<Scan>,
    /// Its disks, spares last.
    pub disks: Vec<Device>,
    /// Files and blocks that are lost.
    pub lost: u64,
}

/// A disk of a pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Device {
    /// Its stable name, as far as ZFS knows.
    pub name: String,
    /// How it is.
    pub state: PoolState,
    /// Errors since the start: reading, writing, and data that was not what had been written.
    pub errors: [u64; 3],
}

/// A scrub or a resilver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scan {
    /// Which of the two.
    #[serde(rename(deserialize = "function"))]
    pub kind: ScanKind,
    /// `SCANNING`, `FINISHED`, `CANCELED`.
    pub state: String,
    /// Seconds since 1970.
    pub start_time: u64,
    /// Seconds since 1970; 0 while it runs.
    pub end_time: u64,
    /// What was found and could not be repaired.
    pub errors: u64,
}

/// What goes through all data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all(serialize = "kebab-case", deserialize = "SCREAMING_SNAKE_CASE"))]
pub enum ScanKind {
    /// Reads and checks everything.
    Scrub,
    /// Fills a disk that has come anew.
    Resilver,
    /// Another one.
    #[serde(other)]
    None,
}

impl PoolState {
    /// For people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Online => "online",
            Self::Degraded => "degraded",
            Self::Faulted => "faulted",
            Self::Offline => "offline",
            Self::Removed => "removed",
            Self::Unavail => "not there",
            Self::Avail => "waiting",
            Self::Inuse => "in use",
            Self::Suspended => "stopped",
            Self::Unknown => "in an unknown state",
        }
    }
}

impl PoolStatus {
    /// Asks ZFS about an imported pool.
    ///
    /// # Errors
    /// It is not imported.
    pub fn of(name: &str) -> anyhow::Result<Self> {
        Self::parse(&Run::new("zpool").args(["status", "-j", "--json-int", name]).bytes()?)
    }

    fn parse(json: &[u8]) -> anyhow::Result<Self> {
        let said: Said = serde_json::from_slice(json).context("reading what `zpool status` says")?;
        let (name, pool) = said.pools.into_iter().next().context("`zpool status` names no pool")?;
        let mut disks = Vec::new();
        pool.vdevs.iter().chain(&pool.spares).for_each(|(name, vdev)| vdev.collect(name, &mut disks));
        Ok(Self {
            name,
            guid: Guid(pool.pool_guid),
            state: pool.state,
            status: pool.status,
            scan: pool.scan_stats.filter(|scan| scan.kind != ScanKind::None),
            disks,
            lost: pool.error_count,
        })
    }
}

#[derive(Deserialize)]
struct Said {
    pools: BTreeMap<String, Pool>,
}

#[derive(Deserialize)]
struct Pool {
    pool_guid: u64,
    state: PoolState,
    status: Option<String>,
    scan_stats: Option<Scan>,
    #[serde(default)]
    vdevs: BTreeMap<String, Vdev>,
    #[serde(default)]
    spares: BTreeMap<String, Vdev>,
    #[serde(default)]
    error_count: u64,
}

#[derive(Deserialize)]
struct Vdev {
    vdev_type: String,
    state: PoolState,
    #[serde(default)]
    read_errors: u64,
    #[serde(default)]
    write_errors: u64,
    #[serde(default)]
    checksum_errors: u64,
    #[serde(default)]
    vdevs: BTreeMap<String, Vdev>,
}

impl Vdev {
    /// Leaves only: what a group suffers from is said by its disks. One that is missing has no type of its own.
    fn collect(&self, name: &str, disks: &mut Vec<Device>) {
        if self.vdevs.is_empty() && self.vdev_type != "root" {
            let errors = [self.read_errors, self.write_errors, self.checksum_errors];
            disks.push(Device { name: name.to_owned(), state: self.state, errors });
        }
        self.vdevs.iter().for_each(|(name, vdev)| vdev.collect(name, disks));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCRUBBED: &str = include_str!("fixtures/status-scrubbed.json");

    #[test]
    fn a_recorded_status_is_understood() {
        let status = PoolStatus::parse(SCRUBBED.as_bytes()).unwrap();
        assert_eq!((status.guid, status.state, status.lost), (Guid(11_570_879_233_519_870_023), PoolState::Online, 0));
        let disks: Vec<_> = status.disks.iter().map(|disk| (disk.name.as_str(), disk.state)).collect();
        assert_eq!(disks.len(), 4);
        assert_eq!(disks[0], ("nvme-QEMU_NVMe_Ctrl_larder-disk0", PoolState::Online));
        assert_eq!(disks[3], ("nvme-QEMU_NVMe_Ctrl_larder-disk3", PoolState::Avail));
        let scan = status.scan.unwrap();
        assert_eq!((scan.kind, scan.state.as_str(), scan.end_time), (ScanKind::Scrub, "FINISHED", 1_795_411_385));
    }

    #[test]
    fn a_state_of_a_later_version_is_no_obstacle() {
        let status = PoolStatus::parse(SCRUBBED.replace("\"AVAIL\"", "\"RESTING\"").as_bytes()).unwrap();
        assert_eq!(status.disks[3].state, PoolState::Unknown);
    }

    #[test]
    fn a_disk_that_was_not_there_at_the_import_is_missing() {
        let status = PoolStatus::parse(SCRUBBED.replace("\"AVAIL\"", "\"CANT_OPEN\"").as_bytes()).unwrap();
        assert_eq!(status.disks[3].state, PoolState::Unavail);
    }
}
