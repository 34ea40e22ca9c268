use std::os::unix::fs::symlink;
use std::path::Path;

use super::testing::{FakeDisk, FakeMachine, NVME, STICK};
use super::*;

const GB: u64 = 1_000_000_000;
const STICK_ID: &str = "/dev/disk/by-id/usb-SanDisk_Ultra_4C530001230101-0:0";
const NVME_ID: &str = "/dev/disk/by-id/nvme-WD_Blue_2233AB";

fn rules(internal: Internal) -> Rules {
    Rules { internal, needed: 6 * GB }
}

fn refused(machine: &FakeMachine, device: &str) -> Refusal {
    machine.machine().choose(Path::new(device), rules(Internal::Allowed)).unwrap_err()
}

#[test]
fn disks_are_listed_with_what_is_on_them() {
    let machine = FakeMachine::new(&[STICK, NVME]);
    machine.mount("9:1", "/home/my\\040photos");
    let disks = machine.machine().disks().unwrap();
    let rules = rules(Internal::Refused);
    let text = list(&disks, |disk| rules.refusal(disk, &disks).map(|refusal| refusal.to_string()));
    insta::assert_snapshot!(text, @r#"
    Can be written to:
      /dev/disk/by-id/usb-SanDisk_Ultra_4C530001230101-0:0
          Model, serial number 4C530001230101, 8.0 GB, USB
          sda1: vfat "PHOTOS OLD", 1.0 MB

    Cannot:
      /dev/disk/by-id/nvme-WD_Blue_2233AB
          Model, serial number 2233AB, 1.0 TB, NVMe
          nvme0n1p1: ext4, 1.0 MB
          nvme0n1p2: unknown content, 1.0 MB
          nvme0n1p1 is mounted at /home/my photos
          not possible: it is in use: nvme0n1p1 is mounted at /home/my photos
    "#);
}

#[test]
fn what_is_no_disk_is_not_listed() {
    let machine = FakeMachine::new(&[STICK]);
    for name in ["loop0", "dm-0", "md127", "zram0", "sr0", "mmcblk0boot0", "mmcblk0rpmb", "zd0"] {
        machine.write(&format!("sys/block/{name}/size"), "2048\n");
        machine.write(&format!("sys/block/{name}/dev"), "7:0\n");
    }
    // A card reader without a card.
    machine.write("sys/block/sdb/size", "0\n");
    machine.write("sys/block/sdb/dev", "8:16\n");
    let names: Vec<_> = machine.machine().disks().unwrap().into_iter().map(|disk| disk.name).collect();
    assert_eq!(names, ["sda"]);
}

#[test]
fn the_bus_tells_what_can_be_pulled_out() {
    let way = |way, name| FakeDisk { way, name, partitions: &[], ..STICK };
    let machine = FakeMachine::new(
        &[
            way("pci0000:00/0000:00:17.0/ata1/host0/target0:0:0/0:0:0:0/block", "sdb"),
            way("pci0000:00/0000:00:1a.0/mmc_host/mmc0/mmc0:0001/block", "mmcblk0"),
            way("pci0000:00/0000:00:1b.0/mmc_host/mmc1/mmc1:0001/block", "mmcblk1"),
            way("pci0000:00/0000:00:04.0/virtio1/block", "vda"),
        ]
        .map(|disk| FakeDisk { id: disk.name, ..disk }),
    );
    machine.write("sys/block/mmcblk0/device/type", "MMC\n");
    machine.write("sys/block/mmcblk1/device/type", "SD\n");
    let found: Vec<_> = machine.machine().disks().unwrap().into_iter().map(|disk| (disk.bus, disk.removable)).collect();
    assert_eq!(found, [(Bus::Emmc, false), (Bus::Card, true), (Bus::Sata, false), (Bus::Virtio, false)]);
}

#[test]
fn only_whole_disks_by_stable_names_are_taken() {
    let machine = FakeMachine::new(&[STICK, NVME]);
    for name in [
        "/dev/sda",
        "sda",
        "/dev/disk/by-path/pci-1",
        "/dev/disk/by-id/../../sda",
        "/dev/disk/by-id",
        "/dev/disk/by-id/../by-id/x",
    ] {
        let refusal = refused(&machine, name);
        assert!(matches!(refusal, Refusal::NotById(_)), "{name}: {refusal}");
    }
    assert!(matches!(refused(&machine, "/dev/disk/by-id/usb-Other"), Refusal::Unknown(_)));
    assert!(matches!(refused(&machine, &format!("{STICK_ID}-part1")), Refusal::NotWhole(_)));
}

#[test]
fn a_built_in_disk_needs_a_word_more() {
    let machine = FakeMachine::new(&[STICK, NVME]).machine_and_keep();
    let choose = |id: &str, internal| machine.1.choose(Path::new(id), rules(internal));
    assert_eq!(choose(NVME_ID, Internal::Refused).unwrap_err(), Refusal::Internal);
    choose(NVME_ID, Internal::Allowed).unwrap();
    choose(STICK_ID, Internal::Refused).unwrap();
}

#[test]
fn what_is_in_use_is_refused_however_deep() {
    let machine = FakeMachine::new(&[STICK, NVME]);
    machine.mount("9:2", "/");
    assert_eq!(refused(&machine, NVME_ID), Refusal::System);
    machine.mount("8:0", "/mnt");
    assert!(matches!(refused(&machine, STICK_ID), Refusal::InUse(_)));
    // Encrypted, and a volume inside; the root is on that.
    machine.write("sys/devices/virtual/block/dm-0/dev", "254:0\n");
    machine.write("sys/devices/virtual/block/dm-1/dev", "254:1\n");
    for (device, holder) in [("nvme0n1p1", "dm-0"), ("dm-0", "dm-1")] {
        if device != "nvme0n1p1" {
            symlink(machine.path("sys/devices/virtual/block/dm-0"), machine.path("sys/class/block/dm-0")).unwrap();
            symlink(machine.path("sys/devices/virtual/block/dm-1"), machine.path("sys/class/block/dm-1")).unwrap();
        }
        machine.write(&format!("sys/class/block/{device}/holders/{holder}"), "");
    }
    machine.mount("254:9", "/elsewhere");
    assert_eq!(
        refused(&machine, NVME_ID).to_string(),
        "it is in use: nvme0n1p1 is part of dm-0, nvme0n1p1 is part of dm-1"
    );
    machine.mount("254:1", "/");
    assert_eq!(refused(&machine, NVME_ID), Refusal::System);
    machine.mount("0:5", "/");
    machine.write("proc/swaps", "Filename\tType\n/dev/sda1\tpartition 1 0 -2\n");
    assert_eq!(refused(&machine, STICK_ID).to_string(), "it is in use: sda1 is swap space");
}

#[test]
fn a_disk_of_a_pool_is_refused_and_the_pool_is_named() {
    for format in ["zfs_member", "linux_raid_member", "LVM2_member", "isw_raid_member", "bcache"] {
        let properties = format!("E:ID_FS_TYPE={format}\nE:ID_FS_LABEL=tank\n");
        let machine = FakeMachine::new(&[FakeDisk { partitions: &[("sda1", &properties)], ..STICK }]);
        let refusal = refused(&machine, STICK_ID);
        assert!(matches!(refusal, Refusal::Member(_)) && refusal.to_string().contains("\"tank\""), "{refusal}");
    }
}

/// btrfs shows a number that is no disk's, and names one of its disks.
#[test]
fn a_file_system_on_several_disks_is_in_use_on_all_of_them() {
    let machine = FakeMachine::new(&[STICK, NVME]);
    let mount = |source| {
        let text = format!("64 29 0:41 /home /mnt rw - btrfs {source} rw,subvol=/home\n");
        machine.write("proc/self/mountinfo", &text);
    };
    mount("/dev/sda1");
    assert_eq!(refused(&machine, STICK_ID).to_string(), "it is in use: sda1 is mounted at /mnt");
    machine.machine().choose(Path::new(NVME_ID), rules(Internal::Allowed)).unwrap();
    for disk in ["sda1", "nvme0n1p2"] {
        machine.write(&format!("sys/fs/btrfs/1b2c/devices/{disk}/size"), "2048\n");
    }
    assert_eq!(refused(&machine, NVME_ID).to_string(), "it is in use: nvme0n1p2 is mounted at /mnt");
    std::fs::remove_dir_all(machine.path("sys/fs/btrfs")).unwrap();
    // An encrypted one, by the name that it was opened with.
    machine.write("sys/devices/virtual/block/dm-0/dev", "254:0\n");
    symlink(machine.path("sys/devices/virtual/block/dm-0"), machine.path("sys/class/block/dm-0")).unwrap();
    machine.write("sys/class/block/nvme0n1p1/holders/dm-0", "");
    std::fs::create_dir(machine.path("dev/mapper")).unwrap();
    symlink("../dm-0", machine.path("dev/mapper/luks-1")).unwrap();
    mount("/dev/mapper/luks-1");
    assert_eq!(
        refused(&machine, NVME_ID).to_string(),
        "it is in use: nvme0n1p1 is mounted at /mnt, nvme0n1p1 is part of dm-0"
    );
    machine.write("proc/self/mountinfo", "64 29 0:41 / / rw - bcachefs /dev/sda1:/dev/nvme0n1p2 rw\n");
    assert_eq!(refused(&machine, STICK_ID), Refusal::System);
    assert_eq!(refused(&machine, NVME_ID), Refusal::System);
}

#[test]
fn parts_of_one_btrfs_belong_together_and_a_btrfs_alone_does_not() {
    let btrfs = |id: &str| format!("E:ID_FS_TYPE=btrfs\nE:ID_FS_UUID={id}\nE:ID_FS_LABEL=tank\n");
    let (one, other) = (btrfs("1b2c"), btrfs("3d4e"));
    let machine = |of_stick: &str, of_nvme: &str| {
        FakeMachine::new(&[
            FakeDisk { partitions: &[("sda1", of_stick)], ..STICK },
            FakeDisk { partitions: &[("nvme0n1p1", of_nvme)], ..NVME },
        ])
    };
    assert!(matches!(refused(&machine(&one, &one), STICK_ID), Refusal::Member(_)));
    machine(&one, &other).machine().choose(Path::new(STICK_ID), rules(Internal::Refused)).unwrap();
}

#[test]
fn sizes_and_switches_are_looked_at() {
    let machine = FakeMachine::new(&[FakeDisk { size: 5 * GB, ..STICK }]);
    assert_eq!(refused(&machine, STICK_ID).to_string(), "it has 5.0 GB, and 6.0 GB are needed");
    let machine = FakeMachine::new(&[STICK]);
    machine.set(&STICK, "queue/logical_block_size", "520");
    assert_eq!(refused(&machine, STICK_ID), Refusal::Sector(520));
    machine.set(&STICK, "ro", "1");
    assert_eq!(refused(&machine, STICK_ID), Refusal::ReadOnly);
}

#[test]
fn two_disks_that_say_the_same_of_themselves_are_both_refused() {
    let twin = FakeDisk { name: "sdb", partitions: &[], id: "usb-SanDisk_Ultra_4C530001230101-0:1", ..STICK };
    let machine = FakeMachine::new(&[STICK, twin]);
    assert_eq!(refused(&machine, STICK_ID), Refusal::Ambiguous("sdb".to_owned()));
}

#[test]
fn the_end_of_the_serial_number_is_asked_for() {
    let machine = FakeMachine::new(&[STICK]);
    let choice = machine.machine().choose(Path::new(STICK_ID), rules(Internal::Refused)).unwrap();
    assert_eq!(choice.proof().to_string(), "the last 4 characters of its serial number");
    for wrong in ["", "0102", "101", "4C530001230101"] {
        let refusal = choice.clone().confirm(wrong).unwrap_err();
        assert!(!refusal.to_string().contains("0101"), "{refusal}");
    }
    assert_eq!(choice.confirm(" 0101\n").unwrap().disk().name, "sda");
}

#[test]
fn a_disk_without_serial_number_is_known_by_its_model() {
    let machine = FakeMachine::new(&[FakeDisk { serial: "", ..STICK }]);
    let choice = machine.machine().choose(Path::new(STICK_ID), rules(Internal::Refused)).unwrap();
    assert_eq!(choice.proof().to_string(), "the last 4 characters of its model (it has no serial number)");
    choice.confirm("ODEL").unwrap();
}

#[test]
fn the_name_that_people_recognise_comes_first() {
    let machine = FakeMachine::new(&[NVME]);
    for id in ["nvme-eui.0025385b11d0a1b2", "wwn-0x5000"] {
        symlink("../../nvme0n1", machine.path("dev/disk/by-id").join(id)).unwrap();
    }
    let disks = machine.machine().disks().unwrap();
    assert_eq!((disks[0].id(), disks[0].ids.len()), (Some("nvme-WD_Blue_2233AB"), 3));
}

impl FakeMachine {
    fn machine_and_keep(self) -> (Self, Machine) {
        let machine = self.machine();
        (self, machine)
    }
}
