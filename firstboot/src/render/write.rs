//! Several files change together: all of them, or none.

use std::fs::Permissions;
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::{Change, Content, below};

/// Writes what comes beside what is there, then puts each in its place by renaming it.
pub(super) fn all(root: &Path, changes: &[Change]) -> anyhow::Result<()> {
    for (index, change) in changes.iter().enumerate() {
        let path = below(root, &change.path);
        if let Err(error) = prepare(&path, change.after.as_ref()) {
            changes[..=index].iter().for_each(|change| forget(&below(root, &change.path)));
            return Err(error).with_context(|| format!("writing {}; nothing has changed", path.display()));
        }
    }
    for (index, change) in changes.iter().enumerate() {
        let path = below(root, &change.path);
        if let Err(error) = take_place(&path, change.after.as_ref()) {
            let undone = undo(root, &changes[..index]);
            changes[index..].iter().for_each(|change| forget(&below(root, &change.path)));
            undone.context("putting back what was there")?;
            return Err(error).with_context(|| format!("replacing {}; nothing has changed", path.display()));
        }
    }
    Ok(())
}

fn undo(root: &Path, changes: &[Change]) -> io::Result<()> {
    changes.iter().rev().try_for_each(|change| {
        let path = below(root, &change.path);
        prepare(&path, change.before.as_ref())?;
        take_place(&path, change.before.as_ref())
    })
}

/// What comes, beside its place.
fn beside(path: &Path) -> PathBuf {
    // Programs that read a whole folder take neither hidden files nor such an ending.
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.larder-new"))
}

fn prepare(path: &Path, content: Option<&Content>) -> io::Result<()> {
    let Some(content) = content else { return Ok(()) };
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let new = beside(path);
    forget(path);
    match content {
        Content::Link { target } => symlink(target, new),
        Content::File { text, mode } => {
            let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(*mode).open(new)?;
            file.write_all(text.as_bytes())?;
            // Whatever the umask is.
            file.set_permissions(Permissions::from_mode(*mode))
        }
    }
}

fn take_place(path: &Path, content: Option<&Content>) -> io::Result<()> {
    match content {
        Some(_) => std::fs::rename(beside(path), path),
        None => match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        },
    }
}

fn forget(path: &Path) {
    let _ = std::fs::remove_file(beside(path));
}
