//! `firstboot check`, `apply` and `boot`: what concerns the settings file.

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use firstboot::apply::Prepared;
use firstboot::report::{self, Mistake};
use firstboot::settings::{self, mistakes, read_text};
use zeroize::Zeroizing;

/// The running system.
const ROOT: &str = "/";
/// What was applied last, without secrets.
const KEPT: &str = "/state/larder/nas.toml";

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// The settings file
    #[arg(value_name = "FILE", required_unless_present = "reference")]
    file: Option<PathBuf>,
    /// Prints all settings with what they are for, in Markdown
    #[arg(long, conflicts_with = "file")]
    reference: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ApplyArgs {
    /// The settings file
    #[arg(value_name = "FILE", default_value = KEPT)]
    file: PathBuf,
    /// Does not ask
    #[arg(long)]
    yes: bool,
}

/// Says what is wrong with a settings file.
pub(crate) fn check(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    let Some(file) = &args.file else {
        write!(std::io::stdout(), "{}", settings::reference())?;
        return Ok(ExitCode::SUCCESS);
    };
    let text = Zeroizing::new(read_text(file)?);
    Ok(if is_right(&text, file) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Shows all mistakes.
fn is_right(text: &str, file: &Path) -> bool {
    let mistakes = mistakes(text, &file.display().to_string());
    let is_right = mistakes.is_empty();
    for mistake in mistakes {
        eprint!("{}", report::render(&mistake.into(), None));
    }
    is_right
}

/// Shows what changed settings change, and puts them into force.
pub(crate) fn apply(args: &ApplyArgs) -> anyhow::Result<ExitCode> {
    let text = Zeroizing::new(read_text(&args.file)?);
    if !is_right(&text, &args.file) {
        eprintln!("\nNothing has changed.");
        return Ok(ExitCode::FAILURE);
    }
    let root = Path::new(ROOT);
    let prepared = Prepared::new(root, &text, &args.file.display().to_string())?;
    let mut out = std::io::stdout().lock();
    write!(out, "{}", prepared.changes)?;
    if prepared.changes.is_empty() {
        writeln!(out, "No file changes.")?;
    } else if !args.yes && !is_wanted()? {
        writeln!(out, "Nothing has changed.")?;
        return Ok(ExitCode::FAILURE);
    }
    super::print(&prepared.put_into_force(root)?, false)
}

/// Asks at the terminal.
fn is_wanted() -> anyhow::Result<bool> {
    if !std::io::stdin().is_terminal() {
        return Err(Mistake::new("nobody can be asked here").hint("add --yes").into());
    }
    eprint!("Apply this? [y/N] ");
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
