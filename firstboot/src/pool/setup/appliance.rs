//! The machine that is set up.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use uuid::Uuid;

use super::{Journal, World, disks};
use crate::disk::Machine;
use crate::key;
use crate::key::{PoolKey, SlotStore};
use crate::pool::plan::PlannedDisk;
use crate::pool::{DATA, Known, SETUP_PROPERTY, SYSTEM, SYSTEM_FOLDER, mountpoint};
use crate::seed;
use crate::settings::sources::Source;
use crate::tang::Client;
use crate::tpm::Tpm;
use crate::zfs::{self, Guid};

/// This machine.
#[derive(Debug)]
pub struct Appliance {
    root: PathBuf,
    /// Where the settings with their secrets came from.
    source: Option<Source>,
}

impl Appliance {
    /// This machine, with settings that came from there, or from somebody at the console.
    pub fn new(source: Option<&Source>) -> Self {
        Self { root: PathBuf::from("/"), source: source.cloned() }
    }

    /// Whether what is in the pool belongs to this setup, and to no earlier one.
    fn is_ours(journal: &Journal) -> anyhow::Result<bool> {
        let state = zfs::property(&journal.plan.name, SETUP_PROPERTY)?;
        Ok(state.as_deref() == Some(&under_way(journal)))
    }
}

fn under_way(journal: &Journal) -> String {
    format!("under-way:{}", journal.id)
}

impl World for Appliance {
    fn keep(&mut self, journal: &Journal) -> anyhow::Result<()> {
        journal.write(&self.root)
    }

    fn partition(&mut self, disk: &PlannedDisk, id: Uuid) -> anyhow::Result<()> {
        disks::partition(&Machine::here(), disk, id)
    }

    fn create_pool(&mut self, journal: &Journal) -> anyhow::Result<Guid> {
        let plan = &journal.plan;
        let imported = || anyhow::Ok(zfs::imported()?.into_iter().find(|(_, name)| *name == plan.name));
        if let Some((guid, name)) = imported()? {
            ensure!(Self::is_ours(journal)?, "there is another pool `{name}` ({guid})");
            // Made, and not yet written down.
            return Ok(guid);
        }
        plan.all_disks().try_for_each(disks::forget_pool)?;
        let nodes: Vec<_> = plan.disks.iter().map(disks::node).collect();
        let groups: Vec<_> = nodes
            .chunks(plan.arrangement.group(nodes.len()))
            .map(|group| (plan.arrangement.keyword(), group.to_owned()))
            .collect();
        let spares: Vec<_> = plan.spares.iter().map(disks::node).collect();
        zfs::create_pool(&plan.name, (SETUP_PROPERTY, &under_way(journal)), &groups, &spares)?;
        Ok(imported()?.context("the pool is gone")?.0)
    }

    fn open_pool(&mut self, journal: &Journal, guid: Guid) -> anyhow::Result<()> {
        let name = match zfs::name_of(guid)? {
            Some(name) => name,
            None => {
                let nodes: Vec<_> = journal.plan.all_disks().map(disks::node).collect();
                zfs::import(guid, &nodes, false)?;
                zfs::name_of(guid)?.context("the pool is gone")?
            }
        };
        ensure!(name == journal.plan.name, "the pool is called `{name}` instead of `{}`", journal.plan.name);
        Ok(())
    }

    fn encrypt(&mut self, journal: &Journal, key: &PoolKey) -> anyhow::Result<()> {
        let pool = &journal.plan.name;
        ensure!(Self::is_ours(journal)?, "the pool `{pool}` was made by another setup");
        let data = format!("{pool}/{DATA}");
        if zfs::exists(&data)? {
            zfs::destroy(&data)?;
        }
        zfs::create_encrypted(&data, &mountpoint(pool), key.expose())?;
        zfs::create(&format!("{data}/{SYSTEM}"), Path::new(SYSTEM_FOLDER))
    }

    fn slots(&self, journal: &Journal) -> Box<dyn SlotStore> {
        Box::new(key::PoolSlots::of(&journal.plan.name))
    }

    fn prove(&self, journal: &Journal, key: &PoolKey) -> anyhow::Result<()> {
        zfs::check_key(&format!("{}/{DATA}", journal.plan.name), key.expose())
    }

    fn tpm(&self) -> Option<Tpm> {
        Some(Tpm::at(&self.root)).filter(Tpm::is_there)
    }

    fn tang(&self) -> Client {
        Client::patient()
    }

    fn finish(&mut self, journal: &Journal, guid: Guid) -> anyhow::Result<()> {
        Known::new(guid, &journal.plan).write(&self.root)?;
        zfs::set_property(&journal.plan.name, SETUP_PROPERTY, "complete")?;
        if self.source == Some(Source::Seed) {
            seed::wipe().context("wiping the settings, which hold secrets, from the partition LARDER")?;
        }
        Journal::remove(&self.root)?;
        self.say("the pool is ready");
        Ok(())
    }

    fn say(&mut self, what: &str) {
        println!("larder: setting up: {what}");
    }
}
