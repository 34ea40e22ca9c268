//! dm-verity hash trees: write one, check one, and name partitions after its root hash.
//!
//! The tree is byte for byte what `veritysetup format` writes to a separate hash device with
//! SHA-256 and 4 KiB blocks (superblock version 1, hash type 1):
//!
//! ```text
//! block 0            superblock, padded with zeros
//! block 1            top level: one block of up to 128 digests
//! block 2 …          the levels below, each from left to right
//! … last block       leaf level: one digest for every 4 KiB of data
//! ```
//!
//! A digest is `SHA-256(salt ‖ block)`; the last block of a level is padded with zeros. The root hash
//! is the digest of block 1, or that of the data itself when there is only one block of it.
//! On-disk format: <https://gitlab.com/cryptsetup/cryptsetup/-/wikis/DMVerity>.
//!
//! The leaf level doubles as the index of updates: whoever has it knows which 4 KiB blocks of a new
//! release are already on the disk, and can check each block that is fetched.

mod superblock;

use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::str::FromStr;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

pub use superblock::Superblock;

/// Size of data blocks and of hash blocks: the page size, which is all that erofs and the kernel's
/// verity target are exercised with.
pub const BLOCK_SIZE: usize = 4096;

/// The salt of every image of every release: `SHA-256("larder dm-verity salt v1")`.
///
/// A salt per image would hide that two images share blocks, and would make precomputed collisions
/// useless. Sharing blocks is the point here (the leaf level of one release serves as the index into
/// another), and collisions of SHA-256 are out of reach with or without a salt. So it is constant.
pub const SALT: [u8; 32] = [
    0x8b, 0x64, 0xd0, 0x3e, 0x18, 0x05, 0xec, 0x22, 0x1f, 0x79, 0x37, 0x6a, 0x11, 0xe6, 0x1d, 0xb7, //
    0x3e, 0xfa, 0x88, 0xb9, 0x49, 0x52, 0xfa, 0xeb, 0xa7, 0x9c, 0xb9, 0xd1, 0x59, 0x09, 0xc3, 0xd4,
];

const DIGEST_SIZE: usize = 32;
const DIGESTS_PER_BLOCK: u64 = (BLOCK_SIZE / DIGEST_SIZE) as u64;

/// Why a tree could not be written, or what it refutes.
#[derive(Debug, thiserror::Error)]
pub enum VerityError {
    /// The data or the tree could not be read, or the tree not be written.
    #[error("{0} failed")]
    Io(&'static str, #[source] io::Error),
    /// The data is no whole number of blocks, or none at all.
    #[error("{0} bytes are no whole number of {BLOCK_SIZE}-byte blocks")]
    NotBlocks(u64),
    /// The first block of the tree does not describe a tree of this kind.
    #[error("the verity superblock is not usable: {0}")]
    Superblock(&'static str),
    /// A block differs from what the root hash vouches for.
    #[error("{0} does not match the root hash")]
    Damaged(BadBlock),
}

/// The first block that does not match, counted in blocks from the start of its partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "in", content = "block")]
pub enum BadBlock {
    /// A block of the data.
    Data(u64),
    /// A block of the hash tree.
    Tree(u64),
}

impl fmt::Display for BadBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Data(block) => write!(f, "data block {block}"),
            Self::Tree(block) => write!(f, "hash tree block {block}"),
        }
    }
}

/// The digest that vouches for a whole root file system; `roothash=` on the kernel command line.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RootHash([u8; DIGEST_SIZE]);

/// The text is not 64 hex digits.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a verity root hash (64 hex digits)")]
pub struct InvalidRootHash(String);

impl RootHash {
    /// The raw bytes.
    pub fn as_bytes(&self) -> &[u8; DIGEST_SIZE] {
        &self.0
    }

    /// UUID of the partition that holds the data: the first 128 bits. This is how
    /// systemd-veritysetup-generator(8) finds the pair when it is given nothing but `roothash=`.
    pub fn root_partition_uuid(&self) -> Uuid {
        Uuid::from_bytes(std::array::from_fn(|i| self.0[i]))
    }

    /// UUID of the partition that holds the hash tree: the last 128 bits.
    pub fn verity_partition_uuid(&self) -> Uuid {
        Uuid::from_bytes(std::array::from_fn(|i| self.0[DIGEST_SIZE - 16 + i]))
    }
}

impl RootHash {
    /// The root hash whose halves name these partitions.
    pub fn of_partitions(root: Uuid, verity: Uuid) -> Self {
        let half = DIGEST_SIZE / 2;
        Self(std::array::from_fn(|i| if i < half { root.as_bytes()[i] } else { verity.as_bytes()[i - half] }))
    }
}

impl From<[u8; DIGEST_SIZE]> for RootHash {
    fn from(bytes: [u8; DIGEST_SIZE]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for RootHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for RootHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RootHash({self})")
    }
}

impl FromStr for RootHash {
    type Err = InvalidRootHash;
    fn from_str(text: &str) -> Result<Self, InvalidRootHash> {
        let mut bytes = [0; DIGEST_SIZE];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| InvalidRootHash(text.to_owned()))?;
        Ok(Self(bytes))
    }
}

impl TryFrom<String> for RootHash {
    type Error = InvalidRootHash;
    fn try_from(text: String) -> Result<Self, InvalidRootHash> {
        text.parse()
    }
}

impl From<RootHash> for String {
    fn from(hash: RootHash) -> Self {
        hash.to_string()
    }
}

/// Where a partition's content begins in a file: 0 for a plain file or a block device, more inside
/// a disk image.
#[derive(Debug, Clone, Copy)]
pub struct Region<'a> {
    /// The file, device or disk image.
    pub file: &'a File,
    /// Byte offset of block 0.
    pub start: u64,
}

impl<'a> From<&'a File> for Region<'a> {
    fn from(file: &'a File) -> Self {
        Self { file, start: 0 }
    }
}

impl Region<'_> {
    fn read_blocks(&self, first: u64, blocks: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(blocks, self.start + first * BLOCK_SIZE as u64)
    }

    fn write_block(&self, block: u64, content: &[u8]) -> io::Result<()> {
        self.file.write_all_at(content, self.start + block * BLOCK_SIZE as u64)
    }
}

/// The shape of a hash tree: which blocks of the hash device hold which level.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree {
    data_blocks: u64,
    /// Top level first, as on disk.
    levels: Vec<Level>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Level {
    first: u64,
    blocks: u64,
}

impl Tree {
    /// The tree over `data_blocks` blocks of data.
    pub fn over(data_blocks: u64) -> Self {
        let mut sizes = Vec::new();
        let mut blocks = data_blocks;
        while blocks > 1 {
            blocks = blocks.div_ceil(DIGESTS_PER_BLOCK);
            sizes.push(blocks);
        }
        let mut next = 1;
        let place = |blocks| {
            let first = next;
            next += blocks;
            Level { first, blocks }
        };
        Self { data_blocks, levels: sizes.into_iter().rev().map(place).collect() }
    }

    /// Size of the whole tree in bytes, superblock included.
    pub fn size(&self) -> u64 {
        (1 + self.levels.iter().map(|level| level.blocks).sum::<u64>()) * BLOCK_SIZE as u64
    }

    /// The blocks of the hash device that hold one digest for each block of data, in order.
    /// Empty for a single block of data, whose digest is the root hash itself.
    pub fn leaf_blocks(&self) -> std::ops::Range<u64> {
        self.levels.last().map_or(0..0, |leaf| leaf.first..leaf.first + leaf.blocks)
    }

    /// One digest for each block of data, in order, of a whole tree; `None` where it is cut off, or has no leaf level.
    pub fn leaves<'t>(&self, tree: &'t [u8]) -> Option<&'t [[u8; DIGEST_SIZE]]> {
        let leaves = self.leaf_blocks();
        let level = tree.get(leaves.start as usize * BLOCK_SIZE..leaves.end as usize * BLOCK_SIZE)?;
        level.as_chunks().0.get(..self.data_blocks as usize)
    }

    /// Writes the tree over all of `data` into `out` (readable and writable; empty, or a device),
    /// with [`SALT`]. `uuid` goes into the superblock; the root hash does not cover it.
    pub fn write(data: &File, out: &File, uuid: Uuid) -> Result<RootHash, VerityError> {
        let size = size_of(data).map_err(|error| VerityError::Io("reading the size of the data", error))?;
        if size == 0 || size % BLOCK_SIZE as u64 != 0 {
            return Err(VerityError::NotBlocks(size));
        }
        Self::write_blocks(data.into(), size / BLOCK_SIZE as u64, out.into(), uuid)
    }

    /// As [`Tree::write`], for the first `data_blocks` blocks: a slot is larger than its content.
    pub fn write_blocks(
        data: Region<'_>,
        data_blocks: u64,
        out: Region<'_>,
        uuid: Uuid,
    ) -> Result<RootHash, VerityError> {
        let tree = Self::over(data_blocks);
        let salted = Salted::new(&SALT);
        let superblock = Superblock { uuid, data_blocks, salt: SALT.to_vec() };
        let writing = |error| VerityError::Io("writing the hash tree", error);
        out.write_block(0, &superblock.to_block()).map_err(writing)?;
        for row in tree.rows(data, out).rev() {
            row.write_parents(out, &salted).map_err(writing)?;
        }
        salted.root(data, out, &tree).map_err(|error| VerityError::Io("reading the top of the hash tree", error))
    }

    /// The whole tree with its superblock, over data that `read` gives in pieces of up to `piece` bytes (offset, length). Takes
    /// an 127th of the data in memory.
    ///
    /// # Errors
    /// That of `read`.
    pub fn in_memory<E>(
        &self,
        piece: usize,
        mut read: impl FnMut(u64, usize) -> Result<Vec<u8>, E>,
    ) -> Result<(RootHash, Vec<u8>), E> {
        let salted = Salted::new(&SALT);
        let size = self.data_blocks * BLOCK_SIZE as u64;
        let mut digests = Vec::with_capacity((self.data_blocks as usize + 1) * DIGEST_SIZE);
        for at in (0..size).step_by(piece) {
            let length = (size - at).min(piece as u64) as usize;
            digests.extend(salted.digests(&read(at, length)?));
        }
        let mut levels = Vec::new();
        while digests.len() > DIGEST_SIZE {
            digests.resize(digests.len().next_multiple_of(BLOCK_SIZE), 0);
            let above = salted.digests(&digests);
            levels.push(std::mem::replace(&mut digests, above));
        }
        let root_hash = RootHash(std::array::from_fn(|i| digests[i]));
        // Nothing vouches for it, and nobody asks for more than that it differs.
        let uuid = root_hash.verity_partition_uuid();
        let superblock = Superblock { uuid, data_blocks: self.data_blocks, salt: SALT.to_vec() };
        let mut tree = superblock.to_block().to_vec();
        levels.into_iter().rev().for_each(|level| tree.extend(level));
        Ok((root_hash, tree))
    }

    /// Each level with what its digests stand for, top level first.
    fn rows<'a>(&'a self, data: Region<'a>, tree: Region<'a>) -> impl DoubleEndedIterator<Item = Row<'a>> {
        self.levels.iter().enumerate().map(move |(i, parents)| match self.levels.get(i + 1) {
            Some(below) => Row { parents: *parents, source: tree, children: *below, of_data: false },
            None => Row {
                parents: *parents,
                source: data,
                children: Level { first: 0, blocks: self.data_blocks },
                of_data: true,
            },
        })
    }
}

/// Checks every block of `data` and of `tree` against the root hash and names the first that is bad.
///
/// The superblock is not covered by the root hash (as in the kernel), but wrong values in it can
/// only make the check fail.
pub fn verify<'a>(
    data: impl Into<Region<'a>>,
    tree: impl Into<Region<'a>>,
    root_hash: &RootHash,
) -> Result<Superblock, VerityError> {
    let (data, tree) = (data.into(), tree.into());
    let superblock = Superblock::read(tree)?;
    let shape = Tree::over(superblock.data_blocks);
    let salted = Salted::new(&superblock.salt);
    let reading = |error| VerityError::Io("reading the data or its hash tree", error);
    if salted.root(data, tree, &shape).map_err(reading)? != *root_hash {
        let top = if shape.levels.is_empty() { BadBlock::Data(0) } else { BadBlock::Tree(1) };
        return Err(VerityError::Damaged(top));
    }
    for row in shape.rows(data, tree) {
        if let Some(bad) = row.first_bad_child(tree, &salted).map_err(reading)? {
            let block = if row.of_data { BadBlock::Data(bad) } else { BadBlock::Tree(bad) };
            return Err(VerityError::Damaged(block));
        }
    }
    Ok(superblock)
}

/// One level of the tree and the blocks below it: 128 children to a parent. Work is shared out by
/// parents, so memory stays at half a mebibyte for each thread whatever the size of the data.
struct Row<'a> {
    parents: Level,
    source: Region<'a>,
    children: Level,
    of_data: bool,
}

impl Row<'_> {
    fn write_parents(&self, tree: Region<'_>, salted: &Salted) -> io::Result<()> {
        (0..self.parents.blocks).into_par_iter().try_for_each_init(Self::buffer, |buffer, parent| {
            let digests = self.digests(parent, buffer, salted)?;
            tree.write_block(self.parents.first + parent, &digests)
        })
    }

    fn first_bad_child(&self, tree: Region<'_>, salted: &Salted) -> io::Result<Option<u64>> {
        let bad_child_of = |buffer: &mut Vec<u8>, parent| {
            let actual = self.digests(parent, buffer, salted)?;
            let mut expected = [0; BLOCK_SIZE];
            tree.read_blocks(self.parents.first + parent, &mut expected)?;
            let differs = |child: &u64| {
                let digest = *child as usize * DIGEST_SIZE..(*child as usize + 1) * DIGEST_SIZE;
                actual[digest.clone()] != expected[digest]
            };
            let bad = (0..self.children_of(parent)).find(differs);
            Ok(bad.map(|child| self.children.first + parent * DIGESTS_PER_BLOCK + child))
        };
        (0..self.parents.blocks)
            .into_par_iter()
            .map_init(Self::buffer, |buffer, parent| bad_child_of(buffer, parent).transpose())
            .find_map_first(|found| found)
            .transpose()
    }

    fn buffer() -> Vec<u8> {
        vec![0; BLOCK_SIZE * DIGESTS_PER_BLOCK as usize]
    }

    fn children_of(&self, parent: u64) -> u64 {
        DIGESTS_PER_BLOCK.min(self.children.blocks - parent * DIGESTS_PER_BLOCK)
    }

    /// What the block `parent` of this level must contain.
    fn digests(&self, parent: u64, buffer: &mut [u8], salted: &Salted) -> io::Result<[u8; BLOCK_SIZE]> {
        let blocks = &mut buffer[..self.children_of(parent) as usize * BLOCK_SIZE];
        self.source.read_blocks(self.children.first + parent * DIGESTS_PER_BLOCK, blocks)?;
        let mut digests = [0; BLOCK_SIZE];
        for (block, digest) in blocks.chunks_exact(BLOCK_SIZE).zip(digests.chunks_exact_mut(DIGEST_SIZE)) {
            digest.copy_from_slice(&salted.digest(block));
        }
        Ok(digests)
    }
}

/// SHA-256 that has seen the salt.
struct Salted(Sha256);

impl Salted {
    fn new(salt: &[u8]) -> Self {
        Self(Sha256::new_with_prefix(salt))
    }

    fn digest(&self, block: &[u8]) -> [u8; DIGEST_SIZE] {
        self.0.clone().chain_update(block).finalize().into()
    }

    /// The digests of several blocks, one after another.
    fn digests(&self, blocks: &[u8]) -> Vec<u8> {
        blocks.par_chunks(BLOCK_SIZE).flat_map_iter(|block| self.digest(block)).collect()
    }

    fn root(&self, data: Region<'_>, tree: Region<'_>, shape: &Tree) -> io::Result<RootHash> {
        let (top, block) = shape.levels.first().map_or((data, 0), |level| (tree, level.first));
        let mut content = [0; BLOCK_SIZE];
        top.read_blocks(block, &mut content)?;
        Ok(RootHash(self.digest(&content)))
    }
}

/// Size of a file or a block device (whose metadata says 0).
fn size_of(mut file: &File) -> io::Result<u64> {
    io::Seek::seek(&mut file, io::SeekFrom::End(0))
}

#[cfg(test)]
mod tests;
