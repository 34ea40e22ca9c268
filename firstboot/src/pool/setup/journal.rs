//! How far a setup has come.

use std::path::Path;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::pool::plan::{Plan, PlannedDisk};
use crate::state::State;
use crate::zfs::Guid;

/// Its file, on the state partition.
const FILE: &str = "setup.json";

/// A setup under way. Nothing in it is a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Journal {
    /// Tells this setup, and what it makes, from all others.
    pub id: Uuid,
    /// What was agreed to.
    pub plan: Plan,
    /// The last step that is done.
    pub step: Step,
}

/// A step that is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "done", content = "pool")]
pub enum Step {
    /// Somebody has agreed to the plan.
    Agreed,
    /// All disks have their partitions.
    Partitioned,
    /// The pool is there.
    Pooled(Guid),
    /// The encrypted dataset is there, and opens.
    Encrypted(Guid),
}

impl Journal {
    /// A setup that begins.
    pub fn new(plan: Plan) -> Self {
        Self { id: Uuid::new_v4(), plan, step: Step::Agreed }
    }

    /// That of the system below `root`, when one was begun and has not come to its end.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read(root: &Path) -> anyhow::Result<Option<Self>> {
        let Some(bytes) = State::at(root).read(FILE)? else { return Ok(None) };
        serde_json::from_slice(&bytes).with_context(|| format!("reading {FILE} of the state partition")).map(Some)
    }

    pub(super) fn write(&self, root: &Path) -> anyhow::Result<()> {
        State::at(root).write(FILE, &serde_json::to_vec_pretty(self)?)
    }

    pub(super) fn remove(root: &Path) -> anyhow::Result<()> {
        State::at(root).remove(FILE)
    }

    /// Id of the partition that a disk gets.
    pub fn partition_id(&self, disk: &PlannedDisk) -> Uuid {
        Uuid::new_v5(&self.id, disk.id.as_str().as_bytes())
    }
}

impl Step {
    /// For whoever watches.
    pub(super) fn told(self) -> &'static str {
        match self {
            Self::Agreed => "agreed",
            Self::Partitioned => "the disks are partitioned",
            Self::Pooled(_) => "the pool is there",
            Self::Encrypted(_) => "the data is encrypted, and the recovery key opens it",
        }
    }
}
