//! The real ESP: a FAT file system that is mounted.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};

use super::{Esp, FileEntry};
use crate::layout::UKI_FOLDER;

/// Where systemd mounts the ESP that the system was started from, when somebody looks.
const MOUNT_POINT: &str = "/boot";

/// The folder of UKIs of a mounted ESP.
#[derive(Debug, Clone)]
pub struct Folder(PathBuf);

impl Folder {
    /// That of the running system.
    pub fn here() -> Self {
        Self::of(Path::new(MOUNT_POINT))
    }

    /// That of an ESP that is mounted at `mount_point`.
    pub fn of(mount_point: &Path) -> Self {
        Self(mount_point.join(UKI_FOLDER))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn open(&self, name: &str) -> io::Result<File> {
        fs_err::File::open(self.path(name)).map(fs_err::File::into_file)
    }
}

impl Esp for Folder {
    fn list(&self) -> io::Result<Vec<FileEntry>> {
        let entries = match fs_err::read_dir(&self.0) {
            // A system that no boot loader has started has no ESP, and nothing counts its tries.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut files = Vec::new();
        for entry in entries {
            let entry = entry?;
            let (kind, name) = (entry.metadata()?, entry.file_name());
            if let (true, Ok(name)) = (kind.is_file(), name.into_string()) {
                files.push(FileEntry { name, size: kind.len() });
            }
        }
        Ok(files)
    }

    fn free(&self) -> io::Result<u64> {
        let space = nix::sys::statvfs::statvfs(&self.0)?;
        Ok(space.blocks_available() * space.fragment_size())
    }

    fn read_at(&self, name: &str, data: &mut [u8], offset: u64) -> io::Result<()> {
        self.open(name)?.read_exact_at(data, offset)
    }

    fn write_at(&self, name: &str, data: &[u8], offset: u64) -> io::Result<()> {
        let file = fs_err::OpenOptions::new().write(true).create(true).truncate(false).open(self.path(name))?;
        file.file().write_all_at(data, offset)
    }

    fn forget(&self, name: &str) -> io::Result<()> {
        let file = self.open(name)?;
        file.sync_all()?;
        Ok(posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED)?)
    }

    fn truncate(&self, name: &str, size: u64) -> io::Result<()> {
        fs_err::OpenOptions::new().write(true).open(self.path(name))?.set_len(size)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        // Never over another UKI. Nobody else writes here.
        if self.path(to).exists() {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, format!("there is a {to}")));
        }
        fs_err::rename(self.path(from), self.path(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs_err::remove_file(self.path(name))
    }

    fn sync(&self) -> io::Result<()> {
        let folder = fs_err::File::open(&self.0)?;
        // FAT has no journal, and the folder's own content belongs to the file system as a whole.
        Ok(nix::unistd::syncfs(folder.file())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_an_esp_there_are_no_systems_and_nothing_fails() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(Folder::of(root.path()).list().unwrap(), []);
    }
}
