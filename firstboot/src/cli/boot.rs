//! `firstboot boot …`: what units do at the start. What is wrong is told, and no failure of a unit: `firstboot status` knows.

use std::process::ExitCode;

use clap::Subcommand;
use firstboot::boot::Boot;
use firstboot::finding::Finding;
use firstboot::{pool, unlock};

/// A unit.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum BootVerb {
    /// Puts the settings into force: before the network starts.
    Settings,
    /// Puts what must outlast a restart onto the state partition.
    Keep,
    /// Brings the pool back, or sets it up.
    Pool,
    /// Opens the encrypted data, or has the consoles ask for what opens it.
    Unlock,
    /// Asks servers at home for what opens the data, as long as it is locked.
    UnlockByNetwork,
}

pub(crate) fn run(verb: &BootVerb) -> anyhow::Result<ExitCode> {
    match verb {
        BootVerb::Settings => tell(&Boot::here().settings()?)?,
        BootVerb::Keep => Boot::here().keep()?,
        BootVerb::Pool => tell(&pool::at_boot::at_boot()?)?,
        BootVerb::Unlock => unlock::at_boot("/".as_ref())?,
        BootVerb::UnlockByNetwork => unlock::by_network("/".as_ref())?,
    }
    Ok(ExitCode::SUCCESS)
}

fn tell(findings: &[Finding]) -> anyhow::Result<()> {
    super::print(findings, false).map(drop)
}
