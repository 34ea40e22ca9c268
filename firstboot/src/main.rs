//! The program on the appliance.

mod cli;

use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use cli::boot::{self, BootVerb};
use cli::hardware::{self, HardwareVerb};
use cli::install::{self, InstallArgs};
use cli::keys::{self, KeysArgs};
use cli::pool::{self, AdoptArgs, PlanArgs, SetupArgs};
use cli::settings::{self, ApplyArgs, CheckArgs};
use cli::status;
use cli::unlock;
use cli::update::{self, UpdateVerb};
use firstboot::boot_disk;
use firstboot::health::System;
use firstboot::report;

/// Turns settings into a working home server, unlocks it, and reports on it.
#[derive(Debug, Parser)]
#[command(name = "firstboot", version)]
struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Says whether this boot is good enough to keep; exit status 1 when it is not.
    Health {
        /// Prints the findings as JSON.
        #[arg(long)]
        json: bool,
        /// Restarts the machine when it is not, if there is another system to turn to.
        #[arg(long, hide = true)]
        gate: bool,
    },
    /// Says what is wrong with the appliance, as far as it is known; exit status 1 when something is.
    Status {
        /// Prints the findings as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Looks at the machine that it runs on.
    Hardware {
        #[command(subcommand)]
        verb: HardwareVerb,
    },
    /// Copies the running system from a stick to a disk inside, and checks that it is there.
    ///
    /// Without --target all disks are listed, with what is on them and why one cannot be installed to. What was on the disk
    /// is lost. Nothing starts from it until all was written, read back and compared.
    Install(InstallArgs),
    /// Opens the data with a passphrase or the recovery key.
    ///
    /// At a terminal it asks, and waits for the right one; otherwise it reads one line.
    Unlock,
    /// Looks after the ways to open the data.
    Keys(KeysArgs),
    /// Says what is wrong with a settings file; exit status 1 when something is.
    Check(CheckArgs),
    /// Puts changed settings into force: shows what changes, asks, and restarts only what has changed.
    Apply(ApplyArgs),
    /// Shows what would become of which disks, and changes nothing.
    Plan(PlanArgs),
    /// Makes the pool: asks questions, shows the plan, and goes on once somebody agrees to it.
    Setup(SetupArgs),
    /// Takes over a pool that another boot medium has set up: the pool and a key bring back settings and identity.
    Adopt(AdoptArgs),
    /// Looks for newer versions of the system and installs them beside the running one.
    Update {
        #[command(subcommand)]
        verb: UpdateVerb,
    },
    /// What the units of the image start.
    #[command(hide = true)]
    Boot {
        #[command(subcommand)]
        verb: BootVerb,
    },
    /// Says whether a partition is on the disk that the system was started from; exit status 1 when it is not.
    ///
    /// For udev, which names the state partition of that disk, and of no other, /dev/disk/larder/state.
    #[command(hide = true)]
    OnBootDisk {
        /// The kernel's name of the partition, such as sda7.
        partition: String,
    },
}

fn main() -> ExitCode {
    let result = match Args::parse().verb {
        Verb::Health { gate: true, .. } => update::gate(),
        Verb::Health { json, gate: false } => cli::print(&System::at("/").faults(), json),
        Verb::Status { json } => status::show(json),
        Verb::Hardware { verb } => hardware::run(&verb),
        Verb::Install(args) => install::run(&args),
        Verb::Unlock => unlock::run(),
        Verb::Keys(args) => keys::run(&args),
        Verb::Check(args) => settings::check(&args),
        Verb::Apply(args) => settings::apply(&args),
        Verb::Plan(args) => pool::plan(&args),
        Verb::Setup(args) => pool::setup(&args),
        Verb::Adopt(args) => pool::adopt(&args),
        Verb::Update { verb } => update::run(&verb),
        Verb::Boot { verb } => boot::run(&verb),
        Verb::OnBootDisk { partition } => on_boot_disk(&partition),
    };
    result.unwrap_or_else(|error| {
        eprint!("{}", report::render(&error, None));
        ExitCode::from(if report::is_mendable(&error) { 1 } else { 2 })
    })
}

fn on_boot_disk(partition: &str) -> anyhow::Result<ExitCode> {
    let holds =
        boot_disk::holds(partition).with_context(|| format!("looking for the disk of partition {partition}"))?;
    Ok(if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
