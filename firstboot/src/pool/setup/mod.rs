//! From a plan to an encrypted pool, whatever happens meanwhile.
//!
//! | step, when it is done | what the next start does again |
//! |---|---|
//! | [`Step::Agreed`] | partitions: each disk either has the partition of this setup, or is what the plan says |
//! | [`Step::Partitioned`] | the pool: whatever is in these partitions is a half-made one |
//! | [`Step::Pooled`] | the encrypted dataset and its key: nobody has used it yet, and its key may be lost |
//! | [`Step::Encrypted`] | nothing of the pool; settings, seed |
//!
//! The [`Journal`] on the state partition says how far it has come. It is written after each step, so a step may be done
//! twice, and each is made so that this does no harm. The key of the data is in memory only until [`Step::Encrypted`]: up to
//! then the dataset is empty, so a setup that was cut there makes another one.

mod appliance;
mod disks;
mod journal;

use anyhow::Context as _;
use uuid::Uuid;

use crate::key::{self, PoolKey, Presence, RecoveryKey, Request, SlotStore, Way, is_of_tpm};
use crate::pool::plan::{Plan, PlannedDisk};
use crate::report::Mistake;
use crate::settings::{self, Keys};
use crate::tang::Client;
use crate::tpm::Tpm;
use crate::zfs::Guid;

pub use appliance::Appliance;
pub use journal::{Journal, Step};

/// What a setup does to the machine. Each of these may be done again after it was cut short at any point.
pub trait World {
    /// Writes down how far it has come, for good.
    ///
    /// # Errors
    /// It cannot be written.
    fn keep(&mut self, journal: &Journal) -> anyhow::Result<()>;
    /// Gives a disk its partition, after a last look that it is the one that was meant.
    ///
    /// # Errors
    /// It is not, or it cannot be written.
    fn partition(&mut self, disk: &PlannedDisk, id: Uuid) -> anyhow::Result<()>;
    /// Makes the pool in its partitions.
    ///
    /// # Errors
    /// ZFS refuses.
    fn create_pool(&mut self, journal: &Journal) -> anyhow::Result<Guid>;
    /// Sees to it that the pool is imported.
    ///
    /// # Errors
    /// It cannot be.
    fn open_pool(&mut self, journal: &Journal, guid: Guid) -> anyhow::Result<()>;
    /// Makes the encrypted dataset, in place of one that an interrupted setup has left.
    ///
    /// # Errors
    /// ZFS refuses; or the dataset is none of this setup.
    fn encrypt(&mut self, journal: &Journal, key: &PoolKey) -> anyhow::Result<()>;
    /// Where the key's slots go.
    fn slots(&self, journal: &Journal) -> Box<dyn SlotStore>;
    /// Asks ZFS whether this is the key.
    ///
    /// # Errors
    /// It is not.
    fn prove(&self, journal: &Journal, key: &PoolKey) -> anyhow::Result<()>;
    /// The machine's TPM, if it has one.
    fn tpm(&self) -> Option<Tpm>;
    /// Asks Tang servers.
    fn tang(&self) -> Client;
    /// Keeps what the owner has set, calls the setup complete, and removes what is a secret from where it came.
    ///
    /// # Errors
    /// Something cannot be written.
    fn finish(&mut self, journal: &Journal, guid: Guid) -> anyhow::Result<()>;
    /// Tells whoever watches.
    fn say(&mut self, what: &str);
}

/// What opens the data once it is set up.
#[derive(Debug)]
pub struct Ways<'a> {
    /// The recovery key, which somebody has on paper.
    pub recovery: &'a RecoveryKey,
    /// All others.
    pub keys: &'a Keys,
}

/// Writes down what was agreed to; from here on every start goes on with it.
///
/// # Errors
/// The settings ask for a TPM or for Tang servers that are not there; or it cannot be written.
pub fn begin(world: &mut dyn World, plan: Plan, keys: &Keys) -> anyhow::Result<Journal> {
    if world.tpm().is_none() && (keys.tpm == settings::Tpm::Required || keys.tpm_pin.is_some()) {
        return Err(Mistake::new("the settings ask for a TPM, and this machine has none that Linux can use")
            .hint("switch it on in the firmware's setup, or leave out `tpm` and `tpm-pin`")
            .into());
    }
    // Better than a pool that does not open by itself, as its owner believes: who does not answer now, is not there later.
    if !keys.tang.is_empty() {
        world.say("asking the Tang servers");
        let client = world.tang();
        for server in Presence::wanted(keys, &client, None)?.servers {
            client.advertisement(&server).map_err(Mistake::from)?;
        }
    }
    world.say(&format!("pool `{}`, plan {}", plan.name, plan.id()));
    let journal = Journal::new(plan);
    world.keep(&journal)?;
    Ok(journal)
}

/// Carries a setup on from where it is to its end. The recovery key has been written down by somebody before.
///
/// # Errors
/// A step failed; the next call goes on with it.
pub fn run(world: &mut dyn World, mut journal: Journal, ways: &Ways<'_>) -> anyhow::Result<Guid> {
    if journal.step == Step::Agreed {
        for disk in journal.plan.all_disks() {
            world
                .partition(disk, journal.partition_id(disk))
                .with_context(|| format!("preparing the disk {}", disk.id))?;
        }
        advance(world, &mut journal, Step::Partitioned)?;
    }
    if journal.step == Step::Partitioned {
        let guid = world.create_pool(&journal).context("making the pool")?;
        advance(world, &mut journal, Step::Pooled(guid))?;
    }
    if let Step::Pooled(guid) = journal.step {
        world.open_pool(&journal, guid)?;
        encrypt(world, &journal, ways).context("encrypting")?;
        advance(world, &mut journal, Step::Encrypted(guid))?;
    }
    let Step::Encrypted(guid) = journal.step else { anyhow::bail!("the setup is at {:?}", journal.step) };
    world.open_pool(&journal, guid)?;
    world.finish(&journal, guid)?;
    Ok(guid)
}

fn advance(world: &mut dyn World, journal: &mut Journal, step: Step) -> anyhow::Result<()> {
    journal.step = step;
    world.keep(journal)?;
    world.say(step.told());
    Ok(())
}

/// Makes the encrypted dataset with a new key, and every way to it; then opens it by the recovery key as a proof.
fn encrypt(world: &mut dyn World, journal: &Journal, ways: &Ways<'_>) -> anyhow::Result<()> {
    let key = PoolKey::generate()?;
    world.encrypt(journal, &key)?;
    let store = world.slots(journal);
    let slot = key::enroll(&*store, &key, Way::Recovery.into(), &Request::Recovery(ways.recovery))?;
    if let Some(passphrase) = &ways.keys.passphrase {
        key::enroll(&*store, &key, Way::Passphrase.into(), &Request::Passphrase(passphrase))?;
    }
    enroll_tang(world, &*store, &key, ways.keys)?;
    enroll_tpm(world, &*store, &key, ways.keys)?;
    // What is on the pool now, not what was meant to be.
    let listing = store.slots()?;
    let kept = listing.find(&slot.name).context("the pool does not have the recovery key that was put there")?;
    let opened = kept.open(&Request::Recovery(ways.recovery)).context("opening with the recovery key")?;
    world.prove(journal, &opened).context("the recovery key does not open the data")
}

/// Has the servers keep the key, together with the TPM if there is one that the settings do not rule out. A TPM that was not
/// asked for in so many words may fail.
fn enroll_tang(world: &mut dyn World, store: &dyn SlotStore, key: &PoolKey, keys: &Keys) -> anyhow::Result<()> {
    if keys.tang.is_empty() {
        return Ok(());
    }
    let (client, tpm) = (world.tang(), world.tpm());
    let mut presence = Presence::wanted(keys, &client, tpm.as_ref())?;
    let enroll = |presence: &Presence<'_>| key::enroll(store, key, Way::Tang.into(), &Request::Tang(presence));
    let mut result = enroll(&presence);
    if let Err(error) = &result
        && keys.tpm == settings::Tpm::Auto
        && is_of_tpm(error)
    {
        world.say(&format!("the TPM does not keep its part of the key: {error:#}"));
        presence.tpm = None;
        result = enroll(&presence);
    }
    result.map(drop).context("having the Tang servers keep the key")
}

/// Has the TPM keep the key, as the settings say. What is not asked for in so many words may fail.
fn enroll_tpm(world: &mut dyn World, store: &dyn SlotStore, key: &PoolKey, keys: &Keys) -> anyhow::Result<()> {
    let Some(tpm) = world.tpm().filter(|_| keys.tpm != settings::Tpm::Off) else { return Ok(()) };
    // It would open the data without the servers.
    if keys.tpm_pin.is_none() && !keys.tang.is_empty() {
        return Ok(());
    }
    let request = keys.tpm_pin.as_ref().map_or(Request::Tpm2(&tpm), |pin| Request::Tpm2Pin(&tpm, pin));
    let is_wanted = keys.tpm == settings::Tpm::Required || keys.tpm_pin.is_some();
    match key::enroll(store, key, request.way().into(), &request) {
        Err(error) if !is_wanted => world.say(&format!("the TPM does not keep the key: {error:#}")),
        result => drop(result.context("having the TPM keep the key")?),
    }
    Ok(())
}

#[cfg(test)]
mod tests;
