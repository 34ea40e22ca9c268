//! The first block of a hash tree, as `struct verity_sb` of cryptsetup's lib/verity/verity.c:
//!
//! ```text
//!   0  signature "verity\0\0"    64  data block size   u32
//!   8  version   u32 = 1         68  hash block size   u32
//!  12  hash type u32 = 1         72  data blocks       u64
//!  16  uuid      [16]            80  salt size         u16, 6 bytes of padding
//!  32  algorithm [32]            88  salt              [256], zeros up to the end of the block
//! ```
//!
//! Numbers are little-endian. Hash type 1 means that the salt goes before the block.

use uuid::Uuid;

use super::{BLOCK_SIZE, Region, VerityError};

const SIGNATURE: &[u8; 8] = b"verity\0\0";
const VERSION: u32 = 1;
const HASH_TYPE: u32 = 1;
const ALGORITHM: &[u8; 7] = b"sha256\0";
const MAX_SALT: usize = 256;
/// A pebibyte of data: far beyond any slot, and offsets computed from it cannot overflow.
const MAX_DATA_BLOCKS: u64 = 1 << 38;

/// What varies between superblocks; everything else is fixed by this module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Superblock {
    /// UUID of the hash device, for people and udev.
    pub uuid: Uuid,
    /// Number of data blocks that the tree covers.
    pub data_blocks: u64,
    /// Up to 256 bytes that go before each block when it is hashed.
    pub salt: Vec<u8>,
}

impl Superblock {
    /// Reads the superblock in block 0 of `tree`.
    pub fn read<'a>(tree: impl Into<Region<'a>>) -> Result<Self, VerityError> {
        let mut block = [0; BLOCK_SIZE];
        tree.into()
            .read_blocks(0, &mut block)
            .map_err(|error| VerityError::Io("reading the verity superblock", error))?;
        Self::from_block(&block).map_err(VerityError::Superblock)
    }

    pub(super) fn to_block(&self) -> [u8; BLOCK_SIZE] {
        let mut block = [0; BLOCK_SIZE];
        let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, SIGNATURE);
        put(8, &VERSION.to_le_bytes());
        put(12, &HASH_TYPE.to_le_bytes());
        put(16, self.uuid.as_bytes());
        put(32, ALGORITHM);
        put(64, &(BLOCK_SIZE as u32).to_le_bytes());
        put(68, &(BLOCK_SIZE as u32).to_le_bytes());
        put(72, &self.data_blocks.to_le_bytes());
        put(80, &(self.salt.len() as u16).to_le_bytes());
        put(88, &self.salt);
        block
    }

    pub(crate) fn from_block(block: &[u8; BLOCK_SIZE]) -> Result<Self, &'static str> {
        let u32_at = |at: usize| u32::from_le_bytes(std::array::from_fn(|i| block[at + i]));
        let data_blocks = u64::from_le_bytes(std::array::from_fn(|i| block[72 + i]));
        let salt_size = usize::from(u16::from_le_bytes([block[80], block[81]]));
        let require = |fact: bool, otherwise| if fact { Ok(()) } else { Err(otherwise) };
        require(block.starts_with(SIGNATURE), "no signature")?;
        require(u32_at(8) == VERSION, "the version is not 1")?;
        require(u32_at(12) == HASH_TYPE, "the hash type is not 1")?;
        require(block[32..].starts_with(ALGORITHM), "the algorithm is not sha256")?;
        require(u32_at(64) as usize == BLOCK_SIZE, "the data block size is not 4096")?;
        require(u32_at(68) as usize == BLOCK_SIZE, "the hash block size is not 4096")?;
        require((1..=MAX_DATA_BLOCKS).contains(&data_blocks), "the number of data blocks is out of range")?;
        require(salt_size <= MAX_SALT, "the salt is longer than 256 bytes")?;
        let uuid = Uuid::from_bytes(std::array::from_fn(|i| block[16 + i]));
        Ok(Self { uuid, data_blocks, salt: block[88..88 + salt_size].to_vec() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_superblock_reads_back_as_it_was_written(
            uuid: [u8; 16],
            data_blocks in 1..=MAX_DATA_BLOCKS,
            salt in prop::collection::vec(any::<u8>(), 0..=MAX_SALT),
        ) {
            let superblock = Superblock { uuid: Uuid::from_bytes(uuid), data_blocks, salt };
            prop_assert_eq!(Superblock::from_block(&superblock.to_block()), Ok(superblock));
        }

        #[test]
        fn no_bytes_make_the_reader_panic(mut bytes in prop::collection::vec(any::<u8>(), 128)) {
            bytes.resize(BLOCK_SIZE, 0);
            bytes[..8].copy_from_slice(SIGNATURE);
            let _ = Superblock::from_block(bytes.as_slice().try_into().unwrap());
        }
    }

    #[test]
    fn a_tree_of_another_kind_is_refused_with_the_reason() {
        let superblock = Superblock { uuid: Uuid::nil(), data_blocks: 1, salt: vec![] };
        for (at, reason) in
            [(0, "no signature"), (12, "the hash type is not 1"), (64, "the data block size is not 4096")]
        {
            let mut block = superblock.to_block();
            block[at] ^= 0x55;
            assert_eq!(Superblock::from_block(&block), Err(reason));
        }
    }
}
