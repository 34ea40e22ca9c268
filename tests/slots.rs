//! The image brings one slot; the target makes the rest of the disk layout at its first boot.

use anyhow::{Context as _, Result, ensure};
use larder_qemu::{BootMedium, Disk, Partition};
use larder_tests::{BOOT, Story};
use uuid::{Uuid, uuid};

/// Discoverable Partitions Specification: root and root-verity for x86-64.
const ROOT: Uuid = uuid!("4f68bce3-e8cd-4db1-96e7-fbcaf984b709");
const ROOT_VERITY: Uuid = uuid!("2c7357ed-ebd2-46d9-aec1-23d437ec2bf5");

const MIB: u64 = 1 << 20;

#[test]
fn slot_b_and_state_exist_after_first_boot_and_survive_a_second() -> Result<()> {
    let story = Story::begin("slots")?;
    let machine = story.machine(|builder| builder.medium(BootMedium::Usb))?;
    let shipped = machine.boot_medium().partitions()?;

    let mut vm = story.boot(machine)?;
    vm.settle()?;
    vm.expect("findmnt -n -o FSTYPE /state", "ext4")?;
    vm.check("echo 'what must last' > /state/larder-test")?;
    let (story, machine) = vm.shut_down()?;
    let made = machine.boot_medium().partitions()?;
    layout_is_complete(machine.boot_medium(), &shipped, &made)?;

    let mut vm = story.boot(machine)?;
    vm.settle()?;
    vm.expect("cat /state/larder-test", "what must last")?;
    let (_, machine) = vm.shut_down()?;
    let kept = machine.boot_medium().partitions()?;
    ensure!(kept == made, "the second boot has changed the partition table:\n{made:#?}\n{kept:#?}");
    Ok(())
}

#[test]
fn what_was_synced_to_state_survives_a_power_cut() -> Result<()> {
    let story = Story::begin("power-cut")?;
    let machine = story.machine(|builder| builder.medium(BootMedium::Nvme))?;
    let mut vm = story.boot(machine)?;
    vm.settle()?;
    vm.check("echo 'what must last' > /state/larder-test && sync /state/larder-test /state")?;
    let (story, machine) = vm.power_cut();
    let mut vm = story.boot(machine)?;
    vm.settle()?;
    vm.expect("cat /state/larder-test", "what must last")?;
    ensure!(vm.wait_console("Reached target", BOOT).is_ok(), "the console is silent");
    Ok(())
}

fn layout_is_complete(disk: &Disk, shipped: &[Partition], made: &[Partition]) -> Result<()> {
    let (root_a, others) = shipped.split_last().context("the image has no partitions")?;
    ensure!(made.starts_with(others), "the first boot has changed what was shipped:\n{shipped:#?}\n{made:#?}");
    let end = root_a.bytes.start + 2048 * MIB;
    let grown = Partition { bytes: root_a.bytes.start..end, ..root_a.clone() };
    ensure!(made[others.len()] == grown, "root A has not become a full slot:\n{root_a:#?}\n{made:#?}");
    let find = |label: &str, kind: Option<Uuid>| {
        let mut new = made[shipped.len()..].iter();
        let found = new.find(|partition| partition.label == label && kind.is_none_or(|kind| partition.type_id == kind));
        found.with_context(|| format!("no new partition is {label}: {made:#?}"))
    };
    let size = |partition: &Partition| (partition.bytes.end - partition.bytes.start) / MIB;
    let (root, verity, state) = (find("_empty", Some(ROOT))?, find("_empty", Some(ROOT_VERITY))?, find("state", None)?);
    ensure!((size(root), size(verity)) == (2048, 32), "slot B is {} and {} MiB", size(root), size(verity));
    ensure!(size(state) >= 768, "state is {} MiB", size(state));
    ensure!(made.len() == shipped.len() + 3, "there are partitions that nobody asked for: {made:#?}");
    let end = fs_err::metadata(disk.path())?.len();
    ensure!(made.iter().all(|partition| partition.bytes.end <= end), "a partition ends behind the disk: {made:#?}");
    Ok(())
}
