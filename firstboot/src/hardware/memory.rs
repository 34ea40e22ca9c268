//! How much memory ZFS may take for its cache (ARC).
//!
//! ZFS 2.3 takes up to 5/8 of the memory, or all but 1 GiB of it where that is more. On a machine of 4 to 12 GB that
//! leaves too little for programs, and they are killed. The profile says a share; what it comes to is known only on
//! the machine, so it is written for modprobe right before the module is loaded.

use std::path::Path;

use anyhow::Context as _;

use super::Description;

/// Where the module's options go, relative to the root; modprobe.d(5) reads it.
const OPTIONS: &str = "run/modprobe.d/larder-zfs.conf";

/// The smallest limit that the module takes: below it the parameter is ignored (`arc_tuning_update` in module/zfs/arc.c).
const SMALLEST: u64 = 64 << 20;

/// Bytes of memory that the kernel of the system below `root` can use: `MemTotal`.
///
/// # Errors
/// `/proc/meminfo` is missing or says nothing about it.
pub fn total(root: &Path) -> anyhow::Result<u64> {
    let text = fs_err::read_to_string(root.join("proc/meminfo"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    Ok(kib.context("/proc/meminfo does not say how much memory there is")? << 10)
}

/// Bytes that the cache may take: `percent` of `total`, in whole MiB.
pub fn arc_limit(total: u64, percent: u8) -> u64 {
    ((total / 100 * u64::from(percent)) & !((1 << 20) - 1)).max(SMALLEST)
}

/// Writes the limit for the module that is loaded next, and gives it back; nothing where the profile leaves it to ZFS.
pub fn limit_arc(root: &Path, description: &Description) -> anyhow::Result<Option<u64>> {
    let Some(percent) = description.memory.arc_percent else { return Ok(None) };
    let limit = arc_limit(total(root)?, percent);
    let path = root.join(OPTIONS);
    fs_err::create_dir_all(path.parent().context("a file is in a folder")?)?;
    fs_err::write(path, format!("options zfs zfs_arc_max={limit}\n"))?;
    Ok(Some(limit))
}

#[cfg(test)]
mod tests {
    use super::super::Memory;
    use super::*;

    fn system(meminfo: &str) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("proc")).unwrap();
        std::fs::write(root.path().join("proc/meminfo"), meminfo).unwrap();
        root
    }

    fn asking(arc_percent: Option<u8>) -> Description {
        Description { memory: Memory { arc_percent, ..Memory::default() }, ..Description::default() }
    }

    #[test]
    fn the_cache_gets_its_share_of_what_is_there() {
        let root = system("MemTotal:        4028644 kB\nMemFree:         3700000 kB\n");
        let limit = limit_arc(root.path(), &asking(Some(25))).unwrap().unwrap();
        assert_eq!(limit, 983 << 20);
        let written = std::fs::read_to_string(root.path().join(OPTIONS)).unwrap();
        assert_eq!(written, "options zfs zfs_arc_max=1030750208\n");
    }

    #[test]
    fn a_profile_that_says_nothing_leaves_it_to_zfs() {
        let root = system("");
        assert_eq!(limit_arc(root.path(), &asking(None)).unwrap(), None);
        assert!(!root.path().join("run").exists());
    }

    #[test]
    fn a_limit_that_the_module_would_ignore_is_never_asked_for() {
        assert_eq!(arc_limit(100 << 20, 10), SMALLEST);
    }

    #[test]
    fn a_machine_that_does_not_say_its_memory_is_an_error() {
        assert!(limit_arc(system("MemFree: 1 kB\n").path(), &asking(Some(25))).is_err());
    }
}
