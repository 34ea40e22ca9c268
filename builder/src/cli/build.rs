//! `larder build`

use std::process::ExitCode;

use super::Common;
use super::args::BuildArgs;
use crate::build::{self, Options};
use crate::profile::Profile;
use crate::session::Limits;

pub(super) fn run(common: &Common, args: &BuildArgs) -> anyhow::Result<ExitCode> {
    let version = args.image_version.as_deref().map(str::parse).transpose()?;
    build::enter_namespace()?;
    let session = common.session(Limits::from(&args.limits))?;
    let profile = Profile::load(&session.project, &args.profile)?;
    let built = build::build(&session, &profile, &Options { version, out: args.out.clone() })?;
    if args.explain {
        println!("{}", built.explanation);
    }
    println!("{}", built.image.display());
    Ok(ExitCode::SUCCESS)
}
