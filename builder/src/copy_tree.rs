//! Copies of folders.

use std::path::Path;

use anyhow::Result;

/// Copies a folder with its links and the times of its files: make, for one, rebuilds what is older than its sources.
///
/// # Errors
/// Something in it can be neither read nor written.
pub fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    for entry in walkdir::WalkDir::new(from) {
        let entry = entry?;
        let target = to.join(entry.path().strip_prefix(from)?);
        if entry.file_type().is_dir() {
            fs_err::create_dir_all(&target)?;
        } else if entry.path_is_symlink() {
            fs_err::os::unix::fs::symlink(fs_err::read_link(entry.path())?, &target)?;
        } else {
            copy_with_time(entry.path(), &target)?;
        }
    }
    Ok(())
}

fn copy_with_time(from: &Path, to: &Path) -> Result<()> {
    fs_err::copy(from, to)?;
    let time = fs_err::metadata(from)?.modified()?;
    fs_err::OpenOptions::new().write(true).open(to)?.file().set_modified(time)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_copied_with_its_links() {
        let folder = tempfile::tempdir().expect("folder");
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        fs_err::create_dir_all(from.join("a/b")).expect("makes");
        fs_err::write(from.join("a/b/file"), "text").expect("writes");
        fs_err::os::unix::fs::symlink("nowhere", from.join("a/link")).expect("links");
        copy_tree(&from, &to).expect("copies");
        assert_eq!(fs_err::read_to_string(to.join("a/b/file")).expect("reads"), "text");
        assert_eq!(fs_err::read_link(to.join("a/link")).expect("reads"), Path::new("nowhere"));
    }
}
