//! The partition table of an image: ESP, seed, root A and its verity tree.
//!
//! ```text
//!   0            protective MBR, GPT header and entries
//!   1 MiB        ESP      512 MiB   FAT32: systemd-boot, room for three UKIs
//!   513 MiB      seed      32 MiB   FAT, label LARDER: the settings file goes in here
//!   545 MiB      verity    32 MiB   hash tree of root, label larder_VERSION
//!   577 MiB      root               erofs, same label; as long as the file system, 2 GiB on the target
//!   … at its end backup entries and header, end of the image
//! ```
//!
//! Root comes last because there it may be short: an image is written to slow sticks and read whole by
//! every checksum, so it holds nothing that is not needed. On the target systemd-repart gives root its 2 GiB,
//! makes root B, its verity partition and state, and moves the backup header to the end of the real disk. Types and flags are those of the Discoverable
//! Partitions Specification (<https://uapi-group.org/specifications/specs/discoverable_partitions_specification/>),
//! the table itself is that of UEFI 2.10, chapter 5.3.

use std::fs::File;

use anyhow::{Context as _, Result};
pub use firstboot::layout::{
    BASIC_DATA_TYPE, ESP_LABEL, ESP_SIZE, ESP_TYPE, MIB, READ_ONLY, ROOT_SIZE, ROOT_TYPE, SEED_LABEL, SEED_SIZE,
    VERITY_SIZE, VERITY_TYPE,
};
use firstboot::verity::RootHash;
use gptman::{GPT, GPTPartitionEntry};
use uuid::{Uuid, uuid};

use super::version::Version;

/// Logical sector size of the image. `larder flash` and `firstboot install` make the table and the FAT volumes anew for
/// disks with others.
pub const SECTOR: u64 = firstboot::layout::IMAGE_SECTOR as u64;

/// Makes the identifiers of larder's disks its own; a random UUID, fixed once.
const NAMESPACE: Uuid = uuid!("6a9c5d0e-3f1b-4d7a-9a52-7c1e0b8f4d26");
/// Array of 128 entries of 128 bytes, and the header (UEFI 5.3.2).
const BACKUP_SECTORS: u64 = 33;

/// One partition of the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// Type GUID.
    pub kind: Uuid,
    /// Unique partition GUID.
    pub id: Uuid,
    /// Partition name.
    pub label: String,
    /// Attribute bits.
    pub attributes: u64,
    /// Byte offset in the image.
    pub start: u64,
    /// Bytes.
    pub size: u64,
}

/// The partitions of an image, in the order of the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// Disk GUID.
    pub disk: Uuid,
    /// EFI system partition.
    pub esp: Partition,
    /// Settings of the owner.
    pub seed: Partition,
    /// Hash tree of slot A.
    pub verity: Partition,
    /// Root file system, slot A.
    pub root: Partition,
}

impl Layout {
    /// The layout for a root file system of `root_size` bytes. Every identifier follows from the root hash
    /// and the version, so that the same parts give the same table.
    pub fn new(version: &Version, root_hash: &RootHash, root_size: u64) -> Self {
        let id = |what: &str| Uuid::new_v5(&NAMESPACE, format!("{what} {version} {root_hash}").as_bytes());
        let label = version.partition_label();
        let mut end = MIB;
        let mut place = |kind, id, label: &str, attributes, size| {
            let start = end;
            end += size;
            Partition { kind, id, label: label.to_owned(), attributes, start, size }
        };
        Self {
            disk: id("disk"),
            esp: place(ESP_TYPE, id("esp"), ESP_LABEL, 0, ESP_SIZE),
            seed: place(BASIC_DATA_TYPE, id("seed"), SEED_LABEL, 0, SEED_SIZE),
            verity: place(VERITY_TYPE, root_hash.verity_partition_uuid(), &label, READ_ONLY, VERITY_SIZE),
            root: place(ROOT_TYPE, root_hash.root_partition_uuid(), &label, READ_ONLY, root_size.next_multiple_of(MIB)),
        }
    }

    /// All partitions, in the order of the disk.
    pub fn partitions(&self) -> [&Partition; 4] {
        [&self.esp, &self.seed, &self.verity, &self.root]
    }

    /// Size of the whole image: it ends with the backup header right after the last partition.
    pub fn image_size(&self) -> u64 {
        self.root.start + self.root.size + BACKUP_SECTORS * SECTOR
    }

    /// Gives `image` its size and writes protective MBR, both headers and both entry arrays.
    pub fn write(&self, image: &mut File) -> Result<()> {
        image.set_len(self.image_size()).context("setting the size of the image")?;
        let mut table =
            GPT::new_from(image, SECTOR, self.disk.to_bytes_le()).context("planning the partition table")?;
        for (number, partition) in (1..).zip(self.partitions()) {
            table[number] = partition.entry();
        }
        table.write_into(image).context("writing the partition table")?;
        GPT::write_protective_mbr_into(image, SECTOR).context("writing the protective MBR")
    }
}

impl Partition {
    /// Its bytes in the image.
    pub fn range(&self) -> std::ops::Range<u64> {
        self.start..self.start + self.size
    }

    /// GUIDs are stored with their first three fields little-endian (UEFI, appendix A).
    fn entry(&self) -> GPTPartitionEntry {
        GPTPartitionEntry {
            partition_type_guid: self.kind.to_bytes_le(),
            unique_partition_guid: self.id.to_bytes_le(),
            starting_lba: self.start / SECTOR,
            ending_lba: (self.start + self.size) / SECTOR - 1,
            attribute_bits: self.attributes,
            partition_name: self.label.as_str().into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::Hash;
    use std::os::unix::fs::MetadataExt as _;

    fn layout() -> Layout {
        let root_hash = RootHash::from(*Hash::of("a root").as_bytes());
        Layout::new(&"1.0".parse().unwrap(), &root_hash, 193 * MIB - 4096)
    }

    #[test]
    fn the_table_reads_back_with_types_labels_flags_and_derived_ids() {
        let mut image = tempfile::tempfile().unwrap();
        layout().write(&mut image).unwrap();
        let table = GPT::read_from(&mut image, SECTOR).unwrap();
        assert!(table.is_primary());
        let rows: Vec<_> = table
            .iter()
            .filter(|(_, entry)| entry.is_used())
            .map(|(number, entry)| {
                format!(
                    "{number} {} {} {} {}..{} ro={}",
                    Uuid::from_bytes_le(entry.partition_type_guid),
                    Uuid::from_bytes_le(entry.unique_partition_guid),
                    entry.partition_name,
                    entry.starting_lba,
                    entry.ending_lba,
                    entry.attribute_bits >> 60 & 1,
                )
            })
            .collect();
        insta::assert_snapshot!(rows.join("\n"), @r"
        1 c12a7328-f81f-11d2-ba4b-00a0c93ec93b 84114b87-2288-5a27-8c35-0daef2175e5b esp 2048..1050623 ro=0
        2 ebd0a0a2-b9e5-4433-87c0-68b6b72699c7 cd8fa305-6c23-5d8d-b173-c6a3fcffad88 LARDER 1050624..1116159 ro=0
        3 2c7357ed-ebd2-46d9-aec1-23d437ec2bf5 15707349-f41b-0ce0-b7cf-7b7807ec31da larder_1.0 1116160..1181695 ro=1
        4 4f68bce3-e8cd-4db1-96e7-fbcaf984b709 50b312f5-cbc7-1675-9f56-20d73a7cc114 larder_1.0 1181696..1576959 ro=1
        ");
    }

    #[test]
    fn both_headers_are_valid_and_the_image_takes_hardly_any_room() {
        use std::os::unix::fs::FileExt as _;
        let mut image = tempfile::tempfile().unwrap();
        layout().write(&mut image).unwrap();
        assert_eq!(image.metadata().unwrap().len(), (577 + 193) * MIB + 33 * 512);
        assert!(image.metadata().unwrap().blocks() * 512 < MIB);
        image.write_all_at(&[0; 512], SECTOR).unwrap();
        let table = GPT::read_from(&mut image, SECTOR).unwrap();
        assert!(table.is_backup());
        assert_eq!(table.iter().filter(|(_, entry)| entry.is_used()).count(), 4);
    }

    #[test]
    fn another_root_or_version_gives_other_identifiers() {
        let other = Layout::new(&"1.1".parse().unwrap(), &RootHash::from([1; 32]), 193 * MIB);
        assert_eq!(layout(), layout());
        assert_ne!(layout().disk, other.disk);
        for (ours, theirs) in layout().partitions().into_iter().zip(other.partitions()) {
            assert_ne!(ours.id, theirs.id);
        }
    }
}
