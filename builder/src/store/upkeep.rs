//! Upkeep: how much room the store takes, and making it smaller.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use fs_err as fs;

use super::entries::state_path;
use super::{Store, files};
use crate::hash::Hash;

/// Room taken by one part of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Usage {
    /// The folder's name: `blobs`, `unpacked-v1`, …
    pub part: String,
    /// How many blobs or entries.
    pub count: u64,
    /// Bytes on the disk.
    pub bytes: u64,
}

/// What a prune or clean removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Freed {
    /// How many blobs and entries.
    pub count: u64,
    /// Bytes on the disk.
    pub bytes: u64,
}

/// A blob whose content is not what its name says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damaged {
    /// The file.
    pub path: PathBuf,
    /// The hash of what it contains.
    pub got: Hash,
}

/// The store held alone: no other larder uses it until this is dropped.
#[derive(Debug)]
pub struct Exclusive {
    folder: PathBuf,
    _lock: File,
}

impl Store {
    /// Room taken by each part, largest first.
    pub fn usage(&self) -> anyhow::Result<Vec<Usage>> {
        usage(self.folder())
    }
}

impl Exclusive {
    pub(super) fn new(folder: PathBuf, lock: File) -> Self {
        Self { folder, _lock: lock }
    }

    /// Removes what was not used for this long, and whatever interrupted processes left.
    pub fn prune(&self, unused_for: Duration) -> anyhow::Result<Freed> {
        let before = SystemTime::now().checked_sub(unused_for).context("the age reaches back before 1970")?;
        let mut freed = Freed::default();
        freed.empty(&self.folder.join("tmp"))?;
        for part in parts(&self.folder)? {
            for item in items(&part)? {
                if last_use(&item)? < before {
                    freed.remove(&item)?;
                    fs::remove_file(state_path(&item)).or_else(ignore_missing)?;
                }
            }
        }
        Ok(freed)
    }

    /// Removes everything but the empty store.
    pub fn clean(&self) -> anyhow::Result<Freed> {
        let mut freed = Freed::default();
        for part in parts(&self.folder)? {
            freed.empty(&part)?;
        }
        freed.empty(&self.folder.join("tmp"))?;
        Ok(freed)
    }

    /// Reads every blob and removes those that are damaged; says which.
    pub fn verify(&self) -> anyhow::Result<Vec<Damaged>> {
        let mut damaged = Vec::new();
        for path in items(&self.folder.join("blobs"))? {
            let got = Hash::of_file(&path).with_context(|| format!("reading {}", path.display()))?;
            if path.file_name() != Some(OsStr::new(&got.to_string())) {
                fs::remove_file(&path)?;
                damaged.push(Damaged { path, got });
            }
        }
        Ok(damaged)
    }
}

impl Freed {
    fn remove(&mut self, path: &Path) -> anyhow::Result<()> {
        let bytes = files::disk_usage(path);
        files::remove_tree(path).with_context(|| format!("removing {}", path.display()))?;
        self.bytes += bytes;
        self.count += 1;
        Ok(())
    }

    /// Removes all items of a part, then whatever else is in its folder.
    fn empty(&mut self, part: &Path) -> anyhow::Result<()> {
        for item in items(part)? {
            self.remove(&item)?;
        }
        files::empty_folder(part).with_context(|| format!("emptying {}", part.display()))
    }
}

fn usage(folder: &Path) -> anyhow::Result<Vec<Usage>> {
    let mut list = Vec::new();
    for part in parts(folder)? {
        let name = part.file_name().unwrap_or_default().to_string_lossy().into_owned();
        list.push(Usage { part: name, count: items(&part)?.len() as u64, bytes: files::disk_usage(&part) });
    }
    list.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.part.cmp(&b.part)));
    Ok(list)
}

/// The folders below the layout's folder. Buckets of older versions count too: nobody else prunes them.
fn parts(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut folders = children(folder)?;
    folders.retain(|path| path.is_dir() && path.file_name() != Some(OsStr::new("tmp")));
    Ok(folders)
}

/// The blobs or entries of a part. Blobs lie one level deeper.
fn items(part: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut items = children(part)?;
    if part.file_name() == Some(OsStr::new("blobs")) {
        let nested = items.iter().map(|folder| children(folder)).collect::<anyhow::Result<Vec<_>>>()?;
        return Ok(nested.concat());
    }
    items.retain(|path| path.extension() != Some(OsStr::new("state")));
    Ok(items)
}

fn children(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut list = fs::read_dir(folder)?.map(|child| Ok(child?.path())).collect::<io::Result<Vec<_>>>()?;
    list.sort();
    Ok(list)
}

fn last_use(item: &Path) -> anyhow::Result<SystemTime> {
    let stamp = Some(state_path(item)).filter(|state| state.exists());
    Ok(fs::symlink_metadata(stamp.as_deref().unwrap_or(item))?.modified()?)
}

fn ignore_missing(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}
