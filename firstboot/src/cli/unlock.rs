//! `firstboot unlock`

use std::process::ExitCode;

use firstboot::key::{Slot, SlotStore as _, Vault, Way};
use firstboot::report::Mistake;
use firstboot::secret::Secret;
use firstboot::tpm::Tpm;
use firstboot::unlock::ask::{self, Answer};
use firstboot::unlock::{self, Denied, Opened, Throttle};

/// The running system.
const ROOT: &str = "/";

pub(crate) fn run() -> anyhow::Result<ExitCode> {
    let vault = find(None)?;
    let dataset = vault.dataset();
    if vault.is_open()? {
        vault.mount()?;
        println!("{dataset} is open.");
        return Ok(ExitCode::SUCCESS);
    }
    if ask::is_attended() {
        println!("\n{dataset} is locked.");
        unlock::locked_because(ROOT.as_ref())?.iter().for_each(|finding| println!("{finding}"));
    }
    let slots = vault.slots().slots()?.slots;
    let (question, tpm) = (question(&slots), Tpm::at(ROOT));
    let opened = ask_for(question, Vault::is_announced, |typed| unlock::open_typed(&slots, &tpm, typed))?;
    match opened {
        Some(opened) => {
            vault.open(&opened.key)?;
            unlock::record_open(ROOT.as_ref())?;
            println!("{dataset} is open, by {}.", opened.slot);
            if !unlock::locked_because(ROOT.as_ref())?.is_empty() {
                println!("To have it open by itself again: firstboot keys repair");
            }
        }
        None => println!("{dataset} was opened elsewhere."),
    }
    Ok(ExitCode::SUCCESS)
}

/// What to ask for.
pub(crate) fn question(slots: &[Slot]) -> &'static str {
    if slots.iter().any(|slot| slot.way() == Way::Tpm2Pin) {
        "PIN, passphrase or recovery key"
    } else {
        "Passphrase or recovery key"
    }
}

/// The vault of the only pool that has keys, or of the one called `pool`.
pub(crate) fn find(pool: Option<&str>) -> anyhow::Result<Vault> {
    let missing = || Mistake::new("no pool with encrypted data is there").hint("see `zpool status` and `zpool import`");
    Vault::find(pool)?.ok_or_else(|| missing().into())
}

/// Asks until what is typed opens something, at the pace that wrong tries allow; a pipe has one try. `None` when it is not
/// needed any more.
pub(crate) fn ask_for(
    question: &str,
    is_settled: impl Fn() -> bool,
    open: impl Fn(&Secret) -> Result<Opened, Denied>,
) -> anyhow::Result<Option<Opened>> {
    loop {
        let typed = match ask::secret(question, &is_settled)? {
            Answer::Settled => return Ok(None),
            Answer::End => return Err(Mistake::new("nothing was typed").into()),
            Answer::Line(typed) if typed.expose().is_empty() && ask::is_attended() => continue,
            Answer::Line(typed) => typed,
        };
        match Throttle::at(ROOT).attempt(wait, || open(&typed)) {
            Ok(opened) => return Ok(Some(opened)),
            Err(Denied::Fault(error)) => return Err(error),
            Err(denied) if ask::is_attended() => eprintln!("{denied}"),
            Err(denied) => return Err(Mistake::new(denied.to_string()).into()),
        }
    }
}

fn wait(time: std::time::Duration) {
    if !time.is_zero() {
        eprintln!("After the wrong ones before: {} s to wait.", time.as_secs());
        std::thread::sleep(time);
    }
}
