//! `firstboot boot …`: what units do at the start.

use std::path::Path;
use std::process::ExitCode;

use clap::Subcommand;
use firstboot::unlock;

#[derive(Debug, Subcommand)]
pub(crate) enum BootVerb {
    /// Opens the data as far as that needs nobody, or else has the consoles ask.
    Unlock,
}

pub(crate) fn run(verb: &BootVerb) -> anyhow::Result<ExitCode> {
    match verb {
        BootVerb::Unlock => unlock::at_boot(Path::new("/"))?,
    }
    Ok(ExitCode::SUCCESS)
}
