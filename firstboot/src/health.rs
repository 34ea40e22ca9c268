//! The health gate: whether this boot is good enough to keep.
//!
//! Only faults of the *system image* count here. What the owner got wrong (a tunnel's token, a share's
//! name) must never send the appliance back to its older slot: the older system would read the same
//! settings and fail alike.

use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::assess::Memory;
use crate::command_line;
use crate::finding::{Finding, Severity};
use crate::pool::Known;
use crate::zfs::{self, Guid};

/// The fault that another start of the same system cannot mend.
pub const ZFS_NOT_LOADED: &str = "zfs-not-loaded";
/// How long pools may take to come back: longer than larder-pool waits for their disks.
const PATIENCE: Duration = Duration::from_secs(90);

/// The running system, or a folder that looks like one.
#[derive(Debug, Clone)]
pub struct System {
    root: PathBuf,
}

impl System {
    /// The system below `root`; `/` for the real one.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// What speaks against keeping this boot; nothing when it is good.
    pub fn faults(&self) -> Vec<Finding> {
        let faults: Vec<_> = [self.zfs(), self.state()].into_iter().flatten().collect();
        if faults.is_empty() { self.pools() } else { faults }
    }

    /// The same, once the pools that are expected are back, or had the time for it.
    pub fn settled_faults(&self) -> Vec<Finding> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let faults = self.faults();
            let is_waiting = !faults.is_empty() && faults.iter().all(|fault| fault.id == POOL_NOT_BACK);
            if !is_waiting || Instant::now() > deadline {
                return faults;
            }
            sleep(Duration::from_secs(1));
        }
    }

    /// The pools of the last good start, unless it was one of this very system: then it is not the system that has changed.
    fn pools(&self) -> Vec<Finding> {
        let Some(good) = Memory::read(&self.root).ok().and_then(|memory| memory.last_good) else { return Vec::new() };
        if good.pools.is_empty() || command_line::root_hash().is_ok_and(|running| running == good.root_hash) {
            return Vec::new();
        }
        let imported: Vec<Guid> = zfs::imported().unwrap_or_default().into_iter().map(|(guid, _)| guid).collect();
        missing(&good.pools, &imported, |pool| pool.partitions().iter().all(|path| path.exists()))
    }

    /// A kernel update that ZFS does not load with is the fault that the gate is there for
    /// (lxc/incus-os#1350: such an image was kept, without its pool).
    fn zfs(&self) -> Option<Finding> {
        let loaded = self.root.join("sys/module/zfs").is_dir() && self.root.join("dev/zfs").exists();
        (!loaded).then(|| Finding {
            id: ZFS_NOT_LOADED.into(),
            severity: Severity::Failure,
            message: "the ZFS module is not loaded, so no pool can be opened".to_owned(),
            next: "read `journalctl -b -u zfs-load`; after three such boots the older system starts by itself".into(),
        })
    }

    fn state(&self) -> Option<Finding> {
        // proc_pid_mountinfo(5): the fifth field is the mount point.
        let mounts = std::fs::read_to_string(self.root.join("proc/self/mountinfo")).unwrap_or_default();
        let mounted = mounts.lines().any(|line| line.split(' ').nth(4) == Some("/state"));
        (!mounted).then(|| Finding {
            id: "state-not-mounted".into(),
            severity: Severity::Failure,
            message: "the state partition is not mounted, so nothing outlasts a restart".to_owned(),
            next: "read `journalctl -b -u state.mount -u systemd-repart`; is the boot medium full or failing?".into(),
        })
    }
}

/// Name of the fault that passes while disks are still being looked for.
const POOL_NOT_BACK: &str = "pool-not-back";

/// Pools that are not imported although all their disks are there. Where a disk is missing, that is reason enough for a pool
/// to stay away, and another system would not find it either.
fn missing(pools: &[Known], imported: &[Guid], has_its_disks: impl Fn(&Known) -> bool) -> Vec<Finding> {
    let is_missing = |pool: &&Known| !imported.contains(&pool.guid) && has_its_disks(pool);
    let finding = |pool: &Known| Finding {
        id: POOL_NOT_BACK.into(),
        severity: Severity::Failure,
        message: format!(
            "the pool `{}` was there with the system before this one, and all its disks are, but it is not",
            pool.name
        ),
        next: "read `journalctl -b -u larder-pool`; after three such boots the older system starts by itself".into(),
    };
    pools.iter().filter(is_missing).map(finding).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_system_must_bring_back_the_pools_whose_disks_are_there() {
        let pool = |guid| Known { guid: Guid(guid), name: format!("tank{guid}"), disks: Vec::new() };
        let pools = [pool(1), pool(2), pool(3)];
        let found = missing(&pools, &[Guid(1)], |pool| pool.guid != Guid(3));
        assert_eq!(found.len(), 1, "the first is back, of the third a disk is missing: {found:?}");
        assert!(found[0].message.contains("`tank2`"), "{found:?}");
    }

    fn healthy() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for folder in ["sys/module/zfs", "dev", "proc/self"] {
            std::fs::create_dir_all(root.path().join(folder)).unwrap();
        }
        std::fs::write(root.path().join("dev/zfs"), "").unwrap();
        std::fs::write(
            root.path().join("proc/self/mountinfo"),
            "29 1 254:0 / / ro,relatime - erofs /dev/mapper/root ro\n64 29 8:7 / /state rw,nosuid - ext4 /dev/sda7 rw\n",
        )
        .unwrap();
        root
    }

    fn ids(root: &tempfile::TempDir) -> Vec<String> {
        System::at(root.path()).faults().into_iter().map(|finding| finding.id.into_owned()).collect()
    }

    #[test]
    fn a_healthy_boot_has_no_faults() {
        assert_eq!(ids(&healthy()), Vec::<String>::new());
    }

    #[test]
    fn a_boot_without_zfs_is_not_kept() {
        let root = healthy();
        std::fs::remove_dir(root.path().join("sys/module/zfs")).unwrap();
        assert_eq!(ids(&root), ["zfs-not-loaded"]);
    }

    #[test]
    fn a_boot_without_state_is_not_kept() {
        let root = healthy();
        std::fs::write(root.path().join("proc/self/mountinfo"), "29 1 254:0 / / ro - erofs /dev/mapper/root ro\n")
            .unwrap();
        assert_eq!(ids(&root), ["state-not-mounted"]);
    }
}
