//! Where things lie in a dm-verity hash partition, for those who want to break them.

use anyhow::{Result, ensure};
use larder_qemu::{Disk, Partition};

const BLOCK: u64 = 4096;
const HASHES_PER_BLOCK: u64 = BLOCK / 32;

/// A verity partition of a disk: a superblock, then the levels of the tree from the root's only block down to the
/// leaves (cryptsetup's on-disk format, docs/on-disk-format in its wiki: "DMVerity").
#[derive(Debug)]
pub struct VerityTree {
    start: u64,
    data_blocks: u64,
}

impl VerityTree {
    /// Reads the superblock.
    pub fn read(disk: &Disk, partition: &Partition) -> Result<Self> {
        let start = partition.bytes.start;
        ensure!(&disk.read_at::<8>(start)? == b"verity\0\0", "{} has no verity superblock", partition.label);
        let word = |offset| disk.read_at::<4>(start + offset).map(u32::from_le_bytes);
        ensure!(u64::from(word(64)?) == BLOCK && u64::from(word(68)?) == BLOCK, "blocks of 4096 bytes are expected");
        let data_blocks = u64::from_le_bytes(disk.read_at::<8>(start + 72)?);
        Ok(Self { start, data_blocks })
    }

    /// Offset on the disk of the leaf hash of data block `block`.
    pub fn leaf(&self, block: u64) -> u64 {
        assert!(block < self.data_blocks, "there are {} data blocks", self.data_blocks);
        self.start + BLOCK * (1 + blocks_above_leaves(self.data_blocks)) + block * 32
    }
}

fn blocks_above_leaves(data_blocks: u64) -> u64 {
    let mut level = data_blocks.div_ceil(HASHES_PER_BLOCK);
    let mut above = 0;
    while level > 1 {
        level = level.div_ceil(HASHES_PER_BLOCK);
        above += level;
    }
    above
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_above_the_leaves_are_counted() {
        assert_eq!(blocks_above_leaves(1), 0);
        assert_eq!(blocks_above_leaves(128), 0);
        assert_eq!(blocks_above_leaves(129), 1);
        // 2 GiB: 524288 blocks, 4096 leaf blocks, then 32 and 1.
        assert_eq!(blocks_above_leaves(524_288), 33);
    }
}
