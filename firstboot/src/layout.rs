//! The partitions of a larder disk: sizes, types, names.
//!
//! ```text
//!   0            protective MBR, GPT header and entries
//!   1 MiB        ESP      512 MiB   FAT32: systemd-boot, room for three UKIs
//!   513 MiB      seed      32 MiB   FAT, label LARDER: the settings file goes in here
//!   545 MiB      verity    32 MiB   hash tree of root A, label larder_VERSION
//!   577 MiB      root A     2 GiB   erofs, same label; in an image only as long as the file system
//!                root B     2 GiB   label _empty, and 32 MiB for its tree: made at the first boot
//!                state      rest    ext4, at least 768 MiB: made at the first boot
//! ```
//!
//! Types and flags are those of the Discoverable Partitions Specification
//! (<https://uapi-group.org/specifications/specs/discoverable_partitions_specification/>). What is made at the first boot is
//! described in `overlays/base/root/usr/lib/repart.d`.

use uuid::{Uuid, uuid};

/// Bytes of a mebibyte; partitions start and end on multiples of it, as every partitioner does.
pub const MIB: u64 = 1 << 20;
/// Logical sector size of an image file.
pub const IMAGE_SECTOR: u32 = 512;
/// What comes before the first partition.
pub const HEAD_SIZE: u64 = MIB;

/// Size of the EFI system partition: three UKIs of up to 150 MB.
pub const ESP_SIZE: u64 = 512 * MIB;
/// Size of the seed partition.
pub const SEED_SIZE: u64 = 32 * MIB;
/// Size of a root slot on the target.
pub const ROOT_SIZE: u64 = 2048 * MIB;
/// Size of the partition for the hash tree of a slot; the tree of a full slot takes 16.2 MiB.
pub const VERITY_SIZE: u64 = 32 * MIB;
/// The state partition takes what is left, and no less than this.
pub const STATE_MIN_SIZE: u64 = 768 * MIB;
/// What a disk must have for all partitions, the copy of the partition table at its end included.
pub const DISK_MIN_SIZE: u64 =
    HEAD_SIZE + ESP_SIZE + SEED_SIZE + 2 * (ROOT_SIZE + VERITY_SIZE) + STATE_MIN_SIZE + HEAD_SIZE;

/// EFI System Partition (UEFI 5.3.3, table 5-7).
pub const ESP_TYPE: Uuid = uuid!("c12a7328-f81f-11d2-ba4b-00a0c93ec93b");
/// Microsoft basic data: the one type that every desktop mounts and shows.
pub const BASIC_DATA_TYPE: Uuid = uuid!("ebd0a0a2-b9e5-4433-87c0-68b6b72699c7");
/// Root partition, x86-64 (Discoverable Partitions Specification).
pub const ROOT_TYPE: Uuid = uuid!("4f68bce3-e8cd-4db1-96e7-fbcaf984b709");
/// Root verity partition, x86-64 (Discoverable Partitions Specification).
pub const VERITY_TYPE: Uuid = uuid!("2c7357ed-ebd2-46d9-aec1-23d437ec2bf5");

/// GPT name and FAT label of the EFI system partition, the one in small and the other in capital letters.
pub const ESP_LABEL: &str = "esp";
/// GPT name and FAT label of the seed partition.
pub const SEED_LABEL: &str = "LARDER";
/// GPT name of the state partition, the last one that is made at the first boot.
pub const STATE_LABEL: &str = "state";
/// Attribute bit 60: mount read-only (Discoverable Partitions Specification, Partition Flags).
///
/// The seed partition has no attribute at all: Windows gives no drive letter to basic data whose bits 62 (hidden) or 63
/// (no drive letter) are set, and mounts read-only what has bit 60.
pub const READ_ONLY: u64 = 1 << 60;
/// Starts every partition label and UKI name of a system: `larder_VERSION`.
pub const SYSTEM_PREFIX: &str = "larder_";
/// Folder of the UKIs on the ESP (Boot Loader Specification, type 2 entries).
pub const UKI_FOLDER: &str = "EFI/Linux/";
/// Boots that a new system has to prove itself before systemd-boot falls back to the other one (Automatic Boot Assessment).
pub const TRIES: u32 = 3;
