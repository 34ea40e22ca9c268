//! `larder sizes`

use std::process::ExitCode;

use super::Common;
use super::args::SizesArgs;
use crate::build::{self, Sizes};
use crate::profile::Profile;
use crate::session::Limits;

pub(super) fn run(common: &Common, args: &SizesArgs) -> anyhow::Result<ExitCode> {
    build::enter_namespace()?;
    let session = common.session(Limits::from(&args.limits))?;
    let sizes = Sizes::of(&session, &Profile::load(&session.project, &args.profile)?)?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&sizes)?);
    } else {
        print!("{sizes}");
    }
    Ok(ExitCode::SUCCESS)
}
