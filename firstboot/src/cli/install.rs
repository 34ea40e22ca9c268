//! `firstboot install`

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use firstboot::disk::{self, Machine, Size};
use firstboot::flash::{self, FileDevice, Identity, Plan};
use firstboot::install::{RULES, Running};
use firstboot::report::Mistake;

use super::progress::Line;

/// What may be typed.
#[derive(Debug, Args)]
pub(crate) struct InstallArgs {
    /// Disk to install to, as in /dev/disk/by-id [default: lists all disks]
    #[arg(long, value_name = "NAME")]
    target: Option<PathBuf>,
    /// The last four characters of the disk's serial number, instead of being asked for them
    #[arg(long, value_name = "XXXX", requires = "target")]
    yes_serial: Option<String>,
}

/// Copies the running system to another disk.
pub(crate) fn run(args: &InstallArgs) -> anyhow::Result<ExitCode> {
    let machine = Machine::here();
    let Some(target) = &args.target else { return list(&machine) };
    let choice = machine.choose(target, RULES).map_err(Mistake::from)?;
    let typed = args.yes_serial.clone().map_or_else(|| disk::ask(&choice), Ok)?;
    let target = choice.confirm(&typed).map_err(Mistake::from)?;
    let device = FileDevice::open(&target).map_err(Mistake::from)?;
    let running = Running::find()?;
    let content = running.content()?;
    let plan = Plan::new(&content, target.disk().size, target.disk().sector, &Identity::random())?;
    let summary = flash::write(&device, &plan, &Line::default()).map_err(Mistake::from)?;
    let (writing, verifying) = (summary.writing.as_secs_f64(), summary.verifying.as_secs_f64());
    println!("{} written in {writing:.1} s, verified in {verifying:.1} s.", Size(summary.bytes));
    println!("Next: switch off, pull out the stick, switch on.");
    Ok(ExitCode::SUCCESS)
}

fn list(machine: &Machine) -> anyhow::Result<ExitCode> {
    let disks = machine.disks().context("looking for disks in /sys/block")?;
    print!("{}", disk::list(&disks, |disk| RULES.refusal(disk, &disks).map(|refusal| refusal.to_string())));
    println!("\nfirstboot install --target NAME copies this system to one of them.");
    Ok(ExitCode::SUCCESS)
}
