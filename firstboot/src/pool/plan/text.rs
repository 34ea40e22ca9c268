//! A plan as people read it, before they agree.

use std::fmt;

use super::layout::Cost;
use super::{Arrangement, Plan, PlannedDisk};
use crate::disk::Size;

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.disks.len();
        writeln!(f, "Pool `{}`: {}", self.name, described(self.arrangement, count))?;
        if let Some(reason) = &self.reason {
            writeln!(f, "  Chosen because {reason}.")?;
        }
        writeln!(f)?;
        self.disks.iter().zip(1..).try_for_each(|(disk, number)| show(f, &format!("Disk {number}"), disk))?;
        self.spares.iter().zip(1..).try_for_each(|(disk, number)| show(f, &format!("Spare {number}"), disk))?;
        writeln!(f, "\nRoom for files: {} of {}", Size(self.capacity.usable), Size(self.capacity.raw))?;
        if self.capacity.idle > 0 {
            writeln!(f, "  {} lie idle, because the disks are not of one size.", Size(self.capacity.idle))?;
        }
        writeln!(f, "When one disk fails: {}", cost(self.arrangement, count, 1))?;
        if count > 1 {
            writeln!(f, "When two disks fail before one is replaced: {}", cost(self.arrangement, count, 2))?;
        }
        if self.arrangement == Arrangement::Single {
            writeln!(
                f,
                "\nWARNING: with one disk, what it loses is lost. Errors are noticed, and nothing can mend them."
            )?;
        }
        self.warn_of_erasure(f)?;
        writeln!(f, "\nPlan {}", self.id())
    }
}

impl Plan {
    fn warn_of_erasure(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut erased = self.erased().peekable();
        if erased.peek().is_none() {
            return writeln!(f, "\nNothing is erased: all disks are empty.");
        }
        writeln!(f, "\nERASED, with everything on them:")?;
        erased.try_for_each(|disk| {
            writeln!(f, "  {}", disk.id)?;
            disk.erased.iter().try_for_each(|content| writeln!(f, "      {content}"))
        })
    }
}

fn show(f: &mut fmt::Formatter<'_>, number: &str, disk: &PlannedDisk) -> fmt::Result {
    let model = disk.model.as_deref().unwrap_or("unknown model");
    let serial = disk.serial.as_deref().unwrap_or("unknown");
    writeln!(f, "  {number}: {model}, serial number {serial}, {}", Size(disk.size))?;
    writeln!(f, "      {}", disk.id)?;
    disk.way.iter().try_for_each(|way| writeln!(f, "      at {way}"))
}

fn described(arrangement: Arrangement, disks: usize) -> String {
    match arrangement {
        Arrangement::Single => "one disk".to_owned(),
        Arrangement::Mirror => format!("mirror of {disks} disks, each of which holds everything"),
        Arrangement::Mirrors => format!("{} mirrors of two disks each", disks / 2),
        Arrangement::Raidz1 => format!("raidz1 of {disks} disks, any one of which may fail"),
        Arrangement::Raidz2 => format!("raidz2 of {disks} disks, any two of which may fail"),
    }
}

fn cost(arrangement: Arrangement, disks: usize, failed: usize) -> String {
    match arrangement.cost(disks, failed) {
        Cost::Nothing => "nothing is lost.".to_owned(),
        Cost::AllInOneOf(1) | Cost::All => "everything is lost.".to_owned(),
        Cost::AllInOneOf(cases) => {
            format!("everything is lost if they are of one pair (in one of {cases} cases), else nothing.")
        }
    }
}
