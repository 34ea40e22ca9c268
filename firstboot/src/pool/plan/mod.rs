//! What will be done to which disks, before anything is.
//!
//! A [`Plan`] is made of the disks that are there and of `[pool]` in the settings, and changes nothing. It says what the pool
//! will hold, what the failure of disks costs, and what is erased. Setting up does that plan and no other: a person agrees to its
//! [`Plan::id`], and a plan that comes out differently the next time has another one.

mod capacity;
mod choice;
mod layout;
mod text;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::disk::{Disk, Machine};
use crate::report::Mistake;
use crate::settings::{DiskId, Pool};

pub use capacity::{Capacity, partition_size};
pub(crate) use choice::UNKNOWN;
pub use layout::Arrangement;

/// Disks, how they become a pool, and what that means.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Plan {
    /// What the pool will be called.
    pub name: String,
    /// How the disks keep data together.
    pub arrangement: Arrangement,
    /// Why this one was taken, where the settings leave it open.
    pub reason: Option<String>,
    /// The disks, in the order in which the pool gets them; of pairs, two each.
    pub disks: Vec<PlannedDisk>,
    /// Disks that wait until another one fails.
    pub spares: Vec<PlannedDisk>,
    /// What it will hold.
    pub capacity: Capacity,
}

/// A disk that becomes part of a pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct PlannedDisk {
    /// Its name in `/dev/disk/by-id`.
    pub id: DiskId,
    /// Manufacturer and model.
    pub model: Option<String>,
    /// Serial number.
    pub serial: Option<String>,
    /// Where it is plugged in, as udev calls it: `pci-0000:01:00.0-nvme-1`.
    pub way: Option<String>,
    /// Bytes.
    pub size: u64,
    /// Bytes of a logical sector.
    pub sector: u32,
    /// What is on it and will be lost; nothing on an empty disk.
    pub erased: Vec<String>,
    /// Bytes of the partition that the pool gets.
    pub partition: u64,
}

/// What a plan needs to know about the machine besides its disks.
pub trait Look {
    /// Whether the first and the last MiB of a disk hold nothing, so that what nobody recognises is not taken for nothing.
    ///
    /// # Errors
    /// It cannot be read.
    fn is_blank(&self, disk: &Disk) -> std::io::Result<bool>;
    /// What the disk says about its own health, if it is bad.
    fn complaint(&self, disk: &Disk) -> Option<String>;
}

impl Plan {
    /// Makes a plan.
    ///
    /// # Errors
    /// The settings ask for disks that are not there or must not be touched, or that do not suit the layout.
    pub fn new(machine: &Machine, look: &dyn Look, wanted: &Pool) -> anyhow::Result<Self> {
        let disks = machine.disks()?;
        let (members, spares) = choice::choose(&disks, look, wanted)?;
        let wanted_layout = wanted.layout.ok_or_else(|| {
            Mistake::new("the settings do not say how the disks keep data together")
                .hint("add `layout = \"auto\"` to [pool]")
        })?;
        let (arrangement, reason) = layout::arrange(wanted_layout, &members)?;
        let members = arrangement.in_order(members);
        layout::check_spares(arrangement, &members, &spares)?;
        let capacity = Capacity::new(arrangement, &members);
        Ok(Self { name: wanted.name.to_string(), arrangement, reason, disks: members, spares, capacity })
    }

    /// Short name of this very plan: another disk, size or content gives another one.
    pub fn id(&self) -> String {
        // Serialising plain data to memory cannot fail.
        let text = serde_json::to_vec(self).unwrap_or_default();
        hex::encode(&Sha256::digest(text)[..4])
    }

    /// All disks, the spares last.
    pub fn all_disks(&self) -> impl Iterator<Item = &PlannedDisk> {
        self.disks.iter().chain(&self.spares)
    }

    /// Disks whose content will be lost.
    pub fn erased(&self) -> impl Iterator<Item = &PlannedDisk> {
        self.all_disks().filter(|disk| !disk.erased.is_empty())
    }
}

#[cfg(test)]
mod tests;
