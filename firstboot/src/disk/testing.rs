//! A computer made of plain files, for tests.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::Machine;

/// A folder that looks like `/` as far as disks are concerned.
pub(crate) struct FakeMachine(tempfile::TempDir);

/// A disk to be.
pub(crate) struct FakeDisk<'a> {
    pub(crate) name: &'a str,
    /// Way to it below `/sys/devices`.
    pub(crate) way: &'a str,
    pub(crate) id: &'a str,
    pub(crate) serial: &'a str,
    pub(crate) size: u64,
    /// Names and sizes, which udev knows as `E:` lines.
    pub(crate) partitions: &'a [(&'a str, &'a str)],
}

/// A stick of 8 GB with one file system.
pub(crate) const STICK: FakeDisk<'static> = FakeDisk {
    name: "sda",
    way: "pci0000:00/0000:00:14.0/usb1/1-2/1-2:1.0/host0/target0:0:0/0:0:0:0/block",
    id: "usb-SanDisk_Ultra_4C530001230101-0:0",
    serial: "4C530001230101",
    size: 8_000_000_000,
    partitions: &[("sda1", "E:ID_FS_TYPE=vfat\nE:ID_FS_LABEL_ENC=PHOTOS\\x20OLD\n")],
};

/// A disk inside.
pub(crate) const NVME: FakeDisk<'static> = FakeDisk {
    name: "nvme0n1",
    way: "pci0000:00/0000:00:1d.0/nvme/nvme0",
    id: "nvme-WD_Blue_2233AB",
    serial: "2233AB",
    size: 1_000_204_886_016,
    partitions: &[("nvme0n1p1", "E:ID_FS_TYPE=ext4\n"), ("nvme0n1p2", "")],
};

impl FakeMachine {
    pub(crate) fn new(disks: &[FakeDisk<'_>]) -> Self {
        let machine = Self(tempfile::tempdir().unwrap());
        machine.write("proc/self/mountinfo", "");
        machine.write("proc/swaps", "Filename\tType\tSize\tUsed\tPriority\n");
        for folder in ["sys/block", "sys/class/block", "dev/disk/by-id", "run/udev/data"] {
            std::fs::create_dir_all(machine.path(folder)).unwrap();
        }
        for (major, disk) in (8..).zip(disks) {
            machine.add(major, disk);
        }
        machine
    }

    pub(crate) fn machine(&self) -> Machine {
        Machine::at(self.0.path())
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    pub(crate) fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// Replaces a file of the disk's folder in sysfs.
    pub(crate) fn set(&self, disk: &FakeDisk<'_>, file: &str, text: &str) {
        self.write(&format!("sys/devices/{}/{}/{file}", disk.way, disk.name), text);
    }

    /// Adds a line to the table of mounts.
    pub(crate) fn mount(&self, number: &str, at: &str) {
        self.write("proc/self/mountinfo", &format!("64 29 {number} / {at} rw,nosuid - ext4 /dev/x rw\n"));
    }

    fn add(&self, major: u32, disk: &FakeDisk<'_>) {
        let folder = format!("sys/devices/{}/{}", disk.way, disk.name);
        for (file, text) in [
            ("size", (disk.size / 512).to_string()),
            ("dev", format!("{major}:0")),
            ("ro", "0".to_owned()),
            ("diskseq", major.to_string()),
            ("queue/logical_block_size", "512".to_owned()),
            ("device/model", "Model".to_owned()),
        ] {
            self.write(&format!("{folder}/{file}"), &format!("{text}\n"));
        }
        self.link(&format!("sys/block/{}", disk.name), &self.path(&folder));
        self.link(&format!("sys/class/block/{}", disk.name), &self.path(&folder));
        self.write(
            &format!("run/udev/data/b{major}:0"),
            &format!("E:ID_SERIAL_SHORT={}\nE:ID_PART_TABLE_TYPE=gpt\n", disk.serial),
        );
        self.link(&format!("dev/disk/by-id/{}", disk.id), &PathBuf::from(format!("../../{}", disk.name)));
        for (number, (name, properties)) in (1..).zip(disk.partitions) {
            for (file, text) in
                [("size", "2048".to_owned()), ("dev", format!("{major}:{number}")), ("partition", number.to_string())]
            {
                self.write(&format!("{folder}/{name}/{file}"), &format!("{text}\n"));
            }
            self.link(&format!("sys/class/block/{name}"), &self.path(&format!("{folder}/{name}")));
            self.write(&format!("run/udev/data/b{major}:{number}"), properties);
            self.link(&format!("dev/disk/by-id/{}-part{number}", disk.id), &PathBuf::from(format!("../../{name}")));
        }
        let node = std::fs::File::create(self.path(&format!("dev/{}", disk.name))).unwrap();
        node.set_len(disk.size).unwrap();
    }

    fn link(&self, path: &str, target: &Path) {
        symlink(target, self.path(path)).unwrap();
    }
}
