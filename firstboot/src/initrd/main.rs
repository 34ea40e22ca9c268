//! `/init` of the initrd: finds the root, has the kernel verify it, and becomes its systemd.
//!
//! ```text
//! /proc /sys /dev /run        [`mounts::api`]
//! drivers, dm-verity, erofs   [`modules::load_all`]: all that the initrd brings
//! the slot's two partitions   [`slot::Slot::find`]: by the UUIDs that follow from `roothash=`, on the disk that the boot
//!                             loader has come from
//! /dev/mapper/root            [`verity::open`]
//! /sysroot, its /etc, /var    [`mounts::root`]
//! systemd of the root         [`mounts::enter`], then exec
//! ```
//!
//! A second systemd with its own udev would do the same, and did: it took a quarter of the time between
//! power-on and the login prompt, and two thirds of the initrd's size. What it can do beyond this (a
//! shell, other roots, passwords) an appliance must not do anyway.
//!
//! Whatever fails ends in a restart, which uses up one of the boot loader's tries: in the end the other
//! slot is started. Whoever stands at the console need not be the owner, so nobody is asked anything.

mod device_mapper;
mod efi;
mod modules;
mod mounts;
mod slot;
mod verity;

use std::convert::Infallible;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use firstboot::command_line;
use firstboot::verity::RootHash;
use nix::sys::reboot::{RebootMode, reboot};

use efi::Told;
use slot::Slot;

/// How long a disk may take to appear. Sticks behind slow hubs need up to ten seconds.
const PATIENCE: Duration = Duration::from_secs(45);
/// How long the disk that this system was started from may take to appear when another one has the same system.
const LOYALTY: Duration = Duration::from_secs(20);
/// So that a person can read what is wrong.
const RESTART_AFTER: Duration = Duration::from_secs(10);
/// The same when no other system is left, and nothing is gained by haste.
const RESTART_LATER: Duration = Duration::from_secs(120);
/// For whoever stands before a screen when no system is left that could start.
const NO_SYSTEM_LEFT: &str = "larder: No system on this disk starts as it should; this one is tried once more.\n\
    larder: Your data is on other disks, and nothing has happened to it. If this goes on:\n\
    larder:   1. on another computer, write a stick: larder flash\n\
    larder:   2. start this machine from it\n\
    larder:   3. have it take over the pool, with your recovery key: firstboot adopt";
const SYSTEMD: &str = "/usr/lib/systemd/systemd";
/// Tells systemd-repart that there is nothing to do; in a folder that [`mounts::root`] makes.
const COMPLETE: &str = "/run/larder/disk-is-complete";

fn main() -> ExitCode {
    if std::process::id() != 1 {
        eprintln!("error: this is the init of larder's initrd, and of no use otherwise");
        return ExitCode::from(2);
    }
    let mut told = Told::default();
    let error = match boot(&mut told) {
        Err(error) => error,
        Ok(never) => match never {},
    };
    let pause = if told.is_last_resort { RESTART_LATER } else { RESTART_AFTER };
    eprintln!("larder: {error:#}\nSystem damaged or its disk missing: restart in {} s", pause.as_secs());
    std::thread::sleep(pause);
    match reboot(RebootMode::RB_AUTOBOOT) {
        // The kernel panics when its first process ends, and restarts after that (`panic=` on its command line).
        Err(_) => ExitCode::FAILURE,
        Ok(never) => match never {},
    }
}

fn boot(told: &mut Told) -> anyhow::Result<Infallible> {
    mounts::api().context("mounting /proc, /sys, /dev and /run")?;
    let root_hash = command_line::root_hash()?;
    modules::load_all()?;
    *told = Told::read();
    if told.is_last_resort {
        // Before anything is read: a damaged block stops the kernel, and then nothing is said any more.
        eprintln!("{NO_SYSTEM_LEFT}");
    }
    let slot =
        find(&root_hash, told)?.with_context(|| format!("no disk holds the system with the root hash {root_hash}"))?;
    println!("larder: the system is on {slot}");
    let device = verity::open(&slot, &root_hash).context("preparing the verification of the root")?;
    mounts::root(&device)?;
    if slot.disk_is_complete {
        fs_err::write(COMPLETE, "")?;
    }
    mounts::enter().context("leaving the initrd")?;
    Err(Command::new(SYSTEMD).arg0("/sbin/init").env_clear().exec()).with_context(|| format!("starting {SYSTEMD}"))
}

/// The slot on the disk that the boot loader has come from; or on any, if that disk does not turn up.
fn find(root_hash: &RootHash, told: &Told) -> anyhow::Result<Option<Slot>> {
    let start = Instant::now();
    if let Some(partition) = told.partition {
        let own = wait_until(start + LOYALTY, || Slot::find(root_hash, Some(partition)))?;
        if own.is_some() {
            return Ok(own);
        }
        eprintln!("larder: the disk that this system was started from is missing");
    }
    wait_until(start + PATIENCE, || Slot::find(root_hash, None))
}

/// Asks `probe` until it has something; `None` when the time is up.
fn wait_until<T>(deadline: Instant, mut probe: impl FnMut() -> anyhow::Result<Option<T>>) -> anyhow::Result<Option<T>> {
    loop {
        let found = probe()?;
        if found.is_some() || Instant::now() >= deadline {
            return Ok(found);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Joins a folder and a name in a string of `mount(2)`.
fn text(path: &Path) -> anyhow::Result<&str> {
    path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))
}
