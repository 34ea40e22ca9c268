//! `firstboot update`, and the gate that decides whether an updated system is kept.

use std::process::ExitCode;
use std::time::Duration;

use clap::Subcommand;
use firstboot::assess::{self, Verdict};
use firstboot::command::Run;

/// So that a person can read what is wrong.
const RESTART_AFTER: Duration = Duration::from_secs(15);

/// What to do.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum UpdateVerb {
    /// Counts the running start as good: the system gets all its tries back.
    #[command(hide = true)]
    MarkGood,
}

pub(crate) fn run(verb: &UpdateVerb) -> anyhow::Result<ExitCode> {
    match verb {
        UpdateVerb::MarkGood => assess::mark_good()?,
    }
    Ok(ExitCode::SUCCESS)
}

/// `firstboot health --gate`
pub(crate) fn gate() -> anyhow::Result<ExitCode> {
    let (faults, verdict) = assess::gate()?;
    let status = super::print(&faults, false)?;
    if verdict == Verdict::Restart {
        println!("larder: this start is not good enough; restart in {} s", RESTART_AFTER.as_secs());
        std::thread::sleep(RESTART_AFTER);
        Run::new("systemctl").args(["--no-block", "reboot"]).done()?;
    }
    Ok(status)
}
