//! `larder diff`

use std::process::ExitCode;

use super::Common;
use super::args::DiffArgs;
use crate::diff::{self, side::Side};
use crate::session::Limits;

pub(super) fn run(common: &Common, args: &DiffArgs) -> anyhow::Result<ExitCode> {
    let (old, new) = (Side::open(&args.old)?, Side::open(&args.new)?);
    let session = common.session(Limits { locked: true, offline: args.offline })?;
    let difference = diff::compare(&session, &old, &new, args.files)?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&difference)?);
    } else {
        print!("{difference}");
    }
    Ok(ExitCode::SUCCESS)
}
