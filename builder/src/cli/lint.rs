//! `larder lint`

use std::process::ExitCode;

use anyhow::Context as _;

use super::Common;
use super::args::LintArgs;
use crate::build;
use crate::lint::{Accepted, LINTS};
use crate::profile::Profile;
use crate::session::Limits;

pub(super) fn run(common: &Common, args: &LintArgs) -> anyhow::Result<ExitCode> {
    if args.list {
        list();
        return Ok(ExitCode::SUCCESS);
    }
    build::enter_namespace()?;
    let session = common.session(Limits::from(&args.limits))?;
    let profile = Profile::load(&session.project, args.profile.as_deref().context("no profile to look at")?)?;
    let report = build::lint(&session, &profile)?;
    println!("{}: {} lints found nothing to mend in {} paths", profile.name, report.lints, report.paths);
    for Accepted { lint, path, message, reason } in report.accepted {
        println!("accepted: {lint} {path} {message} ({reason})");
    }
    Ok(ExitCode::SUCCESS)
}

fn list() {
    let width = LINTS.iter().map(|lint| lint.name.len()).max().unwrap_or_default();
    for lint in LINTS {
        println!("{:width$}  {}", lint.name, lint.protects_from);
    }
}
