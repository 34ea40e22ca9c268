//! Installations on a simulated machine.

use std::cell::{Cell, RefCell};
use std::io::Write as _;
use std::ops::Range;

use lzma_rust2::{XzOptions, XzWriter};

use super::Object;
use super::channel::{Making, Release};
use super::engine::{Engine, Hooks, Payload, Stage, Summary};
use super::patch::{self, Step};
use super::recipe::{Base, Bounds, Origin, Recipe, Record, Target};
use super::simulated::{Machine, Power, SimulatedDisk};
use crate::esp::simulated::{Simulated, uki};
use crate::hash::Hash;
use crate::verity::{RootHash, Tree};
use crate::version::Version;

const BLOCK: usize = 4096;

/// Two systems, and the way from the one to the other.
struct Pair {
    old: System,
    new: System,
    release: Release,
    recipe: Recipe,
    payload: Vec<u8>,
}

struct System {
    version: Version,
    root: Vec<u8>,
    root_hash: RootHash,
    uki: Vec<u8>,
}

fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}

fn system(version: &str, root: Vec<u8>) -> System {
    let read = |at: u64, length| Ok::<_, ()>(root[at as usize..at as usize + length].to_vec());
    let (root_hash, _) = Tree::over((root.len() / BLOCK) as u64).in_memory(BLOCK, read).unwrap();
    let uki = uki(&root_hash, &noise(version.len() as u64, 3000));
    System { version: version.parse().unwrap(), root, root_hash, uki }
}

fn packed(bytes: &[u8]) -> Vec<u8> {
    let mut writer = XzWriter::new(Vec::new(), XzOptions::with_preset(0)).unwrap();
    writer.write_all(bytes).unwrap();
    writer.finish().unwrap()
}

/// Everything that a recipe can have: a copy, a patch and new data for the root, a patch and new data for the UKI.
fn pair() -> Pair {
    let old = system("1", noise(1, 60 * BLOCK));
    let mut root = old.root[8 * BLOCK..40 * BLOCK].to_vec();
    root.extend(old.root[..8 * BLOCK].iter().map(|byte| byte.wrapping_add(u8::from(*byte == 7))));
    root.extend(noise(2, 30 * BLOCK));
    let new = system("2", root);
    let mut payload = Vec::new();
    let mut put = |bytes: &[u8]| {
        let packed = packed(bytes);
        let offset = payload.len() as u64;
        payload.extend(&packed);
        (offset, packed.len() as u64)
    };
    let difference = |from: &[u8], to: &[u8]| {
        let difference: Vec<u8> = from.iter().zip(to).map(|(from, to)| to.wrapping_sub(*from)).collect();
        patch::encode(&[Step { add: to.len() as u64, insert: 0, seek: 0 }], &difference, &[])
    };
    let record = |to, made: &[u8], range: Range<usize>, origin| Record {
        to,
        at: range.start as u64,
        length: range.len() as u64,
        sha256: Hash::of(&made[range]),
        origin,
    };
    let mut records = Vec::new();
    let copy = |at: usize| Origin::Copy { of: Base::Root, at: at as u64 };
    records.push(record(Target::Root, &new.root, 0..16 * BLOCK, copy(8 * BLOCK)));
    records.push(record(Target::Root, &new.root, 16 * BLOCK..32 * BLOCK, copy(24 * BLOCK)));
    let range = 32 * BLOCK..40 * BLOCK;
    let (offset, size) = put(&difference(&old.root[..8 * BLOCK], &new.root[range.clone()]));
    let origin = Origin::Patch { of: Base::Root, at: 0, length: 8 * BLOCK as u64, offset, size };
    records.push(record(Target::Root, &new.root, range, origin));
    for at in (40..70).step_by(10) {
        let range = at * BLOCK..(at + 10) * BLOCK;
        let (offset, size) = put(&new.root[range.clone()]);
        records.push(record(Target::Root, &new.root, range, Origin::Data { offset, size }));
    }
    let half = new.uki.len() / 2 - 13;
    let (offset, size) = put(&difference(&old.uki[..half], &new.uki[..half]));
    let origin = Origin::Patch { of: Base::Uki, at: 0, length: half as u64, offset, size };
    records.push(record(Target::Uki, &new.uki, 0..half, origin));
    let (offset, size) = put(&new.uki[half..]);
    records.push(record(Target::Uki, &new.uki, half..new.uki.len(), Origin::Data { offset, size }));
    let recipe = Recipe::new(records);
    let bounds = Bounds {
        root: new.root.len() as u64,
        uki: new.uki.len() as u64,
        payload: payload.len() as u64,
        old: Some((old.root.len() as u64, old.uki.len() as u64)),
    };
    recipe.check(&bounds).unwrap();
    let release = release(&new, &payload);
    Pair { old, new, release, recipe, payload }
}

fn release(new: &System, payload: &[u8]) -> Release {
    let none = Object { sha256: Hash::of([]), size: 0 };
    Release {
        version: new.version.clone(),
        minimum_version: None,
        root_hash: new.root_hash,
        root_size: new.root.len() as u64,
        tree: none,
        uki: Object::of(&new.uki),
        download: 0,
        full: Making { recipe: none, payload: Object::of(payload) },
        deltas: Vec::new(),
        changes: None,
    }
}

/// Serves the payload, and counts.
struct Served<'a> {
    payload: &'a [u8],
    expected: Vec<Range<u64>>,
    fetched: Vec<Range<u64>>,
}

impl<'a> Served<'a> {
    fn new(payload: &'a [u8]) -> Self {
        Self { payload, expected: Vec::new(), fetched: Vec::new() }
    }
}

impl Payload for Served<'_> {
    fn expect(&mut self, ranges: Vec<Range<u64>>) {
        self.expected = ranges;
    }

    fn fetch(&mut self, range: Range<u64>) -> anyhow::Result<Vec<u8>> {
        assert_eq!(self.expected.remove(0), range, "ranges are asked for as they were said");
        self.fetched.push(range.clone());
        Ok(self.payload[range.start as usize..range.end as usize].to_vec())
    }
}

#[derive(Default)]
struct Quiet {
    committed: RefCell<Vec<String>>,
    refuses: Cell<bool>,
}

impl Hooks for Quiet {
    fn begin(&self, _: Stage, _: u64) {}
    fn advance(&self, _: u64) {}
    fn before_commit(&self, uki: &str) -> anyhow::Result<()> {
        self.committed.borrow_mut().push(uki.to_owned());
        anyhow::ensure!(!self.refuses.get(), "no");
        Ok(())
    }
}

impl Pair {
    fn machine(&self) -> Machine {
        Machine::new(&self.old.version, &self.old.root, self.old.root_hash, self.old.uki.clone())
    }

    /// Installs until the power goes after `cut` steps; what is on the machine then, and what came of it.
    fn install(&self, machine: &Machine, cut: usize, bits: u64) -> (Machine, anyhow::Result<Summary>, usize) {
        let power = Power::until(cut);
        let disk = SimulatedDisk::new(machine.disk.clone(), &power);
        let clock = || power.tick();
        let esp = Simulated::new(machine.esp.clone(), &clock);
        let mut payload = Served::new(&self.payload);
        let result = self.engine(&disk, &esp, &Quiet::default()).install(&mut payload);
        (Machine::after_power_cut(disk, esp, bits), result, power.used())
    }

    fn engine<'a>(&'a self, disk: &'a SimulatedDisk<'_>, esp: &'a Simulated<'_>, hooks: &'a Quiet) -> Engine<'a> {
        let Self { release, recipe, .. } = self;
        Engine { disk, esp, running: self.old.root_hash, release, recipe, tree: None, hooks }
    }

    fn is_new(&self, machine: &Machine) -> bool {
        match machine.start() {
            (version, hash) if version == self.new.version && hash == self.new.root_hash => true,
            (version, hash) if version == self.old.version && hash == self.old.root_hash => false,
            other => panic!("{other:?} is neither the old nor the new system"),
        }
    }
}

#[test]
fn a_system_is_installed_beside_the_running_one_and_starts_next() {
    let pair = pair();
    let before = pair.machine();
    assert!(!pair.is_new(&before));
    let (after, result, _) = pair.install(&before, usize::MAX, !0);
    let summary = result.unwrap();
    assert_eq!((summary.fetched, summary.found), (pair.payload.len() as u64, 0));
    assert_eq!(summary.written, (pair.new.root.len() + pair.new.uki.len()) as u64);
    assert!(pair.is_new(&after));
    assert_eq!(after.esp.keys().collect::<Vec<_>>(), ["larder_1+3.efi", "larder_2+3.efi"]);
    assert_eq!(after.esp["larder_2+3.efi"], pair.new.uki);
}

#[test]
fn wherever_the_power_goes_the_old_or_the_new_system_starts_whole_and_the_next_installation_ends() {
    let pair = pair();
    let before = pair.machine();
    let (_, _, steps) = pair.install(&before, usize::MAX, 0);
    assert!(steps > 20, "{steps}");
    let mut new = 0;
    for cut in 0..=steps {
        // Nothing, everything, and some of what was not flushed.
        for bits in [0, !0, 0x5555_5555_5555_5555, 0x9e37_79b9_7f4a_7c15, 0xfedc_ba98_7654_3210, 0x0f0f_1234_00ff_aa55]
        {
            let (cut_off, _, _) = pair.install(&before, cut, bits);
            if pair.is_new(&cut_off) {
                new += 1;
                continue;
            }
            // Once more, with another cut half-way, and then to its end.
            let (again, _, _) = pair.install(&cut_off, (cut * 7 + 3) % steps, bits.rotate_left(11));
            if pair.is_new(&again) {
                continue;
            }
            let (end, result, _) = pair.install(&again, usize::MAX, !0);
            result.unwrap_or_else(|error| panic!("after a cut at {cut}, {bits:x}: {error:?}"));
            assert!(pair.is_new(&end), "after a cut at {cut}, {bits:x}");
        }
    }
    assert!(new > 0, "the last step makes it count");
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(200))]
    #[test]
    fn any_number_of_cuts_in_a_row_does_no_harm(cuts in proptest::collection::vec((0..60_usize, proptest::prelude::any::<u64>()), 1..5)) {
        let pair = pair();
        let mut machine = pair.machine();
        for (cut, bits) in cuts {
            machine = pair.install(&machine, cut, bits).0;
            if pair.is_new(&machine) {
                return Ok(());
            }
        }
        let (end, result, _) = pair.install(&machine, usize::MAX, !0);
        result.unwrap();
        proptest::prop_assert!(pair.is_new(&end));
    }
}

#[test]
fn without_a_delta_what_the_running_system_has_is_not_fetched() {
    let mut pair = pair();
    // The same system, out of nothing.
    let mut payload = Vec::new();
    let mut records = Vec::new();
    for (to, content, unit) in [(Target::Root, &pair.new.root, 4 * BLOCK), (Target::Uki, &pair.new.uki, 2000)] {
        for (i, piece) in content.chunks(unit).enumerate() {
            let (offset, packed) = (payload.len() as u64, packed(piece));
            let origin = Origin::Data { offset, size: packed.len() as u64 };
            let (at, length) = ((i * unit) as u64, piece.len() as u64);
            records.push(Record { to, at, length, sha256: Hash::of(piece), origin });
            payload.extend(packed);
        }
    }
    let read = |at: u64, length| Ok::<_, ()>(pair.new.root[at as usize..at as usize + length].to_vec());
    let (_, tree) = Tree::over(70).in_memory(BLOCK, read).unwrap();
    (pair.recipe, pair.payload) = (Recipe::new(records), payload);
    let install = |damage: Option<usize>| {
        let mut machine = pair.machine();
        if let Some(at) = damage {
            machine.disk[at] ^= 1;
        }
        let power = Power::until(usize::MAX);
        let disk = SimulatedDisk::new(machine.disk, &power);
        let esp = Simulated::new(machine.esp, &|| Ok(()));
        let hooks = Quiet::default();
        let engine = Engine { tree: Some(&tree), ..pair.engine(&disk, &esp, &hooks) };
        let summary = engine.install(&mut Served::new(&pair.payload)).unwrap();
        (summary.fetched, SimulatedDisk::after_power_cut(disk, !0))
    };
    let (fetched, _) = install(None);
    let shared = (pair.payload.len() as u64) * 32 / 70;
    assert!(fetched < pair.payload.len() as u64 - shared * 9 / 10, "{fetched} of {}", pair.payload.len());
    // A block of the running root that has rotted is fetched.
    let (more, _) = install(Some((2048 + 64 + 64) * 512 + 20 * BLOCK));
    assert!(more > fetched, "{more} {fetched}");
}

#[test]
fn what_was_stored_before_a_cut_is_not_fetched_again() {
    let pair = pair();
    let before = pair.machine();
    let (_, _, steps) = pair.install(&before, usize::MAX, 0);
    let fetched: Vec<u64> = (0..=steps)
        .map(|cut| pair.install(&before, cut, !0).0)
        .filter(|machine| !pair.is_new(machine))
        .map(|machine| pair.install(&machine, usize::MAX, !0).1.unwrap().fetched)
        .collect();
    assert!(fetched.is_sorted_by(|before, after| before >= after), "{fetched:?}");
    assert_eq!((fetched.first(), fetched.last()), (Some(&(pair.payload.len() as u64)), Some(&0)));
}

#[test]
fn the_running_slot_is_never_written_to() {
    let pair = pair();
    let machine = pair.machine();
    let power = Power::until(usize::MAX);
    let disk = SimulatedDisk::new(machine.disk.clone(), &power);
    let esp = Simulated::new(machine.esp, &|| Ok(()));
    pair.engine(&disk, &esp, &Quiet::default()).install(&mut Served::new(&pair.payload)).unwrap();
    let running = (2048 + 64) * 512..(2048 + 64 + 64 + 1024) * 512;
    for written in disk.written.lock().unwrap().iter() {
        assert!(written.end <= running.start || written.start >= running.end, "{written:?}");
    }
}

/// Installs from a payload that somebody has tampered with; what is said. The machine must start the old system.
fn refused(change: impl FnOnce(&mut Pair)) -> String {
    let mut pair = pair();
    let before = pair.machine();
    change(&mut pair);
    let (after, result, _) = pair.install(&before, usize::MAX, !0);
    assert!(!pair.is_new(&after));
    format!("{:#}", result.unwrap_err())
}

#[test]
fn a_corrupted_chunk_is_not_installed() {
    let said = refused(|pair| {
        let middle = pair.payload.len() / 2;
        pair.payload[middle] ^= 0x40;
    });
    assert!(said.starts_with("making the root file system at byte"), "{said}");
}

#[test]
fn a_mixed_release_is_not_installed() {
    // A recipe that keeps to its own digests, and makes something else than the release says.
    let said = refused(|pair| pair.release.root_hash = RootHash::from([9; 32]));
    assert!(said.starts_with("the disk has not kept what was written"), "{said}");
    let said = refused(|pair| {
        let other = uki(&RootHash::from([9; 32]), &noise(1, 3000));
        pair.release.uki = Object::of(&other);
    });
    assert!(said.contains("kernel"), "{said}");
}

#[test]
fn a_disk_that_does_not_keep_what_is_written_is_noticed_before_it_counts() {
    let pair = pair();
    let machine = pair.machine();
    let power = Power::until(usize::MAX);
    let mut disk = SimulatedDisk::new(machine.disk.clone(), &power);
    disk.bad = Some((2048 + 64 + 64 + 1024 + 300) * 512);
    let esp = Simulated::new(machine.esp, &|| Ok(()));
    let error = pair.engine(&disk, &esp, &Quiet::default()).install(&mut Served::new(&pair.payload)).unwrap_err();
    assert!(error.to_string().starts_with("the disk has not kept what was written"), "{error:#}");
    assert!(!pair.is_new(&Machine::after_power_cut(disk, esp, !0)));
}

#[test]
fn a_full_esp_leaves_the_running_system_as_it_was() {
    let pair = pair();
    let machine = pair.machine();
    let power = Power::until(usize::MAX);
    let disk = SimulatedDisk::new(machine.disk.clone(), &power);
    let mut esp = Simulated::new(machine.esp, &|| Ok(()));
    esp.capacity = pair.old.uki.len() as u64 + 1000;
    let error = pair.engine(&disk, &esp, &Quiet::default()).install(&mut Served::new(&pair.payload)).unwrap_err();
    assert!(error.to_string().contains("ESP"), "{error:#}");
    assert!(!pair.is_new(&Machine::after_power_cut(disk, esp, !0)));
}

#[test]
fn what_must_be_done_before_it_counts_is_done_with_the_whole_uki_and_may_say_no() {
    let pair = pair();
    let machine = pair.machine();
    let power = Power::until(usize::MAX);
    let disk = SimulatedDisk::new(machine.disk.clone(), &power);
    let esp = Simulated::new(machine.esp, &|| Ok(()));
    let hooks = Quiet::default();
    hooks.refuses.set(true);
    pair.engine(&disk, &esp, &hooks).install(&mut Served::new(&pair.payload)).unwrap_err();
    assert_eq!(*hooks.committed.borrow(), [super::engine::UNFINISHED]);
    assert_eq!(esp.content(super::engine::UNFINISHED).unwrap(), pair.new.uki);
    assert!(!pair.is_new(&Machine::after_power_cut(disk, esp, !0)));
}
