//! How much a pool holds: what `zfs list` will say, not the sum of the labels on the disks.

use serde::{Deserialize, Serialize};

use super::{Arrangement, PlannedDisk};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
/// Of a partition, ZFS takes two labels of 256 KiB at each end and 3.5 MiB behind the first two (VDEV_LABEL_START_SIZE,
/// VDEV_LABEL_END_SIZE in include/sys/vdev_impl.h).
const LABELS: u64 = 4 * MIB + MIB / 2;
/// Disks of one label differ by some MiB: a replacement that is smaller by one sector could not take its predecessor's place.
const BUCKET: u64 = 1_000_000_000;
/// The same for disks that a thousandth of which is less than that.
const SMALL_BUCKET: u64 = 64 * MIB;
const SMALL: u64 = 100_000_000_000;
/// The sizes of raidz are counted for blocks of 128 KiB in sectors of 4 KiB (`vdev_deflate_ratio`, ashift 12).
const BLOCK_SECTORS: u64 = 32;

/// What a pool will hold, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Capacity {
    /// Of all disks together, as manufacturers count.
    pub raw: u64,
    /// What files can take.
    pub usable: u64,
    /// What lies idle because a disk is larger than the others of its group.
    pub idle: u64,
}

impl Capacity {
    /// For these disks in their order.
    pub(super) fn new(arrangement: Arrangement, disks: &[PlannedDisk]) -> Self {
        let (mut usable, mut idle) = (0, 0);
        for group in disks.chunks(arrangement.group(disks.len()).max(1)) {
            let smallest = group.iter().map(|disk| disk.partition).min().unwrap_or(0);
            idle += group.iter().map(|disk| disk.partition - smallest).sum::<u64>();
            usable += of_group(arrangement, group.len() as u64, smallest);
        }
        Self { raw: disks.iter().map(|disk| disk.size).sum(), usable: usable - slop(usable), idle }
    }
}

/// Bytes of the partition for ZFS on a disk of `size` bytes: less by the partition table, and rounded down.
pub fn partition_size(size: u64) -> u64 {
    let room = size.saturating_sub(2 * MIB);
    let bucket = if size < SMALL { SMALL_BUCKET } else { BUCKET };
    // Partitions end on whole MiB.
    room / bucket * bucket / MIB * MIB
}

/// What files can take of `disks` disks, each with a partition of this size, before the reserve.
fn of_group(arrangement: Arrangement, disks: u64, partition: u64) -> u64 {
    let (parity, room) = (arrangement.parity(), partition.saturating_sub(LABELS));
    if parity == 0 {
        return metaslabs(room);
    }
    // `vdev_raidz_asize`, of a block and its parity.
    let sectors = BLOCK_SECTORS + parity * BLOCK_SECTORS.div_ceil(disks - parity);
    let sectors = sectors.next_multiple_of(parity + 1);
    // `vdev_set_deflate_ratio` and `vdev_deflated_space`: a ratio to 512, rounded down.
    let ratio = 512 * BLOCK_SECTORS / sectors;
    (metaslabs(room * disks) >> 9) * ratio
}

/// A vdev is divided into pieces of equal size, and the rest is not used (`vdev_metaslab_set_size` in module/zfs/vdev.c):
/// of 512 MiB, unless that were less than 16 or more than 200 of them.
fn metaslabs(room: u64) -> u64 {
    let shift = match room >> 29 {
        0..16 => (room / 16).max(1).ilog2() + 1,
        16..=200 => 29,
        _ => (room / 200).ilog2() + 1,
    };
    let shift = shift.clamp(24, 34);
    room >> shift << shift
}

/// What ZFS keeps for itself: 1/32, no more than 128 GiB, and no less than 128 MiB or half of a small pool (`spa_get_slop_space`).
fn slop(size: u64) -> u64 {
    (size / 32).clamp((size / 2).min(128 * MIB), 128 * GIB)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disks_of_one_label_get_partitions_of_one_size() {
        // 1 TB by IDEMA's formula, and one that is a little smaller.
        assert_eq!(partition_size(1_000_204_886_016), partition_size(1_000_203_804_160));
        assert_eq!(partition_size(1_000_204_886_016), 999_999_668_224);
        for size in [2 << 30, 31_900_000_000, 1_000_204_886_016, 22_000_969_973_760] {
            let partition = partition_size(size);
            assert!(partition + 2 * MIB <= size && partition.is_multiple_of(MIB));
            assert!(partition > size / 100 * 96, "{size} loses too much: {partition}");
        }
    }

    #[test]
    fn a_disk_that_is_too_small_gets_nothing() {
        assert_eq!(partition_size(0), 0);
        assert_eq!(partition_size(MIB), 0);
    }

    /// Data of storage-sized raidz, as fraction of all disks: what plain (n − p) / n gets wrong.
    #[test]
    fn raidz_holds_less_than_its_disks_without_parity() {
        let fraction = |arrangement, disks| of_group(arrangement, disks, 1 << 40) as f64 / ((disks << 40) as f64);
        for (arrangement, disks, expected) in [
            (Arrangement::Raidz1, 3, 0.667),
            (Arrangement::Raidz1, 4, 0.727),
            (Arrangement::Raidz1, 5, 0.80),
            (Arrangement::Raidz1, 6, 0.80),
            (Arrangement::Raidz2, 6, 0.667),
        ] {
            let found = fraction(arrangement, disks);
            assert!((found - expected).abs() < 0.01, "{arrangement:?} of {disks}: {found} instead of {expected}");
        }
    }

    /// `def_space` of `zpool status -j`, on three disks of 2 GiB.
    #[test]
    fn the_sizes_are_those_that_zfs_says() {
        assert_eq!(of_group(Arrangement::Raidz1, 3, 2_136_997_888 + LABELS), 3_933_208_576);
        assert_eq!(slop(3_933_208_576), 3_933_208_576 - (3_797_790_528 + 1_200_320));
    }

    #[test]
    fn the_reserve_is_bounded_on_both_sides() {
        assert_eq!(slop(1 << 40), 32 * GIB);
        assert_eq!(slop(100 << 40), 128 * GIB);
        assert_eq!(slop(GIB), 128 * MIB);
        assert_eq!(slop(100 * MIB), 50 * MIB);
    }
}
