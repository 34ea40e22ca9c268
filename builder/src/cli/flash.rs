//! `larder flash`

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};

use anyhow::Context as _;
use firstboot::disk::{self, Internal, Machine, Rules, Size};
use firstboot::flash::{self, Content, FileDevice, Identity, Phase, Plan, Summary, Watch};
use firstboot::layout::DISK_MIN_SIZE;
use firstboot::settings::{self, Settings};
use indicatif::ProgressBar;

use super::Common;
use super::args::FlashArgs;
use crate::build;
use crate::image::source::Image;
use crate::profile::Profile;
use crate::progress::Progress;
use crate::report::Mistake;
use crate::session::{Limits, Session};
use crate::store::Scratch;

/// A folder that stands in for `/` when disks are looked for, for tests. Its disks are plain files: the library refuses
/// anything else there, and plain files elsewhere.
const TEST_MACHINE: &str = "LARDER_TEST_MACHINE";

pub(super) fn run(common: &Common, args: &FlashArgs) -> anyhow::Result<ExitCode> {
    let internal = if args.internal { Internal::Allowed } else { Internal::Refused };
    let rules = Rules { internal, needed: DISK_MIN_SIZE };
    let Some(device) = &args.device else { return list(rules) };
    // What can be wrong is looked at before anybody is asked, and before anything is built.
    let settings = args.config.as_deref().map(Settings::read).transpose()?;
    let choice = machine().choose(device, rules).map_err(Mistake::from)?;
    let typed = args.yes_serial.clone().map_or_else(|| disk::ask(&choice), Ok)?;
    let target = choice.confirm(&typed).map_err(Mistake::from)?;
    // From here on nobody else can mount it.
    let device = FileDevice::open(&target).map_err(Mistake::from)?;
    let file = image_file(common, args)?;
    let image = Image::open(&file.path)?;
    let mut content = Content::of_image(&image, &file.path.display().to_string())?;
    image.check(&content, &file.path)?;
    if let Some((_, text)) = settings {
        content.put_seed_file(settings::FILE_NAME, text.into_bytes());
    }
    let plan = Plan::new(&content, target.disk().size, target.disk().sector, &Identity::random())?;
    let progress = common.progress();
    let bars = Bars { progress: &progress, bar: Mutex::new(None) };
    let summary = flash::write(&device, &plan, &bars).map_err(Mistake::from)?;
    say(&progress, &summary);
    if let Some((session, scratch)) = file.built {
        drop(scratch);
        session.end();
    }
    Ok(ExitCode::SUCCESS)
}

/// The disks of this computer.
pub(super) fn machine() -> Machine {
    std::env::var_os(TEST_MACHINE).filter(|root| !root.is_empty()).map_or_else(Machine::here, Machine::at)
}

fn list(rules: Rules) -> anyhow::Result<ExitCode> {
    let disks = machine().disks().context("looking for disks in /sys/block")?;
    print!("{}", disk::list(&disks, |disk| rules.refusal(disk, &disks).map(|refusal| refusal.to_string())));
    println!("\nlarder flash --profile PROFILE --device NAME writes an image to one of them.");
    Ok(ExitCode::SUCCESS)
}

/// An image to write; one that was built for this goes afterwards.
struct ImageFile {
    path: PathBuf,
    built: Option<(Session, Scratch)>,
}

fn image_file(common: &Common, args: &FlashArgs) -> anyhow::Result<ImageFile> {
    let Some(profile) = &args.profile else {
        return Ok(ImageFile { path: args.image.clone().unwrap_or_default(), built: None });
    };
    build::enter_namespace()?;
    let session = common.session(Limits::from(&args.limits))?;
    let profile = Profile::load(&session.project, profile)?;
    let scratch = session.store.scratch("flash")?;
    let path = scratch.path().join(format!("{}.img", profile.name));
    build::build_disk(&session, &profile, &path)?;
    Ok(ImageFile { path, built: Some((session, scratch)) })
}

fn say(progress: &Progress, summary: &Summary) {
    let seconds = summary.writing.as_secs_f64();
    let rate = Size((summary.bytes as f64 / seconds) as u64);
    progress.note(format!("{:>12} {} in {seconds:.1} s, {rate}/s", "Written", Size(summary.bytes)));
    progress.note(format!("{:>12} {:.1} s; you can pull it out", "Verified", summary.verifying.as_secs_f64()));
}

/// A bar for each phase.
struct Bars<'a> {
    progress: &'a Progress,
    bar: Mutex<Option<ProgressBar>>,
}

impl Bars<'_> {
    fn replace(&self, bar: Option<ProgressBar>) {
        let old = std::mem::replace(&mut *self.bar.lock().unwrap_or_else(PoisonError::into_inner), bar);
        if let Some(old) = old {
            old.finish_and_clear();
        }
    }
}

impl Watch for Bars<'_> {
    fn begin(&self, phase: Phase, bytes: u64) {
        let what = match phase {
            Phase::Writing => "writing",
            Phase::Verifying => "verifying",
        };
        self.replace(Some(self.progress.bytes(what, bytes)));
    }

    fn advance(&self, bytes: u64) {
        if let Some(bar) = &*self.bar.lock().unwrap_or_else(PoisonError::into_inner) {
            bar.inc(bytes);
        }
    }

    fn end(&self) {
        self.replace(None);
    }
}
