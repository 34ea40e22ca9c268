//! What opens the data, when the machine is not as it was: a server is set up, and then has everything happen to it.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use larder_qemu::BootMedium;
use larder_tests::{RECOVERY_KEY, Story, TestVm};

const GIB: u64 = 1 << 30;
/// Bound for what an emulated CPU does in seconds, and a busy one in minutes.
const LONG: Duration = Duration::from_secs(300);
const SETTINGS: &str =
    "schema = 1\n[system]\nhostname = \"nas\"\n[pool]\nlayout = \"mirror\"\n[keys]\nrecovery-key = \"";
/// TPM2_Clear (TPM 2.0 library, part 3, 24.6), authorised by the empty password of the lockout hierarchy: what the firmware's
/// setup does when its owner asks for it.
const CLEAR: &str =
    r"\200\002\000\000\000\033\000\000\001\046\100\000\000\012\000\000\000\011\100\000\000\011\000\000\000\000\000";
/// TPM_RC_SUCCESS, after the tag and the size of an answer.
const CLEARED: &str = "00000000";
const PIN: &str = "24682468";
const PASSPHRASE: &str = "four words of mine";
/// Larder's two disks, and the stranger's.
const STRANGER: usize = 2;

#[test]
fn a_tpm_that_was_cleared_locked_out_or_replaced_ends_at_a_question_and_is_repaired() -> Result<()> {
    let mut vm = set_up(Story::begin("keys-tpm")?)?;
    clear_tpm(&mut vm)?;
    vm.reboot(LONG)?;
    locked(&mut vm, "tpm-replaced", "the TPM was cleared, or it is another one")?;
    vm.settle()?;
    open(&mut vm)?;
    repair(&mut vm)?;
    a_passphrase_takes_little_memory(&mut vm)?;
    locked_out(&mut vm)?;

    let (story, machine) = vm.shut_down()?;
    machine.replace_tpm()?;
    let mut vm = story.boot(machine)?;
    locked(&mut vm, "tpm-replaced", "the TPM was cleared, or it is another one")?;
    open(&mut vm)?;
    repair(&mut vm)
}

#[test]
fn the_recovery_key_opens_the_data_without_larder_without_a_tpm_and_without_a_disk() -> Result<()> {
    let mut vm = set_up(Story::begin("keys-recovery")?)?;
    let kit = vm.check("firstboot keys kit")?;
    let guid = vm.check("zpool list -H -o guid tank")?;

    let (story, mut machine) = vm.shut_down()?;
    machine.set_disk_in(STRANGER, true);
    machine.kernel_arguments(&["systemd.mask=larder-pool.service", "systemd.mask=larder-unlock.service"]);
    let mut vm = story.boot(machine)?;
    make_stranger(&mut vm)?;
    follow(&mut vm, &kit)?;
    vm.check_within("firstboot boot pool; firstboot boot unlock", LONG)?;
    locked(&mut vm, "tpm-system-changed", "the kernel's command line or credentials (register 12)")?;
    vm.expect("zpool list -H -o guid", guid.trim())?;
    open(&mut vm)?;

    let (story, mut machine) = vm.shut_down()?;
    machine.kernel_arguments(&[]);
    machine.set_tpm(false);
    machine.set_disk_in(0, false);
    let mut vm = story.boot(machine)?;
    locked(&mut vm, "tpm-missing", "this machine has no TPM 2.0")?;
    degraded(&mut vm, guid.trim())?;
    open(&mut vm)?;
    without_disks(&mut vm)
}

/// A server whose data is open, by its TPM from now on; the stranger's disk is not in it.
fn set_up(story: Story) -> Result<TestVm> {
    let settings = format!("{SETTINGS}{RECOVERY_KEY}\"\n");
    let mut machine = story.machine(|builder| {
        builder.medium(BootMedium::Nvme).disks(3, 2 * GIB).credential("larder.nas-toml", &settings)
    })?;
    machine.set_disk_in(STRANGER, false);
    let mut vm = story.boot(machine)?;
    vm.check_within("systemctl start larder-pool larder-unlock", LONG)?;
    vm.check("echo twenty years > /mnt/tank/photos")?;
    small(&mut vm)?;
    Ok(vm)
}

/// The program is static and small, and so is what it and its helpers take while they set a pool up.
fn small(vm: &mut TestVm) -> Result<()> {
    let size: u64 = vm.check("stat -L -c %s /usr/bin/firstboot")?.trim().parse()?;
    vm.check("! grep -q -a ld-linux /usr/bin/firstboot")?;
    let peak: u64 = vm.check("systemctl show --value -p MemoryPeak larder-pool")?.trim().parse()?;
    println!("firstboot: {size} bytes; memory of the setup: {peak} bytes");
    ensure!(size <= 8 << 20 && peak <= 32 << 20, "firstboot is {size} bytes large, and has taken {peak}");
    Ok(())
}

/// As the firmware's setup does.
fn clear_tpm(vm: &mut TestVm) -> Result<()> {
    let talk = format!(
        "exec 3<>/dev/tpmrm0; printf '{CLEAR}' > /run/clear; cat /run/clear >&3; head -c 10 <&3 | od -A n -t x1"
    );
    let answer = vm.check(&format!("bash -c \"{talk}\""))?.replace([' ', '\n'], "");
    ensure!(answer.get(12..20) == Some(CLEARED), "the TPM answers {answer:?}");
    Ok(())
}

/// The data is not open, everybody who has to know is told why, and the console asks.
fn locked(vm: &mut TestVm, finding: &str, why: &str) -> Result<()> {
    vm.check_within("systemctl start larder-pool larder-unlock || true", LONG)?;
    let status = vm.run("firstboot status")?.text;
    ensure!(status.contains(finding) && status.contains(why), "the status says {status:?}");
    ensure!(status.contains("data-locked"), "the status says {status:?}");
    vm.expect("zfs get -H -o value keystatus tank/data", "unavailable")?;
    asks(vm)?;
    vm.wait_console(why, LONG).map(drop).context("the console does not say why")
}

/// The console asks, once.
fn asks(vm: &mut TestVm) -> Result<()> {
    let unit = "larder-unlock-serial@ttyS0.service";
    vm.check_within(&format!("until systemctl is-active {unit}; do sleep 1; done"), LONG)?;
    vm.expect(&format!("systemctl show --value -p NRestarts {unit}"), "0")
}

fn type_in(what: &str, command: &str) -> String {
    format!("printf '%s\\n' '{what}' | {command}")
}

/// By the recovery key.
fn open(vm: &mut TestVm) -> Result<()> {
    let said = vm.check_within(&type_in(RECOVERY_KEY, "firstboot unlock"), LONG)?;
    ensure!(said.contains("is open, by recovery."), "unlock said {said:?}");
    vm.expect("cat /mnt/tank/photos", "twenty years")
}

/// The TPM opens the data again, as it does at each start.
fn repair(vm: &mut TestVm) -> Result<()> {
    vm.check_within(&type_in(RECOVERY_KEY, "firstboot keys repair"), LONG)?;
    vm.expect("firstboot keys test tpm2", "tpm2 opens tank/data.")?;
    lock(vm)?;
    vm.check_within("systemctl restart larder-unlock", LONG)?;
    vm.expect("cat /mnt/tank/photos", "twenty years")?;
    let times = "ExecMainStartTimestampMonotonic,ExecMainExitTimestampMonotonic";
    println!("unlocking, in microseconds: {}", vm.check(&format!("systemctl show -p {times} larder-unlock"))?);
    let status = vm.run("firstboot status")?.text;
    ensure!(!status.contains("tpm-"), "the status still says {status:?}");
    Ok(())
}

/// As it is at a start.
fn lock(vm: &mut TestVm) -> Result<()> {
    vm.check("systemctl stop larder-storage.target; zfs unmount -a && zfs unload-key tank/data")?;
    vm.check("rm /run/larder/storage-open").map(drop).map_err(Into::into)
}

/// Argon2id is to take memory, but the machine may have no more than this for it.
fn a_passphrase_takes_little_memory(vm: &mut TestVm) -> Result<()> {
    vm.check_within(&type_in(PASSPHRASE, "firstboot keys add passphrase"), LONG)?;
    let limit = "systemd-run --pipe --wait -p MemoryMax=32M -p MemorySwapMax=0";
    let said = vm.check_within(&type_in(PASSPHRASE, &format!("{limit} firstboot keys test passphrase 2>&1")), LONG)?;
    println!("{said}");
    vm.check("firstboot keys remove passphrase").map(drop).map_err(Into::into)
}

/// A thief has tried PINs until the chip let nobody try any more.
fn locked_out(vm: &mut TestVm) -> Result<()> {
    // Whoever may add a key is told by the TPM.
    vm.check_within(&type_in(PIN, "firstboot keys add tpm2-pin"), LONG)?;
    vm.check_within(&type_in(PIN, "firstboot keys test tpm2-pin"), LONG)?;
    let mut said = String::new();
    for _ in 0..8 {
        said = vm.run_within(&type_in("13571357", "firstboot keys test tpm2-pin"), LONG)?.text;
        if said.contains("too many wrong PINs") {
            break;
        }
    }
    ensure!(said.contains("too many wrong PINs"), "the last wrong PIN was answered {said:?}");
    lock(vm)?;
    let right = vm.run_within(&type_in(PIN, "firstboot unlock"), LONG)?;
    ensure!(right.status == 1 && right.text.contains("too many wrong PINs"), "the PIN was answered {right:?}");
    open(vm)?;
    vm.check("firstboot keys remove tpm2-pin")?;
    Ok(())
}

/// Another pool `tank`, of somebody else.
fn make_stranger(vm: &mut TestVm) -> Result<()> {
    let disk = vm.machine().disks()[STRANGER].by_id();
    vm.check_within(&format!("zpool create -t stranger -m none tank {disk} && zpool export stranger"), LONG)?;
    Ok(())
}

/// The commands of the recovery kit, as they are printed, on a Debian with zfsutils that has no larder.
fn follow(vm: &mut TestVm, kit: &str) -> Result<()> {
    vm.check("mount --bind /dev/null /usr/bin/firstboot; ! firstboot --version; test -z \"$(zpool list -H)\"")?;
    let mut commands: Vec<&str> = kit.lines().filter_map(|line| line.strip_prefix("    ")).collect();
    // The image has what it would install, and no network.
    ensure!(commands.remove(0).starts_with("apt-get install --yes "), "the kit begins with something else");
    let last = commands.pop().context("a kit has commands")?;
    let script = format!("{}\ncat $(find /mnt/rescue -name photos)\n{last}\n", commands.join("\n"));
    vm.check(&format!(
        "cat > /run/kit <<'END'\n{script}END\nprintf '%s\\n' {} > /run/typed",
        RECOVERY_KEY.to_lowercase()
    ))?;
    let said = vm.check_within("bash -e -o pipefail /run/kit < /run/typed", LONG)?;
    ensure!(said.contains("twenty years"), "the kit brought {said:?}");
    vm.check("umount /usr/bin/firstboot; rm /run/typed; test -z \"$(zpool list -H)\"")?;
    Ok(())
}

/// The pool is there with what is left of its disks, and the stranger of the same name is not.
fn degraded(vm: &mut TestVm, guid: &str) -> Result<()> {
    vm.expect("zpool list -H -o guid,health", &format!("{guid}\tDEGRADED"))?;
    let status = vm.run("firstboot status")?.text;
    ensure!(status.contains("disk-missing: the disk "), "the status says {status:?}");
    Ok(())
}

/// Only the stranger is left.
fn without_disks(vm: &mut TestVm) -> Result<()> {
    vm.check_within("zpool export tank", LONG)?;
    vm.pull_disk(1)?;
    vm.run_within("firstboot boot pool", LONG)?;
    vm.check("test -z \"$(zpool list -H)\"")?;
    vm.check("zpool import -d /dev/disk/by-id | grep 'pool: tank'")?;
    let status = vm.run("firstboot status")?.text;
    ensure!(status.contains("pool-missing") || status.contains("pool-not-there"), "the status says {status:?}");
    Ok(())
}
