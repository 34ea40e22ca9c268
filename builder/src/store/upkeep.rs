//! Upkeep: how much room the store takes, and making it smaller.

use std::cmp::Reverse;
use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use fs_err as fs;
use rayon::prelude::*;

use super::entries::{self, digest_path, state_path};
use super::files::ignore_missing;
use super::{Bucket, Outcome, Store, digest, files, lock_file};
use crate::hash::Hash;
use crate::progress::Progress;

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

/// What nobody has used for so long goes at the end of a build.
const UNUSED: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// Bytes that root file systems, hash trees and UKIs may take after a build. Every change of an overlay makes another root of
/// some hundred MB, and each is made again in a second or two. The images of all profiles together take less.
const IMAGES: u64 = 4_000_000_000;

/// What a prune or clean removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Freed {
    /// How many blobs and entries.
    pub count: u64,
    /// Bytes on the disk.
    pub bytes: u64,
}

/// What a check of everything found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verified {
    /// How many blobs and entries were read.
    pub count: u64,
    /// What was wrong and is now gone.
    pub damaged: Vec<Damaged>,
}

/// A blob or entry that is not what it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damaged {
    /// Its path below the layout's folder: `zfs-v1/<key>`.
    pub path: PathBuf,
    /// What is wrong with it.
    pub why: String,
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

    /// Closes the store after a build, and removes what is not worth its room any more: what was not used for a month, and
    /// the parts of images that are too much, those that were used first before the others. Nothing that this process has
    /// used. When this process has made nothing, or while another larder uses the store, nothing is looked at.
    pub fn tidy(self) -> anyhow::Result<Freed> {
        self.tidy_within(IMAGES)
    }

    pub(super) fn tidy_within(self, bytes: u64) -> anyhow::Result<Freed> {
        let uses = self.uses();
        if !uses.iter().any(|used| matches!(used.outcome, Outcome::Made(_))) {
            return Ok(Freed::default());
        }
        let folder = self.folder().to_owned();
        drop(self);
        let lock = lock_file(&folder)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(Freed::default()),
            Err(TryLockError::Error(error)) => return Err(error).context("locking the store"),
        }
        let exclusive = Exclusive::new(folder, lock);
        // What was just made is new, even if somebody has set the clock of this process ahead.
        let now = tempfile::tempfile_in(exclusive.folder.join("tmp"))?.metadata()?.modified()?;
        let mut freed = exclusive.prune_at(now, UNUSED)?;
        let kept: HashSet<_> = uses.iter().map(|used| used.recipe.key().to_string()).collect();
        exclusive.bound(Bucket::Images, bytes, &kept, &mut freed)?;
        Ok(freed)
    }
}

impl Exclusive {
    pub(super) fn new(folder: PathBuf, lock: File) -> Self {
        Self { folder, _lock: lock }
    }

    /// Removes what was not used for this long, and whatever interrupted processes left.
    pub fn prune(&self, unused_for: Duration) -> anyhow::Result<Freed> {
        self.prune_at(SystemTime::now(), unused_for)
    }

    fn prune_at(&self, now: SystemTime, unused_for: Duration) -> anyhow::Result<Freed> {
        let before = now.checked_sub(unused_for).context("the age reaches back before 1970")?;
        let mut freed = Freed::default();
        freed.empty(&self.folder.join("tmp"))?;
        for part in parts(&self.folder)? {
            for item in items(&part)? {
                if last_use(&item)? < before {
                    freed.remove(&item)?;
                }
            }
        }
        Ok(freed)
    }

    /// Removes entries of a bucket until it takes no more than `bytes`, but none of those that are `kept`.
    fn bound(&self, bucket: Bucket, bytes: u64, kept: &HashSet<String>, freed: &mut Freed) -> anyhow::Result<()> {
        let folder = self.folder.join(bucket.folder());
        if !folder.is_dir() {
            return Ok(());
        }
        let is_kept = |item: &Path| item.file_name().is_some_and(|name| kept.contains(&*name.to_string_lossy()));
        let items = items(&folder)?.into_iter().map(|item| Ok((!is_kept(&item), Reverse(last_use(&item)?), item)));
        let mut items = items.collect::<anyhow::Result<Vec<_>>>()?;
        // What is kept comes first, then what was used last.
        items.sort();
        let mut taken = 0;
        for (may_go, _, item) in items {
            taken += files::disk_usage(&item);
            if may_go && taken > bytes {
                freed.remove(&item)?;
            }
        }
        Ok(())
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

    /// Reads every blob and entry, several at a time, and removes those that are damaged; says which.
    pub fn verify(&self, progress: &Progress) -> anyhow::Result<Verified> {
        let known = digest::Known::default();
        let mut all = Vec::new();
        // Downloads under way are checked when they are complete; notes and cargo's files have no record.
        let checked: Vec<_> = Bucket::ALL.iter().map(|bucket| bucket.folder()).chain(["blobs"]).collect();
        for part in parts(&self.folder)? {
            if checked.iter().any(|name| part.ends_with(name)) {
                all.extend(items(&part)?);
            }
        }
        let bar = progress.items("Verifying", all.len() as u64);
        let check = |item: &PathBuf| {
            let why = self.damage(item, &known);
            bar.inc(1);
            Some((item.clone(), why?))
        };
        let found: Vec<_> = all.par_iter().filter_map(check).collect();
        bar.finish_and_clear();
        let mut verified = Verified { count: all.len() as u64, damaged: Vec::new() };
        for (item, why) in found {
            remove(&item)?;
            let path = item.strip_prefix(&self.folder).unwrap_or(&item).to_owned();
            verified.damaged.push(Damaged { path, why });
        }
        Ok(verified)
    }

    fn damage(&self, item: &Path, known: &digest::Known) -> Option<String> {
        if !item.starts_with(self.folder.join("blobs")) {
            return entries::damage(item, known);
        }
        let got = match Hash::of_file(item) {
            Ok(got) => got.to_string(),
            // A sector that cannot be read is damage too.
            Err(error) => return Some(error.to_string()),
        };
        (item.file_name() != Some(OsStr::new(&got))).then(|| format!("its sha256 is {got}"))
    }
}

impl Freed {
    fn remove(&mut self, path: &Path) -> anyhow::Result<()> {
        let bytes = files::disk_usage(path);
        remove(path)?;
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

/// Removes a blob, or an entry with its record.
fn remove(item: &Path) -> anyhow::Result<()> {
    // The state first: an entry without one is not trusted, whatever is left of it.
    fs::remove_file(state_path(item)).or_else(ignore_missing)?;
    files::remove_tree(item).with_context(|| format!("removing {}", item.display()))?;
    Ok(fs::remove_file(digest_path(item)).or_else(ignore_missing)?)
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
    items.retain(|path| !path.extension().is_some_and(|extension| extension == "state" || extension == "digest"));
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
