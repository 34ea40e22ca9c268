//! Which disk the running system was started from.
//!
//! Two disks with a larder image may be connected at once (a stick, and the drive it was installed
//! to), and then labels are ambiguous. The one that counts is the disk below the mounted root.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// The disk that holds the root, as the kernel calls it: `sda`.
///
/// # Errors
/// The root is on no partition (it is no image's).
pub fn name() -> io::Result<String> {
    name_below(Path::new("/sys"), &root_number()?)
}

/// Whether the partition `name` (`sda7`, as the kernel calls it) is on the disk that holds the root.
///
/// # Errors
/// The root is on no partition (it is no image's), or there is no such partition.
pub fn holds(name: &str) -> io::Result<bool> {
    holds_below(Path::new("/sys"), &root_number()?, name)
}

/// Device number of the root.
fn root_number() -> io::Result<String> {
    let device = std::fs::metadata("/")?.dev();
    Ok(format!("{}:{}", nix::sys::stat::major(device), nix::sys::stat::minor(device)))
}

fn name_below(sys: &Path, root: &str) -> io::Result<String> {
    let partition = partition_of(&sys.join("dev/block").join(root).canonicalize()?)?;
    // A partition's folder lies in that of its disk.
    let disk = partition.parent().filter(|_| partition.join("partition").exists()).and_then(Path::file_name);
    let disk = disk.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the root is on no partition"))?;
    Ok(disk.to_string_lossy().into_owned())
}

/// The same for the system below `sys`, whose root has the device number `root`.
fn holds_below(sys: &Path, root: &str, name: &str) -> io::Result<bool> {
    let root = partition_of(&sys.join("dev/block").join(root).canonicalize()?)?;
    let partition = sys.join("class/block").join(name).canonicalize()?;
    // A partition's folder lies in that of its disk.
    Ok(root.parent() == partition.parent())
}

/// The partition itself, or the first one that a device-mapper device is made of.
fn partition_of(device: &Path) -> io::Result<PathBuf> {
    match std::fs::read_dir(device.join("slaves"))?.next() {
        Some(slave) => slave?.path().canonicalize(),
        None => Ok(device.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// Two disks with three partitions each; the root is a verity device on two partitions of `sda`.
    fn sysfs() -> tempfile::TempDir {
        let sys = tempfile::tempdir().unwrap();
        let folder = |path: &str| std::fs::create_dir_all(sys.path().join(path)).unwrap();
        for partition in ["sda/sda3", "sda/sda4", "sda/sda7", "nvme0n1/nvme0n1p3", "nvme0n1/nvme0n1p7"] {
            folder(&format!("devices/{partition}/slaves"));
            std::fs::write(sys.path().join(format!("devices/{partition}/partition")), "1\n").unwrap();
            let name = partition.rsplit('/').next().unwrap();
            folder("class/block");
            symlink(format!("../../devices/{partition}"), sys.path().join("class/block").join(name)).unwrap();
        }
        folder("devices/virtual/dm-0/slaves");
        for slave in ["sda3", "sda4"] {
            symlink(format!("../../../sda/{slave}"), sys.path().join("devices/virtual/dm-0/slaves").join(slave))
                .unwrap();
        }
        folder("dev/block");
        symlink("../../devices/virtual/dm-0", sys.path().join("dev/block/254:0")).unwrap();
        symlink("../../devices/nvme0n1/nvme0n1p3", sys.path().join("dev/block/259:3")).unwrap();
        sys
    }

    #[test]
    fn a_partition_counts_only_when_it_is_on_the_disk_of_the_verified_root() {
        let sys = sysfs();
        assert!(holds_below(sys.path(), "254:0", "sda7").unwrap());
        assert!(!holds_below(sys.path(), "254:0", "nvme0n1p7").unwrap());
    }

    #[test]
    fn the_disk_of_the_root_is_named() {
        let sys = sysfs();
        assert_eq!(name_below(sys.path(), "254:0").unwrap(), "sda");
        assert_eq!(name_below(sys.path(), "259:3").unwrap(), "nvme0n1");
    }

    #[test]
    fn a_root_without_verity_is_found_too() {
        assert!(holds_below(sysfs().path(), "259:3", "nvme0n1p7").unwrap());
    }

    #[test]
    fn a_partition_that_is_not_there_is_an_error() {
        assert!(holds_below(sysfs().path(), "254:0", "sdz1").is_err());
    }
}
