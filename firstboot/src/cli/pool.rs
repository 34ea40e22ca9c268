//! `firstboot plan` and `setup`, and what the unit of the pool starts.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use firstboot::apply::Prepared;
use firstboot::disk::{self, Machine};
use firstboot::key::{RecoveryKey, Slot};
use firstboot::pool::look::Disks;
use firstboot::pool::plan::Plan;
use firstboot::pool::setup::{self, Appliance, Journal, Ways};
use firstboot::pool::{Known, adopt, at_boot};
use firstboot::report::Mistake;
use firstboot::settings::sources::Places;
use firstboot::settings::{Keys, Settings, read_text};
use firstboot::tpm::Tpm;
use firstboot::unlock::{self, open_typed};
use firstboot::wizard::{self, Dialogue as _};
use zeroize::Zeroizing;

use super::terminal::Terminal;
use super::unlock::ask_for;

/// The running system.
const ROOT: &str = "/";

/// What may be typed after `plan`.
#[derive(Debug, Args)]
pub(crate) struct PlanArgs {
    /// The settings file [default: the one on the partition LARDER, or wherever else one is found]
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// Prints the plan as JSON
    #[arg(long)]
    json: bool,
}

/// What may be typed after `setup`.
#[derive(Debug, Args)]
pub(crate) struct SetupArgs {
    /// The settings file [default: asks the questions that it would answer]
    #[arg(value_name = "FILE", requires = "plan")]
    file: Option<PathBuf>,
    /// Number of the plan that was agreed to, as `firstboot plan` shows it: another one is not carried out
    #[arg(long, value_name = "NUMBER", requires = "file")]
    plan: Option<String>,
}

/// Shows what would be done to which disks.
pub(crate) fn plan(args: &PlanArgs) -> anyhow::Result<ExitCode> {
    let machine = Machine::here();
    let settings = match &args.file {
        Some(file) => Some(Settings::read(file)?.0),
        None => Places::here().offered()?.map(|found| found.settings()).transpose()?,
    };
    let Some(settings) = settings.filter(|settings| settings.pool.layout.is_some()) else {
        print!("{}", disk::list(&machine.disks()?, |_| None));
        println!("\nThe settings say nothing of a pool: add `layout` to [pool], or answer questions: firstboot setup");
        return Ok(ExitCode::SUCCESS);
    };
    let plan = Plan::new(&machine, &Disks, &settings.pool)?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&plan)?);
    } else {
        print!("{plan}");
    }
    Ok(ExitCode::SUCCESS)
}

/// Makes the pool.
pub(crate) fn setup(args: &SetupArgs) -> anyhow::Result<ExitCode> {
    let root = Path::new(ROOT);
    if let (None, Some(known)) = (Journal::read(root)?, Known::read(root)?) {
        return Err(Mistake::new(format!("this server has its pool: `{}`", known.name))
            .hint("firstboot status says how it is")
            .into());
    }
    match (&args.file, &args.plan) {
        (Some(file), Some(number)) => by_file(file, number),
        _ => by_questions(root),
    }
}

fn by_file(file: &Path, number: &str) -> anyhow::Result<ExitCode> {
    let text = Zeroizing::new(read_text(file)?);
    let settings = Settings::parse(&text, &file.display().to_string())?;
    let plan = Plan::new(&Machine::here(), &Disks, &settings.pool)?;
    if let Some(journal) = Journal::read(Path::new(ROOT))? {
        return Err(Mistake::new(format!("a setup by the plan {} is under way", journal.plan.id()))
            .hint("restart the server, which goes on with it; or: firstboot setup")
            .into());
    }
    if plan.id() != number {
        return Err(Mistake::new(format!(
            "the plan is {} now, not {number}: disks or settings have changed",
            plan.id()
        ))
        .hint(format!("look at it anew: firstboot plan {}", file.display()))
        .into());
    }
    let Some(recovery) = &settings.keys.recovery_key else {
        return Err(Mistake::new("the settings hold no recovery key, and nobody is asked to write one down")
            .hint("make one with `larder recovery-key`, and put it into [keys]; or answer questions: firstboot setup")
            .into());
    };
    carry_out(&text, &settings.keys, plan, recovery)
}

fn by_questions(root: &Path) -> anyhow::Result<ExitCode> {
    if !std::io::stdin().is_terminal() {
        return Err(Mistake::new("nobody is there to be asked")
            .hint("give a settings file, and the number of the plan that `firstboot plan FILE` shows")
            .into());
    }
    let mut terminal = Terminal;
    if let Some(journal) = Journal::read(root)? {
        terminal.say(&format!("\nA setup was cut short, and goes on.\n\n{}\n", journal.plan))?;
        let recovery = wizard::recovery_key(&mut terminal)?;
        return finish(journal, &recovery, &Keys::default());
    }
    let Some(agreed) = wizard::run(&mut terminal, &Machine::here(), &Disks)? else { return Ok(ExitCode::FAILURE) };
    let recovery = wizard::recovery_key(&mut terminal)?;
    carry_out(&agreed.text, &agreed.settings.keys, agreed.plan, &recovery)
}

fn carry_out(text: &str, keys: &Keys, plan: Plan, recovery: &RecoveryKey) -> anyhow::Result<ExitCode> {
    let root = Path::new(ROOT);
    // Before any disk is touched: what cannot be put into force is found now.
    let prepared = Prepared::new(root, text, "the settings")?;
    let journal = setup::begin(&mut Appliance::new(None), plan, keys)?;
    super::print(&prepared.put_into_force(root)?, false)?;
    finish(journal, recovery, keys)
}

/// What may be typed after `adopt`.
#[derive(Debug, Args)]
pub(crate) struct AdoptArgs {
    /// Name or number of the pool [default: lists those that are there]
    #[arg(value_name = "POOL")]
    pool: Option<String>,
}

/// Takes over a pool that another boot medium has set up.
pub(crate) fn adopt(args: &AdoptArgs) -> anyhow::Result<ExitCode> {
    let Some(which) = &args.pool else {
        for pool in adopt::importable()? {
            println!("{} ({}), {}", pool.name, pool.guid, pool.state.to_lowercase());
        }
        return Ok(ExitCode::SUCCESS);
    };
    let tpm = Tpm::at(ROOT);
    let opened = |slots: &[Slot]| {
        let opened = ask_for("Passphrase or recovery key", || false, |typed| open_typed(slots, &tpm, typed))?;
        Ok(opened.ok_or_else(|| Mistake::new("nothing was typed"))?.key)
    };
    let findings = adopt::adopt(Path::new(ROOT), &adopt::find(which)?, opened)?;
    super::print(&findings, false)?;
    println!(
        "The pool is taken over, with its settings. Restart the server, so that it is known by its old name and number."
    );
    Ok(ExitCode::SUCCESS)
}

fn finish(journal: Journal, recovery: &RecoveryKey, keys: &Keys) -> anyhow::Result<ExitCode> {
    setup::run(&mut Appliance::new(None), journal, &Ways { recovery, keys })?;
    let result = super::print(&at_boot::at_boot()?, false);
    unlock::at_boot(Path::new(ROOT))?;
    result
}
