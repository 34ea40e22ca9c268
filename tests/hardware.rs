//! What the image does with its hardware, on a machine with 4 GB and nothing special.

use std::sync::MutexGuard;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use larder_qemu::{BootMedium, MachineBuilder};
use larder_tests::{SharedVm, Story, TestVm};

static VM: SharedVm = SharedVm::new();

/// Memory of the machine in MiB.
const MEMORY: u32 = 4096;

/// Bound for what waits for nothing.
const SHORT: Duration = Duration::from_secs(60);

fn vm() -> Result<MutexGuard<'static, TestVm>> {
    VM.get(|| boot("hardware", |builder| builder))
}

fn boot(name: &str, more: impl FnOnce(MachineBuilder) -> MachineBuilder) -> Result<TestVm> {
    let story = Story::begin(name)?;
    let machine = story.machine(|builder| more(builder.medium(BootMedium::Nvme).memory_mib(MEMORY)))?;
    let mut vm = story.boot(machine)?;
    vm.settle()?;
    Ok(vm)
}

/// On a machine of its own: others put faults into the one that is shared.
#[test]
fn after_a_boot_the_hardware_was_looked_at_and_is_well_and_the_system_needs_little_memory() -> Result<()> {
    // With a screen, as servers have it.
    let mut vm = boot("idle", |builder| builder.kernel_argument("console=tty0"))?;
    needs_little_memory(&mut vm)?;
    vm.expect("systemctl show -p Result --value larder-hardware", "success")?;
    vm.expect("cat /run/larder/findings/hardware.json", "[]")?;
    vm.expect("firstboot hardware check", "")?;
    vm.expect("firstboot status", "")?;
    // Nobody has said anything of a pool, so whoever stands before the screen is asked.
    vm.expect("systemctl is-active larder-setup-screen@tty1", "active")?;
    vm.expect("tr -d '\\0' < /dev/vcs1 | grep -o 'This server has no pool yet'", "This server has no pool yet")?;
    let detected = vm.check("firstboot hardware detect")?;
    ensure!(
        detected.starts_with("qemu ") && detected.contains("exact"),
        "the machine is taken for another:\n{detected}"
    );
    Ok(())
}

#[test]
fn a_fault_of_the_hardware_is_in_the_status_and_does_no_harm_to_the_boot() -> Result<()> {
    let mut vm = vm()?;
    // A line as the driver would say it.
    vm.check("echo 'nvme nvme7: Disabling device after reset failure: -19' > /dev/kmsg")?;
    let check = vm.run("firstboot hardware check")?;
    ensure!(check.status == 1 && check.text.contains("drive-dropped: nvme7 "), "it said {:?}", check.text);
    vm.check("systemctl restart larder-hardware")?;
    let status = vm.run("firstboot status")?;
    ensure!(status.status == 1 && status.text.contains("drive-dropped: nvme7 "), "it said {:?}", status.text);
    // The gate asks about the system only.
    vm.expect("firstboot health", "")
}

#[test]
fn without_a_gpu_the_media_test_says_so_and_fails_at_once() -> Result<()> {
    let mut vm = vm()?;
    let start = Instant::now();
    let output = vm.run_within("firstboot hardware media", SHORT)?;
    ensure!(output.status == 1, "the status is {}", output.status);
    ensure!(output.text.contains("uses no GPU, and the machine shows none"), "it said {:?}", output.text);
    ensure!(start.elapsed() < SHORT, "it took {:?}", start.elapsed());
    Ok(())
}

#[test]
fn zfs_gets_the_share_of_memory_that_the_profile_says() -> Result<()> {
    let mut vm = vm()?;
    let share = profile("memory", "arc-percent")?;
    let limit = number(&vm.check("cat /sys/module/zfs/parameters/zfs_arc_max")?)?;
    let total = meminfo(&mut vm, "MemTotal")?;
    ensure!(limit.abs_diff(total * share / 100) < 2 << 20, "{share} % of {total} are not {limit}");
    let maximum = arcstat(&mut vm, "c_max")?;
    ensure!(maximum == limit, "the cache may grow to {maximum}, not {limit}");
    Ok(())
}

fn needs_little_memory(vm: &mut TestVm) -> Result<()> {
    const MOST: u64 = 250_000_000;
    // What the boot has read and nobody needs is no demand for memory.
    vm.check("sync; echo 3 > /proc/sys/vm/drop_caches")?;
    let (total, available) = (meminfo(vm, "MemTotal")?, meminfo(vm, "MemAvailable")?);
    let used = total - available - arcstat(vm, "size")?;
    println!("idle: {} MB of {} MB", used / 1_000_000, total / 1_000_000);
    let processes = vm.check("grep -H VmRSS /proc/[0-9]*/status | sort -k2 -n -r | head -20")?;
    ensure!(used <= MOST, "the idle system uses {used} bytes, more than {MOST}:\n{processes}");
    Ok(())
}

/// A number of the profile `qemu`.
fn profile(table: &str, key: &str) -> Result<u64> {
    let text = fs_err::read_to_string(larder_tests::workspace().join("profiles/qemu.toml"))?;
    let profile: toml::Table = text.parse()?;
    let value = profile.get(table).and_then(|table| table.get(key)?.as_integer());
    Ok(value.with_context(|| format!("the profile has no {table}.{key}"))?.try_into()?)
}

/// A line of /proc/meminfo in bytes.
fn meminfo(vm: &mut TestVm, name: &str) -> Result<u64> {
    let text = vm.check("cat /proc/meminfo")?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')?.trim().strip_suffix(" kB"));
    Ok(number(line.with_context(|| format!("no {name} in {text}"))?)? << 10)
}

/// A line of ZFS' own statistics: name, kind, value.
fn arcstat(vm: &mut TestVm, name: &str) -> Result<u64> {
    let text = vm.check("cat /proc/spl/kstat/zfs/arcstats")?;
    let line = text.lines().find(|line| line.split_whitespace().next() == Some(name));
    number(line.and_then(|line| line.split_whitespace().nth(2)).with_context(|| format!("no {name} in {text}"))?)
}

fn number(text: &str) -> Result<u64> {
    text.trim().parse().with_context(|| format!("{text:?} is no number"))
}
