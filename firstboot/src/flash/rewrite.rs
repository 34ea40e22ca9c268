//! Changing a part of a disk through memory.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;

use crate::flash::{Cause, Device, FlashError, Head, flush, read_at, write_at};

use super::content::{PartitionEntry, partitions};
use super::memory::{Buffer, scratch};
use crate::layout::HEAD_SIZE;

/// Data moves in pieces of this size.
const STEP: u64 = 1 << 20;

/// The partitions of a disk.
///
/// # Errors
/// It cannot be read.
pub(crate) fn table(device: &dyn Device) -> Result<Option<Vec<PartitionEntry>>, FlashError> {
    let untouched = |cause| FlashError { cause, head: Head::Untouched };
    if device.size() < HEAD_SIZE {
        return Ok(None);
    }
    let mut head = Buffer::new(HEAD_SIZE as usize);
    read_at(device, &mut head, 0).map_err(untouched)?;
    Ok(partitions(&head, device.sector()))
}

/// Reads `range`, has it changed, writes it back and checks that it is there.
///
/// # Errors
/// The device or `change` fails.
pub(crate) fn rewrite(
    device: &dyn Device,
    range: Range<u64>,
    change: impl FnOnce(&File) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let copy = scratch(range.end - range.start)?;
    each_step(&range, |at, buffer| {
        read_at(device, buffer, range.start + at)?;
        copy.write_all_at(buffer, at)?;
        Ok(())
    })?;
    change(&copy)?;
    each_step(&range, |at, buffer| {
        copy.read_exact_at(buffer, at)?;
        Ok(write_at(device, buffer, range.start + at)?)
    })?;
    flush(device)?;
    each_step(&range, |at, buffer| {
        read_at(device, buffer, range.start + at)?;
        let mut expected = vec![0; buffer.len()];
        copy.read_exact_at(&mut expected, at)?;
        if *buffer == *expected { Ok(()) } else { Err(Cause::Differs(range.start + at).into()) }
    })
}

fn each_step(range: &Range<u64>, mut step: impl FnMut(u64, &mut [u8]) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let size = range.end - range.start;
    let mut buffer = Buffer::new(STEP as usize);
    (0..size).step_by(STEP as usize).try_for_each(|at| step(at, &mut buffer[..STEP.min(size - at) as usize]))
}
