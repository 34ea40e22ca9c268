//! What is wrong with the running machine's hardware, as far as its kernel can tell: looked for at every boot.
//!
//! Each [`Check`] is one question. What it finds says what it means and what to do; a profile that knows more about
//! its board adds to that ([`super::Hazard`]).

mod buses;
mod drivers;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::kernel_log::KernelLog;
use super::machine::text;
use super::{Description, Machine, detect, drives, memory};
use crate::finding::{Finding, Severity};

/// One question about the hardware.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Check {
    /// Is the image for another machine?
    WrongProfile,
    /// Is there less memory than the profile needs?
    LessMemory,
    /// Is there a network card that no driver has taken?
    NetworkWithoutDriver,
    /// Is there a GPU that no driver has taken?
    GraphicsWithoutDriver,
    /// Does Intel's GPU encode without the firmware that it needs for that?
    HucNotAuthenticated,
    /// Does a JMB58x SATA controller use addresses that it cannot?
    Jmb585Dma,
    /// Do two NVMe drives claim to be the same one?
    NvmeDuplicateIds,
    /// Can the firmware's areas of an eMMC be overwritten?
    EmmcBootAreas,
    /// Has a drive vanished from its bus?
    DriveDropped,
}

/// All checks, in the order in which they are reported.
pub const CHECKS: &[Check] = &[
    Check::WrongProfile,
    Check::LessMemory,
    Check::NetworkWithoutDriver,
    Check::GraphicsWithoutDriver,
    Check::HucNotAuthenticated,
    Check::Jmb585Dma,
    Check::NvmeDuplicateIds,
    Check::EmmcBootAreas,
    Check::DriveDropped,
];

/// What a check has found in general, before the profile's knowledge of the board is added.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Fault {
    what: String,
    next: String,
}

impl Fault {
    fn new(what: impl Into<String>, next: impl Into<String>) -> Self {
        Self { what: what.into(), next: next.into() }
    }
}

/// A running system, or a folder that looks like one.
#[derive(Debug, Clone)]
pub struct System {
    root: PathBuf,
    description: Description,
    machine: Machine,
    log: KernelLog,
    command_line: String,
}

impl System {
    /// The system below `root`; `/` for the real one.
    ///
    /// # Errors
    /// The image does not say which hardware it is for, or the kernel's log cannot be read.
    pub fn at(root: impl Into<PathBuf>) -> anyhow::Result<Self> {
        let root = root.into();
        Ok(Self {
            description: Description::read(&root)?,
            machine: Machine::of_system(&root),
            log: KernelLog::of_system(&root)?,
            command_line: text(&root.join("proc/cmdline")),
            root,
        })
    }

    /// Everything that the checks find; nothing on a machine that is well.
    pub fn findings(&self) -> Vec<Finding> {
        CHECKS.iter().flat_map(|check| check.ask(self).into_iter().map(|fault| self.finding(*check, fault))).collect()
    }

    fn finding(&self, check: Check, fault: Fault) -> Finding {
        let (mut message, mut next) = (fault.what, fault.next);
        if let Some(hazard) = self.description.hazard(check) {
            message = format!("{message} {}", hazard.means);
            next = format!("{}; {next}", hazard.next);
        }
        Finding { id: check.id().into(), severity: check.severity(), message, next: next.into() }
    }

    fn root(&self) -> &Path {
        &self.root
    }
}

impl Check {
    /// Stable name, as in profiles.
    pub fn id(self) -> &'static str {
        match self {
            Self::WrongProfile => "wrong-profile",
            Self::LessMemory => "less-memory",
            Self::NetworkWithoutDriver => "network-without-driver",
            Self::GraphicsWithoutDriver => "graphics-without-driver",
            Self::HucNotAuthenticated => "huc-not-authenticated",
            Self::Jmb585Dma => "jmb585-dma",
            Self::NvmeDuplicateIds => "nvme-duplicate-ids",
            Self::EmmcBootAreas => "emmc-boot-areas",
            Self::DriveDropped => "drive-dropped",
        }
    }

    /// Data is in danger where it is a failure.
    fn severity(self) -> Severity {
        match self {
            Self::Jmb585Dma | Self::NvmeDuplicateIds | Self::DriveDropped => Severity::Failure,
            _ => Severity::Warning,
        }
    }

    fn ask(self, system: &System) -> Vec<Fault> {
        match self {
            Self::WrongProfile => wrong_profile(system),
            Self::LessMemory => less_memory(system),
            Self::NetworkWithoutDriver => drivers::network(system),
            Self::GraphicsWithoutDriver => drivers::graphics(system),
            Self::HucNotAuthenticated => drivers::huc(system),
            Self::Jmb585Dma => drivers::jmb585(system),
            Self::NvmeDuplicateIds => buses::duplicate_ids(system),
            Self::EmmcBootAreas => emmc_boot_areas(system),
            Self::DriveDropped => buses::dropped(system),
        }
    }
}

fn wrong_profile(system: &System) -> Vec<Fault> {
    let Description { known, profile, .. } = &system.description;
    let Some((ours, better)) = detect::better_than(known, profile, &system.machine) else { return Vec::new() };
    let next = match better {
        Some(better) => {
            format!("write the image of the profile `{better}` to the boot medium; settings and pools stay")
        }
        None => "run `firstboot hardware detect` and build an image for what it names first".to_owned(),
    };
    let why = ours.reasons.join("; ");
    vec![Fault::new(format!("this image is for `{profile}`, but the machine is another one ({why})."), next)]
}

/// What firmware and a GPU without memory of its own keep for themselves, in percent at most.
const TAKEN_BY_FIRMWARE: u64 = 15;

fn less_memory(system: &System) -> Vec<Fault> {
    let (Some(minimum), Ok(total)) = (system.description.memory.minimum, memory::total(system.root())) else {
        return Vec::new();
    };
    if total >= minimum.bytes() / 100 * (100 - TAKEN_BY_FIRMWARE) {
        return Vec::new();
    }
    let what = format!("there are {} MiB of memory, and this image is made for {minimum}.", total >> 20);
    vec![Fault::new(
        what,
        "add memory, or see that a module of it is seated well; until then expect programs to be ended",
    )]
}

fn emmc_boot_areas(system: &System) -> Vec<Fault> {
    let fault = |name: String| {
        Fault::new(
            format!(
                "the area {name} of the soldered flash can be written to: it is the firmware's, and no disk for data."
            ),
            format!("echo 1 > /sys/block/{name}/force_ro"),
        )
    };
    drives::writable_boot_areas(system.root()).into_iter().map(fault).collect()
}
