//! `firstboot update`, and the gate that decides whether an updated system is kept.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use firstboot::assess::{self, Memory, Verdict};
use firstboot::command::Run;
use firstboot::command_line;
use firstboot::disk::Size;
use firstboot::esp::{self, Folder, UkiName};
use firstboot::report::{self, Mistake};
use firstboot::settings::sources::Places;
use firstboot::settings::{Automatic, Settings, Updates};
use firstboot::update::automatic;
use firstboot::update::channel::{Making, Release};
use firstboot::update::checked::{self, Checked};
use firstboot::update::client::{self, Client, Watch, Wishes};
use firstboot::update::engine::Stage;
use firstboot::version::Version;
use jiff::Timestamp;

use super::progress::Line;

/// The running system.
const ROOT: &str = "/";
/// So that a person can read what is wrong.
const RESTART_AFTER: Duration = Duration::from_secs(15);

/// What to do.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum UpdateVerb {
    /// Looks whether there is a newer version, and what it brings.
    Check {
        /// Prints it as JSON
        #[arg(long)]
        json: bool,
    },
    /// Installs the newest version beside the running one; it starts at the next restart.
    ///
    /// What was fetched before a cut is not fetched again. If the new version does not start well three times, the old one
    /// starts instead.
    Install(InstallArgs),
    /// Says which versions are installed, which of them runs, and what was found when it was last looked.
    Status,
    /// Goes back to the other installed version at the next restart.
    Rollback,
    /// Does what the settings want done by themselves, if it is time for it.
    #[command(hide = true)]
    Auto,
    /// Counts the running start as good: the system gets all its tries back.
    #[command(hide = true)]
    MarkGood,
}

/// What may be typed after `install`.
#[derive(Debug, Clone, Args)]
pub(crate) struct InstallArgs {
    /// This version, not the newest one
    #[arg(long, value_name = "VERSION")]
    version: Option<Version>,
    /// Even if it was tried before and failed
    #[arg(long)]
    again: bool,
    /// Even if it is older than the one that runs
    #[arg(long, requires = "version")]
    downgrade: bool,
}

pub(crate) fn run(verb: &UpdateVerb) -> anyhow::Result<ExitCode> {
    match verb {
        UpdateVerb::Check { json } => check(*json)?,
        UpdateVerb::Install(InstallArgs { version, again, downgrade }) => {
            install(&Wishes { version: version.clone(), again: *again, downgrade: *downgrade })?;
        }
        UpdateVerb::Status => status()?,
        UpdateVerb::Rollback => {
            println!("{} starts at the next restart.", client::rollback()?);
        }
        UpdateVerb::Auto => auto()?,
        UpdateVerb::MarkGood => assess::mark_good()?,
    }
    Ok(ExitCode::SUCCESS)
}

/// `firstboot health --gate`
pub(crate) fn gate() -> anyhow::Result<ExitCode> {
    let (faults, verdict) = assess::gate()?;
    let status = super::print(&faults, false)?;
    if verdict == Verdict::Restart {
        println!("larder: this start is not good enough; restart in {} s", RESTART_AFTER.as_secs());
        std::thread::sleep(RESTART_AFTER);
        Run::new("systemctl").args(["--no-block", "reboot"]).done()?;
    }
    Ok(status)
}

/// `[updates]` of the settings in force.
fn settings() -> anyhow::Result<Settings> {
    let found = Places::here().applied()?;
    let found = found.ok_or_else(|| {
        Mistake::new("no settings are in force, so no server is known that updates come from")
            .hint("put `from` into [updates] of a nas.toml, and `firstboot apply` it")
    })?;
    Ok(found.settings()?)
}

fn check(json: bool) -> anyhow::Result<()> {
    let settings = settings()?;
    let checked = Client::here(&settings.updates)?.check()?;
    if json {
        println!("{}", serde_json::to_string_pretty(&checked)?);
    } else {
        print_checked(&checked);
    }
    Ok(())
}

fn print_checked(checked: &Checked) {
    match &checked.newer {
        Some(newer) => println!("{newer}"),
        None => println!("version {} is the newest", checked.running),
    }
}

fn install(wishes: &Wishes) -> anyhow::Result<()> {
    let settings = settings()?;
    install_from(&settings.updates, wishes)
}

fn install_from(updates: &Updates, wishes: &Wishes) -> anyhow::Result<()> {
    let client = Client::here(updates)?;
    let Some((version, summary)) = client.install(wishes, &Progress::default())? else {
        println!("there is no newer version");
        return Ok(());
    };
    println!(
        "{version} is installed: {} fetched, {} written, {} were there already. It starts at the next restart.",
        Size(summary.fetched),
        Size(summary.written),
        Size(summary.found)
    );
    Ok(())
}

fn status() -> anyhow::Result<()> {
    let systems = esp::systems(&Folder::here(), &command_line::root_hash()?)?;
    let memory = Memory::read(ROOT.as_ref())?;
    let (profile, running) = client::image(ROOT.as_ref())?;
    println!("{running} ({profile}) runs");
    for name in systems.others.iter().rev() {
        println!("{}", describe(name, &systems, &memory));
    }
    match checked::last_check(ROOT.as_ref())? {
        Some(checked) => {
            println!("looked for updates at {}", checked.at);
            print_checked(&checked);
        }
        None => println!("it was not looked for updates yet: firstboot update check"),
    }
    Ok(())
}

fn describe(name: &UkiName, systems: &esp::Systems, memory: &Memory) -> String {
    let version = &name.version;
    match memory.failure(version) {
        Some(reason) => format!("{version} failed: {reason}"),
        None if name.is_used_up() => format!("{version} does not start"),
        None if systems.staged() == Some(name) => format!("{version} starts at the next restart"),
        None => format!("{version} is there to go back to"),
    }
}

/// What the timer starts, every hour. What is wrong is told, and no failure of a unit.
fn auto() -> anyhow::Result<()> {
    let Ok(settings) = settings() else { return Ok(()) };
    let last = checked::last_check(ROOT.as_ref())?.map(|checked| checked.at);
    let now = Timestamp::now();
    if !automatic::is_due(&settings.updates, last, now, automatic::local_time(now, &settings.system.timezone)) {
        return Ok(());
    }
    if let Err(error) = look_and_install(&settings.updates) {
        eprint!("{}", report::render(&error, None));
        automatic::tell_failure(ROOT.as_ref(), last, now, &error)?;
    }
    Ok(())
}

fn look_and_install(updates: &Updates) -> anyhow::Result<()> {
    let client = Client::here(updates)?;
    let checked = client.check()?;
    print_checked(&checked);
    let is_wanted = checked.newer.is_some_and(|newer| newer.failed.is_none()) && client.staged().is_none();
    if updates.automatic == Automatic::Install && is_wanted {
        install_from(updates, &Wishes::default()).context("installing it")?;
    }
    Ok(())
}

/// On stdout what is decided, on stderr how far it is.
#[derive(Debug, Default)]
struct Progress(Line);

impl Watch for Progress {
    fn plan(&self, release: &Release, making: &Making) {
        let share = (making.size() * 100).checked_div(release.download).unwrap_or(100);
        println!("version {}: {} to fetch at most ({share} % of the image)", release.version, Size(making.size()));
    }

    fn begin(&self, stage: Stage, bytes: u64) {
        let what = match stage {
            Stage::Comparing => "looking what is there already",
            Stage::Making => "installing",
            Stage::Verifying => "reading back",
        };
        self.0.begin_with(what, bytes);
    }

    fn advance(&self, bytes: u64) {
        firstboot::flash::Watch::advance(&self.0, bytes);
    }

    fn end(&self) {
        firstboot::flash::Watch::end(&self.0);
    }
}
