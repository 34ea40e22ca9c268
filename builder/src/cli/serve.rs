//! `larder serve`

use std::net::SocketAddr;
use std::process::ExitCode;

use super::Common;
use super::args::ServeArgs;
use crate::release::serve::{Serving, announce};

pub(super) fn run(common: &Common, args: &ServeArgs) -> anyhow::Result<ExitCode> {
    let serving = Serving::listen(&args.folder, SocketAddr::new(args.listen, args.port))?;
    announce(&serving)?;
    let progress = common.progress();
    serving.run(|line| progress.note(line));
    Ok(ExitCode::SUCCESS)
}
