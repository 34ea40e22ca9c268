//! The content-addressed store: everything that larder downloads or makes, shared by all profiles.
//!
//! It is a cache: deleting any of it costs time, never data. Two kinds of things live in it.
//! A **blob** is named by the hash of its own content (a .deb, an index file). An **entry** is a folder
//! named by the hash of what it was made *from*, one [`Bucket`] for each stage of the build.
//!
//! ```text
//! $LARDER_CACHE_DIR, else $XDG_CACHE_HOME/larder, else ~/.cache/larder
//! ├── CACHEDIR.TAG              backup programs leave the folder out
//! └── v1/
//!     ├── .lock                 flock: shared while in use, exclusive for prune and clean
//!     ├── blobs/ab/<sha256>     content by hash; its mtime is the time of last use
//!     ├── partial/<sha256>      a download under way, flock'ed by its one downloader
//!     ├── <bucket>/<key>/       result of a stage
//!     ├── <bucket>/<key>.state  its lock (flock), its durability (content), its last use (mtime)
//!     ├── <bucket>/<key>.digest what it held when it was made
//!     ├── <note>/<subject>      what was noted about something elsewhere; its mtime is the time of last use
//!     ├── cargo/                cargo's own cache, emptied after a restart of the machine
//!     └── tmp/                  what is being made; swept by the next process that is alone
//! ```
//!
//! Nothing under a final name is ever half-written: it is made below `tmp/` and renamed.
//!
//! What is made is bounded: at the end of a build [`Store::tidy`] removes what is not worth its room any more.
//!
//! # Damage
//!
//! What was written well may be lost later: a failing disk or memory, a file system's repair, a program
//! gone astray. When that is noticed, and what happens then:
//!
//! | damaged | noticed | then |
//! |---|---|---|
//! | a blob's size | at every use | fetched again |
//! | a package's bytes | whenever it is unpacked: they are hashed as they are read | fetched and unpacked again, once |
//! | an index's bytes | whenever it is read, also in the condensed form | fetched or condensed again |
//! | a download under way | when it is complete | fetched from its start |
//! | an entry made before a power cut | at every use, by the boot id | made again |
//! | root file system, hash tree, UKI | when a disk image is put together from them | made again |
//! | any other entry | by `larder cache verify` only | removed, so that the next build makes it |
//!
//! Reading everything at every use would cost more than making it: so it is [`Exclusive::verify`] that
//! reads all blobs and entries.

mod blobs;
mod digest;
mod entries;
pub mod files;
mod notes;
mod syncer;
mod upkeep;
mod waiting;

use std::ffi::OsString;
use std::fs::TryLockError;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use anyhow::Context as _;
use fs_err as fs;

use crate::progress::Progress;
use crate::report::{self, Mistake};
use waiting::Waiting;

pub use blobs::{BlobReader, DamagedBlob};
pub use entries::{Bucket, Outcome, Use};
pub use files::remove_tree;
pub use notes::Note;
use syncer::Syncer;
pub use upkeep::{Damaged, Exclusive, Freed, Usage, Verified};

/// Layout version: raised when older programs could no longer read the folder.
const LAYOUT: &str = "v1";

/// <https://bford.info/cachedir/>
const CACHEDIR_TAG: &str = "Signature: 8a477f597d28d172789f06886806bc55\n\
    # This is the cache of larder. Everything in it can be made or fetched again.\n\
    # For information about cache directory tags see https://bford.info/cachedir/\n";

/// The open store. While it (or a clone) lives, nothing is pruned.
#[derive(Debug, Clone)]
pub struct Store {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// `<root>/v1`
    folder: PathBuf,
    /// Entries made by this process that are not yet known to be on the disk. Before the lock: waits for the
    /// disk while nobody may prune.
    syncer: Syncer,
    /// Holds the shared lock.
    _lock: std::fs::File,
    /// Entries that this process asked for.
    uses: Mutex<Vec<Use>>,
    /// Contents of entries that this process made or checked.
    known: digest::Known,
    waiting: Waiting,
}

impl Store {
    /// Opens the store, creating it when it is new. `root` overrides the environment.
    ///
    /// Waits while another larder prunes, cleans or verifies.
    pub fn open(root: Option<PathBuf>) -> anyhow::Result<Self> {
        Self::open_aloud(root, &Progress::silent())
    }

    /// The same, saying on `progress` whenever another larder is waited for.
    pub fn open_aloud(root: Option<PathBuf>, progress: &Progress) -> anyhow::Result<Self> {
        let root = locate(root)?;
        let (folder, lock) = create(&root)?;
        let waiting = Waiting::new(progress.clone());
        // Whoever finds itself alone sweeps what killed processes left. Files of other owners can be
        // removed inside the namespace only, so failing is fine: a later one succeeds.
        if lock.try_lock().is_ok() {
            let _ = files::empty_folder(&folder.join("tmp"));
        }
        let why = || format!("waiting for another larder, which prunes, cleans or verifies {}", root.display());
        waiting.lock_shared(&lock, why).with_context(|| format!("locking the store {}", folder.display()))?;
        let syncer = Syncer::new(folder.clone());
        let (uses, known) = Default::default();
        Ok(Self { shared: Arc::new(Shared { folder, syncer, _lock: lock, uses, known, waiting }) })
    }

    /// Where the store would be (`larder cache dir`), without touching it.
    pub fn directory(root: Option<PathBuf>) -> anyhow::Result<PathBuf> {
        locate(root)
    }

    /// Opens the store alone, to prune or clean it. Refuses while another larder uses it.
    pub fn exclusive(root: Option<PathBuf>) -> anyhow::Result<Exclusive> {
        let root = locate(root)?;
        let (folder, lock) = create(&root)?;
        match lock.try_lock() {
            Ok(()) => Ok(Exclusive::new(folder, lock)),
            Err(TryLockError::WouldBlock) => Err(Mistake::new(format!("{}: in use by another larder", root.display()))
                .hint("wait until it is done, then run the command again")
                .into()),
            Err(TryLockError::Error(error)) => Err(error).context("locking the store"),
        }
    }

    /// The folder of this layout version. All of the store is on one file system below it.
    pub fn folder(&self) -> &Path {
        &self.shared.folder
    }

    /// A fresh folder below `tmp/`, removed when the guard is dropped.
    pub fn scratch(&self, purpose: &str) -> anyhow::Result<Scratch> {
        let tmp = self.folder().join("tmp");
        let made = tempfile::Builder::new().prefix(&format!("{purpose}-")).tempdir_in(&tmp);
        let path = made.with_context(|| format!("making a folder in {}", tmp.display()))?.keep();
        let scratch = Scratch { path, _store: self.clone() };
        files::set_mode(&scratch.path, 0o755)?;
        Ok(scratch)
    }

    /// Bytes that this user may still write to the store's disk.
    pub fn room(&self) -> anyhow::Result<u64> {
        let disk = nix::sys::statvfs::statvfs(self.folder()).context("asking for the room on the cache's disk")?;
        Ok(disk.blocks_available() * disk.fragment_size())
    }

    fn temporary_file(&self) -> anyhow::Result<tempfile::NamedTempFile> {
        let tmp = self.folder().join("tmp");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        let file = tempfile::Builder::new().prefix("file-").permissions(mode).tempfile_in(&tmp);
        file.with_context(|| format!("making a file in {}", tmp.display()))
    }
}

/// A folder below `tmp/` that goes away with its guard.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    /// Whoever opens the store while nobody has it sweeps `tmp/`.
    _store: Store,
}

impl Scratch {
    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Gives the folder its final name; nothing is left to remove.
    fn rename(self, to: &Path) -> io::Result<()> {
        fs::rename(&self.path, to)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // After `rename` there is nothing here. Otherwise best effort: the sweep in `open` is next.
        let _ = files::remove_tree(&self.path);
    }
}

/// Writes the file's data to the disk, then gives it its final name.
fn commit_file(file: tempfile::NamedTempFile, to: &Path) -> anyhow::Result<()> {
    let committing = || format!("keeping {}", to.display());
    let parent = to.parent().context("a file in the store has a folder")?;
    fs::create_dir_all(parent)?;
    file.as_file().sync_data().with_context(committing)?;
    file.persist(to).map_err(|error| error.error).with_context(committing)?;
    Ok(())
}

fn locate(root: Option<PathBuf>) -> anyhow::Result<PathBuf> {
    let environment = |name: &str| std::env::var_os(name);
    let root = locate_in(root, environment).ok_or_else(|| {
        Mistake::new("no place for the cache: neither LARDER_CACHE_DIR, XDG_CACHE_HOME nor HOME is set")
            .hint("set LARDER_CACHE_DIR to a folder with 20 GB of room")
    })?;
    std::path::absolute(&root).with_context(|| format!("locating {}", root.display()))
}

/// The XDG specification wants a relative XDG_CACHE_HOME ignored.
fn locate_in(root: Option<PathBuf>, environment: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let folder = |name| environment(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    root.or_else(|| folder("LARDER_CACHE_DIR"))
        .or_else(|| folder("XDG_CACHE_HOME").filter(|path| path.is_absolute()).map(|path| path.join("larder")))
        .or_else(|| folder("HOME").map(|home| home.join(".cache/larder")))
}

/// Creates what is missing of the fixed folders; returns the layout's folder and the file to lock.
fn create(root: &Path) -> anyhow::Result<(PathBuf, std::fs::File)> {
    let folder = root.join(LAYOUT);
    let made = ["blobs", "partial", "tmp"].iter().try_for_each(|name| fs::create_dir_all(folder.join(name)));
    let lock = made.and_then(|()| tag(root)).and_then(|()| lock_file(&folder)).map_err(|error| {
        let error = anyhow::Error::from(error).context("opening the cache");
        report::blame_disk(error, root, "set LARDER_CACHE_DIR to a folder that you may write to")
    })?;
    Ok((folder, lock))
}

fn tag(root: &Path) -> io::Result<()> {
    let path = root.join("CACHEDIR.TAG");
    if path.exists() {
        return Ok(());
    }
    fs::write(path, CACHEDIR_TAG)
}

fn lock_file(folder: &Path) -> io::Result<std::fs::File> {
    let file = fs::OpenOptions::new().create(true).truncate(false).write(true).open(folder.join(".lock"))?;
    Ok(file.into_parts().0)
}

#[cfg(test)]
mod tests;
