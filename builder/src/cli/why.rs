//! `larder why`

use std::path::Path;
use std::process::ExitCode;

use super::Common;
use super::args::WhyArgs;
use crate::build::{self, Origin};
use crate::deb::Ownership;
use crate::profile::Profile;
use crate::session::Limits;
use crate::why;

pub(super) fn run(common: &Common, args: &WhyArgs) -> anyhow::Result<ExitCode> {
    build::enter_namespace()?;
    let session = common.session(Limits::from(&args.limits))?;
    let profile = Profile::load(&session.project, &args.profile)?;
    if args.what.starts_with('/') {
        print!("{}", Origin::find(&session, &profile, Path::new(&args.what))?);
    } else {
        let (lock, packages) = session.locked_packages(&profile.lockable(&session.project))?;
        let unpacked = session.unpack(&packages, Ownership::Keep)?;
        print!("{}", why::package(&profile.name, &profile.packages, &lock.packages, &unpacked, &args.what)?);
    }
    Ok(ExitCode::SUCCESS)
}
