//! The verbs of `firstboot`, each a thin front of the library.

pub(crate) mod boot;
pub(crate) mod hardware;
pub(crate) mod install;
pub(crate) mod keys;
pub(crate) mod pool;
mod progress;
pub(crate) mod settings;
pub(crate) mod status;
mod terminal;
pub(crate) mod unlock;
pub(crate) mod update;

use std::io::Write as _;
use std::process::ExitCode;

use firstboot::finding::Finding;

/// Prints findings; the exit status says whether there were any.
pub(crate) fn print(findings: &[Finding], json: bool) -> anyhow::Result<ExitCode> {
    let mut out = std::io::stdout().lock();
    if json {
        serde_json::to_writer_pretty(&mut out, findings)?;
        writeln!(out)?;
    } else {
        findings.iter().try_for_each(|finding| writeln!(out, "{finding}"))?;
    }
    Ok(if findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
