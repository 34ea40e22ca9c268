//! `larder seed`

use std::path::Path;
use std::process::ExitCode;

use firstboot::disk::{Internal, Rules};
use firstboot::flash::FileDevice;
use firstboot::seed;
use firstboot::settings::Settings;

use super::Common;
use super::args::SeedArgs;
use crate::image::inspect;
use crate::report::Mistake;

pub(super) fn run(common: &Common, args: &SeedArgs) -> anyhow::Result<ExitCode> {
    let (_, text) = Settings::read(&args.config)?;
    let (target, name) = (&args.target, args.target.display().to_string());
    if target.starts_with("/dev") {
        // Any disk that has a seed partition: it loses nothing else.
        let rules = Rules { internal: Internal::Allowed, needed: 0 };
        let choice = super::flash::machine().choose(target, rules).map_err(Mistake::from)?;
        seed::put_on_disk(choice, &text)?;
    } else {
        refuse_compressed(target, &name)?;
        let problem = |error: std::io::Error| Mistake::new(format!("{name} cannot be opened")).because(error);
        seed::put_on(&FileDevice::open_image(target).map_err(problem)?, &name, &text)?;
    }
    let progress = common.progress();
    progress.note(format!("{:>12} {name} now holds {}", "Settings", args.config.display()));
    if is_listed(target) {
        progress.note(format!("{:>12} {name} is not what its .SHA256SUMS file says any more", "Note"));
    }
    Ok(ExitCode::SUCCESS)
}

fn refuse_compressed(target: &Path, name: &str) -> anyhow::Result<()> {
    if !inspect::is_compressed(&inspect::open_file(target)?) {
        return Ok(());
    }
    Err(Mistake::new(format!("{name} is compressed, so nothing in it can be changed"))
        .hint("write it to a disk together with the settings: larder flash --image FILE --config FILE")
        .into())
}

/// Whether the image lies in an output folder, beside its checksums.
fn is_listed(target: &Path) -> bool {
    target.extension().is_some_and(|extension| extension == "img") && target.with_extension("SHA256SUMS").exists()
}
