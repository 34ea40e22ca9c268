//! `larder inspect`

use std::path::Path;
use std::process::ExitCode;

use super::Common;
use super::args::InspectArgs;
use crate::image::{compare, inspect};
use crate::namespace;
use crate::session::{Limits, Session};
use crate::tools::Tools;

pub(super) fn run(common: &Common, args: &InspectArgs) -> anyhow::Result<ExitCode> {
    if let Some(other) = &args.compare {
        return run_compare(common, &args.image, other);
    }
    let report = inspect::inspect(&args.image)?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{report}");
    }
    // A person reads the verdict; a script looks at the status.
    Ok(if report.is_sound() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// In the namespace: the files of a root have owners that only its root may give.
fn run_compare(common: &Common, one: &Path, two: &Path) -> anyhow::Result<ExitCode> {
    namespace::enter()?;
    let session = common.session(Limits::default())?;
    let scratch = session.store.scratch("compare")?;
    let extract = |file: &Path, into: &Path| extract(&session, scratch.path(), file, into);
    let Some(difference) = compare::first_difference(one, two, scratch.path(), &extract)? else {
        println!("all bytes are the same");
        return Ok(ExitCode::SUCCESS);
    };
    println!("{difference}");
    Ok(ExitCode::FAILURE)
}

/// By the reference implementation, which is in the tools tree.
fn extract(session: &Session, scratch: &Path, file: &Path, into: &Path) -> anyhow::Result<()> {
    let tools = Tools::load(&session.project, "image")?.prepare(session)?;
    let command = tools.sandbox_with(scratch);
    command.command("fsck.erofs").arg("--preserve").arg(format!("--extract={}", into.display())).arg(file).run()?;
    Ok(())
}
