//! The encrypted dataset of a pool.

use std::path::Path;

use anyhow::Context as _;

use super::properties::{Datasets, PoolSlots};
use super::{PoolKey, SlotStore as _};
use crate::command::{Failed, Run};
use crate::pool::{DATA, copies};
use crate::report::Mistake;

/// There while the data is open; the start of `larder-storage.target` asserts it.
const OPEN: &str = "/run/larder/storage-open";

/// What the key opens.
#[derive(Debug, Clone)]
pub struct Vault {
    pool: String,
}

impl Vault {
    /// That of `pool`, which is imported.
    pub fn of(pool: impl Into<String>) -> Self {
        Self { pool: pool.into() }
    }

    /// That of the imported pool which has key slots, or of the one called `name`; `None` when there is none.
    ///
    /// # Errors
    /// Several pools have slots.
    pub fn find(name: Option<&str>) -> anyhow::Result<Option<Self>> {
        let pools = Run::new("zpool").args(["list", "-H", "-o", "name"]).text()?;
        let mut vaults = Vec::new();
        for pool in pools.lines().filter(|pool| name.is_none_or(|name| name == *pool)) {
            let listing = PoolSlots::of(pool).slots()?;
            if !(listing.slots.is_empty() && listing.unreadable.is_empty()) {
                vaults.push(Self::of(pool));
            }
        }
        if vaults.len() > 1 {
            let names: Vec<_> = vaults.iter().map(|vault| vault.pool.as_str()).collect();
            return Err(Mistake::new(format!("several pools have keys: {}", names.join(", ")))
                .hint("say which one: --pool NAME")
                .into());
        }
        Ok(vaults.pop())
    }

    /// The pool's name.
    pub fn pool(&self) -> &str {
        &self.pool
    }

    /// The dataset's name.
    pub fn dataset(&self) -> String {
        format!("{}/{DATA}", self.pool)
    }

    /// Where its key slots are.
    pub fn slots(&self) -> PoolSlots {
        PoolSlots::of(&self.pool)
    }

    /// The number of the pool, which no other pool has.
    pub fn guid(&self) -> anyhow::Result<String> {
        Run::new("zpool").args(["list", "-H", "-o", "guid", &self.pool]).text()
    }

    /// Whether ZFS has the key.
    pub fn is_open(&self) -> anyhow::Result<bool> {
        let dataset = self.dataset();
        let status: Datasets = Run::new("zfs").args(["get", "-j", "keystatus", &dataset]).json()?;
        let status = status.value(&dataset, "keystatus").with_context(|| format!("{dataset} is not encrypted"))?;
        Ok(status == "available")
    }

    /// Whether it is the right key: asks ZFS, and changes nothing (zfs-load-key(8), `-n`).
    pub fn fits(&self, key: &PoolKey) -> anyhow::Result<bool> {
        let result =
            Run::new("zfs").args(["load-key", "-n", "-L", "prompt", &self.dataset()]).secret(key.expose()).done();
        match result {
            Ok(()) => Ok(true),
            Err(error)
                if error.downcast_ref::<Failed>().is_some_and(|failed| failed.said.contains("Incorrect key")) =>
            {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Gives ZFS the key, mounts everything, and starts what needs the data.
    ///
    /// # Errors
    /// It is the wrong key, or something cannot be mounted.
    pub fn open(&self, key: &PoolKey) -> anyhow::Result<()> {
        self.open_only(key)?;
        self.mount()
    }

    /// Gives ZFS the key and mounts everything, and nobody is told.
    ///
    /// # Errors
    /// It is the wrong key, or something cannot be mounted.
    pub fn open_only(&self, key: &PoolKey) -> anyhow::Result<()> {
        if !self.is_open()? {
            let load = Run::new("zfs").args(["load-key", "-L", "prompt", &self.dataset()]).secret(key.expose());
            // Two may have typed at the same time.
            load.done().or_else(|error| if self.is_open()? { Ok(()) } else { Err(error) })?;
        }
        Run::new("zfs").args(["mount", "-a"]).done()
    }

    /// Mounts everything, and starts what needs the data; for when ZFS has the key already.
    pub fn mount(&self) -> anyhow::Result<()> {
        Run::new("zfs").args(["mount", "-a"]).done()?;
        copies::put_on_pool(Path::new("/"))?;
        let folder = Path::new(OPEN).parent().context("a file is in a folder")?;
        fs_err::create_dir_all(folder)?;
        fs_err::write(OPEN, "")?;
        Run::new("systemctl").args(["start", "--no-block", "larder-storage.target"]).done()
    }

    /// Whether [`Self::mount`] is done, at the price of looking for a file.
    pub fn is_announced() -> bool {
        Path::new(OPEN).exists()
    }
}
