//! Writes a system to a disk, so that whatever happens meanwhile, no half-written disk ever starts.
//!
//! ```text
//!  1  zeros over the first and the last MiB      old partition tables, their backups, labels of pools
//!  2  markers all over the disk, read back       does it keep what it is given? (see `honesty`)
//!  3  the pieces of the plan, several at once    file systems, hash tree, root: only what is in use
//!  4  the copy of the partition table at the end
//!  5  flush; all of it read back, compared       not from the page cache, but from the disk; the first MiB is still zeros
//!  6  partition table, but for its first sector  flush, read back, compare
//!  7  the first sector                           flush, read back, compare
//! ```
//!
//! Neither firmware nor kernel takes a partition table for one without the protective MBR in the first sector (UEFI 2.10,
//! 5.2.3), so it is one write of one sector that makes the disk start, when all else is known to be there. When anything
//! fails the first MiB is made zeros again.
//!
//! A disk is never filled with the bytes of an image file. Partition table and FAT volumes are made anew for it
//! ([`plan`]): for the size of its sectors, and with identifiers of its own, so that two disks with the same system can be
//! told apart.
//!
//! What of a disk is not written to keeps what was there before, and nothing looks at it: free clusters of the ESP, and the
//! space behind the root, which the first boot takes into use after discarding or wiping it.

mod content;
mod device;
mod error;
mod honesty;
mod memory;
mod plan;
mod rewrite;
mod source;
mod workers;

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};

pub use content::{Content, Part};
pub(crate) use content::{files, partitions_of};
pub use device::{Device, FileDevice};
pub use error::{Cause, Doing, FlashError, Head};
pub use memory::scratch;
pub use plan::{Identity, Piece, Plan};
pub(crate) use rewrite::{rewrite, table};
pub use source::Source;

use crate::layout::HEAD_SIZE;
use crate::verity::BLOCK_SIZE;
pub(crate) use memory::Buffer;

/// What is going on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The pieces are being written.
    Writing,
    /// They are being read back.
    Verifying,
}

/// Is told how far it is.
pub trait Watch: Sync {
    /// A phase begins, in which `bytes` are to be dealt with.
    fn begin(&self, phase: Phase, bytes: u64);
    /// So many bytes more are done.
    fn advance(&self, bytes: u64);
    /// The phase is over.
    fn end(&self);
}

/// Does not care.
#[derive(Debug)]
pub struct Unwatched;

impl Watch for Unwatched {
    fn begin(&self, _: Phase, _: u64) {}
    fn advance(&self, _: u64) {}
    fn end(&self) {}
}

/// What was done.
#[derive(Debug, Clone, Copy)]
pub struct Summary {
    /// Bytes that were written.
    pub bytes: u64,
    /// Until they were on the disk.
    pub writing: Duration,
    /// How long it took to read them back.
    pub verifying: Duration,
}

/// Writes `plan` to `device`; see the module's documentation.
///
/// # Errors
/// Whatever goes wrong, and whether anything is left that could start: nothing, unless the device refuses even that.
pub fn write(device: &dyn Device, plan: &Plan<'_>, watch: &dyn Watch) -> Result<Summary, FlashError> {
    let untouched = |cause| FlashError { cause, head: Head::Untouched };
    if device.size() != plan.size() || device.sector() != plan.sector() {
        return Err(untouched(Cause::Changed { expected: plan.size(), found: device.size() }));
    }
    Writer { device, plan, watch }.write().map_err(|cause| {
        let erased = erase(device, 0).and_then(|()| flush(device));
        FlashError { cause, head: if erased.is_ok() { Head::Erased } else { Head::Unknown } }
    })
}

/// A digest of each piece.
type Digest = [u8; 32];

struct Writer<'a> {
    device: &'a dyn Device,
    plan: &'a Plan<'a>,
    watch: &'a dyn Watch,
}

impl Writer<'_> {
    fn write(&self) -> Result<Summary, Cause> {
        let start = Instant::now();
        erase(self.device, 0)?;
        erase(self.device, self.plan.tail_start())?;
        flush(self.device)?;
        honesty::check(self.device)?;
        let digests = self.write_pieces()?;
        self.write_content(self.plan.tail(), self.plan.tail_start())?;
        flush(self.device)?;
        let writing = start.elapsed();
        self.verify_pieces(&digests)?;
        self.verify_content(self.plan.tail(), self.plan.tail_start())?;
        // A disk that starts again from its beginning has written there what belongs elsewhere, and would lose it now.
        self.verify_content(&[0; HEAD_SIZE as usize], 0)?;
        let (first, rest) = self.plan.head().split_at(self.plan.sector() as usize);
        for (content, at) in [(rest, first.len() as u64), (first, 0)] {
            self.write_content(content, at)?;
            flush(self.device)?;
            self.verify_content(content, at)?;
        }
        Ok(Summary { bytes: self.plan.bytes(), writing, verifying: start.elapsed() - writing })
    }

    fn write_pieces(&self) -> Result<Vec<Digest>, Cause> {
        self.watch.begin(Phase::Writing, self.plan.bytes());
        let digests: Vec<OnceLock<Digest>> = self.plan.pieces().iter().map(|_| OnceLock::new()).collect();
        workers::each(self.plan.pieces(), |number, piece, buffer| {
            self.plan.read(piece, buffer).map_err(|source| Cause::Source { offset: piece.from, source })?;
            let _ = digests[number].set(Sha256::digest(&*buffer).into());
            if is_zero(buffer) {
                write_zeros(self.device, buffer, piece.at)?;
            } else {
                write_at(self.device, buffer, piece.at)?;
            }
            self.watch.advance(piece.length as u64);
            Ok(())
        })?;
        self.watch.end();
        Ok(digests.into_iter().filter_map(OnceLock::into_inner).collect())
    }

    fn verify_pieces(&self, digests: &[Digest]) -> Result<(), Cause> {
        self.watch.begin(Phase::Verifying, self.plan.bytes());
        workers::each(self.plan.pieces(), |number, piece, buffer| {
            read_at(self.device, buffer, piece.at)?;
            if digests[number] != *Sha256::digest(&*buffer) {
                return Err(Cause::Differs(piece.at));
            }
            self.watch.advance(piece.length as u64);
            Ok(())
        })?;
        self.watch.end();
        Ok(())
    }

    fn write_content(&self, content: &[u8], at: u64) -> Result<(), Cause> {
        let mut buffer = Buffer::new(content.len());
        buffer.copy_from_slice(content);
        write_at(self.device, &buffer, at)
    }

    fn verify_content(&self, content: &[u8], at: u64) -> Result<(), Cause> {
        let mut buffer = Buffer::new(content.len());
        read_at(self.device, &mut buffer, at)?;
        if *buffer == *content { Ok(()) } else { Err(Cause::Differs(at)) }
    }
}

/// Zeros over a MiB.
fn erase(device: &dyn Device, at: u64) -> Result<(), Cause> {
    write_at(device, &Buffer::new(HEAD_SIZE as usize), at)
}

fn write_at(device: &dyn Device, data: &[u8], offset: u64) -> Result<(), Cause> {
    device.write_at(data, offset).map_err(|source| Cause::device(device, Doing::Writing, offset, source))
}

fn write_zeros(device: &dyn Device, zeros: &[u8], offset: u64) -> Result<(), Cause> {
    device.write_zeros(zeros, offset).map_err(|source| Cause::device(device, Doing::Writing, offset, source))
}

/// Whether there is nothing else in it: as is most of the seed partition.
fn is_zero(data: &[u8]) -> bool {
    data.chunks(BLOCK_SIZE).all(|block| *block == [0; BLOCK_SIZE][..block.len()])
}

fn read_at(device: &dyn Device, data: &mut [u8], offset: u64) -> Result<(), Cause> {
    device.read_at(data, offset).map_err(|source| Cause::device(device, Doing::Reading, offset, source))
}

fn flush(device: &dyn Device) -> Result<(), Cause> {
    device.flush().map_err(|source| Cause::device(device, Doing::Flushing, 0, source))
}

#[cfg(test)]
mod faulty;
#[cfg(test)]
mod tests;
