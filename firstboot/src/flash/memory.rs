//! Memory for data on its way.

use std::fs::File;
use std::io;
use std::ops::{Deref, DerefMut};

use nix::sys::memfd::{MFdFlags, memfd_create};

/// What O_DIRECT wants addresses to be multiples of (open(2)): the size of a page is enough for every disk.
const ALIGNMENT: usize = 4096;

/// Bytes at an address that a disk can read from and write to by itself; zeros at first.
#[derive(Debug)]
pub(crate) struct Buffer {
    bytes: Vec<u8>,
    start: usize,
    length: usize,
}

impl Buffer {
    pub(crate) fn new(length: usize) -> Self {
        // Never grows, so it stays where it is.
        let bytes = vec![0; length + ALIGNMENT];
        let start = bytes.as_ptr().addr().next_multiple_of(ALIGNMENT) - bytes.as_ptr().addr();
        Self { bytes, start, length }
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[self.start..self.start + self.length]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.start + self.length]
    }
}

/// An unnamed file of `size` zeros in memory, of which only what is written takes room.
///
/// # Errors
/// There is not enough memory.
pub fn scratch(size: u64) -> io::Result<File> {
    let file = File::from(memfd_create(c"larder", MFdFlags::MFD_CLOEXEC)?);
    file.set_len(size)?;
    Ok(file)
}
