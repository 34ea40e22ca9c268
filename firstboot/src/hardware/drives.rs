//! Drives that data may be put on.
//!
//! Flash that is soldered to a board (eMMC) shows itself as several block devices: besides its user area small hardware
//! partitions that hold the firmware's own data (`mmcblk0boot0`, `mmcblk0boot1`) and keys (`mmcblk0rpmb`, which is a
//! character device since Linux 4.15). Nothing of a user's belongs there; an installer that took one for a disk has
//! failed on it (truenas/truenas-installer#116).

use std::path::{Path, PathBuf};

use super::machine::text;

/// A whole disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drive {
    /// The kernel's name: `nvme0n1`, `sda`, `mmcblk0`.
    pub name: String,
    /// What names it on any machine and in any slot: the World Wide Name, or NVMe's EUI or NGUID; empty when it has none.
    pub wwid: String,
    /// The serial number; empty when it says none.
    pub serial: String,
}

/// Whole disks of the system below `root`, sorted by name: nothing that is no hardware, and no boot area of eMMC.
pub fn drives(root: &Path) -> Vec<Drive> {
    let folders = block_devices(root).into_iter().filter(|folder| folder.join("device").exists());
    let drives = folders.filter(|folder| !is_boot_area(&name(folder))).map(|folder| Drive {
        wwid: first_of(&folder, &["wwid", "device/wwid"]),
        serial: first_of(&folder, &["device/serial", "device/vpd_pg80"]),
        name: name(&folder),
    });
    drives.collect()
}

/// Boot areas of eMMC below `root` that can be written to.
pub(super) fn writable_boot_areas(root: &Path) -> Vec<String> {
    let areas = block_devices(root).into_iter().filter(|folder| is_boot_area(&name(folder)));
    areas.filter(|folder| text(&folder.join("ro")) == "0").map(|folder| name(&folder)).collect()
}

/// Whether a block device is an area of eMMC that is not for data.
pub fn is_boot_area(name: &str) -> bool {
    name.strip_prefix("mmcblk").is_some_and(|rest| {
        let area = rest.trim_start_matches(|letter: char| letter.is_ascii_digit());
        area.starts_with("boot") || area.starts_with("rpmb") || area.starts_with("gp")
    })
}

fn block_devices(root: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root.join("sys/block")).into_iter().flatten().flatten();
    let mut folders: Vec<_> = entries.map(|entry| entry.path()).collect();
    folders.sort();
    folders
}

fn name(folder: &Path) -> String {
    folder.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn first_of(folder: &Path, files: &[&str]) -> String {
    let values = files.iter().map(|file| text(&folder.join(file)));
    // Page 80h of SCSI has four bytes before the number.
    let printable = |value: String| value.trim_matches(|letter: char| letter.is_control() || letter == ' ').to_owned();
    values.map(printable).find(|value| !value.is_empty()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn system() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, content) in [
            ("nvme0n1/wwid", "eui.0025385c2140a1b2"),
            ("nvme0n1/device/serial", "S4J4NX0R  "),
            ("sda/device/wwid", "naa.5000c500a1b2c3d4"),
            ("sda/device/vpd_pg80", "\0\u{1}\0\u{8}ZA20XYZ1"),
            ("mmcblk0/device/serial", "0x1a2b3c4d"),
            ("mmcblk0boot0/device/serial", "0x1a2b3c4d"),
            ("mmcblk0boot0/ro", "1"),
            ("mmcblk0boot1/device/serial", "0x1a2b3c4d"),
            ("mmcblk0boot1/ro", "0"),
            ("mmcblk0gp0/device/serial", "0x1a2b3c4d"),
            ("loop0/ro", "0"),
            ("dm-0/ro", "1"),
        ] {
            let path = root.path().join("sys/block").join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        root
    }

    #[test]
    fn boot_areas_of_emmc_are_no_drives() {
        let found: Vec<_> =
            drives(system().path()).into_iter().map(|drive| (drive.name, drive.wwid, drive.serial)).collect();
        let expected = [
            ("mmcblk0", "", "0x1a2b3c4d"),
            ("nvme0n1", "eui.0025385c2140a1b2", "S4J4NX0R"),
            ("sda", "naa.5000c500a1b2c3d4", "ZA20XYZ1"),
        ];
        assert_eq!(found, expected.map(|(name, wwid, serial)| (name.into(), wwid.into(), serial.into())));
    }

    #[test]
    fn a_boot_area_that_can_be_written_to_is_told() {
        assert_eq!(writable_boot_areas(system().path()), ["mmcblk0boot1"]);
    }

    #[test]
    fn names_of_partitions_and_disks_are_no_boot_areas() {
        for name in ["mmcblk0", "mmcblk0p1", "mmcblk12", "sdboot", "nvme0n1"] {
            assert!(!is_boot_area(name), "{name}");
        }
    }
}
