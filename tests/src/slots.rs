//! At most two VMs at a time, over all test processes: a host has two cores at least, an emulated guest uses both.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use fs_err::File;

const SLOTS: usize = 2;

/// The right to run a VM, given back when dropped or when the process ends.
#[derive(Debug)]
pub struct Slot {
    _lock: File,
}

impl Slot {
    /// Waits for a free slot.
    pub fn take() -> Result<Self> {
        let folder = folder();
        fs_err::create_dir_all(&folder)?;
        loop {
            for i in 0..SLOTS {
                let lock = File::create(folder.join(i.to_string()))?;
                match lock.file().try_lock() {
                    Ok(()) => return Ok(Self { _lock: lock }),
                    Err(std::fs::TryLockError::WouldBlock) => {}
                    Err(std::fs::TryLockError::Error(error)) => {
                        return Err(error).context("locking a VM slot");
                    }
                }
            }
            std::thread::sleep(Duration::from_millis(250));
        }
    }
}

/// One for each user: another's files could not be opened for writing.
fn folder() -> PathBuf {
    std::env::temp_dir().join(format!("larder-vm-slots-{}", nix::unistd::getuid()))
}
