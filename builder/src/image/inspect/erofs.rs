//! The superblock of an erofs file system: `struct erofs_super_block` of the kernel's fs/erofs/erofs_fs.h.
//!
//! ```text
//! 1024  magic u32    1036  log2 of the block size u8    1060  blocks u32
//! 1072  uuid [16]    1088  volume name [16], padded with zeros
//! ```

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use serde::Serialize;
use uuid::Uuid;

const OFFSET: u64 = 1024;
const MAGIC: u32 = 0xe0f5_e1e2;

/// What an erofs superblock says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Erofs {
    /// Volume name.
    pub volume: String,
    /// UUID of the file system.
    pub uuid: Uuid,
    /// Bytes.
    pub size: u64,
}

impl Erofs {
    /// Reads the superblock of the file system that begins at `start`; `None` when there is none.
    pub fn read(image: &File, start: u64) -> io::Result<Option<Self>> {
        let mut block = [0; 128];
        image.read_exact_at(&mut block, start + OFFSET)?;
        let u32_at = |at: usize| u32::from_le_bytes(std::array::from_fn(|i| block[at + i]));
        let log2_block = block[12];
        if u32_at(0) != MAGIC || !(9..=16).contains(&log2_block) {
            return Ok(None);
        }
        let volume = &block[64..80];
        let length = volume.iter().position(|byte| *byte == 0).unwrap_or(volume.len());
        Ok(Some(Self {
            volume: String::from_utf8_lossy(&volume[..length]).into_owned(),
            uuid: Uuid::from_bytes(std::array::from_fn(|i| block[48 + i])),
            size: u64::from(u32_at(36)) << log2_block,
        }))
    }
}
