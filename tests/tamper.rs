//! Nothing that was changed behind the back of the signed root hash is run.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use larder_qemu::{BootMedium, Disk, Partition, Vm};
use larder_tests::{BOOT, Story, VerityTree};
use uuid::{Uuid, uuid};

/// Discoverable Partitions Specification: root and root-verity for x86-64.
const ROOT: Uuid = uuid!("4f68bce3-e8cd-4db1-96e7-fbcaf984b709");
const ROOT_VERITY: Uuid = uuid!("2c7357ed-ebd2-46d9-aec1-23d437ec2bf5");

/// How long a guest that met a corrupted block may still try to boot.
const LAST_CHANCE: Duration = Duration::from_secs(120);

#[test]
fn a_flipped_bit_in_the_root_partition_is_refused_at_boot() -> Result<()> {
    // EROFS' superblock lies at 1024 in block 0: no mount without reading it.
    is_refused("tamper-root", "data block 0 is corrupted", |disk| {
        disk.flip_bit(partition(disk, ROOT)?.bytes.start + 1024).context("flipping a bit")
    })
}

#[test]
fn a_flipped_bit_in_the_verity_tree_is_refused_at_boot() -> Result<()> {
    // The leaf hash of the same block.
    is_refused("tamper-verity", "metadata block", |disk| {
        let verity = partition(disk, ROOT_VERITY)?;
        disk.flip_bit(VerityTree::read(disk, &verity)?.leaf(0)).context("flipping a bit")
    })
}

#[test]
fn a_missing_root_is_said_plainly_and_gives_the_other_slot_its_chance() -> Result<()> {
    let story = Story::begin("missing-root")?;
    // The last one counts, and no partition will ever have UUIDs of zeros.
    let absent = format!("roothash={}", "0".repeat(64));
    let machine = story.machine(|builder| builder.medium(BootMedium::Nvme).kernel_argument(&absent))?;
    let mut vm = machine.boot()?;
    vm.wait_console("System damaged or its disk missing: restart in 10 s", BOOT)?;
    // The firmware's line of the second start: the guest has restarted by itself, and asked nobody anything.
    let starts = |vm: &Vm| vm.console().text().matches("EFI stub: Loaded initrd").count();
    let deadline = Instant::now() + BOOT;
    while starts(&vm) < 2 {
        ensure!(Instant::now() < deadline, "the guest has not restarted");
        std::thread::sleep(Duration::from_millis(200));
    }
    Ok(())
}

fn is_refused(name: &str, complaint: &str, tamper: impl FnOnce(&Disk) -> Result<()>) -> Result<()> {
    let story = Story::begin(name)?;
    let machine = story.machine(|builder| builder.medium(BootMedium::Nvme))?;
    tamper(machine.boot_medium())?;
    let mut vm = machine.boot()?;
    let line = vm.wait_console("is corrupted", BOOT)?;
    ensure!(line.contains("verity") && line.contains(complaint), "the kernel complains about something else: {line}");
    ensure!(vm.wait_ready(LAST_CHANCE).is_err(), "the guest has booted from a corrupted root");
    let reached = vm.console().line_with("multi-user.target");
    ensure!(reached.is_none(), "the guest has booted from a corrupted root: {reached:?}");
    drop(vm);
    drop(story);
    Ok(())
}

/// That of slot A, the only one that is shipped.
fn partition(disk: &Disk, kind: Uuid) -> Result<Partition> {
    let found = disk.partitions()?.into_iter().find(|partition| partition.type_id == kind);
    found.with_context(|| format!("the image has no partition of type {kind}"))
}
