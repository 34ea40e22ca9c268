use std::cell::Cell;
use std::rc::Rc;

use super::*;
use crate::key::testing::MemoryStore;
use crate::pool::plan::{Arrangement, Capacity};
use crate::settings::DiskId;
use crate::tang::testing::{TangServer, curves};
use proptest::prelude::*;

/// A machine whose power may go before and after everything that is done to it. What a step has begun and not finished is
/// the worst that it may leave.
#[derive(Default)]
struct Machine {
    journal: Option<Journal>,
    partitions: Vec<Uuid>,
    pool: Option<Uuid>,
    /// Key of the encrypted dataset.
    data: Option<[u8; 32]>,
    store: Rc<MemoryStore>,
    finished: u32,
    /// Moments until the power goes.
    power: Cell<Option<u32>>,
    said: Vec<String>,
}

impl Machine {
    fn moment(&self) -> anyhow::Result<()> {
        match self.power.get() {
            Some(0) => anyhow::bail!("the power is gone"),
            Some(left) => self.power.set(Some(left - 1)),
            None => {}
        }
        Ok(())
    }

    /// Runs a setup until its end or until the power goes.
    fn start(&mut self, ways: &Ways<'_>, power: Option<u32>) -> anyhow::Result<Guid> {
        self.power.set(power);
        let journal = match &self.journal {
            Some(journal) => journal.clone(),
            None if self.finished > 0 => return Ok(GUID),
            None => begin(self, plan(), ways.keys)?,
        };
        run(self, journal, ways)
    }
}

/// The store of a machine.
struct Shared(Rc<MemoryStore>);

impl SlotStore for Shared {
    fn slots(&self) -> anyhow::Result<key::Listing> {
        self.0.slots()
    }

    fn put(&self, slot: &key::Slot) -> anyhow::Result<()> {
        self.0.put(slot)
    }

    fn remove(&self, name: &key::SlotName) -> anyhow::Result<()> {
        self.0.remove(name)
    }
}

const GUID: Guid = Guid(7);

impl World for Machine {
    fn keep(&mut self, journal: &Journal) -> anyhow::Result<()> {
        self.moment()?;
        self.journal = Some(journal.clone());
        self.moment()
    }

    fn partition(&mut self, _: &PlannedDisk, id: Uuid) -> anyhow::Result<()> {
        self.moment()?;
        if !self.partitions.contains(&id) {
            self.partitions.push(id);
        }
        self.moment()
    }

    fn create_pool(&mut self, journal: &Journal) -> anyhow::Result<Guid> {
        self.moment()?;
        assert_eq!(self.partitions.len(), journal.plan.all_disks().count(), "a disk has no partition");
        assert!(self.data.is_none(), "a pool with data is made anew");
        self.pool = Some(journal.id);
        self.moment()?;
        Ok(GUID)
    }

    fn open_pool(&mut self, journal: &Journal, guid: Guid) -> anyhow::Result<()> {
        self.moment()?;
        assert_eq!((self.pool, guid), (Some(journal.id), GUID), "another pool");
        Ok(())
    }

    fn encrypt(&mut self, _: &Journal, key: &PoolKey) -> anyhow::Result<()> {
        self.moment()?;
        assert_eq!(self.finished, 0, "data that is in use is made anew");
        self.data = None;
        self.moment()?;
        self.data = Some(*key.expose());
        self.moment()
    }

    fn slots(&self, _: &Journal) -> Box<dyn SlotStore> {
        Box::new(Shared(Rc::clone(&self.store)))
    }

    fn prove(&self, _: &Journal, key: &PoolKey) -> anyhow::Result<()> {
        self.moment()?;
        anyhow::ensure!(self.data == Some(*key.expose()), "another key");
        Ok(())
    }

    fn tpm(&self) -> Option<Tpm> {
        None
    }

    fn tang(&self) -> Client {
        Client::new()
    }

    fn finish(&mut self, _: &Journal, _: Guid) -> anyhow::Result<()> {
        self.moment()?;
        self.finished += 1;
        self.moment()?;
        self.journal = None;
        self.moment()
    }

    fn say(&mut self, what: &str) {
        self.said.push(what.to_owned());
    }
}

fn plan() -> Plan {
    let disk = |name: &str| PlannedDisk {
        id: DiskId::parse(name).unwrap(),
        model: None,
        serial: Some(name.to_owned()),
        way: None,
        size: 1 << 40,
        sector: 512,
        erased: Vec::new(),
        partition: 1 << 39,
    };
    Plan {
        name: "tank".to_owned(),
        arrangement: Arrangement::Mirror,
        reason: None,
        disks: vec![disk("a"), disk("b")],
        spares: vec![disk("c")],
        capacity: Capacity { raw: 2 << 40, usable: 1 << 39, idle: 0 },
    }
}

fn opens(machine: &Machine, recovery: &RecoveryKey) -> bool {
    let slots = machine.store.slots().unwrap().slots;
    let opened = slots[0].open(&Request::Recovery(recovery)).unwrap();
    machine.data == Some(*opened.expose())
}

#[test]
fn a_setup_ends_with_data_that_the_recovery_key_opens() {
    let (recovery, keys) = (RecoveryKey::generate().unwrap(), Keys::default());
    let mut machine = Machine::default();
    machine.start(&Ways { recovery: &recovery, keys: &keys }, None).unwrap();
    assert!(opens(&machine, &recovery) && machine.journal.is_none());
    insta::assert_snapshot!(machine.said.join("\n"), @r"
    pool `tank`, plan a2a4f5a2
    the disks are partitioned
    the pool is there
    the data is encrypted, and the recovery key opens it
    ");
}

#[test]
fn wherever_the_power_goes_the_next_start_carries_on_to_the_same_end() {
    let (recovery, keys) = (RecoveryKey::generate().unwrap(), Keys::default());
    let ways = Ways { recovery: &recovery, keys: &keys };
    let mut moments = 0;
    loop {
        let mut machine = Machine::default();
        if machine.start(&ways, Some(moments)).is_ok() {
            break;
        }
        // The person has written down another key meanwhile: the first one was never in use.
        machine.start(&ways, None).unwrap_or_else(|error| panic!("cut after {moments} moments: {error:#}"));
        assert!(opens(&machine, &recovery) && machine.journal.is_none(), "cut after {moments} moments");
        moments += 1;
    }
    assert!(moments > 15, "only {moments} moments");
}

#[test]
fn without_what_the_settings_ask_for_nothing_is_begun() {
    let (server, other) = (TangServer::new(&curves()[0]), TangServer::new(&curves()[1]));
    let thumbprint = other.setting().thumbprint;
    let tang = vec![other.setting(), settings::Tang { thumbprint, ..server.setting() }];
    for keys in [Keys { tpm: settings::Tpm::Required, ..Keys::default() }, Keys { tang, ..Keys::default() }] {
        let mut machine = Machine::default();
        let error = begin(&mut machine, plan(), &keys).unwrap_err();
        assert!(crate::report::is_mendable(&error) && machine.journal.is_none(), "{error}");
    }
}

#[test]
fn servers_at_home_keep_the_key_besides_the_recovery_key() {
    let servers = [TangServer::new(&curves()[0]), TangServer::new(&curves()[1])];
    let keys = Keys { tang: servers.iter().map(TangServer::setting).collect(), tang_threshold: 2, ..Keys::default() };
    let recovery = RecoveryKey::generate().unwrap();
    let mut machine = Machine::default();
    machine.start(&Ways { recovery: &recovery, keys: &keys }, None).unwrap();
    let slots = machine.store.slots().unwrap().slots;
    assert_eq!(slots.iter().map(key::Slot::way).collect::<Vec<_>>(), [Way::Recovery, Way::Tang]);
    let opened = slots[1].open_alone(&Tpm::at("/nowhere"), &Client::new()).unwrap();
    assert_eq!(machine.data, Some(*opened.expose()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn however_often_the_power_goes_it_comes_to_the_same_end(cuts in prop::collection::vec(0_u32..12, 0..12)) {
        let (recovery, keys) = (RecoveryKey::generate().unwrap(), Keys::default());
        let ways = Ways { recovery: &recovery, keys: &keys };
        let mut machine = Machine::default();
        for power in cuts {
            let _ = machine.start(&ways, Some(power));
        }
        machine.start(&ways, None).unwrap();
        prop_assert!(opens(&machine, &recovery) && machine.journal.is_none());
    }
}
