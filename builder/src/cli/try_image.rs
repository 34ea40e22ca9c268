//! `larder try`

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use larder_qemu::{LarderTools, TryOptions};

use super::Common;
use super::args::TryArgs;
use crate::build;
use crate::profile::Profile;
use crate::report::Mistake;
use crate::session::{Limits, Session};
use crate::store::Scratch;

pub(super) fn run(common: &Common, args: &TryArgs) -> anyhow::Result<ExitCode> {
    if args.update {
        return super::try_update::run(common, args);
    }
    let image = match &args.image {
        Some(image) if image.is_file() => Image { path: image.clone(), built: None },
        Some(image) => {
            return Err(Mistake::new(format!("{}: no such image", image.display()))
                .hint("larder build makes one")
                .into());
        }
        None => build_image(common, args)?,
    };
    let progress = common.progress();
    let options = TryOptions {
        disks: args.disks,
        memory_mib: args.memory,
        forwards: args.forward.iter().map(|&(host, guest)| (Some(host), guest)).collect(),
        ..TryOptions::new(&image.path)
    };
    let launcher = LarderTools { larder: std::env::current_exe().context("finding larder's own program")? };
    let ended = larder_qemu::try_image(Arc::new(launcher), &options, &mut |line| progress.note(line));
    if let Some((session, scratch)) = image.built {
        drop(scratch);
        session.end();
    }
    ended?;
    Ok(ExitCode::SUCCESS)
}

/// An image to boot; one that was built for this goes when the machine is off.
struct Image {
    path: PathBuf,
    built: Option<(Session, Scratch)>,
}

fn build_image(common: &Common, args: &TryArgs) -> anyhow::Result<Image> {
    build::enter_namespace()?;
    let session = common.session(Limits::from(&args.limits))?;
    let profile = Profile::load(&session.project, &args.profile)?;
    let scratch = session.store.scratch("try")?;
    let path = scratch.path().join(format!("{}.img", profile.name));
    build::build_disk(&session, &profile, &path)?;
    Ok(Image { path, built: Some((session, scratch)) })
}
