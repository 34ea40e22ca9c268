//! How an appliance makes a system: out of nothing, or out of an older one.
//!
//! Blocks that the older root file system has are copied ([`blocks`]). What is left is compared with what lies at the same
//! place among its neighbours there ([`pieces`]), and goes into the payload as a patch or as it is, whichever takes fewer
//! bytes ([`encode`]). The UKI is compared section by section ([`uki`]).
//!
//! What comes out depends on both systems alone, and is kept in the store.

mod blocks;
mod encode;
mod pieces;
mod uki;

use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context as _;
use firstboot::update::recipe::{Base, Bounds, Origin, Recipe, Record, Target};
use firstboot::update::{Object, recipe};
use firstboot::verity::{BLOCK_SIZE, RootHash, Tree};
use indicatif::ProgressBar;
use rayon::prelude::*;

use crate::hash::{Hash, HashingWriter};
use crate::recipe::Recipe as StageRecipe;
use crate::session::Session;
use crate::store::{Bucket, Scratch};
use encode::{Content, Encoded};
use pieces::Piece;

/// Raise when the same systems give another recipe or payload.
const REVISION: u32 = 2;
/// Units of a full payload: what an appliance has already is not fetched, in units of this.
const UNIT: u64 = 512 << 10;
/// Pieces that are worked on at once; each takes up to 250 MB, most of it for the suffix array.
const WORKERS: usize = 4;
/// Name of a recipe, packed, among the files that [`make`] writes.
pub const RECIPE: &str = "recipe.xz";
/// Name of its payload there.
pub const PAYLOAD: &str = "payload";

/// The parts of a system, as a build leaves them.
#[derive(Debug, Clone)]
pub struct System {
    /// Root hash.
    pub root_hash: RootHash,
    /// Root file system.
    pub root: PathBuf,
    /// Its hash tree.
    pub tree: PathBuf,
    /// UKI.
    pub uki: PathBuf,
    /// Digest and length of the UKI.
    pub uki_object: Object,
}

impl System {
    /// Bytes of the root file system.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn root_size(&self) -> io::Result<u64> {
        Ok(fs_err::metadata(&self.root)?.len())
    }

    fn open(&self) -> anyhow::Result<Open> {
        let root = fs_err::File::open(&self.root)?;
        let size = root.metadata()?.len();
        let tree = fs_err::read(&self.tree)?;
        let leaves = Tree::over(size / BLOCK_SIZE as u64).leaves(&tree).map(<[_]>::to_vec);
        let leaves = leaves.with_context(|| format!("{} is too short for {size} bytes", self.tree.display()))?;
        Ok(Open { root: root.into_parts().0, size, leaves, uki: fs_err::read(&self.uki)? })
    }
}

/// The same, at hand.
struct Open {
    root: File,
    size: u64,
    leaves: Vec<[u8; 32]>,
    uki: Vec<u8>,
}

/// A recipe with its payload, in the store.
#[derive(Debug, Clone)]
pub struct Made {
    /// Both.
    pub recipe: (PathBuf, Object),
    /// Both.
    pub payload: (PathBuf, Object),
}

/// What tells a system from all others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// Root hash.
    pub root_hash: RootHash,
    /// UKI.
    pub uki: Object,
}

impl From<&System> for Identity {
    fn from(system: &System) -> Self {
        Self { root_hash: system.root_hash, uki: system.uki_object }
    }
}

/// How `new` is made out of nothing.
///
/// # Errors
/// A part cannot be read, or is not what it should be.
pub fn full(session: &Session, new: &System) -> anyhow::Result<Made> {
    made(session, "full", &[new.into()], |into, bar| make(None, new, into, bar))
}

/// How `new` is made out of an older system, which is fetched with `parts` when the store does not have the answer.
///
/// # Errors
/// A part cannot be read, or is not what it should be.
pub fn between(
    session: &Session,
    old: Identity,
    new: &System,
    parts: impl FnOnce() -> anyhow::Result<(System, Scratch)>,
) -> anyhow::Result<Made> {
    made(session, "delta", &[old, new.into()], |into, bar| {
        let (old, _scratch) = parts()?;
        make(Some(&old), new, into, bar)
    })
}

fn made(
    session: &Session,
    what: &str,
    systems: &[Identity],
    make: impl FnOnce(&Path, &ProgressBar) -> anyhow::Result<()>,
) -> anyhow::Result<Made> {
    let mut stage = StageRecipe::new(what, REVISION);
    for system in systems {
        stage.hash("root", &Hash::from(*system.root_hash.as_bytes())).hash("uki", &system.uki.sha256);
    }
    let folder = session.store.entry(Bucket::Updates, &stage, |into| {
        let (start, bar) = (Instant::now(), session.progress.bytes(what, 0));
        let made = make(into, &bar);
        bar.finish_and_clear();
        made.inspect(|()| session.progress.done(what, start))
    })?;
    let object = |name: &str| -> anyhow::Result<(PathBuf, Object)> {
        let path = folder.join(name);
        let object = object_of(&path)?;
        Ok((path, object))
    };
    Ok(Made { recipe: object(RECIPE)?, payload: object(PAYLOAD)? })
}

/// Writes recipe and payload into a folder; `bar` counts the bytes of the new system.
///
/// # Errors
/// A part cannot be read, or is not what it should be.
pub fn make(old: Option<&System>, new: &System, into: &Path, bar: &ProgressBar) -> anyhow::Result<()> {
    let (old, new) = (old.map(System::open).transpose()?, new.open()?);
    bar.set_length(new.size + new.uki.len() as u64);
    write(old.as_ref(), &new, into, bar)
}

/// Digest and length of a file.
///
/// # Errors
/// It cannot be read.
pub fn object_of(path: &Path) -> io::Result<Object> {
    Ok(Object { sha256: Hash::of_file(path)?, size: fs_err::metadata(path)?.len() })
}

fn write(old: Option<&Open>, new: &Open, into: &Path, bar: &ProgressBar) -> anyhow::Result<()> {
    let payload = HashingWriter::new(BufWriter::new(fs_err::File::create(into.join(PAYLOAD))?));
    let mut writer = Writer { payload, length: 0, records: Vec::new() };
    let workers = rayon::ThreadPoolBuilder::new().num_threads(rayon::current_num_threads().min(WORKERS)).build()?;
    for batch in jobs(old, new).chunks(4 * WORKERS) {
        let encoded = workers.install(|| batch.par_iter().map(|job| job.encode(old, new, bar)).collect::<Vec<_>>());
        for (job, encoded) in batch.iter().zip(encoded) {
            writer.add(job, &encoded?)?;
        }
    }
    let bounds = Bounds {
        root: new.size,
        uki: new.uki.len() as u64,
        payload: writer.length,
        old: old.map(|old| (old.size, old.uki.len() as u64)),
    };
    let made = Recipe::new(writer.records);
    made.check(&bounds).context("checking the recipe")?;
    fs_err::write(into.join(RECIPE), encode::pack(&made.to_json(), Content::Plain)?)?;
    Ok(writer.payload.finish().0.flush()?)
}

/// One record to be made: what it makes, and what that is alike.
#[derive(Debug, Clone)]
struct Job {
    to: Target,
    new: Range<u64>,
    old: Alike,
}

#[derive(Debug, Clone)]
enum Alike {
    /// Nothing.
    Nothing,
    /// The very same.
    Same(u64),
    /// Much like it.
    Range(Range<u64>),
}

fn jobs(old: Option<&Open>, new: &Open) -> Vec<Job> {
    let of_uki = |piece: uki::Piece| Job { to: Target::Uki, new: piece.new, old: piece.old };
    let Some(old) = old else {
        let units = (0..new.size.div_ceil(UNIT)).map(|unit| unit * UNIT..((unit + 1) * UNIT).min(new.size));
        let root = units.map(|new| Job { to: Target::Root, new, old: Alike::Nothing });
        return root.chain(uki::pieces(&[], &new.uki).map(of_uki)).collect();
    };
    let runs = blocks::runs(&old.leaves, &new.leaves);
    let pieces = pieces::pieces(&runs, &blocks::anchors(&runs), old.size);
    let of_root = |piece| match piece {
        Piece::Same { new, old } => Job { to: Target::Root, new, old: Alike::Same(old) },
        Piece::Changed { new, old } => Job { to: Target::Root, new, old: Alike::Range(old) },
    };
    pieces.into_iter().map(of_root).chain(uki::pieces(&old.uki, &new.uki).map(of_uki)).collect()
}

/// What becomes of a job.
struct Piecework {
    sha256: Hash,
    /// `None` when it is copied.
    encoded: Option<Encoded>,
}

impl Job {
    fn encode(&self, old: Option<&Open>, new: &Open, bar: &ProgressBar) -> anyhow::Result<Piecework> {
        let bytes = read(self.to, new, &self.new)?;
        let sha256 = Hash::of(&bytes);
        let encoded = match (&self.old, old) {
            (Alike::Same(at), Some(old)) => {
                let same = read(self.to, old, &(*at..at + bytes.len() as u64))?;
                anyhow::ensure!(same == bytes, "a root file system is not what its hash tree says");
                None
            }
            (Alike::Range(range), Some(old)) => Some(encode::encode(&bytes, &read(self.to, old, range)?)?),
            _ => Some(Encoded::Data(encode::quickly(&bytes)?)),
        };
        bar.inc(bytes.len() as u64);
        Ok(Piecework { sha256, encoded })
    }
}

fn read(of: Target, open: &Open, range: &Range<u64>) -> anyhow::Result<Vec<u8>> {
    match of {
        Target::Uki => {
            let range = range.start as usize..range.end as usize;
            Ok(open.uki.get(range).context("a UKI is shorter than its sections say")?.to_vec())
        }
        Target::Root => {
            let mut bytes = vec![0; (range.end - range.start) as usize];
            open.root.read_exact_at(&mut bytes, range.start).context("reading a root file system")?;
            Ok(bytes)
        }
    }
}

/// The payload as far as it is written, and the records that refer to it.
struct Writer {
    payload: HashingWriter<BufWriter<fs_err::File>>,
    length: u64,
    records: Vec<Record>,
}

impl Writer {
    fn add(&mut self, job: &Job, piecework: &Piecework) -> anyhow::Result<()> {
        let of = if job.to == Target::Root { Base::Root } else { Base::Uki };
        let offset = self.length;
        let origin = match (&piecework.encoded, &job.old) {
            (Some(Encoded::Data(data)), _) => Origin::Data { offset, size: self.append(data)? },
            (Some(Encoded::Patch(patch)), Alike::Range(old)) => {
                let size = self.append(patch)?;
                Origin::Patch { of, at: old.start, length: old.end - old.start, offset, size }
            }
            (None, Alike::Same(at)) => Origin::Copy { of, at: *at },
            _ => anyhow::bail!("a piece came out of nothing"),
        };
        let (at, length) = (job.new.start, job.new.end - job.new.start);
        self.records.push(Record { to: job.to, at, length, sha256: piecework.sha256, origin });
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<u64> {
        self.payload.write_all(bytes)?;
        self.length += bytes.len() as u64;
        Ok(bytes.len() as u64)
    }
}

/// Makes a system out of what [`between`] wrote, as an appliance does it, into the folder `into`.
///
/// # Errors
/// The recipe or its payload is damaged, or not for this older system.
pub fn follow(
    made: (&Path, &Path),
    bounds: &Bounds,
    old: Option<(&File, &[u8])>,
    into: &Path,
) -> anyhow::Result<(PathBuf, PathBuf)> {
    let (root_path, uki_path) = (into.join("root.erofs"), into.join("uki.efi"));
    let recipe = recipe::Recipe::decode(&fs_err::read(made.0)?, bounds).context("reading the recipe")?;
    let payload = fs_err::File::open(made.1)?;
    let options = || {
        let mut options = fs_err::OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true);
        options
    };
    let (root, uki) = (options().open(&root_path)?, options().open(&uki_path)?);
    let make = |record: &Record| -> anyhow::Result<()> {
        let fetched = record.payload().unwrap_or(0..0);
        let mut bytes = vec![0; (fetched.end - fetched.start) as usize];
        payload.file().read_exact_at(&mut bytes, fetched.start)?;
        let base = match record.base() {
            None => Vec::new(),
            Some(base) => {
                let mut bytes = vec![0; base.length as usize];
                match (base.of, old) {
                    (Base::NewRoot, _) => root.file().read_exact_at(&mut bytes, base.at)?,
                    (Base::Root, Some((old, _))) => old.read_exact_at(&mut bytes, base.at)?,
                    (Base::Uki, Some((_, old))) => {
                        bytes.copy_from_slice(&old[base.at as usize..][..base.length as usize]);
                    }
                    (_, None) => anyhow::bail!("there is no older system"),
                }
                bytes
            }
        };
        let target = if record.to == Target::Root { &root } else { &uki };
        Ok(target.file().write_all_at(&record.make(&base, &bytes)?, record.at)?)
    };
    for target in [Target::Root, Target::Uki] {
        recipe.records().par_iter().filter(|record| record.to == target).try_for_each(make)?;
    }
    Ok((root_path, uki_path))
}

#[cfg(test)]
mod tests;
