//! The profiles that larder brings, as data: what can be said of them without building an image. What needs one (does each
//! device find its driver and its firmware?) is asked by the lint `devices` in every build.

#![allow(clippy::unwrap_used, reason = "a test that cannot be prepared has failed")]

use std::collections::BTreeSet;
use std::path::Path;

use firstboot::hardware::detect::{self, Fit};
use firstboot::hardware::{Class, Machine};
use larder::lock::Lock;
use larder::profile::Profile;
use larder::project::Project;

fn project() -> Project {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    Project::find(Some(root), root).unwrap()
}

fn profiles() -> Vec<Profile> {
    let project = project();
    Profile::names(&project).unwrap().iter().map(|name| Profile::load(&project, name).unwrap()).collect()
}

/// Profiles of real machines.
fn boards() -> impl Iterator<Item = Profile> {
    profiles().into_iter().filter(|profile| profile.name != "qemu")
}

#[test]
fn every_box_that_larder_is_for_has_a_profile() {
    let names: Vec<_> = profiles().into_iter().map(|profile| profile.name).collect();
    let expected = ["asustor-fs6706t", "beelink-me-mini", "generic-amd64", "generic-n150", "minisforum-n5-air", "qemu"];
    assert_eq!(names, expected);
}

#[test]
fn every_profile_has_a_lock_for_what_it_asks() {
    let project = project();
    for profile in profiles() {
        let lockable = profile.lockable(&project);
        let lock = Lock::read(&lockable.path).unwrap().unwrap_or_else(|| panic!("{} has no lock", profile.name));
        assert!(lock.matches(lockable.request).unwrap(), "{}: run `larder lock`", profile.name);
    }
}

#[test]
fn every_board_says_what_it_is_made_of() {
    use Class::*;
    for profile in boards() {
        let classes: BTreeSet<_> = profile.hardware.devices.iter().map(|device| device.class).collect();
        let mut wanted = BTreeSet::from([Network, Nvme, Usb, Smbus, Tpm, Watchdog, Sensors, Clock]);
        wanted.extend(profile.hardware.graphics.iter().map(|_| Graphics));
        wanted.extend((profile.boot.medium == Some(larder::profile::file::Medium::Emmc)).then_some(Emmc));
        assert!(classes.is_superset(&wanted), "{} has only {classes:?}", profile.name);
    }
}

#[test]
fn every_device_has_a_source_and_what_a_gpu_needs_is_named() {
    for profile in profiles() {
        for device in &profile.hardware.devices {
            assert!(!device.source.trim().is_empty(), "{}: {} has no source", profile.name, device.name);
            let is_gpu = device.class == Class::Graphics;
            assert!(!is_gpu || !device.firmware.is_empty(), "{}: {} needs firmware", profile.name, device.name);
        }
    }
}

#[test]
fn every_profile_limits_the_cache_of_zfs_and_has_a_budget() {
    for profile in profiles() {
        let percent = profile.hardware.memory.arc_percent.unwrap_or_default();
        assert!((25..=35).contains(&percent), "{} gives ZFS {percent} %", profile.name);
        assert!(profile.budget.root.is_some() && profile.budget.compressed.is_some(), "{}", profile.name);
        assert!(profile.boot.minimum_size.is_some_and(|size| size.bytes() >= firstboot::layout::DISK_MIN_SIZE));
    }
}

/// What a machine's dump should be told.
fn best(dump: &str) -> (String, Fit) {
    let known = Profile::matches(&project()).unwrap();
    let best = detect::rank(&known, &Machine::of_dump(dump)).remove(0);
    (best.profile, best.fit)
}

#[test]
fn every_box_is_recognised_by_its_dump() {
    let asustor = include_str!("../../firstboot/src/hardware/fixtures/asustor-fs6706t.txt");
    assert_eq!(best(asustor), ("asustor-fs6706t".to_owned(), Fit::Exact));
    let beelink = "00:02.0 VGA compatible controller [0300]: Intel Corporation Device [8086:46d4]\n\
                   01:00.0 Ethernet controller [0200]: Intel Corporation Ethernet Controller I226-V [8086:125c] (rev 04)\n";
    assert_eq!(
        best(&format!("{beelink}sys_vendor: AZW\nproduct_name: ME mini\n")),
        ("beelink-me-mini".to_owned(), Fit::Exact)
    );
    assert_eq!(best(beelink), ("generic-n150".to_owned(), Fit::Generic));
    let minisforum = "c1:00.0 SATA controller [0106]: JMicron Technology Corp. JMB58x AHCI SATA controller [197b:0585]\n\
                      sys_vendor: Micro Computer (HK) Tech Limited\nproduct_name: N5 AIR\n";
    assert_eq!(best(minisforum), ("minisforum-n5-air".to_owned(), Fit::Exact));
    let qemu = "00:00.0 Host bridge [0600]: Intel Corporation 82G33 [8086:29c0]\nsys_vendor: QEMU\n";
    assert_eq!(best(qemu), ("qemu".to_owned(), Fit::Exact));
    let other = "00:00.0 Host bridge [0600]: Intel Corporation 82G33 [8086:29c0]\nsys_vendor: Dell Inc.\n";
    assert_eq!(best(other), ("generic-amd64".to_owned(), Fit::Generic));
}
