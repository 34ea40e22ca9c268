//! Which disks become part of the pool, and which must not.

use std::collections::BTreeSet;

use anyhow::Context as _;

use super::{Look, PlannedDisk, partition_size};
use crate::disk::{Disk, Internal, Refusal, Rules};
use crate::report::Mistake;
use crate::settings::{DiskId, Pool};

/// Less is no disk for data: a pool of such disks is a mistake (or a boot stick).
const SMALLEST: u64 = 1 << 30;
/// What is on a disk that is not blank, and where nobody recognises anything.
pub(crate) const UNKNOWN: &str = "something that nobody knows";
const RULES: Rules = Rules { internal: Internal::Allowed, needed: SMALLEST };

/// The disks of the pool and its spares, all of them checked.
pub(super) fn choose(
    disks: &[Disk],
    look: &dyn Look,
    wanted: &Pool,
) -> anyhow::Result<(Vec<PlannedDisk>, Vec<PlannedDisk>)> {
    check_names(wanted)?;
    let of = |ids: &[DiskId]| ids.iter().map(|id| named(disks, look, wanted, id)).collect::<anyhow::Result<Vec<_>>>();
    let spares = of(&wanted.spares)?;
    let members = if wanted.disks.is_empty() { empty_ones(disks, look, wanted)? } else { of(&wanted.disks)? };
    check_twice(members.iter().chain(&spares))?;
    if members.is_empty() {
        return Err(Mistake::new("no disk is empty")
            .hint(
                "name the disks under `disks`, and under `erase` those whose content may be lost; or name a pool under \
                   `adopt`",
            )
            .into());
    }
    Ok((members, spares))
}

/// Nobody's disk is erased by an entry that was left behind.
fn check_names(wanted: &Pool) -> Result<(), Mistake> {
    let taken: Vec<_> = wanted.disks.iter().chain(&wanted.spares).collect();
    match wanted.erase.iter().find(|id| !taken.contains(id)) {
        Some(id) => Err(Mistake::new(format!("{id} is under `erase`, but neither under `disks` nor under `spares`"))
            .hint("name it there too, or not at all")),
        None => Ok(()),
    }
}

/// Two names may stand for one disk.
fn check_twice<'a>(disks: impl Iterator<Item = &'a PlannedDisk>) -> Result<(), Mistake> {
    let mut seen = BTreeSet::new();
    for disk in disks {
        if !seen.insert(&disk.id) {
            return Err(Mistake::new(format!("{} is named twice", disk.id)).hint("name every disk once"));
        }
    }
    Ok(())
}

/// A disk that the settings name.
fn named(disks: &[Disk], look: &dyn Look, wanted: &Pool, id: &DiskId) -> anyhow::Result<PlannedDisk> {
    let Some(disk) = disks.iter().find(|disk| disk.ids.iter().any(|other| other == id.as_str())) else {
        return Err(Mistake::new(format!("there is no disk {id}")).hint("`firstboot plan` lists the disks").into());
    };
    let may_be_erased = |name: &DiskId| disk.ids.iter().any(|other| other == name.as_str());
    let erase = wanted.erase.iter().any(may_be_erased);
    match RULES.refusal(disk, disks) {
        // What it holds is looked at below.
        Some(Refusal::Member(_)) => {}
        Some(refusal) => return Err(anyhow::Error::new(Mistake::from(refusal)).context(format!("the disk {id}"))),
        None => {}
    }
    if let Some(complaint) = look.complaint(disk) {
        return Err(Mistake::new(format!("the disk {id} says of itself that it fails: {complaint}"))
            .hint("replace it before it holds anything")
            .into());
    }
    let holds = holds(disk, look)?;
    if !holds.is_empty() && !erase {
        return Err(Mistake::new(format!("the disk {id} is not empty: {}", holds.join("; ")))
            .hint("if all of that may be lost, name the disk under `erase` too; a pool is taken over with `adopt`")
            .into());
    }
    planned(disk, holds)
}

/// All disks that nothing speaks against and that hold nothing.
fn empty_ones(disks: &[Disk], look: &dyn Look, wanted: &Pool) -> anyhow::Result<Vec<PlannedDisk>> {
    let is_spare = |disk: &Disk| wanted.spares.iter().any(|id| disk.ids.iter().any(|other| other == id.as_str()));
    let mut empty = Vec::new();
    for disk in disks.iter().filter(|disk| !disk.removable && !is_spare(disk)) {
        match RULES.refusal(disk, disks) {
            // Nobody could say which of them is meant, so none is taken in silence.
            Some(refusal @ Refusal::Ambiguous(_)) => {
                return Err(anyhow::Error::new(Mistake::from(refusal)).context(format!("the disk {}", disk.name)));
            }
            None if look.complaint(disk).is_none() && holds(disk, look)?.is_empty() => {
                empty.push(planned(disk, Vec::new())?);
            }
            _ => {}
        }
    }
    Ok(empty)
}

/// What is on it, for people; nothing when it is empty.
fn holds(disk: &Disk, look: &dyn Look) -> anyhow::Result<Vec<String>> {
    let is_known = disk.areas.len() > 1 || disk.areas.iter().any(|area| area.format.is_some());
    if is_known {
        return Ok(disk.contents());
    }
    let blank = look.is_blank(disk).map_err(|error| {
        Mistake::new(format!("the disk {} cannot be read", disk.name)).hint("replace it").because(error)
    })?;
    // An empty table of this kind is not blank, and holds nothing. Of the older kind, two bytes are all that tells it.
    let has_table = disk.areas.iter().any(|area| area.table.as_deref() == Some("gpt"));
    Ok(if blank || has_table { Vec::new() } else { vec![UNKNOWN.to_owned()] })
}

fn planned(disk: &Disk, erased: Vec<String>) -> anyhow::Result<PlannedDisk> {
    let id = disk.id().context("it has no name that stays the same")?;
    Ok(PlannedDisk {
        id: DiskId::parse(id).map_err(Mistake::new)?,
        model: disk.model.clone(),
        serial: disk.serial.clone(),
        way: disk.way.clone(),
        size: disk.size,
        sector: disk.sector,
        erased,
        partition: partition_size(disk.size),
    })
}
