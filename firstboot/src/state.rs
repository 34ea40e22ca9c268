//! What outlasts a restart and is no secret: `/state/larder`, on the state partition.
//!
//! A file there is the old one or the new one, whenever the power goes.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Where the partition is mounted.
const MOUNT_POINT: &str = "/state";
/// Our folder there, relative to the root.
const FOLDER: &str = "state/larder";

/// The folder.
#[derive(Debug, Clone)]
pub struct State {
    root: PathBuf,
    folder: PathBuf,
}

impl State {
    /// That of the system below `root`.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        let root = root.into();
        Self { folder: root.join(FOLDER), root }
    }

    /// Another folder, for copies of the same files.
    pub fn in_folder(folder: impl Into<PathBuf>) -> Self {
        Self { root: "/".into(), folder: folder.into() }
    }

    /// Whether the partition is mounted; waits for it, if need be.
    ///
    /// # Errors
    /// The list of mounts cannot be read.
    pub fn is_mounted_within(&self, patience: Duration) -> anyhow::Result<bool> {
        let path = self.root.join("proc/self/mountinfo");
        let deadline = Instant::now() + patience;
        // The kernel reports a change of the list as an exceptional condition (proc_pid_mountinfo(5)).
        let file = File::open(&path).with_context(|| format!("reading {}", path.display()))?;
        loop {
            let mounts = fs_err::read_to_string(&path)?;
            let left = deadline.saturating_duration_since(Instant::now());
            match mounts.lines().any(|line| line.split(' ').nth(4) == Some(MOUNT_POINT)) {
                false if !left.is_zero() => {
                    let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
                    let _ = poll(&mut [PollFd::new(file.as_fd(), PollFlags::POLLPRI)], timeout);
                }
                is_mounted => return Ok(is_mounted),
            }
        }
    }

    /// Content of a file; `None` when there is none.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read(&self, name: &str) -> anyhow::Result<Option<Vec<u8>>> {
        let path = self.path(name);
        match std::fs::read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
        }
    }

    /// Writes a file. It outlasts a power cut from the moment that this returns.
    ///
    /// # Errors
    /// It cannot be written; what was there before is still there.
    pub fn write(&self, name: &str, content: &[u8]) -> anyhow::Result<()> {
        let path = self.path(name);
        self.try_write(&path, content).with_context(|| format!("writing {}", path.display()))
    }

    /// Removes a file, if it is there, for good.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn remove(&self, name: &str) -> anyhow::Result<()> {
        let path = self.path(name);
        let removed = std::fs::remove_file(&path).and_then(|()| File::open(&self.folder)?.sync_all());
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("removing {}", path.display()))
            }
            _ => Ok(()),
        }
    }

    fn try_write(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        std::fs::create_dir_all(&self.folder)?;
        let new = path.with_added_extension("new");
        let mut file = File::create(&new)?;
        file.write_all(content)?;
        file.sync_all()?;
        std::fs::rename(new, path)?;
        File::open(&self.folder)?.sync_all()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_and_nothing_else_is_left() {
        let root = tempfile::tempdir().unwrap();
        let state = State::at(root.path());
        assert_eq!(state.read("x").unwrap(), None);
        state.write("x", b"one").unwrap();
        state.write("x", b"two").unwrap();
        assert_eq!(state.read("x").unwrap().unwrap(), b"two");
        assert_eq!(std::fs::read_dir(root.path().join(FOLDER)).unwrap().count(), 1);
        state.remove("x").unwrap();
        state.remove("x").unwrap();
        assert_eq!(state.read("x").unwrap(), None);
    }

    #[test]
    fn a_partition_that_does_not_come_is_waited_for_as_long_as_said() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("proc/self")).unwrap();
        let list = root.path().join("proc/self/mountinfo");
        std::fs::write(&list, "29 1 254:0 / / ro,relatime - erofs /dev/mapper/root ro\n").unwrap();
        let state = State::at(root.path());
        assert!(!state.is_mounted_within(Duration::from_millis(20)).unwrap());
        std::fs::write(&list, "64 29 8:7 / /state rw,nosuid - ext4 /dev/sda7 rw\n").unwrap();
        assert!(state.is_mounted_within(Duration::ZERO).unwrap());
    }
}
