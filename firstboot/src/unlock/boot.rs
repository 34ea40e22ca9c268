//! At the start of the machine.

use std::path::Path;

use super::Opened;
use crate::command::Run;
use crate::console::Console;
use crate::finding::{Finding, Severity};
use crate::key::{Refusal, Slot, SlotStore as _, Vault};
use crate::status;
use crate::tang::Client;
use crate::tpm::Tpm;

/// What findings about keys are filed under.
pub(super) const TOPIC: &str = "keys";
/// Asks servers.
const NETWORK: &str = "larder-unlock-network.service";

/// Opens the data, as far as that needs neither somebody nor the network; otherwise has every console ask, and servers be asked.
/// Does nothing when there is no pool.
///
/// # Errors
/// ZFS does not answer, or the data cannot be mounted.
pub fn at_boot(root: &Path) -> anyhow::Result<()> {
    let Some(vault) = Vault::find(None)? else { return Ok(()) };
    if vault.is_open()? {
        vault.mount()?;
        return record_open(root);
    }
    let (remote, local): (Vec<_>, Vec<_>) =
        vault.slots().slots()?.slots.into_iter().partition(|slot| slot.way().needs_network());
    let (opened, mut findings) = automatically(&local, &Tpm::at(root), &Client::new());
    if let Some(opened) = opened {
        vault.open(&opened.key)?;
        println!("{} is open, by {}.", vault.dataset(), opened.slot);
        return status::record(root, TOPIC, &findings);
    }
    findings.iter().for_each(|finding| println!("{finding}"));
    findings.push(locked(&vault));
    status::record(root, TOPIC, &findings)?;
    let servers = (!remote.is_empty()).then(|| NETWORK.to_owned());
    units(&Console::all(root))
        .iter()
        .chain(&servers)
        .try_for_each(|unit| Run::new("systemctl").args(["start", "--no-block", unit]).done())
}

/// Tries the ways that need nobody, one after the other, those in this machine first; what is wrong with those that should have worked.
pub fn automatically(slots: &[Slot], tpm: &Tpm, client: &Client) -> (Option<Opened>, Vec<Finding>) {
    let mut findings = Vec::new();
    let mut automatic: Vec<_> = slots.iter().filter(|slot| slot.way().is_automatic()).collect();
    automatic.sort_by_key(|slot| slot.way().needs_network());
    for slot in automatic {
        match slot.open_alone(tpm, client) {
            Ok(key) => return (Some(Opened { key, slot: slot.name.clone(), way: slot.way() }), findings),
            Err(refusal) => findings.push(refused(slot, &refusal)),
        }
    }
    (None, findings)
}

pub(super) fn refused(slot: &Slot, refusal: &Refusal) -> Finding {
    match refusal {
        Refusal::Tpm(why) => why.finding(slot.name.as_str()),
        Refusal::Tang(why) => why.finding(slot.name.as_str()),
        Refusal::Wrong | Refusal::Fault(_) => Finding {
            id: "key-failed".into(),
            severity: Severity::Warning,
            message: format!("the key {} does not open the data: {refusal}", slot.name),
            next: "open the data with a passphrase or the recovery key, then `firstboot keys repair`".into(),
        },
    }
}

/// What was found about keys, for whoever is about to open the data.
pub fn locked_because(root: &Path) -> anyhow::Result<Vec<Finding>> {
    let findings = status::recorded(root, TOPIC)?.unwrap_or_default();
    Ok(findings.into_iter().filter(|finding| finding.id != LOCKED).collect())
}

/// Takes note that the data is open.
pub fn record_open(root: &Path) -> anyhow::Result<()> {
    status::record(root, TOPIC, &locked_because(root)?)
}

/// Takes note that what was found is mended.
pub fn forget_findings(root: &Path) -> anyhow::Result<()> {
    status::record(root, TOPIC, &[])
}

const LOCKED: &str = "data-locked";

pub(super) fn locked(vault: &Vault) -> Finding {
    Finding {
        id: LOCKED.into(),
        severity: Severity::Failure,
        message: format!("{} is locked, so nothing that needs it runs", vault.dataset()),
        next: "type a passphrase or the recovery key at the console, or by `firstboot unlock`".into(),
    }
}

/// The units that ask, one for each console.
fn units(consoles: &[Console]) -> Vec<String> {
    let unit = |console: &Console| match console {
        Console::Screen(name) => format!("larder-unlock-screen@{name}.service"),
        Console::Serial(name) => format!("larder-unlock-serial@{name}.service"),
    };
    consoles.iter().map(unit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_console_asks() {
        let consoles = [Console::Serial("ttyS0".to_owned()), Console::Screen("tty1".to_owned())];
        assert_eq!(units(&consoles), ["larder-unlock-serial@ttyS0.service", "larder-unlock-screen@tty1.service"]);
    }

    #[test]
    fn what_was_found_outlasts_the_opening_but_for_the_lock() {
        let root = tempfile::tempdir().unwrap();
        let other = Finding { id: "tpm-cleared".into(), ..locked(&Vault::of("tank")) };
        status::record(root.path(), TOPIC, &[locked(&Vault::of("tank")), other.clone()]).unwrap();
        record_open(root.path()).unwrap();
        assert_eq!(status::recorded(root.path(), TOPIC).unwrap(), Some(vec![other]));
    }
}
