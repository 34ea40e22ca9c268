//! Small helpers on files and trees.

use std::collections::HashSet;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::{Duration, SystemTime};

use fs_err as fs;

/// Stamps of last use are this coarse, so that a build does not write one for each file that it reads.
const STAMP_EVERY: Duration = Duration::from_secs(3600);

/// Sets the file's mtime to now, when it is not already recent. Best effort: a stamp too old only
/// means that the file may be pruned earlier.
pub(super) fn stamp(path: &Path, metadata: &Metadata) {
    let now = SystemTime::now();
    let recent =
        metadata.modified().is_ok_and(|modified| now.duration_since(modified).is_ok_and(|age| age < STAMP_EVERY));
    if !recent && let Ok(file) = fs::File::open(path) {
        let _ = file.set_modified(now);
    }
}

pub(super) fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
}

/// Removes a file or a whole tree, read-only folders included; follows no symlink. A tree with files
/// of several owners can be removed by root or inside the user namespace that made it.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => {}
        Ok(_) => return fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    }
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            open_up(path)?;
            fs::remove_dir_all(path)
        }
        result => result,
    }
}

/// Opens a file for reading and writing, made if need be, and locks it for this process alone.
///
/// The holder of the lock may rename or remove the file; who waited for it then holds a lock on a file
/// without a name, and starts over.
pub fn open_locked(path: &Path) -> io::Result<std::fs::File> {
    loop {
        let file = fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        let file = file.into_parts().0;
        file.lock()?;
        if fs::metadata(path).is_ok_and(|named| file.metadata().is_ok_and(|locked| locked.ino() == named.ino())) {
            return Ok(file);
        }
    }
}

/// Gives the owner full access to every folder of the tree.
fn open_up(folder: &Path) -> io::Result<()> {
    let mode = fs::symlink_metadata(folder)?.mode();
    if mode & 0o700 != 0o700 {
        set_mode(folder, mode & 0o7777 | 0o700)?;
    }
    for child in fs::read_dir(folder)? {
        let child = child?;
        if child.file_type()?.is_dir() {
            open_up(&child.path())?;
        }
    }
    Ok(())
}

/// For what may be gone already.
pub(super) fn ignore_missing(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

/// Removes what is in a folder, not the folder.
pub(super) fn empty_folder(folder: &Path) -> io::Result<()> {
    for child in fs::read_dir(folder)? {
        remove_tree(&child?.path())?;
    }
    Ok(())
}

/// Room that a file or tree takes on the disk; a hard-linked file counts once.
pub(super) fn disk_usage(path: &Path) -> u64 {
    let mut seen = HashSet::new();
    let files = walkdir::WalkDir::new(path).into_iter().filter_map(Result::ok);
    let sizes = files.filter_map(|file| file.metadata().ok()).filter(|metadata| {
        let once = metadata.nlink() == 1 || metadata.is_dir();
        once || seen.insert((metadata.dev(), metadata.ino()))
    });
    sizes.map(|metadata| metadata.blocks() * 512).sum()
}
