//! Entries: folders named by the hash of what they were made from.
//!
//! Making one is a transaction without a single fsync of its own. Its `.state` file says how far it
//! got: `durable` once the file system was synced after it, else the boot id of the machine that made
//! it. Within the same boot the page cache is the truth, so the entry is good; after a crash or power
//! cut the boot id differs, the entry may have holes, and it is made again. Syncing is left to the
//! [`Syncer`](super::syncer::Syncer), which is done before the [`Store`] is closed.
//!
//! Its `.digest` file says what it held when it was made ([`digest`](super::digest)). Nobody reads a whole
//! entry to use it, so [`Exclusive::verify`](super::Exclusive::verify) and [`Store::is_sound`] are where
//! damage is noticed that came later.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use fs_err as fs;

use super::{Store, digest, files};
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
    /// How an appliance makes a system, and what it needs for that.
    Updates,
}

impl Bucket {
    /// All buckets, in the order of the pipeline.
    pub const ALL: [Self; 12] = [
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
        Self::Updates,
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
            Self::Updates => "updates-v1",
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
        let why = || format!("waiting for another larder, which makes the same thing ({})", bucket.folder());
        self.shared.waiting.lock(&state, why).with_context(|| format!("waiting for {}", path.display()))?;
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
        let digest = digest::of_tree(scratch.path(), &self.shared.known)
            .with_context(|| format!("reading what was made for {}", path.display()))?;
        // Before the rename: an entry without a state is not trusted.
        let committed = fs::write(digest_path(&path), format!("{digest}\n"))
            .map_err(anyhow::Error::from)
            .and_then(|()| write_state(&mut state, &boot_id()))
            .and_then(|()| Ok(scratch.rename(&path)?));
        if committed.is_err() {
            let _ = fs::remove_file(digest_path(&path));
        }
        committed?;
        self.shared.syncer.add(path.clone());
        Ok((path, Outcome::Made(start.elapsed())))
    }

    /// The entry, when it is there and whole; counts as a use for [`super::Exclusive::prune`].
    pub fn existing_entry(&self, bucket: Bucket, recipe: &Recipe) -> Option<PathBuf> {
        let path = self.entry_path(bucket, &recipe.key());
        // The state before the folder: whoever makes an entry again removes the folder, writes the state, and renames last.
        let state = state_path(&path);
        let content = fs::read_to_string(&state).ok()?;
        if (content != DURABLE && content != boot_id()) || !path.is_dir() {
            return None;
        }
        files::stamp(&state, &fs::symlink_metadata(&state).ok()?);
        Some(path)
    }

    /// All results that this process asked for, in the order in which they came.
    pub fn uses(&self) -> Vec<Use> {
        self.shared.uses.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether an entry, which is there, still holds what it held when it was made; one that does not is
    /// removed, so that asking for it makes it again. Reads all of it: for those that are about to become
    /// something that lasts, an image say.
    pub fn is_sound(&self, bucket: Bucket, key: &Hash) -> anyhow::Result<bool> {
        let path = self.entry_path(bucket, key);
        if damage(&path, &self.shared.known).is_none() {
            return Ok(true);
        }
        let state = open_state(&state_path(&path))?;
        state.lock().with_context(|| format!("waiting for {}", path.display()))?;
        remove(&path)?;
        Ok(false)
    }

    fn entry_path(&self, bucket: Bucket, key: &Hash) -> PathBuf {
        self.folder().join(bucket.folder()).join(key.to_string())
    }
}

/// What is wrong with an entry; nothing when it is what was made.
pub(super) fn damage(entry: &Path, known: &digest::Known) -> Option<String> {
    let state = fs::read_to_string(state_path(entry)).unwrap_or_default();
    if state != DURABLE && state != boot_id() {
        return Some("the machine stopped before it was safely on the disk".to_owned());
    }
    let Ok(recorded) = fs::read_to_string(digest_path(entry)) else {
        return Some("nothing is recorded about its content".to_owned());
    };
    let found = match digest::of_tree(entry, known) {
        Ok(found) => found,
        // A sector that cannot be read is damage too.
        Err(error) => return Some(error.to_string()),
    };
    (recorded.trim_end() != found.to_string()).then(|| "its content is not what was made".to_owned())
}

/// Removes an entry with its record. The state file stays, as others may wait for its lock.
fn remove(entry: &Path) -> anyhow::Result<()> {
    fs::write(state_path(entry), "")?;
    files::remove_tree(entry)?;
    Ok(fs::remove_file(digest_path(entry)).or_else(files::ignore_missing)?)
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

/// `<key>.digest` beside `<key>`.
pub(super) fn digest_path(entry: &Path) -> PathBuf {
    entry.with_extension("digest")
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

impl Store {
    /// A folder for a program that keeps results in its own way (cargo) and trusts them: emptied at the
    /// first use after a restart of the machine, since a power cut may have left holes in it.
    pub fn until_restart(&self, name: &str) -> anyhow::Result<PathBuf> {
        let folder = self.folder().join(name);
        fs::create_dir_all(&folder)?;
        let stamp = folder.join(".boot");
        let mut file = open_state(&stamp)?;
        file.lock().with_context(|| format!("waiting for {}", folder.display()))?;
        let boot = boot_id();
        if fs::read_to_string(&stamp)? != boot {
            let children = fs::read_dir(&folder)?.collect::<std::io::Result<Vec<_>>>()?;
            for child in children.iter().filter(|child| child.path() != stamp) {
                files::remove_tree(&child.path())?;
            }
            write_state(&mut file, &boot)?;
        }
        Ok(folder)
    }
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
