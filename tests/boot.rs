//! The image boots, and what it boots into is what was signed off.

use std::sync::MutexGuard;

use anyhow::{Result, ensure};
use larder_qemu::BootMedium;
use larder_tests::{SharedVm, Story, TestVm};

static VM: SharedVm = SharedVm::new();

fn vm() -> Result<MutexGuard<'static, TestVm>> {
    VM.get(|| {
        let story = Story::begin("boot")?;
        let machine = story.machine(|builder| builder.medium(BootMedium::Nvme))?;
        let mut vm = story.boot(machine)?;
        // Wait here, so that no test below meets a system that is still starting; the verdict is the first test's.
        let _ = vm.settle();
        Ok(vm)
    })
}

#[test]
fn boots_to_multi_user_with_no_failed_unit() -> Result<()> {
    let mut vm = vm()?;
    vm.settle()?;
    // Our own target wants the state and the health gate at every boot, not only while one is on trial.
    vm.expect("systemctl get-default", "larder.target")?;
    vm.expect("systemctl is-active multi-user.target", "active")?;
    vm.expect("systemctl --failed --no-legend --plain", "")
}

#[test]
fn a_good_boot_is_kept_and_the_next_one_is_counted_too() -> Result<()> {
    let mut vm = vm()?;
    vm.settle()?;
    vm.expect("firstboot health", "")?;
    vm.expect("systemctl is-active boot-complete.target", "active")?;
    vm.check("systemctl start larder-mark-good")?;
    // The image brings `larder_VERSION+3.efi`; the boot loader counts down, and a good boot gives back all tries.
    let name = vm.check("ls /boot/EFI/Linux")?;
    ensure!(name.trim().starts_with("larder_") && name.trim().ends_with("+3.efi"), "the kernel is on trial: {name}");
    Ok(())
}

#[test]
fn root_is_verity_backed_erofs_and_refuses_writes() -> Result<()> {
    let mut vm = vm()?;
    vm.expect("findmnt -n -o FSTYPE /", "erofs")?;
    vm.expect("cat /sys/dev/block/$(findmnt -n -o MAJ:MIN / | tr -d ' ')/ro", "1")?;
    let kind = vm.check("cat /sys/dev/block/$(findmnt -n -o MAJ:MIN / | tr -d ' ')/dm/uuid")?;
    ensure!(kind.starts_with("CRYPT-VERITY-"), "the device below / is {kind:?}");
    for write in [
        "touch /larder-test",
        "touch /usr/larder-test",
        "rm /usr/bin/true",
        "mount -o remount,rw / && touch /larder-test",
    ] {
        let output = vm.run(write)?;
        ensure!(!output.success(), "`{write}` succeeded");
    }
    let refusal = vm.run("touch /usr/larder-test")?.text;
    ensure!(refusal.contains("Read-only file system"), "the refusal is {refusal:?}");
    Ok(())
}

#[test]
fn every_file_of_the_root_has_the_one_time() -> Result<()> {
    // The builder's EPOCH: the release of trixie. Bound alone, / shows what volatile /etc and /var lie over.
    const EPOCH: i64 = 1_754_697_600;
    let mut vm = vm()?;
    vm.check("mkdir -p /run/image && mount --bind / /run/image")?;
    let others = format!("find /run/image -xdev -newermt @{EPOCH} -o -xdev ! -newermt @{}", EPOCH - 1);
    vm.expect(&format!("{others} | head"), "")?;
    let count = vm.check("find /run/image -xdev | wc -l")?;
    ensure!(count.trim().parse().is_ok_and(|count: u32| count > 1000), "only {count} files were looked at");
    Ok(())
}

#[test]
fn zfs_loads() -> Result<()> {
    let mut vm = vm()?;
    vm.check("modprobe zfs")?;
    let versions = vm.check("zfs version")?;
    let (tools, module) = versions.trim().split_once('\n').unwrap_or((versions.trim(), ""));
    // The module's version may carry a suffix of its packaging; tools and module come from one release.
    let release = |version: &str| {
        version.trim_start_matches("zfs-").trim_start_matches("kmod-").split('-').next().map(str::to_owned)
    };
    ensure!(!module.is_empty() && release(tools) == release(module), "tools and module differ: {versions}");
    vm.check("test -c /dev/zfs").map(drop).map_err(Into::into)
}
