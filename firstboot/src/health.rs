//! The health gate: whether this boot is good enough to keep.
//!
//! Only faults of the *system image* count here. What the owner got wrong (a tunnel's token, a share's
//! name) must never send the appliance back to its older slot: the older system would read the same
//! settings and fail alike.

use std::path::PathBuf;

use crate::finding::{Finding, Severity};

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
        [self.zfs(), self.state()].into_iter().flatten().collect()
    }

    /// A kernel update that ZFS does not load with is the fault that the gate is there for
    /// (lxc/incus-os#1350: such an image was kept, without its pool).
    fn zfs(&self) -> Option<Finding> {
        let loaded = self.root.join("sys/module/zfs").is_dir() && self.root.join("dev/zfs").exists();
        (!loaded).then(|| Finding {
            id: "zfs-not-loaded".into(),
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

#[cfg(test)]
mod tests {
    use super::*;

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
