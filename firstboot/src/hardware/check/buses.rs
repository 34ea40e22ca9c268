//! Drives that are not what they say, or not there any more.

use std::collections::{BTreeMap, BTreeSet};

use super::super::drives;
use super::{Fault, System};

/// Two drives with one id are one drive to whoever looks for it: a pool may take the wrong one.
pub(super) fn duplicate_ids(system: &System) -> Vec<Fault> {
    let mut by_id = BTreeMap::<String, Vec<String>>::new();
    for drive in drives::drives(system.root()).into_iter().filter(|drive| drive.name.starts_with("nvme")) {
        // A serial number counts where there is nothing better; then all of one maker's drives may share it.
        let id = if drive.wwid.is_empty() { drive.serial } else { drive.wwid };
        by_id.entry(id).or_default().push(drive.name);
    }
    let shared = by_id.into_iter().filter(|(id, names)| !id.is_empty() && names.len() > 1);
    let fault = |(id, names): (String, Vec<String>)| {
        Fault::new(
            format!(
                "the drives {} have one id, `{id}`: nothing can tell them apart after a restart.",
                names.join(" and ")
            ),
            "put only one of them into a pool, or update the drives' firmware",
        )
    };
    let mut faults: Vec<_> = shared.map(fault).collect();
    // The kernel takes such a drive's ids away before they can be read (nvme_init_ns_head).
    for name in vanished(system, &["globally duplicate IDs"]) {
        faults.push(Fault::new(
            format!("the kernel has found an id of {name} on another drive too, and ignores the drive."),
            "put only one of the two into the machine, or update the drives' firmware",
        ));
    }
    faults
}

/// What drivers say when a drive does not answer any more: of NVMe (drivers/nvme/host/pci.c), of ATA
/// (`ata_dev_disable`), and of hot-plug slots (drivers/pci/hotplug/pciehp_ctrl.c).
const GONE: &[&[&str]] = &[
    &["nvme nvme", "controller is down; will reset"],
    &["nvme nvme", "Disabling device after reset failure"],
    &["nvme nvme", "Device not ready; aborting"],
    &["ata", "disable device"],
    &["pciehp", "Link Down"],
];

pub(super) fn dropped(system: &System) -> Vec<Fault> {
    let mut times = BTreeMap::<String, usize>::new();
    for pattern in GONE {
        for name in vanished_each(system, pattern) {
            *times.entry(name).or_default() += 1;
        }
    }
    let fault = |(name, count): (String, usize)| {
        let times = if count == 1 { "once".to_owned() } else { format!("{count} times") };
        Fault::new(
            format!("{name} has stopped to answer {times} since the start: power, cable, slot or drive are failing."),
            "read `journalctl -k`; check the power supply, seat the drive anew, try it in another slot",
        )
    };
    times.into_iter().map(fault).collect()
}

/// The devices that messages with these parts are about, each once.
fn vanished(system: &System, parts: &[&str]) -> BTreeSet<String> {
    vanished_each(system, parts).into_iter().collect()
}

/// The same, once for each message. Drivers name the device first: `nvme nvme1: …`, `ata3.00: …`.
fn vanished_each(system: &System, parts: &[&str]) -> Vec<String> {
    let about = |line: &&str| parts.iter().all(|part| line.contains(part));
    let starts = |line: &&str| line.starts_with(['n', 'a', 'p']);
    let name = |line: &str| {
        let head = line.split_once(": ").map_or(line, |(head, _)| head);
        head.rsplit(' ').next().unwrap_or(head).to_owned()
    };
    system.log.lines().filter(about).filter(starts).map(name).collect()
}
