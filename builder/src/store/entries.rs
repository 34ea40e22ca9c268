//! Entries: folders named by the hash of what they were made from.
//!
//! Making one is a transaction without a single fsync of its own. Its `.state` file says how far it
//! got: `durable` once the file system was synced after it, else the boot id of the machine that made
//! it. Within the same boot the page cache is the truth, so the entry is good; after a crash or power
//! cut the boot id differs, the entry may have holes, and it is made again. Syncing is left to the
//! [`Syncer`](super::syncer::Syncer), which is done before the [`Store`] is closed.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use fs_err as fs;

use super::{Store, files};
use crate::hash::Hash;
use crate::recipe::Recipe;

/// Content of a `.state` file whose entry is known to be on the disk.
const DURABLE: &str = "durable";

/// One kind of stage result. The folder's name carries a version: raise it when the layout *inside*
/// the entries changes (what they contain is versioned by the revision in the stage's key).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Bucket {
    /// What is read of an archive's index.
    Indices,
    /// One unpacked .deb: `data/`, `control/`, `files.json`.
    Unpacked,
    /// A root tree composed of packages, not yet configured by dpkg; a tools tree is ready to use.
    Trees,
    /// A root tree after `dpkg --configure -a`, kept as the difference to its tree.
    Configured,
    /// ZFS kernel modules, built for one kernel.
    Zfs,
    /// Pruned kernel modules and firmware.
    Kernel,
    /// Other differences that go on top of a root tree: overlays, templates.
    Layers,
    /// An initrd image.
    Initrd,
    /// Parts of a disk image: root file system, verity tree, UKI, ESP.
    Images,
    /// The `firstboot` program, built for the appliance.
    Firstboot,
    /// What lints said of a root.
    Lints,
}

impl Bucket {
    /// All buckets, in the order of the pipeline.
    pub const ALL: [Self; 11] = [
        Self::Indices,
        Self::Unpacked,
        Self::Trees,
        Self::Configured,
        Self::Zfs,
        Self::Kernel,
        Self::Layers,
        Self::Initrd,
        Self::Images,
        Self::Firstboot,
        Self::Lints,
    ];

    /// The folder's name.
    pub fn folder(self) -> &'static str {
        match self {
            Self::Indices => "indices-v1",
            Self::Unpacked => "unpacked-v1",
            Self::Trees => "trees-v1",
            Self::Configured => "configured-v1",
            Self::Zfs => "zfs-v1",
            Self::Kernel => "kernel-v1",
            Self::Layers => "layers-v1",
            Self::Initrd => "initrd-v1",
            Self::Images => "images-v1",
            Self::Firstboot => "firstboot-v1",
            Self::Lints => "lints-v1",
        }
    }
}

/// A result that this process asked for.
#[derive(Debug, Clone)]
pub struct Use {
    /// What it is made from.
    pub recipe: Recipe,
    /// How it came.
    pub outcome: Outcome,
}

/// How an entry came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was there.
    Found,
    /// It was made, and took so long.
    Made(Duration),
}

impl Store {
    /// The entry, made by `make` in an empty folder when it is not there yet.
    ///
    /// Others (threads, processes) that want the same entry wait and use this result. A failure of
    /// `make` leaves nothing behind.
    pub fn entry(
        &self,
        bucket: Bucket,
        recipe: &Recipe,
        make: impl FnOnce(&Path) -> anyhow::Result<()>,
    ) -> anyhow::Result<PathBuf> {
        let (path, outcome) = match self.existing_entry(bucket, recipe) {
            Some(path) => (path, Outcome::Found),
            None => self.make_entry(bucket, recipe, make)?,
        };
        self.used(recipe, outcome);
        Ok(path)
    }

    /// Counts the result of a stage that lies elsewhere among [`Store::uses`].
    pub fn used(&self, recipe: &Recipe, outcome: Outcome) {
        let mut uses = self.shared.uses.lock().unwrap_or_else(PoisonError::into_inner);
        uses.push(Use { recipe: recipe.clone(), outcome });
    }

    fn make_entry(
        &self,
        bucket: Bucket,
        recipe: &Recipe,
        make: impl FnOnce(&Path) -> anyhow::Result<()>,
    ) -> anyhow::Result<(PathBuf, Outcome)> {
        let path = self.entry_path(bucket, &recipe.key());
        let mut state = open_state(&state_path(&path))?;
        state.lock().with_context(|| format!("waiting for {}", path.display()))?;
        // The one before us may have made it while we waited.
        if let Some(path) = self.existing_entry(bucket, recipe) {
            return Ok((path, Outcome::Found));
        }
        if fs::symlink_metadata(&path).is_ok() {
            files::remove_tree(&path)?;
        }
        let scratch = self.scratch(bucket.folder())?;
        let start = Instant::now();
        make(scratch.path())?;
        // Before the rename: an entry without a state is not trusted.
        write_state(&mut state, &boot_id())?;
        scratch.rename(&path)?;
        self.shared.syncer.add(path.clone());
        Ok((path, Outcome::Made(start.elapsed())))
    }

    /// The entry, when it is there and whole; counts as a use for [`super::Exclusive::prune`].
    pub fn existing_entry(&self, bucket: Bucket, recipe: &Recipe) -> Option<PathBuf> {
        let path = self.entry_path(bucket, &recipe.key());
        if !path.is_dir() {
            return None;
        }
        let state = state_path(&path);
        let content = fs::read_to_string(&state).ok()?;
        if content != DURABLE && content != boot_id() {
            return None;
        }
        files::stamp(&state, &fs::symlink_metadata(&state).ok()?);
        Some(path)
    }

    /// All results that this process asked for, in the order in which they came.
    pub fn uses(&self) -> Vec<Use> {
        self.shared.uses.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn entry_path(&self, bucket: Bucket, key: &Hash) -> PathBuf {
        self.folder().join(bucket.folder()).join(key.to_string())
    }
}

/// The state is empty for a moment while it is rewritten. Whoever reads it then takes the lock and looks
/// again before making the entry anew, so the rewriting must be done under that lock.
pub(super) fn mark_durable(entry: &Path) -> anyhow::Result<()> {
    let mut file = open_state(&state_path(entry))?;
    file.lock().with_context(|| format!("waiting for {}", entry.display()))?;
    write_state(&mut file, DURABLE)
}

/// `<key>.state` beside `<key>`.
pub(super) fn state_path(entry: &Path) -> PathBuf {
    entry.with_extension("state")
}

fn open_state(path: &Path) -> anyhow::Result<std::fs::File> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    let file = fs::OpenOptions::new().create(true).truncate(false).read(true).write(true).open(path)?;
    Ok(file.into_parts().0)
}

fn write_state(file: &mut std::fs::File, content: &str) -> anyhow::Result<()> {
    file.set_len(0).and_then(|()| file.write_all(content.as_bytes())).context("writing the state of an entry")
}

/// Names this boot of the machine (random(4)). Without it no entry outlives its process: slow, not wrong.
fn boot_id() -> String {
    let mut text = String::new();
    let read = fs::File::open("/proc/sys/kernel/random/boot_id").and_then(|mut file| file.read_to_string(&mut text));
    match read {
        Ok(_) => text.trim().to_owned(),
        Err(_) => format!("process {}", std::process::id()),
    }
}
