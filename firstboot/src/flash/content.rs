//! What a disk is to hold, taken from an image.

use std::fs::File;
use std::io::{self, Cursor};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;

use gptman::GPT;
use uuid::Uuid;

use super::memory::scratch;
use super::source::Source;
use crate::fat::{FatReader, Geometry, Window};
use crate::layout::{ESP_TYPE, HEAD_SIZE, IMAGE_SECTOR, ROOT_TYPE, SEED_LABEL, SYSTEM_PREFIX, VERITY_TYPE};
use crate::report::Mistake;
use crate::verity::{BLOCK_SIZE, RootHash, Superblock, Tree};

/// Paths and contents of the files of a FAT volume.
pub type Files = Vec<(String, Vec<u8>)>;

/// A system: what its disk is made from.
#[derive(Clone)]
pub struct Content<'a> {
    /// Name of the system's partitions: `larder_VERSION`.
    pub label: String,
    /// What vouches for the root.
    pub root_hash: RootHash,
    /// Files of the EFI system partition.
    pub esp: Files,
    /// Files of the seed partition.
    pub seed: Files,
    /// The root file system.
    pub root: Part<'a>,
    /// Its hash tree.
    pub tree: Part<'a>,
}

/// Bytes of a source.
#[derive(Clone)]
pub struct Part<'a> {
    /// Where they are.
    pub source: &'a dyn Source,
    /// Where they begin.
    pub start: u64,
    /// How many they are.
    pub size: u64,
}

impl std::fmt::Debug for Content<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Content")
            .field("label", &self.label)
            .field("root_hash", &self.root_hash)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Part<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Part").field("start", &self.start).field("size", &self.size).finish_non_exhaustive()
    }
}

impl<'a> Content<'a> {
    /// That of a larder image, which people know as `name`.
    ///
    /// # Errors
    /// It cannot be read, is damaged, or is no larder image.
    pub fn of_image(source: &'a dyn Source, name: &str) -> Result<Self, Mistake> {
        let damaged = |error: io::Error| {
            Mistake::new(format!("{name} cannot be read"))
                .because(error)
                .hint("compare it with its .SHA256SUMS file, and download or build it again")
        };
        let foreign = |what: &str| {
            Mistake::new(format!("{name} is no larder image: {what}"))
                .hint("give the path of an .img or .img.zst that `larder build` has made")
        };
        let partitions = partitions_of(source, IMAGE_SECTOR).map_err(damaged)?;
        let partitions = partitions.ok_or_else(|| foreign("it has no partition table"))?;
        let find = |what: &str, is_it: &dyn Fn(&PartitionEntry) -> bool| {
            partitions.iter().find(|entry| is_it(entry)).ok_or_else(|| foreign(&format!("it has no {what} partition")))
        };
        let esp = find("EFI system", &|entry| entry.kind == ESP_TYPE)?;
        let seed = find("seed", &|entry| entry.label == SEED_LABEL)?;
        let root = find("root", &|entry| entry.kind == ROOT_TYPE && entry.label.starts_with(SYSTEM_PREFIX))?;
        let tree = find("verity", &|entry| entry.kind == VERITY_TYPE && entry.label == root.label)?;
        let superblock = superblock(source, tree.range.start).map_err(damaged)?;
        let superblock = superblock.ok_or_else(|| foreign("its root has no hash tree"))?;
        Ok(Self {
            label: root.label.clone(),
            root_hash: RootHash::of_partitions(root.id, tree.id),
            esp: files(source, &esp.range).map_err(damaged)?,
            seed: files(source, &seed.range).map_err(damaged)?,
            root: Part { source, start: root.range.start, size: superblock.data_blocks * BLOCK_SIZE as u64 },
            tree: Part { source, start: tree.range.start, size: Tree::over(superblock.data_blocks).size() },
        })
    }
}

impl Content<'_> {
    /// Puts a file on the seed partition, in the place of one of the same name: FAT takes capital and small letters for the
    /// same.
    pub fn put_seed_file(&mut self, name: &str, content: Vec<u8>) {
        self.seed.retain(|(other, _)| !other.eq_ignore_ascii_case(name));
        self.seed.push((name.to_owned(), content));
    }
}

/// A partition of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PartitionEntry {
    pub(crate) kind: Uuid,
    pub(crate) id: Uuid,
    pub(crate) label: String,
    /// In bytes.
    pub(crate) range: Range<u64>,
}

/// What the partition table in the first MiB of a disk with these sectors lists.
pub(crate) fn partitions(head: &[u8], sector: u32) -> Option<Vec<PartitionEntry>> {
    let table = GPT::read_from(&mut Cursor::new(head), u64::from(sector)).ok()?;
    let bytes = |sectors: u64| sectors.checked_mul(u64::from(sector));
    let used = table.iter().filter(|(_, entry)| entry.is_used());
    used.map(|(_, entry)| {
        Some(PartitionEntry {
            kind: Uuid::from_bytes_le(entry.partition_type_guid),
            id: Uuid::from_bytes_le(entry.unique_partition_guid),
            label: entry.partition_name.as_str().to_owned(),
            range: bytes(entry.starting_lba)?..bytes(entry.ending_lba.checked_add(1)?)?,
        })
    })
    .collect()
}

/// The partitions of a disk that is read as a file.
pub(crate) fn partitions_of(source: &dyn Source, sector: u32) -> io::Result<Option<Vec<PartitionEntry>>> {
    let mut head = vec![0; HEAD_SIZE as usize];
    source.read_at(&mut head, 0)?;
    Ok(partitions(&head, sector))
}

fn superblock(source: &dyn Source, start: u64) -> io::Result<Option<Superblock>> {
    let mut block = [0; BLOCK_SIZE];
    source.read_at(&mut block, start)?;
    let copy = scratch(BLOCK_SIZE as u64)?;
    copy.write_all_at(&block, 0)?;
    Ok(Superblock::read(&copy).ok())
}

/// All files of a FAT volume. Only what is in use is read.
pub(crate) fn files(source: &dyn Source, range: &Range<u64>) -> io::Result<Files> {
    let size = range.end - range.start;
    let copy = scratch(size)?;
    // The boot sector tells where the clusters begin; the table before them tells which are in use.
    transfer(source, range.start, &copy, &(0..BLOCK_SIZE as u64))?;
    let data = Geometry::read(&mut Window::new(&copy, 0, size))?.data.min(size);
    transfer(source, range.start, &copy, &(0..data))?;
    let mut window = Window::new(&copy, 0, size);
    for used in Geometry::read(&mut window)?.in_use(&mut window)? {
        transfer(source, range.start, &copy, &(used.start..used.end.min(size)))?;
    }
    let reader = FatReader::open(&copy, 0, size)?;
    let paths = reader.files()?.into_iter().map(|file| file.path);
    paths.map(|path| reader.read(&path).map(|content| (path, content))).collect()
}

fn transfer(source: &dyn Source, start: u64, copy: &File, range: &Range<u64>) -> io::Result<()> {
    const STEP: u64 = 1 << 20;
    let mut buffer = vec![0; STEP as usize];
    for at in range.clone().step_by(STEP as usize) {
        let part = &mut buffer[..STEP.min(range.end - at) as usize];
        source.read_at(part, start + at)?;
        copy.write_all_at(part, at)?;
    }
    Ok(())
}
