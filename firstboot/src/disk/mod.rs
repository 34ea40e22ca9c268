//! The disks of a machine: what they are, what is on them, and what they are used for.
//!
//! | from | |
//! |---|---|
//! | `/sys/block`, `/sys/class/block` | which disks and partitions there are, their sizes, sectors, buses, who holds them |
//! | `/run/udev/data` | serial numbers, and what udev's blkid has found on disks and partitions; readable by everybody |
//! | `/dev/disk/by-id` | names that stay the same, whichever order disks appear in |
//! | `/proc/self/mountinfo`, `/proc/swaps` | what is in use |
//!
//! All of these lie under one folder, which is `/` unless a test says otherwise.

mod ask;
mod machine;
mod target;
mod text;
mod udev;
mod uses;

use serde::Serialize;

pub use ask::ask;
pub use machine::Machine;
pub use target::{Choice, Internal, Proof, Refusal, Rules, Target};
pub use text::{Size, list};

/// A disk: what a partition table can be on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Disk {
    /// As the kernel calls it this time: `sda`.
    pub name: String,
    /// Device number, `8:0`.
    pub number: String,
    /// Names in `/dev/disk/by-id`, sorted.
    pub ids: Vec<String>,
    /// Manufacturer and model.
    pub model: Option<String>,
    /// Serial number.
    pub serial: Option<String>,
    /// Bytes.
    pub size: u64,
    /// Bytes of a logical sector.
    pub sector: u32,
    /// How it is connected.
    pub bus: Bus,
    /// Where it is plugged in, as udev says it: `pci-0000:01:00.0-nvme-1`.
    pub way: Option<String>,
    /// Made to be pulled out: a USB disk, a memory card.
    pub removable: bool,
    /// Protected from writing.
    pub read_only: bool,
    /// Number that no other disk gets until the next restart, which tells whether a name still means the same disk.
    pub sequence: Option<u64>,
    /// What is on it: the disk itself first, then its partitions in their order.
    pub areas: Vec<Area>,
    /// What it is in use for; nothing when it may be written.
    pub uses: Vec<Use>,
}

/// How a disk is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bus {
    /// USB.
    Usb,
    /// NVMe.
    Nvme,
    /// SATA.
    Sata,
    /// Soldered flash memory (eMMC).
    Emmc,
    /// A memory card in a slot of its own.
    Card,
    /// A virtual disk.
    Virtio,
    /// SCSI and SAS.
    Scsi,
    /// Another one.
    Other,
}

/// A disk as a whole, or a partition, and what udev has found there.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Area {
    /// `sda1`
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// Kind of partition table: `gpt`, `dos`.
    pub table: Option<String>,
    /// Name in the partition table.
    pub part_label: Option<String>,
    /// File system, or another format: `vfat`, `ext4`, `zfs_member`, `crypto_LUKS`.
    pub format: Option<String>,
    /// Label of the file system, or name of the pool.
    pub label: Option<String>,
    /// Identifier of the file system or pool.
    pub uuid: Option<String>,
}

/// What a disk or one of its partitions is in use for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case", tag = "use")]
pub enum Use {
    /// Mounted.
    Mount {
        /// `sda1`
        area: String,
        /// Where.
        at: String,
    },
    /// Memory is swapped out to it.
    Swap {
        /// `sda1`
        area: String,
    },
    /// Part of another block device: encrypted, LVM, RAID.
    Held {
        /// `sda1`
        area: String,
        /// `md0`
        by: String,
    },
}

/// Formats by which a disk is one of several that belong together, as libblkid calls them; besides those that end in
/// `_member` (ZFS, LVM, the kernel's RAID and those of controllers).
const MEMBERS: [&str; 4] = ["bcache", "ceph_bluestore", "drbd", "stratis"];
/// File systems that may lie on several disks. All of these have the same identifier then.
const SPANNING: [&str; 2] = ["bcachefs", "btrfs"];

impl Disk {
    /// Whether the running system lies on it.
    pub fn is_system(&self) -> bool {
        self.uses.iter().any(|used| matches!(used, Use::Mount { at, .. } if at == "/" || at == "/usr"))
    }

    /// The area by which it belongs to a pool, if it does. A file system that may lie on several disks does, if one of
    /// `all` has another part of it.
    pub fn member(&self, all: &[Self]) -> Option<&Area> {
        let others = || all.iter().filter(|disk| disk.name != self.name).flat_map(|disk| &disk.areas);
        self.areas.iter().find(|area| match area.format.as_deref() {
            Some(format) if SPANNING.contains(&format) => {
                others().any(|other| other.uuid.is_some() && (&other.format, &other.uuid) == (&area.format, &area.uuid))
            }
            Some(format) => format.ends_with("_member") || MEMBERS.contains(&format),
            None => false,
        })
    }

    /// The best name in `/dev/disk/by-id`: one that people recognise, with model and serial number, before one that is only a
    /// number.
    pub fn id(&self) -> Option<&str> {
        let is_number = |id: &&String| {
            ["wwn-", "nvme-eui.", "nvme-uuid.", "nvme-nvme.", "scsi-3"].iter().any(|prefix| id.starts_with(prefix))
        };
        self.ids.iter().min_by_key(|id| (is_number(id), id.len())).map(String::as_str)
    }
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
