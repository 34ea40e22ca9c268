//! Where the bytes of an image come from.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

/// What can be read from any place, by several threads at once: an image, a compressed image, a partition.
pub trait Source: Send + Sync {
    /// Fills `buffer` from `offset` on.
    ///
    /// # Errors
    /// It cannot be read, is damaged, or is too short.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
}

impl Source for File {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.read_exact_at(buffer, offset)
    }
}
