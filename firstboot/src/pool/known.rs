//! Which pool is ours.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::plan::Plan;
use crate::settings::DiskId;
use crate::state::State;
use crate::zfs::{Guid, PoolStatus};

/// Its file, on the state partition.
const FILE: &str = "pool.json";

/// The pool of this appliance, as its boot medium remembers it. A pool of another number is a stranger, whatever its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Known {
    /// Its number.
    pub guid: Guid,
    /// What it was called.
    pub name: String,
    /// Disks that it had.
    pub disks: Vec<DiskId>,
}

impl Known {
    /// The pool that a plan has become.
    pub fn new(guid: Guid, plan: &Plan) -> Self {
        Self { guid, name: plan.name.clone(), disks: plan.all_disks().map(|disk| disk.id.clone()).collect() }
    }

    /// A pool that is imported.
    pub fn imported(status: &PoolStatus) -> Self {
        // What has no stable name is found by the pool's number all the same.
        let disk = |name: &str| DiskId::parse(name.strip_suffix("-part1")?).ok();
        let disks = status.disks.iter().filter_map(|device| disk(&device.name)).collect();
        Self { guid: status.guid, name: status.name.clone(), disks }
    }

    /// The one of the system below `root`, if it has one.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read(root: &Path) -> anyhow::Result<Option<Self>> {
        let Some(bytes) = State::at(root).read(FILE)? else { return Ok(None) };
        serde_json::from_slice(&bytes).with_context(|| format!("reading {FILE} of the state partition")).map(Some)
    }

    /// Remembers it.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&self, root: &Path) -> anyhow::Result<()> {
        State::at(root).write(FILE, &serde_json::to_vec_pretty(self)?)
    }

    /// The partitions of its disks.
    pub fn partitions(&self) -> Vec<PathBuf> {
        self.disks.iter().map(|disk| Path::new("/dev/disk/by-id").join(format!("{disk}-part1"))).collect()
    }
}
