//! What happens to the pool at every start.
//!
//! | there is | |
//! |---|---|
//! | a pool that the state partition knows | it is imported, by its number |
//! | a setup that was cut short | it goes on, if nobody has to be asked |
//! | settings with a pool to adopt, and a key | it is taken over |
//! | settings with a layout, and a recovery key | the pool is set up |
//! | none of these | somebody at the console is asked (`firstboot setup`) |

use std::path::Path;

use anyhow::Context as _;

use super::Known;
use super::adopt::{adopt, find};
use super::import::{import, start_timers};
use super::look::Disks;
use super::plan::Plan;
use super::setup::{Appliance, Journal, Ways, begin, run};
use super::status::Report;
use crate::apply;
use crate::command::Run;
use crate::console::Console;
use crate::disk::Machine;
use crate::finding::{Finding, Severity};
use crate::key::{RecoveryKey, Slot};
use crate::report;
use crate::seed;
use crate::settings::Keys;
use crate::settings::sources::{Places, Source};
use crate::status;
use crate::tpm::Tpm;
use crate::unlock::open_typed;

/// Name of the list of findings.
pub const TOPIC: &str = "pool";

/// Brings the pool back, or sets it up. Gives what is wrong, which `firstboot status` knows from then on.
///
/// # Errors
/// Not even that can be written down.
pub fn at_boot() -> anyhow::Result<Vec<Finding>> {
    let root = Path::new("/");
    let findings = match bring(root) {
        Ok(findings) => findings,
        Err(error) => vec![failure(&error)],
    };
    status::record(root, TOPIC, &findings)?;
    Ok(findings)
}

fn bring(root: &Path) -> anyhow::Result<Vec<Finding>> {
    let journal = Journal::read(root)?;
    if journal.is_none()
        && let Some(known) = Known::read(root)?
    {
        import(&known).context("importing the pool")?;
    } else if let Some(waiting) = set_up(journal)? {
        ask(root)?;
        return Ok(vec![waiting]);
    }
    let Some(known) = Known::read(root)? else {
        ask(root)?;
        return Ok(Vec::new());
    };
    start_timers(root, &known.name)?;
    Ok(Report::new(root)?.map(|report| report.findings).unwrap_or_default())
}

/// Has the screen ask what the settings leave open. Who has a serial line has a shell there, or another machine.
fn ask(root: &Path) -> anyhow::Result<()> {
    for console in Console::all(root) {
        if let Console::Screen(name) = console {
            let unit = format!("larder-setup-screen@{name}.service");
            Run::new("systemctl").args(["start", "--no-block", &unit]).done()?;
        }
    }
    Ok(())
}

/// Sets the pool up, or goes on with that, as long as nobody has to be asked; otherwise says who waits for what.
fn set_up(journal: Option<Journal>) -> anyhow::Result<Option<Finding>> {
    let Some(found) = Places::here().offered()? else {
        return Ok(journal.map(|_| waiting("a setup of the pool was cut short")));
    };
    // Wrong settings are a finding of their own.
    let Ok(settings) = found.settings() else { return Ok(None) };
    if let (None, Some(which)) = (&journal, &settings.pool.adopt) {
        return take_over(which, &settings.keys, &found.source);
    }
    if journal.is_none() && settings.pool.layout.is_none() {
        return Ok(None);
    }
    let Some(recovery) = &settings.keys.recovery_key else {
        return Ok(Some(waiting("the settings hold no recovery key")));
    };
    let machine = Machine::here();
    let mut appliance = Appliance::new(Some(&found.source));
    let journal = match journal {
        Some(journal) => journal,
        None => begin(&mut appliance, Plan::new(&machine, &Disks, &settings.pool)?, &settings.keys)?,
    };
    run(&mut appliance, journal, &Ways { recovery, keys: &settings.keys })?;
    Ok(None)
}

/// Takes a pool over, if the settings hold what opens it.
fn take_over(which: &str, keys: &Keys, source: &Source) -> anyhow::Result<Option<Finding>> {
    let Some(typed) = keys.recovery_key.as_ref().map(RecoveryKey::text).or_else(|| keys.passphrase.clone()) else {
        return Ok(Some(Finding {
            next: format!("at the server's own screen: firstboot adopt {which}").into(),
            ..waiting(&format!("the settings name `{which}`, and no key that opens it"))
        }));
    };
    let open = |slots: &[Slot]| Ok(open_typed(slots, &Tpm::at("/"), &typed)?.key);
    let findings = adopt(Path::new("/"), &find(which)?, open)?;
    if *source == Source::Seed {
        seed::wipe().context("wiping the settings, which hold secrets, from the partition LARDER")?;
    }
    status::record(Path::new("/"), apply::TOPIC, &findings)?;
    Ok(None)
}

fn waiting(why: &str) -> Finding {
    Finding {
        id: "pool-waits-for-somebody".into(),
        severity: Severity::Failure,
        message: format!("there is no pool yet: {why}"),
        next: "at the server's own screen: firstboot setup".into(),
    }
}

fn failure(error: &anyhow::Error) -> Finding {
    let hints: Vec<_> = report::hints(error).collect();
    Finding {
        id: "pool-not-there".into(),
        severity: Severity::Failure,
        message: format!("the pool is not there: {error:#}"),
        next: if hints.is_empty() { "read `journalctl -b -u larder-pool`".into() } else { hints.join("; ").into() },
    }
}
