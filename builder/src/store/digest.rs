//! One digest for all that a tree holds, to find out later whether it is still what was made.
//!
//! It covers what decides the bytes of an image: names, kinds, modes, owners, contents, targets of links,
//! device numbers (overlayfs's whiteouts) and extended attributes (overlayfs's opaque folders). It leaves
//! out what does not: times, and how a file lies on the disk, holes included.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::Metadata;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, FileTypeExt as _, MetadataExt as _};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use fs_err as fs;
use rayon::prelude::*;

use crate::hash::{Hash, Hasher};
use crate::image::sparse;

/// Raise when the same tree gives another digest than before: entries with the old one count as damaged.
const REVISION: u32 = 1;
/// Contents are hashed in blocks of this size; those of zeros only count by being left out.
const BLOCK: usize = 64 << 10;

/// Contents that were hashed already: trees share files by hard links.
#[derive(Debug, Default)]
pub(super) struct Known(Mutex<HashMap<Inode, Hash>>);

/// Device, number, and when it was made: numbers are used again.
type Inode = (u64, u64, SystemTime);

impl Known {
    fn content(&self, path: &Path, metadata: &Metadata) -> io::Result<Hash> {
        // A file system that does not know when a file was made has each name read.
        let Ok(made) = metadata.created() else { return content(path) };
        let inode = (metadata.dev(), metadata.ino(), made);
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&inode).copied();
        if let Some(hash) = known {
            return Ok(hash);
        }
        let hash = content(path)?;
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(inode, hash);
        Ok(hash)
    }
}

/// The digest of everything below `folder`, and of the folder's own mode and owner.
pub(super) fn of_tree(folder: &Path, known: &Known) -> io::Result<Hash> {
    let walk = walkdir::WalkDir::new(folder).sort_by_file_name().into_iter();
    let entries = walk.collect::<Result<Vec<_>, _>>()?;
    let lines: Vec<Hash> = entries.par_iter().map(|entry| line(entry, folder, known)).collect::<io::Result<_>>()?;
    let mut all = Hasher::default();
    all.update(REVISION.to_le_bytes());
    lines.iter().for_each(|line| all.update(line.as_bytes()));
    Ok(all.finish())
}

fn line(entry: &walkdir::DirEntry, folder: &Path, known: &Known) -> io::Result<Hash> {
    let path = entry.path();
    let name = path.strip_prefix(folder).unwrap_or(path);
    let metadata = fs::symlink_metadata(path)?;
    let kind = metadata.file_type();
    let mut line = Hasher::default();
    // Each with its length, so that no two different lines have the same bytes.
    let mut field = |value: &[u8]| {
        line.update((value.len() as u64).to_le_bytes());
        line.update(value);
    };
    field(name.as_os_str().as_bytes());
    // The kind is in the mode.
    field(&metadata.mode().to_le_bytes());
    field(&own(metadata.uid(), true).to_le_bytes());
    field(&own(metadata.gid(), false).to_le_bytes());
    if kind.is_file() {
        field(&metadata.len().to_le_bytes());
        field(known.content(path, &metadata)?.as_bytes());
    } else if kind.is_symlink() {
        field(fs::read_link(path)?.as_os_str().as_bytes());
    } else if kind.is_char_device() || kind.is_block_device() {
        field(&metadata.rdev().to_le_bytes());
    }
    if !kind.is_symlink() {
        for (name, value) in attributes(path)? {
            field(name.as_bytes());
            field(&value);
        }
    }
    Ok(line.finish())
}

/// Inside the namespace an ordinary user is 0, outside not; both see the same tree.
fn own(id: u32, is_user: bool) -> u32 {
    let mine = if is_user { nix::unistd::geteuid().as_raw() } else { nix::unistd::getegid().as_raw() };
    if id == mine { 0 } else { id }
}

/// overlayfs's own attributes: all others are the host's (security labels, say).
fn attributes(path: &Path) -> io::Result<Vec<(std::ffi::OsString, Vec<u8>)>> {
    let names = match xattr::list(path) {
        Ok(names) => names,
        Err(error) if error.kind() == io::ErrorKind::Unsupported => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut list = Vec::new();
    for name in names.filter(|name| is_overlays(name)) {
        let value = xattr::get(path, &name)?.unwrap_or_default();
        list.push((name, value));
    }
    list.sort();
    Ok(list)
}

fn is_overlays(name: &OsStr) -> bool {
    name.as_bytes().starts_with(b"user.overlay.")
}

/// The digest of a file's blocks that are not all zeros, each with its number. Holes are not read.
fn content(path: &Path) -> io::Result<Hash> {
    let file = fs::File::open(path)?;
    let size = file.metadata()?.len();
    let (mut hasher, mut buffer) = (Hasher::default(), vec![0; BLOCK.min(usize::try_from(size).unwrap_or(BLOCK))]);
    let mut next = 0;
    let whole = 0..size;
    let ranges = if size <= BLOCK as u64 { vec![whole] } else { sparse::data_ranges(file.file())? };
    for range in ranges {
        let first = (range.start / BLOCK as u64).max(next);
        next = range.end.div_ceil(BLOCK as u64);
        for block in first..next {
            let start = block * BLOCK as u64;
            let length = usize::try_from((size - start).min(BLOCK as u64)).unwrap_or(BLOCK);
            file.file().read_exact_at(&mut buffer[..length], start)?;
            if buffer[..length].iter().any(|byte| *byte != 0) {
                hasher.update(block.to_le_bytes());
                hasher.update(&buffer[..length]);
            }
        }
    }
    Ok(hasher.finish())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn digest(folder: &Path) -> Hash {
        of_tree(folder, &Known::default()).unwrap()
    }

    fn tree() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("usr")).unwrap();
        fs::write(folder.path().join("usr/file"), "content").unwrap();
        symlink("usr/file", folder.path().join("link")).unwrap();
        folder
    }

    #[test]
    fn every_change_that_an_image_would_show_changes_the_digest() {
        type Change = fn(&Path);
        let before = digest(tree().path());
        let changes: [(&str, Change); 8] = [
            ("nothing", |_| {}),
            ("content", |top| fs::write(top.join("usr/file"), "c0ntent").unwrap()),
            ("length", |top| fs::write(top.join("usr/file"), "conten").unwrap()),
            ("name", |top| fs::rename(top.join("usr/file"), top.join("usr/f1le")).unwrap()),
            ("missing", |top| fs::remove_file(top.join("link")).unwrap()),
            ("added", |top| fs::write(top.join("usr/more"), "").unwrap()),
            ("mode", |top| fs::set_permissions(top.join("usr"), PermissionsExt::from_mode(0o700)).unwrap()),
            ("target", |top| {
                fs::remove_file(top.join("link")).unwrap();
                symlink("usr/other", top.join("link")).unwrap();
            }),
        ];
        for (what, change) in changes {
            let tree = tree();
            change(tree.path());
            assert_eq!(digest(tree.path()) == before, what == "nothing", "{what}");
        }
    }

    #[test]
    fn an_opaque_folder_is_told_from_a_plain_one() {
        let tree = tree();
        let before = digest(tree.path());
        match xattr::set(tree.path().join("usr"), "user.overlay.opaque", b"y") {
            Err(error) if error.kind() == io::ErrorKind::Unsupported => return,
            result => result.unwrap(),
        }
        assert_ne!(digest(tree.path()), before);
    }

    #[test]
    fn times_and_holes_do_not_matter() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut data = vec![0; 5 * BLOCK + 100];
        data[3 * BLOCK] = 1;
        fs::write(one.path().join("file"), &data).unwrap();
        let sparse = fs::File::create(two.path().join("file")).unwrap();
        sparse.set_len(data.len() as u64).unwrap();
        sparse.file().write_all_at(&[1], 3 * BLOCK as u64).unwrap();
        sparse.set_modified(std::time::UNIX_EPOCH).unwrap();
        assert_eq!(digest(one.path()), digest(two.path()));
        sparse.file().write_all_at(&[1], 4 * BLOCK as u64).unwrap();
        assert_ne!(digest(one.path()), digest(two.path()));
    }

    #[test]
    fn a_hard_link_is_read_once() {
        let tree = tree();
        let known = Known::default();
        let before = of_tree(tree.path(), &known).unwrap();
        fs::hard_link(tree.path().join("usr/file"), tree.path().join("again")).unwrap();
        of_tree(tree.path(), &known).unwrap();
        assert_eq!(known.0.lock().unwrap().len(), 1);
        assert_ne!(of_tree(tree.path(), &known).unwrap(), before);
    }
}
