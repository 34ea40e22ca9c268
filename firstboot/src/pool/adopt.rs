//! Taking over a pool that another boot medium has set up: the old stick is lost, or the disks came from another machine.
//!
//! The pool and a key bring everything back: settings and identity have copies in the encrypted data.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::{DATA, Known, SETUP_PROPERTY, copies};
use crate::apply::Prepared;
use crate::command::Run;
use crate::finding::Finding;
use crate::identity::Identity;
use crate::key::{PoolKey, Slot, SlotStore as _, Vault};
use crate::report::Mistake;
use crate::settings::FILE_NAME;
use crate::state::State;
use crate::zfs::{self, Guid, PoolStatus};

/// A pool on disks that are plugged in, which is not imported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Importable {
    /// Its name, which others may have too.
    pub name: String,
    /// Its number.
    pub guid: Guid,
    /// `ONLINE`, `DEGRADED`, …
    pub state: String,
}

/// Pools that could be imported.
///
/// # Errors
/// ZFS does not answer.
pub fn importable() -> anyhow::Result<Vec<Importable>> {
    let output = Run::new("zpool").args(["import", "-d", "/dev/disk/by-id"]).output()?;
    // Without any it fails. There is no JSON of this in 2.3.
    Ok(parse(&String::from_utf8_lossy(&output.stdout)))
}

/// Pools have `pool:`, `id:` and `state:` lines, in this order (`show_import` in cmd/zpool/zpool_main.c).
fn parse(text: &str) -> Vec<Importable> {
    let mut pools = Vec::new();
    let (mut name, mut guid) = (None, None);
    for line in text.lines() {
        match line.trim().split_once(": ") {
            Some(("pool", value)) => name = Some(value.to_owned()),
            Some(("id", value)) => guid = value.parse().ok().map(Guid),
            Some(("state", value)) => {
                if let (Some(name), Some(guid)) = (name.take(), guid.take()) {
                    pools.push(Importable { name, guid, state: value.to_owned() });
                }
            }
            _ => {}
        }
    }
    pools
}

/// The pool of this name or number.
///
/// # Errors
/// There is none, or there are several.
pub fn find(which: &str) -> anyhow::Result<Importable> {
    let pools = importable()?;
    let fits = |pool: &&Importable| pool.name == which || pool.guid.to_string() == which;
    let fitting: Vec<_> = pools.iter().filter(fits).collect();
    let list = |pools: &[&Importable]| {
        pools.iter().map(|pool| format!("`{}` ({})", pool.name, pool.guid)).collect::<Vec<_>>().join(", ")
    };
    match fitting.as_slice() {
        [pool] => Ok((*pool).clone()),
        [] if pools.is_empty() => Err(Mistake::new(format!("there is no pool `{which}`, nor any other"))
            .hint("are all its disks plugged in?")
            .into()),
        [] => Err(Mistake::new(format!(
            "there is no pool `{which}`; there are {}",
            list(&pools.iter().collect::<Vec<_>>())
        ))
        .hint("name one of these")
        .into()),
        several => Err(Mistake::new(format!("several pools are called `{which}`: {}", list(several)))
            .hint("give the number of the one that is meant")
            .into()),
    }
}

/// Takes a pool over: imports and opens it, and puts the settings in it into force. `open` gets the key from its slots.
/// Gives what has not gone as it should.
///
/// # Errors
/// It was set up by something else, cannot be imported, or `open` has no key. Then it is given back.
pub fn adopt(
    root: &Path,
    pool: &Importable,
    open: impl FnOnce(&[Slot]) -> anyhow::Result<PoolKey>,
) -> anyhow::Result<Vec<Finding>> {
    if let Some(known) = Known::read(root)? {
        return Err(Mistake::new(format!("this server has a pool already: `{}` ({})", known.name, known.guid))
            .hint("a second one is imported by hand: zpool import")
            .into());
    }
    // Another system had it last, whose disks these were.
    zfs::import(pool.guid, &[PathBuf::from("/dev/disk/by-id")], true)?;
    take_over(root, pool, open).inspect_err(|_| {
        // What was not taken over stays as it was.
        let _ = zfs::export(&pool.name);
    })?;
    come_into_force(root)
}

fn take_over(
    root: &Path,
    pool: &Importable,
    open: impl FnOnce(&[Slot]) -> anyhow::Result<PoolKey>,
) -> anyhow::Result<()> {
    let is_ours = zfs::property(&pool.name, SETUP_PROPERTY)?.as_deref() == Some("complete");
    if !is_ours || !zfs::exists(&format!("{}/{DATA}", pool.name))? {
        return Err(Mistake::new(format!("the pool `{}` was not set up by larder", pool.name))
            .hint("look at it by hand: zpool import -N -R /mnt; copy what is on it to a pool of larder's")
            .into());
    }
    let vault = Vault::of(&pool.name);
    let key = open(&vault.slots().slots()?.slots)?;
    vault.open_only(&key)?;
    copies::take_from_pool(root)?;
    // A pool remembers who had it last, and is not imported by another one: from here on that is its old server again.
    Identity::of(root, Some(&State::at(root)))?.put_into_force(root)?;
    zfs::export(&pool.name)?;
    zfs::import(pool.guid, &[PathBuf::from("/dev/disk/by-id")], false)?;
    Known::imported(&PoolStatus::of(&pool.name)?).write(root)?;
    vault.open(&key)
}

/// The settings that came with the pool.
fn come_into_force(root: &Path) -> anyhow::Result<Vec<Finding>> {
    let Some(text) = State::at(root).read(FILE_NAME)? else { return Ok(Vec::new()) };
    let text = String::from_utf8(text).context("the settings on the pool are no text")?;
    Prepared::new(root, &text, "the settings on the pool")?.put_into_force(root)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &str = "\
   pool: tank
     id: 11570879233519870023
  state: ONLINE
action: The pool can be imported using its name or numeric identifier.
config:

\ttank                                  ONLINE
\t  raidz1-0                            ONLINE
\t    nvme-QEMU_NVMe_Ctrl_larder-disk0  ONLINE

   pool: tank
     id: 42
  state: DEGRADED
status: One or more devices are missing from the system.
";

    #[test]
    fn pools_are_told_apart_by_their_numbers() {
        let pools = parse(TWO);
        assert_eq!(pools.iter().map(|pool| pool.guid.0).collect::<Vec<_>>(), [11_570_879_233_519_870_023, 42]);
        assert_eq!((pools[1].name.as_str(), pools[1].state.as_str()), ("tank", "DEGRADED"));
        assert_eq!(parse("no pools available to import\n"), []);
    }
}
