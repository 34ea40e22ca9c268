//! The program on the appliance.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use firstboot::boot_disk;
use firstboot::health::System;

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
        Verb::Health { json } => health(json),
        Verb::OnBootDisk { partition } => on_boot_disk(&partition),
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::from(2)
    })
}

fn on_boot_disk(partition: &str) -> anyhow::Result<ExitCode> {
    let holds =
        boot_disk::holds(partition).with_context(|| format!("looking for the disk of partition {partition}"))?;
    Ok(if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn health(json: bool) -> anyhow::Result<ExitCode> {
    let faults = System::at("/").faults();
    let mut out = std::io::stdout().lock();
    if json {
        serde_json::to_writer_pretty(&mut out, &faults)?;
        writeln!(out)?;
    } else {
        for fault in &faults {
            writeln!(out, "{}: {}\n  next: {}", fault.id, fault.message, fault.next)?;
        }
    }
    Ok(if faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
