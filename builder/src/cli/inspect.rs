//! `larder inspect`

use std::process::ExitCode;

use super::args::InspectArgs;
use crate::image::inspect;

pub(super) fn run(args: &InspectArgs) -> anyhow::Result<ExitCode> {
    let report = inspect::inspect(&args.image)?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{report}");
    }
    // A person reads the verdict; a script looks at the status.
    Ok(if report.is_sound() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
