//! Bringing the pool back at every boot.
//!
//! Debian's own units wait for all of udev, look at all disks, and take pools by their names; the races of that are many
//! (openzfs/zfs#10891, #8885, #11587). Here the pool's own disks are waited for, and its number counts.

use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::Known;
use crate::command::Failed;
use crate::zfs;

/// How long disks may take to appear. Those in a shelf that spins up one after another need longer than any other.
const PATIENCE: Duration = Duration::from_secs(30);
/// A disk that has just appeared may not answer yet.
const TRIES: u32 = 4;
const BETWEEN: Duration = Duration::from_secs(2);

/// Imports the pool, without opening or mounting anything. With disks missing it is imported after a while nevertheless, if it
/// can be; its status says what is missing.
///
/// # Errors
/// The pool cannot be imported: [`Failed`] says what ZFS says.
pub fn import(known: &Known) -> anyhow::Result<()> {
    if zfs::name_of(known.guid)?.is_some() {
        return Ok(());
    }
    let partitions = known.partitions();
    wait_for(&partitions);
    let mut tries = 1;
    loop {
        // A disk that was replaced later is not on the list: look everywhere, for the number.
        let there: Vec<PathBuf> = partitions.iter().filter(|path| path.exists()).cloned().collect();
        let by_list = if there.is_empty() { None } else { Some(zfs::import(known.guid, &there, false)) };
        match by_list {
            Some(Ok(())) => return Ok(()),
            _ => match zfs::import(known.guid, &[PathBuf::from("/dev/disk/by-id")], false) {
                Ok(()) => return Ok(()),
                Err(error) if tries == TRIES || !error.is::<Failed>() => return Err(error),
                Err(_) => {}
            },
        }
        tries += 1;
        sleep(BETWEEN);
    }
}

fn wait_for(partitions: &[PathBuf]) {
    let deadline = Instant::now() + PATIENCE;
    let is_complete = || partitions.iter().all(|path| path.exists());
    while !is_complete() && Instant::now() < deadline {
        sleep(Duration::from_millis(100));
    }
}

/// Starts the timers of a pool. They are not enabled in the image, as nobody knows the pool's name there.
///
/// # Errors
/// systemd refuses.
pub fn start_timers(root: &Path, pool: &str) -> anyhow::Result<()> {
    // When each was last due, so that one that was missed while the machine was off is made up for.
    let (kept, place) = (root.join("state/larder/timers"), root.join("var/lib/systemd/timers"));
    fs_err::create_dir_all(&kept)?;
    if !place.is_symlink() {
        let _ = std::fs::remove_dir(&place);
        fs_err::os::unix::fs::symlink("/state/larder/timers", &place)?;
    }
    let timers = ["scrub", "trim"].map(|what| format!("zfs-{what}-weekly@{pool}.timer"));
    crate::command::Run::new("systemctl").args(["start", "--no-block"]).args(timers).done()
}
