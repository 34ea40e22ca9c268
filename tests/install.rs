//! From the stick to a disk inside: `firstboot install`, then the stick is pulled out and the disk starts.

use std::ops::Range;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use larder_qemu::{BootMedium, Machine, MachineBuilder};
use larder_tests::{Story, TestVm};

/// Bound for an installation: some hundred MB are read, hashed, written and read again on an emulated CPU.
const LONG: Duration = Duration::from_secs(600);
const GIB: u64 = 1 << 30;
const MIB: u64 = 1 << 20;

/// What QEMU's card is told to erase, it overwrites in steps of 512 bytes: five gigabytes keep the whole machine busy for
/// ten minutes, and are then there on the host's disk. A real card forgets them in a moment.
const WITHOUT_DISCARD: &str = "[Service]\nExecStart=\nExecStart=systemd-repart --dry-run=no --discard=no\n";

#[test]
fn a_disk_with_large_sectors_and_a_sata_disk_start_without_the_stick() -> Result<()> {
    let targets = |builder: MachineBuilder| builder.target(BootMedium::Nvme, 4096).target(BootMedium::Sata, 512);
    let story = Story::begin("install-nvme")?;
    let machine = story.machine(|builder| targets(builder.medium(BootMedium::Usb).disks(1, GIB)))?;
    let mut vm = story.boot(machine)?;
    vm.settle()?;
    wrong_disks_are_refused(&mut vm)?;
    let (mut story, mut machine) = install(vm, 0..2)?;

    // Both are there: what the firmware starts runs, whichever disk the kernel finds first.
    for target in [Some(0), None] {
        machine.start_from(target);
        (story, machine) = runs_from_what_was_started(story, machine, target)?;
    }
    machine.set_medium_in(false);
    for target in 0..2 {
        machine.start_from(Some(target));
        (story, machine) = runs_from_what_was_started(story, machine, Some(target))?;
    }
    Ok(())
}

#[test]
fn a_usb_disk_with_large_sectors_a_card_and_an_nvme_disk_start_without_the_stick() -> Result<()> {
    let targets = |builder: MachineBuilder| {
        let builder = builder.target(BootMedium::Usb, 4096).target(BootMedium::Nvme, 512).target(BootMedium::Mmc, 512);
        builder.target(BootMedium::Usb, 512).credential("systemd.unit-dropin.systemd-repart.service", WITHOUT_DISCARD)
    };
    let story = Story::begin("install-usb")?;
    let machine = story.machine(|builder| targets(builder.medium(BootMedium::Usb)))?;
    let mut vm = story.boot(machine)?;
    vm.settle()?;
    vm.expect("firstboot install | grep -c 'not possible'", "1")?;
    let pulled = 3;
    a_stick_that_is_pulled_out_does_not_start(&mut vm, pulled)?;
    let (mut story, mut machine) = install(vm, 0..pulled)?;
    machine.set_medium_in(false);
    for target in 0..pulled {
        // The firmware has no driver for the card: it is handed the kernel, and the initrd finds the root on the card. The
        // other disks have the same system, so they have to go.
        let is_card = machine.targets()[target].medium == BootMedium::Mmc;
        if is_card {
            machine.kernel(Some(&larder_tests::image()?.with_extension("uki.efi")))?;
            machine.keep_target(target);
        }
        let target = if is_card { 0 } else { target };
        machine.start_from(Some(target));
        (story, machine) = runs_from_what_was_started(story, machine, Some(target))?;
    }
    Ok(())
}

/// Installs to these targets and switches off.
fn install(mut vm: TestVm, targets: Range<usize>) -> Result<(Story, Machine)> {
    for index in targets {
        let target = vm.machine().targets()[index].clone();
        let id = target.by_id();
        let serial = if target.medium == BootMedium::Mmc { "0xdeadbeef" } else { target.disk.serial() };
        let proof = &serial[serial.len() - 4..];
        let said = vm.check_within(&format!("firstboot install --target '{id}' --yes-serial {proof}"), LONG)?;
        ensure!(said.contains("verified in") && said.contains("pull out the stick"), "{said}");
    }
    vm.shut_down()
}

/// Boots: root, state and ESP are those of the disk that was started; the rest of the layout is made.
fn runs_from_what_was_started(story: Story, machine: Machine, target: Option<usize>) -> Result<(Story, Machine)> {
    let id = target
        .map_or("/dev/disk/by-id/usb-QEMU_QEMU_HARDDISK_larder-boot-0:0".to_owned(), |i| machine.targets()[i].by_id());
    let mut vm = story.boot(machine)?;
    vm.settle().with_context(|| format!("starting from {id}"))?;
    let disk = vm.check(&format!("basename $(readlink -f '{id}')"))?;
    let disk = disk.trim();
    let disk_of = |device: &str| format!("basename $(dirname $(readlink -f /sys/class/block/$(basename {device})))");
    vm.expect(&disk_of("$(ls /sys/dev/block/$(mountpoint -d /)/slaves | head -n 1)"), disk)?;
    vm.expect(&disk_of("$(findmnt -n -o SOURCE /state)"), disk)?;
    // A card is started without a boot loader, so nobody has said which ESP is the right one.
    if !vm.machine().is_kernel_given() {
        // The boot loader counts down; a good boot gives back all tries.
        vm.expect("ls /boot/EFI/Linux", &format!("larder_{}+3.efi", env!("CARGO_PKG_VERSION")))?;
        vm.expect(&disk_of("$(findmnt -n -o SOURCE --types vfat /boot)"), disk)?;
    }
    vm.expect("firstboot health", "")?;
    vm.shut_down()
}

/// A USB disk goes while it is being written: that is said plainly, and nothing on it could start.
fn a_stick_that_is_pulled_out_does_not_start(vm: &mut TestVm, index: usize) -> Result<()> {
    const LOG: &str = "/run/pulled.log";
    let target = vm.machine().targets()[index].clone();
    let install = format!("firstboot install --target {} --yes-serial get{index}", target.by_id());
    vm.check(&format!("systemd-run --quiet sh -c '{install} > {LOG} 2>&1; echo status $? >> {LOG}'"))?;
    let deadline = Instant::now() + LONG;
    // The start is erased, and some pieces are written.
    while target.disk.data()?.iter().map(|range| range.end - range.start).sum::<u64>() < 40 * MIB {
        ensure!(Instant::now() < deadline, "nothing is written: {}", vm.check(&format!("cat {LOG}"))?);
        std::thread::sleep(Duration::from_millis(200));
    }
    vm.pull_target(index)?;
    let said = vm.check_within(&format!("until grep -s status {LOG}; do sleep 1; done; cat {LOG}"), LONG)?;
    ensure!(said.contains("status 1") && said.contains("was it pulled out?"), "{said}");
    for block in 0..MIB / 4096 {
        ensure!(
            target.disk.read_at::<4096>(block * 4096)? == [0; 4096],
            "block {block} of the pulled stick is written"
        );
    }
    Ok(())
}

/// Whatever a person could get wrong: the stick itself, a disk of a pool, another name, another serial number.
fn wrong_disks_are_refused(vm: &mut TestVm) -> Result<()> {
    let pool_disk = vm.machine().disks()[0].by_id();
    let target = vm.machine().targets()[0].by_id();
    vm.check_within(&format!("modprobe zfs && zpool create -o cachefile=none -m none tank {pool_disk}"), LONG)?;
    let mut refuses = |device: &str, proof: &str, reason: &str| -> Result<()> {
        let said = vm.run(&format!("firstboot install --target '{device}' --yes-serial {proof}"))?;
        ensure!(said.status == 1 && said.text.contains(reason), "{device}: {} {}", said.status, said.text);
        Ok(())
    };
    refuses("/dev/disk/by-id/usb-QEMU_QEMU_HARDDISK_larder-boot-0:0", "boot", "the running system is on")?;
    refuses("/dev/nvme0n1", "get0", "no name that stays the same")?;
    refuses(&target, "get1", "not the last 4 characters of its serial number")?;
    refuses(&pool_disk, "isk0", "ZFS pool \"tank\"")?;
    vm.check_within("zpool export tank", LONG)?;
    let said = vm.run(&format!("firstboot install --target '{pool_disk}' --yes-serial isk0"))?;
    ensure!(said.status == 1 && said.text.contains("wipefs"), "an exported pool: {}", said.text);
    vm.check(&format!("test -z \"$(blkid -o value -s PTTYPE {target})\"")).context("a refused disk was written to")?;
    Ok(())
}
