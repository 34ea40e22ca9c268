//! Asking servers at home for what opens the data, while the consoles ask whoever is there.
//!
//! That goes on as long as the data is locked: after a power cut the servers may come back later than this machine, and a
//! laptop's worth of patience is no reason to have somebody drive there.

use std::path::Path;
use std::time::Duration;

use super::boot::{TOPIC, locked, locked_because, refused};
use crate::finding::Finding;
use crate::key::{PoolKey, Refusal, Slot, SlotName, SlotStore as _, Vault};
use crate::status;
use crate::tang::Client;
use crate::tpm::Tpm;

/// How often servers are asked: soon at first, as the network is just coming up.
const PAUSES: [u64; 6] = [1, 2, 3, 5, 10, 20];
/// And then.
const PAUSE: u64 = 30;
/// So many failures are the network, not the servers.
const GRACE: usize = 5;

/// What came of asking once.
enum Answer {
    Opened(PoolKey, SlotName),
    /// What is in the way, and whether that may end without anybody.
    Locked {
        findings: Vec<Finding>,
        is_transient: bool,
    },
}

/// Asks until the data is open, by whomever, or nothing can come of it any more.
///
/// # Errors
/// ZFS does not answer, or the data cannot be mounted.
pub fn by_network(root: &Path) -> anyhow::Result<()> {
    let Some(vault) = Vault::find(None)? else { return Ok(()) };
    let before = locked_because(root)?;
    let mut told = Vec::new();
    for attempt in 0.. {
        if vault.is_open()? {
            return Ok(());
        }
        // Anew each time: somebody may have repaired them.
        let mut slots = vault.slots().slots()?.slots;
        slots.retain(|slot| slot.way().needs_network());
        match ask(&slots, &Tpm::at(root)) {
            Answer::Opened(key, slot) => {
                vault.open(&key)?;
                println!("{} is open, by {slot}.", vault.dataset());
                return status::record(root, TOPIC, &before);
            }
            Answer::Locked { findings, is_transient } => {
                if (attempt >= GRACE || !is_transient) && findings != told && !vault.is_open()? {
                    findings.iter().for_each(|finding| println!("{finding}"));
                    let all = [&before[..], &findings[..], &[locked(&vault)]].concat();
                    status::record(root, TOPIC, &all)?;
                    told = findings;
                }
                if !is_transient {
                    return Ok(());
                }
            }
        }
        std::thread::sleep(Duration::from_secs(PAUSES.get(attempt).copied().unwrap_or(PAUSE)));
    }
    Ok(())
}

fn ask(slots: &[Slot], tpm: &Tpm) -> Answer {
    let (mut findings, mut is_transient) = (Vec::new(), false);
    for slot in slots {
        match slot.open_alone(tpm, &Client::new()) {
            Ok(key) => return Answer::Opened(key, slot.name.clone()),
            Err(refusal) => {
                is_transient |= matches!(&refusal, Refusal::Tang(absent) if absent.is_transient());
                findings.push(refused(slot, &refusal));
            }
        }
    }
    Answer::Locked { findings, is_transient }
}
