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
    let names = if args.all { Profile::names(&session.project)? } else { args.profiles.clone() };
    // A mistake in the last profile should not wait until the others are built.
    let profiles =
        names.iter().map(|name| Profile::load(&session.project, name)).collect::<anyhow::Result<Vec<_>>>()?;
    let options = Options { version, out: args.out.clone() };
    for profile in &profiles {
        let built = build::build(&session, profile, &options)?;
        if args.explain {
            println!("{}", built.explanation);
        }
        println!("{}", built.image.display());
    }
    session.end();
    Ok(ExitCode::SUCCESS)
}
