//! What goes where on one particular disk.
//!
//! The layout is always that of [`crate::layout`]. Partition table and FAT volumes are made here, in memory, for the size and
//! the sectors of the disk; hash tree and root are copied as they are.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;

use anyhow::{Context as _, Result};
use gptman::{GPT, GPTPartitionEntry};
use uuid::Uuid;

use super::content::{Content, Files};
use super::memory::scratch;
use super::source::Source;
use crate::fat::{self, Format, Geometry, Purpose, Window};
use crate::layout::{
    BASIC_DATA_TYPE, ESP_LABEL, ESP_SIZE, ESP_TYPE, HEAD_SIZE, MIB, READ_ONLY, ROOT_TYPE, SEED_LABEL, SEED_SIZE,
    VERITY_SIZE, VERITY_TYPE,
};
use crate::verity::BLOCK_SIZE;

/// Longest piece. Cut at multiples of it in the source: such is a frame of a compressed image.
pub(super) const PIECE: u64 = 4 << 20;
/// Pieces that lie closer together are one: a gap of zeros is written faster than it is skipped.
const GAP: u64 = 128 << 10;

/// Who a disk is: no two have the same, even if they hold the same system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// Disk GUID.
    pub disk: Uuid,
    /// GUID of the EFI system partition, by which a system knows what disk it was started from.
    pub esp: Uuid,
    /// GUID of the seed partition.
    pub seed: Uuid,
}

impl Identity {
    /// A new one.
    pub fn random() -> Self {
        Self { disk: Uuid::new_v4(), esp: Uuid::new_v4(), seed: Uuid::new_v4() }
    }
}

/// Bytes that are to be copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// Where on the disk.
    pub at: u64,
    /// Where in the source.
    pub from: u64,
    /// How many.
    pub length: usize,
    /// Number of the source.
    source: usize,
}

/// A disk to be.
pub struct Plan<'a> {
    size: u64,
    sector: u32,
    head: Vec<u8>,
    tail: Vec<u8>,
    pieces: Vec<Piece>,
    sources: Vec<Sourced<'a>>,
}

enum Sourced<'a> {
    Borrowed(&'a dyn Source),
    Made(File),
}

impl std::fmt::Debug for Plan<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plan").field("size", &self.size).field("pieces", &self.pieces).finish_non_exhaustive()
    }
}

impl<'a> Plan<'a> {
    /// The plan for a disk of `size` bytes with sectors of `sector` bytes.
    ///
    /// # Errors
    /// The content does not fit, or there is not enough memory.
    pub fn new(content: &Content<'a>, size: u64, sector: u32, identity: &Identity) -> Result<Self> {
        let root_size = content.root.size.next_multiple_of(MIB);
        let system = (content.label.as_str(), READ_ONLY);
        let mut start = HEAD_SIZE;
        let mut place = |kind, id, (label, attributes): (&str, u64), size: u64| {
            let range = start..start + size;
            start = range.end;
            Partition { kind, id, label: label.to_owned(), attributes, range }
        };
        let esp = place(ESP_TYPE, identity.esp, (ESP_LABEL, 0), ESP_SIZE);
        let seed = place(BASIC_DATA_TYPE, identity.seed, (SEED_LABEL, 0), SEED_SIZE);
        let tree = place(VERITY_TYPE, content.root_hash.verity_partition_uuid(), system, VERITY_SIZE);
        let root = place(ROOT_TYPE, content.root_hash.root_partition_uuid(), system, root_size);
        anyhow::ensure!(content.tree.size <= VERITY_SIZE, "the hash tree does not fit its partition");
        let mut plan = Self::bare(size, sector, identity.disk, &[&esp, &seed, &tree, &root])?;
        plan.add_volume(&esp, Purpose::System, "ESP", &content.esp).context("making the EFI system partition")?;
        plan.add_volume(&seed, Purpose::Data, SEED_LABEL, &content.seed).context("making the seed partition")?;
        for (part, partition) in [(&content.tree, &tree), (&content.root, &root)] {
            let number = plan.source(Sourced::Borrowed(part.source));
            plan.add(number, part.start..part.start + part.size, partition.range.start);
        }
        Ok(plan)
    }

    /// A disk with a partition table and nothing in it.
    fn bare(size: u64, sector: u32, disk: Uuid, partitions: &[&Partition]) -> Result<Self> {
        let end = partitions.last().map_or(HEAD_SIZE, |last| last.range.end);
        anyhow::ensure!(end + HEAD_SIZE <= size, "{size} bytes are not enough: {} are needed", end + HEAD_SIZE);
        let mut image = scratch(size).context("planning the partition table")?;
        let mut table = GPT::new_from(&mut image, u64::from(sector), disk.to_bytes_le())?;
        for (number, partition) in (1..).zip(partitions) {
            table[number] = partition.entry(u64::from(sector));
        }
        table.write_into(&mut image)?;
        GPT::write_protective_mbr_into(&mut image, u64::from(sector))?;
        let mebibyte = |start| {
            let mut bytes = vec![0; HEAD_SIZE as usize];
            image.read_exact_at(&mut bytes, start).map(|()| bytes)
        };
        let (head, tail) = (mebibyte(0)?, mebibyte(size - HEAD_SIZE)?);
        Ok(Self { size, sector, head, tail, pieces: Vec::new(), sources: Vec::new() })
    }

    /// Formats a volume and fills it. Of the seed everything is written, free clusters too: what an earlier seed on the same
    /// disk held may have been secret.
    fn add_volume(&mut self, partition: &Partition, purpose: Purpose, label: &str, files: &Files) -> Result<()> {
        let size = partition.range.end - partition.range.start;
        let volume = scratch(size)?;
        let [a, b, c, d, ..] = *partition.id.as_bytes();
        let before = u32::try_from(partition.range.start / u64::from(self.sector))?;
        let format = Format { purpose, label, id: u32::from_be_bytes([a, b, c, d]), sector: self.sector, before };
        fat::write(&volume, 0..size, &format, |volume| {
            files.iter().try_for_each(|(path, content)| volume.add(path, &mut content.as_slice()))
        })?;
        let mut window = Window::new(&volume, 0, size);
        let in_use = match purpose {
            Purpose::System => Geometry::read(&mut window)?.in_use(&mut window)?,
            Purpose::Data => std::iter::once(0..size).collect(),
        };
        let number = self.source(Sourced::Made(volume));
        for range in joined(&in_use, size) {
            self.add(number, range.clone(), partition.range.start + range.start);
        }
        Ok(())
    }

    fn source(&mut self, source: Sourced<'a>) -> usize {
        self.sources.push(source);
        self.sources.len() - 1
    }

    /// Has `range` of a source copied to `at`, in pieces.
    fn add(&mut self, source: usize, range: Range<u64>, mut at: u64) {
        let mut from = range.start;
        while from < range.end {
            let length = (PIECE - from % PIECE).min(range.end - from);
            self.pieces.push(Piece { at, from, length: length as usize, source });
            (from, at) = (from + length, at + length);
        }
    }

    /// Bytes of the disk.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Bytes of its sectors.
    pub fn sector(&self) -> u32 {
        self.sector
    }

    /// Bytes that will be written.
    pub fn bytes(&self) -> u64 {
        self.pieces.iter().map(|piece| piece.length as u64).sum::<u64>() + 2 * HEAD_SIZE
    }

    /// The first MiB.
    pub(super) fn head(&self) -> &[u8] {
        &self.head
    }

    /// The last MiB.
    pub(super) fn tail(&self) -> &[u8] {
        &self.tail
    }

    pub(super) fn tail_start(&self) -> u64 {
        self.size - HEAD_SIZE
    }

    pub(super) fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    pub(super) fn read(&self, piece: &Piece, buffer: &mut [u8]) -> io::Result<()> {
        match &self.sources[piece.source] {
            Sourced::Borrowed(source) => source.read_at(buffer, piece.from),
            Sourced::Made(file) => Source::read_at(file, buffer, piece.from),
        }
    }

    /// Any pieces, of zeros or not.
    #[cfg(test)]
    pub(super) fn of_pieces(size: u64, sector: u32, pieces: &[(u64, Vec<u8>)]) -> Self {
        let partition = Partition {
            kind: ROOT_TYPE,
            id: Uuid::from_u128(1),
            label: "larder_1".to_owned(),
            attributes: 0,
            range: HEAD_SIZE..2 * HEAD_SIZE,
        };
        let mut plan = Self::bare(size, sector, Uuid::from_u128(2), &[&partition]).unwrap();
        for (at, content) in pieces {
            let file = scratch(content.len() as u64).unwrap();
            file.write_all_at(content, 0).unwrap();
            let number = plan.source(Sourced::Made(file));
            plan.add(number, 0..content.len() as u64, *at);
        }
        plan
    }
}

/// Ranges with small gaps closed, that begin and end with blocks.
fn joined(ranges: &[Range<u64>], size: u64) -> Vec<Range<u64>> {
    const BLOCK: u64 = BLOCK_SIZE as u64;
    let mut joined: Vec<Range<u64>> = Vec::new();
    for range in ranges {
        let range = range.start / BLOCK * BLOCK..range.end.next_multiple_of(BLOCK).min(size);
        match joined.last_mut() {
            Some(last) if range.start <= last.end + GAP => last.end = last.end.max(range.end),
            _ => joined.push(range),
        }
    }
    joined
}

struct Partition {
    kind: Uuid,
    id: Uuid,
    label: String,
    attributes: u64,
    /// In bytes.
    range: Range<u64>,
}

impl Partition {
    /// GUIDs are stored with their first three fields little-endian (UEFI, appendix A).
    fn entry(&self, sector: u64) -> GPTPartitionEntry {
        GPTPartitionEntry {
            partition_type_guid: self.kind.to_bytes_le(),
            unique_partition_guid: self.id.to_bytes_le(),
            starting_lba: self.range.start / sector,
            ending_lba: self.range.end / sector - 1,
            attribute_bits: self.attributes,
            partition_name: self.label.as_str().into(),
        }
    }
}
