//! Makes a system in the other slot, so that whatever happens meanwhile, what starts next is whole: the running system, or
//! the new one.
//!
//! ```text
//!  1  the other system's UKI is removed            nothing starts from that slot any more
//!  2  the slot is called `_empty`                  second copy of the partition table first ([`super::slot`])
//!  3  each record is made, checked, written once   what the slot holds already is neither fetched nor written
//!  4  flush; the root is read back from the disk   its hash tree is made of what was read; the root hash must come out
//!  5  the tree is written, read back, compared
//!  6  the UKI, under another name                  read back; its command line must carry the root hash
//!  7  the TPM is told to trust it                  by the caller ([`Hooks`])
//!  8  the slot gets its label and its UUIDs
//!  9  the UKI gets its name, with all tries        the one step by which the new system counts
//! ```
//!
//! After a cut all of this begins again: step 3 compares each record with what is there, so next to nothing is fetched twice
//! (what was fetched since the last flush).

use std::ops::Range;

use anyhow::{Context as _, ensure};
use sha2::{Digest as _, Sha256};

use super::channel::Release;
use super::local::Blocks;
use super::recipe::{Base, Recipe, Record, Target};
use super::slot::Slots;
use crate::esp::{self, Esp, UkiName};
use crate::flash::{Buffer, Device};
use crate::hash::Hash;
use crate::verity::{BLOCK_SIZE, RootHash, Superblock, Tree};

/// What the UKI is called while it is being made. In capitals and of eight and three letters it takes one entry of its
/// folder, so that the last rename changes one sector.
pub const UNFINISHED: &str = "LARDER.NEW";
/// No more than this is written between two flushes.
const FLUSH_EVERY: u64 = 16 << 20;
/// No more than this is fetched between two flushes: what a cut makes us fetch again.
const FLUSH_FETCHED: u64 = 1 << 20;
/// Data is read back in pieces of this size.
const PIECE: u64 = 4 << 20;

/// Hands out ranges of the payload.
pub trait Payload {
    /// Says which ranges will be asked for, in their order.
    fn expect(&mut self, ranges: Vec<Range<u64>>);

    /// A range of those that are expected.
    ///
    /// # Errors
    /// It cannot be had.
    fn fetch(&mut self, range: Range<u64>) -> anyhow::Result<Vec<u8>>;
}

/// What is going on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// What is there already is looked for.
    Comparing,
    /// Records are made.
    Making,
    /// They are read back.
    Verifying,
}

/// Is told how far it is, and does what must be done before the new system counts.
pub trait Hooks {
    /// A stage begins, in which `bytes` are dealt with.
    fn begin(&self, stage: Stage, bytes: u64);
    /// So many bytes more are done.
    fn advance(&self, bytes: u64);
    /// The new UKI is whole and lies under this name.
    ///
    /// # Errors
    /// It must not be started.
    fn before_commit(&self, uki: &str) -> anyhow::Result<()>;
}

/// What an installation needs.
#[derive(Clone, Copy)]
pub struct Engine<'a> {
    /// The disk that the running system was started from.
    pub disk: &'a dyn Device,
    /// Its ESP.
    pub esp: &'a dyn Esp,
    /// The running system.
    pub running: RootHash,
    /// What is to be made.
    pub release: &'a Release,
    /// How.
    pub recipe: &'a Recipe,
    /// The new hash tree: by it, blocks that the running system has are found, where the recipe does not say where they are.
    pub tree: Option<&'a [u8]>,
    /// Who is told.
    pub hooks: &'a dyn Hooks,
}

impl std::fmt::Debug for Engine<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("version", &self.release.version).finish_non_exhaustive()
    }
}

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Summary {
    /// Bytes of the payload that were fetched.
    pub fetched: u64,
    /// Bytes that were written to slot and ESP.
    pub written: u64,
    /// Bytes that were there already.
    pub found: u64,
}

impl Engine<'_> {
    /// Makes the system; see the module's documentation.
    ///
    /// # Errors
    /// Whatever goes wrong. The running system is as it was, and the next call carries on.
    pub fn install(&self, payload: &mut dyn Payload) -> anyhow::Result<Summary> {
        let systems = esp::systems(self.esp, &self.running)?;
        let running = systems.running.context("the running system's UKI is not on the ESP")?;
        // Of two files of the running system, which a torn rename may have left, one is the other's content, too.
        for other in systems.others.iter().filter(|other| other.version != running.version) {
            self.esp.remove(&other.to_string()).with_context(|| format!("removing {other}"))?;
        }
        self.esp.sync().context("writing the ESP")?;
        let mut slots = Slots::read(self.disk, &self.running)?;
        self.check_room(&slots)?;
        slots.clear(self.disk)?;
        let work = Work { engine: self, slots: &slots, running: running.to_string() };
        let summary = work.make_records(payload)?;
        work.make_tree()?;
        work.check_uki()?;
        self.hooks.before_commit(UNFINISHED)?;
        slots.arm(&self.release.version, &self.release.root_hash, self.disk)?;
        let name = UkiName::full(&self.release.version).to_string();
        esp::rename(self.esp, &esp::Rename { from: UNFINISHED.to_owned(), to: name })?;
        Ok(summary)
    }

    fn check_room(&self, slots: &Slots) -> anyhow::Result<()> {
        let tree = Tree::over(self.release.root_size / BLOCK_SIZE as u64).size();
        let length = |range: &Range<u64>| range.end - range.start;
        ensure!(
            self.release.root_size <= length(&slots.other.root) && tree <= length(&slots.other.tree),
            "the new system is larger than its slot"
        );
        Ok(())
    }
}

/// An installation under way.
struct Work<'a> {
    engine: &'a Engine<'a>,
    slots: &'a Slots,
    /// File name of the running UKI.
    running: String,
}

impl Work<'_> {
    fn make_records(&self, payload: &mut dyn Payload) -> anyhow::Result<Summary> {
        let Engine { recipe, hooks, disk, .. } = *self.engine;
        let mut summary = Summary::default();
        hooks.begin(Stage::Comparing, total(recipe.records()));
        let running_tree = self.running_tree()?;
        let blocks = self
            .engine
            .tree
            .and_then(|tree| Blocks::new((tree, self.engine.release.root_size), (&running_tree.0, running_tree.1)));
        let mut missing = Vec::new();
        for record in recipe.records() {
            if self.is_there(record) {
                summary.found += record.length;
            } else {
                let local = blocks.as_ref().and_then(|blocks| self.find(record, blocks));
                missing.push((record, local));
            }
            hooks.advance(record.length);
        }
        let to_fetch = missing.iter().filter(|(_, local)| local.is_none());
        payload.expect(to_fetch.filter_map(|(record, _)| record.payload()).collect());
        hooks.begin(Stage::Making, missing.iter().map(|(record, _)| record.length).sum());
        let mut flushed = summary;
        for (record, local) in missing {
            let piece = match local {
                Some(places) => self.gather(&places)?,
                None => self.make(record, payload, &mut summary)?,
            };
            self.write(record, &piece)?;
            summary.written += record.length;
            if summary.written - flushed.written >= FLUSH_EVERY || summary.fetched - flushed.fetched >= FLUSH_FETCHED {
                self.flush()?;
                flushed = summary;
            }
            hooks.advance(record.length);
        }
        if self.engine.esp.list()?.iter().any(|file| file.name == UNFINISHED) {
            self.engine.esp.truncate(UNFINISHED, self.engine.release.uki.size)?;
        }
        self.flush()?;
        disk.flush().context("flushing the disk")?;
        Ok(summary)
    }

    fn flush(&self) -> anyhow::Result<()> {
        self.engine.disk.flush().context("flushing the disk")?;
        self.engine.esp.sync().context("writing the ESP")
    }

    /// The running hash tree, where it is needed, and the size of what it is over.
    fn running_tree(&self) -> anyhow::Result<(Vec<u8>, u64)> {
        if self.engine.tree.is_none() {
            return Ok((Vec::new(), 0));
        }
        let superblock = self.read_disk(&self.slots.running.tree, 0, BLOCK_SIZE as u64)?;
        let superblock = superblock.as_slice().try_into().context("a block has its length")?;
        let blocks = Superblock::from_block(superblock)
            .map_err(anyhow::Error::msg)
            .context("the running hash tree")?
            .data_blocks;
        let shape = Tree::over(blocks);
        ensure!(
            shape.size() <= self.slots.running.tree.end - self.slots.running.tree.start,
            "the hash tree is cut off"
        );
        Ok((self.read_disk(&self.slots.running.tree, 0, shape.size())?, blocks * BLOCK_SIZE as u64))
    }

    /// Where the running root has what the record would make; what is there is looked at, as that disk may be failing.
    fn find(&self, record: &Record, blocks: &Blocks<'_>) -> Option<Vec<u64>> {
        if record.to != Target::Root || record.base().is_some() {
            return None;
        }
        let places = blocks.find(record.at, record.length)?;
        self.gather(&places).is_ok_and(|piece| Hash::of(&piece) == record.sha256).then_some(places)
    }

    /// Blocks of the running root, one after another.
    fn gather(&self, places: &[u64]) -> anyhow::Result<Vec<u8>> {
        let mut piece = Vec::with_capacity(places.len() * BLOCK_SIZE);
        // Most of them lie one after another in the running root, too.
        for run in places.chunk_by(|one, next| one + BLOCK_SIZE as u64 == *next) {
            piece.extend(self.read_disk(&self.slots.running.root, run[0], (run.len() * BLOCK_SIZE) as u64)?);
        }
        Ok(piece)
    }

    /// Whether the target holds what the record would make. What cannot be read is made anew.
    fn is_there(&self, record: &Record) -> bool {
        let held = match record.to {
            Target::Root => self.read_disk(&self.slots.other.root, record.at, record.length),
            Target::Uki => self.read_file(UNFINISHED, record.at, record.length),
        };
        held.is_ok_and(|held| Hash::of(&held) == record.sha256)
    }

    fn make(&self, record: &Record, payload: &mut dyn Payload, summary: &mut Summary) -> anyhow::Result<Vec<u8>> {
        let base = match record.base() {
            None => Vec::new(),
            Some(base) => match base.of {
                Base::Root => self.read_disk(&self.slots.running.root, base.at, base.length)?,
                Base::NewRoot => self.read_disk(&self.slots.other.root, base.at, base.length)?,
                Base::Uki => self.read_file(&self.running, base.at, base.length)?,
            },
        };
        let fetched = match record.payload() {
            Some(range) => {
                summary.fetched += range.end - range.start;
                payload.fetch(range)?
            }
            None => Vec::new(),
        };
        let what = match record.to {
            Target::Root => "root file system",
            Target::Uki => "kernel",
        };
        record.make(&base, &fetched).with_context(|| format!("making the {what} at byte {}", record.at))
    }

    fn write(&self, record: &Record, piece: &[u8]) -> anyhow::Result<()> {
        match record.to {
            Target::Root => {
                let mut buffer = Buffer::new(piece.len());
                buffer.copy_from_slice(piece);
                let at = self.slots.other.root.start + record.at;
                self.engine.disk.write_at(&buffer, at).with_context(|| format!("writing to the disk at byte {at}"))
            }
            Target::Uki => {
                self.engine.esp.write_at(UNFINISHED, piece, record.at).context("writing the new kernel to the ESP")
            }
        }
    }

    /// A range of a partition; what is read of the disk are whole blocks.
    fn read_disk(&self, partition: &Range<u64>, at: u64, length: u64) -> anyhow::Result<Vec<u8>> {
        let block = BLOCK_SIZE as u64;
        let (start, end) = (at / block * block, (at + length).next_multiple_of(block));
        ensure!(partition.start + end <= partition.end, "byte {end} is behind the slot");
        let mut buffer = Buffer::new((end - start) as usize);
        let from = partition.start + start;
        self.engine.disk.read_at(&mut buffer, from).with_context(|| format!("reading the disk at byte {from}"))?;
        let skip = (at - start) as usize;
        Ok(buffer[skip..skip + length as usize].to_vec())
    }

    fn read_file(&self, name: &str, at: u64, length: u64) -> anyhow::Result<Vec<u8>> {
        let mut bytes = vec![0; length as usize];
        self.engine.esp.read_at(name, &mut bytes, at).with_context(|| format!("reading {name} on the ESP"))?;
        Ok(bytes)
    }

    /// Reads the root back, and writes the tree over what was read.
    fn make_tree(&self) -> anyhow::Result<()> {
        let Engine { release, disk, hooks, .. } = *self.engine;
        hooks.begin(Stage::Verifying, release.root_size + release.uki.size);
        let blocks = release.root_size / BLOCK_SIZE as u64;
        let (root_hash, tree) = Tree::over(blocks).in_memory(PIECE as usize, |at, length| {
            let piece = self.read_disk(&self.slots.other.root, at, length as u64)?;
            hooks.advance(length as u64);
            anyhow::Ok(piece)
        })?;
        ensure!(
            root_hash == release.root_hash,
            "the disk has not kept what was written: the root hash is {root_hash}, not {}",
            release.root_hash
        );
        let mut buffer = Buffer::new(tree.len());
        buffer.copy_from_slice(&tree);
        let at = self.slots.other.tree.start;
        disk.write_at(&buffer, at).and_then(|()| disk.flush()).context("writing the hash tree")?;
        let kept = self.read_disk(&self.slots.other.tree, 0, tree.len() as u64)?;
        ensure!(kept == tree, "the disk has not kept the hash tree");
        Ok(())
    }

    /// Reads the UKI back.
    fn check_uki(&self) -> anyhow::Result<()> {
        let Engine { release, esp, hooks, .. } = *self.engine;
        esp.forget(UNFINISHED).context("writing the new kernel to the ESP")?;
        let mut hash = Sha256::new();
        for at in (0..release.uki.size).step_by(PIECE as usize) {
            let piece = self.read_file(UNFINISHED, at, PIECE.min(release.uki.size - at))?;
            hash.update(&piece);
            hooks.advance(piece.len() as u64);
        }
        let found: [u8; 32] = hash.finalize().into();
        ensure!(Hash::from(found) == release.uki.sha256, "the ESP has not kept the new kernel");
        let carried = esp::root_hash(esp, UNFINISHED, release.uki.size)?;
        ensure!(carried == Some(release.root_hash), "the new kernel starts another system than its release says");
        Ok(())
    }
}

fn total(records: &[Record]) -> u64 {
    records.iter().map(|record| record.length).sum()
}
