//! The two slots of a disk: which one runs, and the entries of the other one in the partition table.
//!
//! A slot that is being filled is called `_empty` and has UUIDs that no root hash leads to. There are two copies of the
//! table, and one of them is whole at any moment: the second copy is written first, then the first one, each followed by a
//! flush. Readers (firmware, kernel, initrd) take the first copy whose checksums are right.

use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;

use anyhow::{Context as _, ensure};
use gptman::GPT;
use uuid::Uuid;

use crate::flash::{Buffer, Device};
use crate::layout::{HEAD_SIZE, ROOT_TYPE, VERITY_TYPE};
use crate::report::Mistake;
use crate::verity::RootHash;
use crate::version::Version;

/// Label of a slot that holds nothing whole.
const EMPTY: &str = "_empty";

/// A root and its hash tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// The root file system, in bytes of the disk.
    pub root: Range<u64>,
    /// Its hash tree.
    pub tree: Range<u64>,
    /// Numbers of the entries in the table.
    numbers: [u32; 2],
}

/// A partition table with its two slots.
#[derive(Debug)]
pub struct Slots {
    table: GPT,
    ends: Ends,
    /// The one whose system runs.
    pub running: Slot,
    /// The other one.
    pub other: Slot,
}

impl Slots {
    /// Reads the table of the disk that the system with this root hash runs from.
    ///
    /// # Errors
    /// The disk cannot be read, or has no second slot.
    pub fn read(device: &dyn Device, running: &RootHash) -> anyhow::Result<Self> {
        let mut ends = Ends::read(device).context("reading the partition table")?;
        let table = GPT::read_from(&mut ends, u64::from(device.sector())).context("reading the partition table")?;
        let ids = [running.root_partition_uuid(), running.verity_partition_uuid()];
        let find = |kind: Uuid, id: Uuid, is_running: bool| {
            let mut entries = table.iter().filter(|(_, entry)| entry.is_used());
            let found = entries.find(|(_, entry)| {
                let is_it = entry.unique_partition_guid == id.to_bytes_le();
                entry.partition_type_guid == kind.to_bytes_le() && is_it == is_running
            });
            found.map(|(number, entry)| {
                let bytes = |sectors: u64| sectors * u64::from(device.sector());
                (number, bytes(entry.starting_lba)..bytes(entry.ending_lba + 1))
            })
        };
        let slot = |is_running| {
            let (root, tree) = (find(ROOT_TYPE, ids[0], is_running), find(VERITY_TYPE, ids[1], is_running));
            root.zip(tree).map(|((root, root_range), (tree, tree_range))| Slot {
                root: root_range,
                tree: tree_range,
                numbers: [root, tree],
            })
        };
        let running = slot(true).context("the running system is not on its disk")?;
        let other = slot(false).ok_or_else(|| {
            Mistake::new("the disk has no room for a second system").hint("restart: the first start makes it")
        })?;
        let size = device.size();
        ensure!(other.root.end <= size && other.tree.end <= size, "a partition ends behind the disk");
        Ok(Self { table, ends, running, other })
    }

    /// Says that the other slot holds nothing whole.
    ///
    /// # Errors
    /// The table cannot be written.
    pub fn clear(&mut self, device: &dyn Device) -> anyhow::Result<()> {
        let is_clear = self.other.numbers.iter().all(|number| self.table[*number].partition_name.as_str() == EMPTY);
        if is_clear && self.ends.are_alike {
            return Ok(());
        }
        self.name(EMPTY, [Uuid::new_v4(), Uuid::new_v4()], device)
    }

    /// Says that the other slot holds this system.
    ///
    /// # Errors
    /// The table cannot be written.
    pub fn arm(&mut self, version: &Version, root_hash: &RootHash, device: &dyn Device) -> anyhow::Result<()> {
        let ids = [root_hash.root_partition_uuid(), root_hash.verity_partition_uuid()];
        self.name(&version.partition_label(), ids, device)
    }

    fn name(&mut self, label: &str, ids: [Uuid; 2], device: &dyn Device) -> anyhow::Result<()> {
        for (number, id) in self.other.numbers.into_iter().zip(ids) {
            let entry = &mut self.table[number];
            entry.partition_name = label.into();
            entry.unique_partition_guid = id.to_bytes_le();
        }
        let is_first_whole = self.table.header.is_primary();
        self.table.write_into(&mut self.ends)?;
        self.ends.write(device, is_first_whole).context("writing the partition table")?;
        // What was read from the second copy describes that one; from here on both are whole.
        self.table = GPT::read_from(&mut self.ends, u64::from(device.sector()))?;
        Ok(())
    }
}

/// The first and the last MiB of a disk, in memory, where the table's two copies are.
#[derive(Debug)]
struct Ends {
    head: Vec<u8>,
    tail: Vec<u8>,
    size: u64,
    sector: u64,
    position: u64,
    /// Whether both copies list the same.
    are_alike: bool,
}

impl Ends {
    fn read(device: &dyn Device) -> io::Result<Self> {
        if device.size() < 2 * HEAD_SIZE {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let read = |at| {
            let mut buffer = Buffer::new(HEAD_SIZE as usize);
            device.read_at(&mut buffer, at)?;
            io::Result::Ok(buffer.to_vec())
        };
        let (head, tail) = (read(0)?, read(device.size() - HEAD_SIZE)?);
        let sector = u64::from(device.sector());
        let mut ends = Self { head, tail, size: device.size(), sector, position: 0, are_alike: false };
        ends.are_alike = ends.entries(0) == ends.entries(1);
        Ok(ends)
    }

    /// Sectors of the table: the header, and 128 entries of 128 bytes (UEFI 5.3).
    fn table_size(&self) -> u64 {
        self.sector + 16384
    }

    /// The entries of the first or second copy.
    fn entries(&self, copy: usize) -> &[u8] {
        let size = 16384;
        match copy {
            0 => &self.head[2 * self.sector as usize..][..size],
            _ => &self.tail[(HEAD_SIZE - self.table_size()) as usize..][..size],
        }
    }

    fn write(&mut self, device: &dyn Device, is_first_whole: bool) -> io::Result<()> {
        let size = self.table_size();
        let put = |content: &[u8], at| {
            let mut buffer = Buffer::new(content.len());
            buffer.copy_from_slice(content);
            device.write_at(&buffer, at)?;
            device.flush()
        };
        let second = || put(&self.tail[(HEAD_SIZE - size) as usize..], device.size() - size);
        let first = || put(&self.head[self.sector as usize..][..size as usize], self.sector);
        if is_first_whole {
            second()?;
            first()?;
        } else {
            first()?;
            second()?;
        }
        self.are_alike = true;
        Ok(())
    }

    /// The bytes at the position, up to the end of the MiB that it is in.
    fn here(&mut self) -> io::Result<&mut [u8]> {
        let tail = self.size - HEAD_SIZE;
        let part = match self.position {
            at if at < HEAD_SIZE => self.head.get_mut(at as usize..),
            at if at >= tail => self.tail.get_mut((at - tail) as usize..),
            _ => None,
        };
        part.ok_or_else(|| io::Error::other("the partition table is not at the ends of the disk"))
    }
}

impl Read for Ends {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let here = self.here()?;
        let count = here.len().min(into.len());
        into[..count].copy_from_slice(&here[..count]);
        self.position += count as u64;
        Ok(count)
    }
}

impl Write for Ends {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        let here = self.here()?;
        let count = here.len().min(from.len());
        here[..count].copy_from_slice(&from[..count]);
        self.position += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Ends {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.size.checked_add_signed(by),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
        };
        self.position = position.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}
