//! Whether the system that was started is one to keep, and what became of the others.
//!
//! ```text
//! larder-health.service       [`gate`]        after ZFS and the state: is this start good? If not, and if there is another
//!                                             system: a restart, which takes a try
//! boot-complete.target
//! larder-mark-good.service    [`mark_good`]   the running system gets all its tries back; its pools are remembered
//! ```
//!
//! A system that was never good and cannot load ZFS gives up at once: the same bytes would do the same. Everything else may
//! pass, so it has its tries. When nothing is left to turn to, nothing is restarted: a machine that runs can tell what is wrong.

pub mod memory;

use std::path::Path;

use anyhow::Context as _;

pub use memory::Memory;

use crate::esp::{self, Esp, Folder, Systems, Tries};
use crate::finding::{Finding, Severity};
use crate::health::System;
use crate::pool::Known;
use crate::status;
use crate::update::checked;
use crate::verity::RootHash;
use crate::version::Version;
use crate::zfs::{self, PoolStatus};

/// Name of the list of findings.
pub const TOPIC: &str = "systems";

/// A start that is judged.
#[derive(Debug)]
pub struct Assessment<'a> {
    root: &'a Path,
    systems: Systems,
    running: RootHash,
    memory: Memory,
}

/// What the gate decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is good.
    Good,
    /// It is not, and the machine restarts: with another try, or with the other system.
    Restart,
    /// It is not, and there is no other system that could do better.
    Stay,
}

impl<'a> Assessment<'a> {
    /// Looks at what is on the ESP, and at what is remembered.
    ///
    /// # Errors
    /// The one or the other cannot be read.
    pub fn new(root: &'a Path, esp: &dyn Esp, running: RootHash) -> anyhow::Result<Self> {
        // A memory that is damaged, or not mounted, is no reason not to judge.
        let memory = Memory::read(root).unwrap_or_default();
        Ok(Self { root, systems: esp::systems(esp, &running)?, running, memory })
    }

    /// What the owner is told of the systems on this disk. What has failed is remembered.
    ///
    /// # Errors
    /// It cannot be written down.
    pub fn tell(&mut self) -> anyhow::Result<Vec<Finding>> {
        let failed: Vec<Version> = self.systems.failed().cloned().collect();
        let before = self.memory.clone();
        for version in &failed {
            self.memory.remember_failure(
                version,
                "it was started three times, and each time the machine restarted before it was good",
            );
        }
        if self.memory != before {
            self.memory.write(self.root)?;
        }
        let mut findings: Vec<_> = failed.iter().map(|version| self.fell_back(version)).collect();
        let tries = self.systems.running.as_ref().and_then(|name| name.tries);
        findings.extend(tries.is_some_and(Tries::is_last_resort).then(last_resort));
        status::record(self.root, TOPIC, &findings)?;
        Ok(findings)
    }

    fn fell_back(&self, version: &Version) -> Finding {
        let running = self.systems.running.as_ref().map_or("another one", |name| name.version.as_str());
        let reason = self.memory.failure(version).unwrap_or("it did not start");
        Finding {
            id: "system-fell-back".into(),
            severity: Severity::Warning,
            message: format!("system {version} failed, so {running} runs in its place: {reason}"),
            next: "nothing has to be done now; a newer version is installed when there is one, this one only by \
                   `firstboot update install --again`"
                .into(),
        }
    }

    /// Judges the start by its faults, and has the ESP and the memory say so.
    ///
    /// # Errors
    /// The ESP cannot be written.
    pub fn judge(&mut self, esp: &dyn Esp, faults: &[Finding]) -> anyhow::Result<Verdict> {
        if faults.is_empty() {
            return Ok(Verdict::Good);
        }
        if self.systems.fallback().is_none() {
            return Ok(Verdict::Stay);
        }
        let is_hopeless = !self.was_good() && faults.iter().any(|fault| fault.id == crate::health::ZFS_NOT_LOADED);
        if is_hopeless && let Some(rename) = self.systems.give_up() {
            esp::rename(esp, &rename)?;
        }
        if let Some(name) = &self.systems.running
            && (is_hopeless || name.is_used_up())
        {
            let reasons: Vec<_> = faults.iter().map(|fault| fault.message.as_str()).collect();
            self.memory.remember_failure(&name.version, &reasons.join("; "));
            // Without a state partition there is no memory; the name of the UKI says enough.
            let _ = self.memory.write(self.root);
        }
        Ok(Verdict::Restart)
    }

    /// Whether the last good start was one of this very system.
    fn was_good(&self) -> bool {
        self.memory.last_good.as_ref().is_some_and(|good| good.root_hash == self.running)
    }

    /// The start is good: all tries again, and these pools are expected from now on.
    ///
    /// # Errors
    /// ESP or memory cannot be written.
    pub fn mark_good(&mut self, esp: &dyn Esp, pools: Vec<Known>, ours: Option<&Known>) -> anyhow::Result<()> {
        if let Some(name) = &self.systems.running {
            self.memory.forget_failure(&name.version);
        }
        self.memory.remember_good(self.running, pools, |pool| ours.is_some_and(|ours| ours.guid == pool.guid));
        self.memory.write(self.root)?;
        self.systems.mark_good().map_or(Ok(()), |rename| esp::rename(esp, &rename))
    }
}

fn last_resort() -> Finding {
    Finding {
        id: "no-system-left".into(),
        severity: Severity::Failure,
        message: "no system on the boot medium starts as it should; this one was started as there is no other".to_owned(),
        next: "write the boot medium anew (`larder flash`) and take the pool over: `firstboot adopt`; the data is not on it".into(),
    }
}

/// Judges the start of this machine, and tells the owner. The caller restarts if need be.
///
/// # Errors
/// The ESP cannot be read or written.
pub fn gate() -> anyhow::Result<(Vec<Finding>, Verdict)> {
    let root = Path::new("/");
    let faults = System::at(root).settled_faults();
    // What was known of updates before the restart; that it cannot be told is no reason for another one.
    let _ = checked::tell(root);
    let judged =
        Assessment::new(root, &Folder::here(), crate::command_line::root_hash()?).and_then(|mut assessment| {
            assessment.tell()?;
            assessment.judge(&Folder::here(), &faults)
        });
    match judged {
        Ok(verdict) => Ok((faults, verdict)),
        // A good start stays good when nobody can say how often it was tried.
        Err(_) if faults.is_empty() => Ok((faults, Verdict::Good)),
        Err(error) => Err(error).context("looking for another system to start"),
    }
}

/// Counts the start of this machine as good.
///
/// # Errors
/// The ESP or the state cannot be written.
pub fn mark_good() -> anyhow::Result<()> {
    let root = Path::new("/");
    let mut assessment = Assessment::new(root, &Folder::here(), crate::command_line::root_hash()?)?;
    let pools = zfs::imported()?.into_iter().map(|(_, name)| Ok(Known::imported(&PoolStatus::of(&name)?)));
    let pools = pools.collect::<anyhow::Result<Vec<_>>>()?;
    assessment.mark_good(&Folder::here(), pools, Known::read(root)?.as_ref())
}

#[cfg(test)]
mod tests;
