//! The program on the appliance.

use std::io::Write as _;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
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
}

fn main() -> ExitCode {
    match Args::parse().verb {
        Verb::Health { json } => health(json).unwrap_or_else(|error| {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }),
    }
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
