//! What a NAS is for: data that outlives a disk.

use std::ops::Range;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use larder_qemu::{BootMedium, Disk};
use larder_tests::{Story, TestVm};

const MIB: u64 = 1 << 20;
const DISK: u64 = 1024 * MIB;

/// Bound for a scrub or resilver of some hundred MiB on an emulated CPU.
const LONG: Duration = Duration::from_secs(600);

/// How much of a disk is overwritten.
const DAMAGE: u64 = 32 * MIB;

/// Far from ZFS' labels at both ends of its partition (two of 256 KiB each, then 3.5 MiB for a boot block).
const INSIDE: Range<u64> = 16 * MIB..DISK - 64 * MIB;

#[test]
fn raidz1_survives_a_pulled_disk_and_heals_a_corrupted_one() -> Result<()> {
    let story = Story::begin("zfs")?;
    let machine = story.machine(|builder| builder.medium(BootMedium::Nvme).disks(3, DISK))?;
    let mut vm = story.boot(machine)?;
    create_pool(&mut vm)?;
    fill(&mut vm, "before", 12)?;
    ensure!(scrub(&mut vm)? == Scrub { repaired: "0B".into(), errors: "0".into() }, "a fresh pool has errors");

    let before = sums(&mut vm)?;
    pull_disk_while_writing(&mut vm)?;
    ensure!(sums(&mut vm)?.starts_with(&before), "files have changed when a disk was pulled");
    fill(&mut vm, "degraded", 4)?;
    let files = sums(&mut vm)?;
    put_disk_back(&mut vm)?;
    ensure!(sums(&mut vm)? == files, "files have changed after the resilver");

    vm.check_within("zpool export tank", LONG)?;
    let (story, machine) = vm.shut_down()?;
    damage(&machine.disks()[0])?;
    let mut vm = story.boot(machine)?;
    vm.check_within("zpool list tank || zpool import -d /dev/disk/by-id tank", LONG)?;
    let healed = scrub(&mut vm)?;
    ensure!(healed.repaired != "0B" && healed.errors == "0", "the scrub of a corrupted disk says {healed:?}");
    let checksum_errors = checksum_errors(&mut vm, 0)?;
    ensure!(checksum_errors != "0", "nobody blames the corrupted disk");
    ensure!(sums(&mut vm)? == files, "files have changed when a corrupted disk was healed");
    vm.check("zpool clear tank")?;
    ensure!(scrub(&mut vm)?.repaired == "0B", "the first scrub has left something to repair");
    vm.expect("zpool list -H -o health tank", "ONLINE")
}

/// Below /run, as / refuses writes; without compression, so that what is written is on the disks.
fn create_pool(vm: &mut TestVm) -> Result<()> {
    let disks: Vec<_> = vm.machine().disks().iter().map(Disk::by_id).collect();
    vm.check("modprobe zfs")?;
    let create = "zpool create -o ashift=12 -o cachefile=none -O compression=off -m /run/tank tank raidz1";
    vm.check_within(&format!("{create} {}", disks.join(" ")), LONG)?;
    Ok(())
}

/// Writes `count` files of 8 MiB; their names sort after those of earlier calls.
fn fill(vm: &mut TestVm, name: &str, count: usize) -> Result<()> {
    let write = format!("dd if=/dev/urandom of=/run/tank/{name}$i bs=1M count=8 status=none");
    vm.check_within(&format!("for i in $(seq 10 {}); do {write} || exit; done; zpool sync tank", 9 + count), LONG)?;
    Ok(())
}

fn sums(vm: &mut TestVm) -> Result<String> {
    // Not from the cache: ARC would hide what the disks hold.
    vm.check_within("echo 3 > /proc/sys/vm/drop_caches; cd /run/tank && sha256sum before* degraded* 2>/dev/null || sha256sum before*", LONG)
        .map_err(Into::into)
}

fn pull_disk_while_writing(vm: &mut TestVm) -> Result<()> {
    let write = "while :; do dd if=/dev/urandom of=/run/tank/scratch bs=1M count=16 conv=fsync status=none; done";
    vm.check(&format!("systemd-run --unit=larder-test-writer sh -c '{write}'"))?;
    vm.check("sleep 3")?;
    vm.pull_disk(1)?;
    health_becomes(vm, "DEGRADED")?;
    vm.expect("systemctl is-active larder-test-writer", "active")?;
    vm.check_within("systemctl stop larder-test-writer; rm /run/tank/scratch; zpool sync tank", LONG)?;
    Ok(())
}

fn put_disk_back(vm: &mut TestVm) -> Result<()> {
    let disk = vm.machine().disks()[1].by_id();
    vm.plug_disk(1)?;
    vm.check_within(&format!("until [ -e {disk} ]; do sleep 1; done; udevadm settle"), LONG)?;
    vm.check_within(&format!("zpool online tank {disk} && zpool clear tank && zpool wait -t resilver tank"), LONG)?;
    health_becomes(vm, "ONLINE")?;
    let after = scrub(vm)?;
    ensure!(after.errors == "0", "the scrub after the resilver says {after:?}");
    Ok(())
}

fn health_becomes(vm: &mut TestVm, health: &str) -> Result<()> {
    let wait = format!(
        "for i in $(seq 60); do zpool list -H -o health tank | grep -q {health} && exit; sleep 1; done; exit 1"
    );
    if !vm.run_within(&wait, LONG)?.success() {
        bail!("the pool does not become {health}:\n{}", vm.check("zpool status tank")?);
    }
    Ok(())
}

/// Overwrites stretches that hold data: the file is sparse, so it knows.
fn damage(disk: &Disk) -> Result<()> {
    let mut left = DAMAGE;
    for range in disk.data()? {
        let range = range.start.max(INSIDE.start)..range.end.min(INSIDE.end);
        let length = range.end.saturating_sub(range.start).min(left);
        if length > 0 {
            disk.corrupt(range.start..range.start + length)?;
            left -= length;
        }
    }
    ensure!(left < DAMAGE, "the disk holds nothing that could be corrupted");
    Ok(())
}

#[derive(Debug, PartialEq, Eq)]
struct Scrub {
    repaired: String,
    errors: String,
}

/// Scrubs and reads `scan: scrub repaired 0B in 00:00:01 with 0 errors on …`.
fn scrub(vm: &mut TestVm) -> Result<Scrub> {
    vm.check_within("zpool scrub -w tank", LONG)?;
    let status = vm.check("zpool status tank")?;
    parse_scan(&status).with_context(|| format!("no result of a scrub in:\n{status}"))
}

fn parse_scan(status: &str) -> Option<Scrub> {
    let line = status.lines().find_map(|line| line.trim().strip_prefix("scan: scrub repaired "))?;
    let (repaired, rest) = line.split_once(" in ")?;
    let errors = rest.split_once(" with ")?.1.split(' ').next()?;
    Some(Scrub { repaired: repaired.into(), errors: errors.into() })
}

#[test]
fn advice_in_the_status_is_not_taken_for_the_result_of_a_scrub() {
    let status = "action: Determine if the device needs to be replaced, and replace the device with 'zpool replace'.\n  \
                  scan: scrub repaired 31.9M in 00:00:03 with 0 errors on Sun Nov 22 19:38:00 2026\n";
    assert_eq!(parse_scan(status), Some(Scrub { repaired: "31.9M".into(), errors: "0".into() }));
}

/// The last column of a disk's line: `NAME STATE READ WRITE CKSUM`.
fn checksum_errors(vm: &mut TestVm, disk: usize) -> Result<String> {
    let status = vm.check("zpool status tank")?;
    let serial = vm.machine().disks()[disk].serial().to_owned();
    let line = status.lines().find(|line| line.contains(&serial));
    let count = line.and_then(|line| line.split_whitespace().nth(4));
    count.map(str::to_owned).with_context(|| format!("{serial} is not in the status:\n{status}"))
}
