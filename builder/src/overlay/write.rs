//! Puts a plan into a root tree.

use std::io;
use std::os::unix::fs::{PermissionsExt as _, lchown, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::{Entry, Kind, Plan};
use crate::report::Mistake;

/// Sets the owner of a path without following links.
type Chown<'a> = &'a dyn Fn(&Path, u32, u32) -> io::Result<()>;

impl Plan {
    /// Writes everything below `into`, a root tree. Files and links that are there are replaced, not
    /// written through: they may be shared with the store. Needs the right to change owners.
    pub fn write(&self, into: &Path) -> Result<()> {
        self.write_with(into, &|path, owner, group| lchown(path, Some(owner), Some(group)))
    }

    pub(super) fn write_with(&self, into: &Path, chown: Chown<'_>) -> Result<()> {
        for (path, entry) in &self.entries {
            write_entry(into, path, entry, chown).with_context(|| format!("writing {path} of {}", entry.origin))?;
        }
        Ok(())
    }
}

fn write_entry(into: &Path, path: &str, entry: &Entry, chown: Chown<'_>) -> Result<()> {
    let below = Path::new(path.trim_start_matches('/'));
    make_parents(into, below, &entry.origin, chown)?;
    let to = into.join(below);
    match &entry.kind {
        Kind::Directory => make_folder(&to)?,
        Kind::File { content, .. } => {
            remove_if_there(&to, path, &entry.origin)?;
            fs_err::write(&to, content)?;
        }
        Kind::Symlink { target } => {
            remove_if_there(&to, path, &entry.origin)?;
            symlink(target, &to)?;
        }
    }
    // The owner first: chown clears set-user-id bits (chown(2)).
    chown(&to, entry.owner, entry.group)?;
    if !matches!(entry.kind, Kind::Symlink { .. }) {
        fs_err::set_permissions(&to, std::fs::Permissions::from_mode(entry.mode))?;
    }
    Ok(())
}

/// Makes the missing folders above `below` as root's, 0755. A link on the way is refused: an absolute
/// one would lead out of the tree, and `bin/x` is better written as `usr/bin/x`.
fn make_parents(into: &Path, below: &Path, origin: &str, chown: Chown<'_>) -> Result<()> {
    let folders: Vec<&Path> = below.ancestors().skip(1).filter(|folder| !folder.as_os_str().is_empty()).collect();
    for folder in folders.into_iter().rev() {
        let to: PathBuf = into.join(folder);
        match fs_err::symlink_metadata(&to) {
            Ok(metadata) if metadata.is_dir() => {}
            Ok(metadata) if metadata.is_symlink() => {
                let target = fs_err::read_link(&to)?;
                let what = format!("{origin}: /{} is a link to {} in the image", folder.display(), target.display());
                return Err(Mistake::new(what).hint("write the path without links").into());
            }
            Ok(_) => {
                return Err(Mistake::new(format!(
                    "{origin}: /{} is a file in the image, not a folder",
                    folder.display()
                ))
                .into());
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                make_folder(&to)?;
                chown(&to, 0, 0)?;
                fs_err::set_permissions(&to, std::fs::Permissions::from_mode(0o755))?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn make_folder(path: &Path) -> io::Result<()> {
    match fs_err::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && fs_err::symlink_metadata(path)?.is_dir() => {
            Ok(())
        }
        result => result,
    }
}

fn remove_if_there(to: &Path, path: &str, origin: &str) -> Result<()> {
    match fs_err::symlink_metadata(to) {
        Ok(metadata) if metadata.is_dir() => {
            Err(Mistake::new(format!("{origin}: {path} is a folder in the image")).into())
        }
        Ok(_) => Ok(fs_err::remove_file(to)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error.into()),
    }
}
