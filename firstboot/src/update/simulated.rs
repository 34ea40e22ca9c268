//! A machine in memory: a disk and an ESP that lose their power together, and a firmware that starts what is there.

use std::collections::BTreeMap;
use std::io::{self, Cursor};
use std::os::unix::fs::FileExt as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use gptman::{GPT, GPTPartitionEntry};
use uuid::Uuid;

use crate::esp::UkiName;
use crate::esp::simulated::Simulated;
use crate::flash::{Device, scratch};
use crate::layout::{ESP_TYPE, MIB, ROOT_TYPE, VERITY_TYPE};
use crate::verity::{self, Region, RootHash};
use crate::version::Version;

const SECTOR: usize = 512;
/// Sectors of each slot's root and tree.
const ROOT: u64 = 1024;
const TREE: u64 = 64;

pub(super) type Files = BTreeMap<String, Vec<u8>>;

/// Counts what changes something, until the power goes.
#[derive(Debug)]
pub(super) struct Power {
    count: AtomicUsize,
    cut: usize,
}

impl Power {
    pub(super) fn until(cut: usize) -> Self {
        Self { count: AtomicUsize::new(0), cut }
    }

    pub(super) fn tick(&self) -> io::Result<()> {
        match self.count.fetch_add(1, Ordering::Relaxed) < self.cut {
            true => Ok(()),
            false => Err(io::Error::other("the power is off")),
        }
    }

    pub(super) fn used(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }
}

/// What outlasts a loss of power.
#[derive(Debug, Clone)]
pub(super) struct Machine {
    pub(super) disk: Vec<u8>,
    pub(super) esp: Files,
}

/// A disk that stores sectors in any order until it is flushed.
pub(super) struct SimulatedDisk<'a> {
    state: Mutex<State>,
    power: &'a Power,
    size: u64,
    /// Writes to this byte are stored as something else.
    pub(super) bad: Option<u64>,
    pub(super) written: Mutex<Vec<std::ops::Range<u64>>>,
}

struct State {
    stored: Vec<u8>,
    seen: Vec<u8>,
    pending: Vec<(usize, Vec<u8>)>,
}

impl<'a> SimulatedDisk<'a> {
    pub(super) fn new(content: Vec<u8>, power: &'a Power) -> Self {
        let size = content.len() as u64;
        let state = State { seen: content.clone(), stored: content, pending: Vec::new() };
        Self { state: Mutex::new(state), power, size, bad: None, written: Mutex::default() }
    }

    pub(super) fn after_power_cut(self, bits: u64) -> Vec<u8> {
        let State { mut stored, pending, .. } = self.state.into_inner().unwrap();
        for (i, (at, sector)) in pending.into_iter().enumerate() {
            if bits.rotate_left((i * 7) as u32 % 64) & 1 == 1 {
                stored[at..at + SECTOR].copy_from_slice(&sector);
            }
        }
        stored
    }
}

impl Device for SimulatedDisk<'_> {
    fn size(&self) -> u64 {
        self.size
    }

    fn sector(&self) -> u32 {
        SECTOR as u32
    }

    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        assert!(offset.is_multiple_of(SECTOR as u64) && data.len().is_multiple_of(SECTOR));
        let alive = self.power.tick();
        let mut state = self.state.lock().unwrap();
        for (i, sector) in data.chunks(SECTOR).enumerate() {
            let at = offset as usize + i * SECTOR;
            let mut sector = sector.to_vec();
            if self.bad.is_some_and(|bad| (at..at + SECTOR).contains(&(bad as usize))) {
                sector[0] ^= 1;
            }
            state.seen[at..at + SECTOR].copy_from_slice(&sector);
            state.pending.push((at, sector));
        }
        self.written.lock().unwrap().push(offset..offset + data.len() as u64);
        alive
    }

    fn read_at(&self, data: &mut [u8], offset: u64) -> io::Result<()> {
        let state = self.state.lock().unwrap();
        data.copy_from_slice(&state.seen[offset as usize..offset as usize + data.len()]);
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        self.power.tick()?;
        let mut state = self.state.lock().unwrap();
        state.stored = state.seen.clone();
        state.pending.clear();
        Ok(())
    }
}

impl Machine {
    /// With a system in its first slot.
    pub(super) fn new(version: &Version, root: &[u8], root_hash: RootHash, uki: Vec<u8>) -> Self {
        let mut disk = Cursor::new(vec![0; 4 * MIB as usize]);
        let mut table = GPT::new_from(&mut disk, SECTOR as u64, [7; 16]).unwrap();
        let label = version.partition_label();
        let partitions = [
            (ESP_TYPE, Uuid::from_u128(1), "esp", 64),
            (VERITY_TYPE, root_hash.verity_partition_uuid(), &label, TREE),
            (ROOT_TYPE, root_hash.root_partition_uuid(), &label, ROOT),
            (ROOT_TYPE, Uuid::from_u128(2), "_empty", ROOT),
            (VERITY_TYPE, Uuid::from_u128(3), "_empty", TREE),
        ];
        let mut at = 2048;
        for (i, (kind, id, label, length)) in partitions.into_iter().enumerate() {
            table[i as u32 + 1] = GPTPartitionEntry {
                partition_type_guid: kind.to_bytes_le(),
                unique_partition_guid: id.to_bytes_le(),
                starting_lba: at,
                ending_lba: at + length - 1,
                attribute_bits: 0,
                partition_name: label.into(),
            };
            at += length;
        }
        table.write_into(&mut disk).unwrap();
        let mut disk = disk.into_inner();
        let (_, tree) = verity::Tree::over(root.len() as u64 / 4096)
            .in_memory(4096, |at, length| Ok::<_, ()>(root[at as usize..at as usize + length].to_vec()))
            .unwrap();
        let tree_at = (2048 + 64) * SECTOR;
        disk[tree_at..tree_at + tree.len()].copy_from_slice(&tree);
        let root_at = tree_at + TREE as usize * SECTOR;
        disk[root_at..root_at + root.len()].copy_from_slice(root);
        Self { disk, esp: [(UkiName::full(version).to_string(), uki)].into() }
    }

    pub(super) fn after_power_cut(disk: SimulatedDisk<'_>, esp: Simulated<'_>, bits: u64) -> Self {
        Self { disk: disk.after_power_cut(bits), esp: esp.after_power_cut(bits.rotate_left(17)) }
    }

    /// What is started: version, root hash, and the UKI. Whatever the boot loader takes must be whole.
    pub(super) fn start(&self) -> (Version, RootHash) {
        let esp = Simulated::new(self.esp.clone(), &|| Ok(()));
        let mut names: Vec<UkiName> = self.esp.keys().filter_map(|name| UkiName::parse(name)).collect();
        names.retain(|name| !name.is_used_up());
        names.sort_by(|one, other| one.version.order(&other.version));
        let name = names.pop().expect("nothing is left that could start");
        let file = name.to_string();
        let root_hash = crate::esp::root_hash(&esp, &file, self.esp[&file].len() as u64).unwrap().unwrap();
        let copy = scratch(self.disk.len() as u64).unwrap();
        copy.write_all_at(&self.disk, 0).unwrap();
        let table = GPT::find_from(&mut Cursor::new(&self.disk)).expect("no copy of the partition table is whole");
        let start = |id: Uuid| {
            let entry = table.iter().find(|(_, entry)| entry.unique_partition_guid == id.to_bytes_le());
            Region { file: &copy, start: entry.expect("the system has no slot").1.starting_lba * SECTOR as u64 }
        };
        verity::verify(start(root_hash.root_partition_uuid()), start(root_hash.verity_partition_uuid()), &root_hash)
            .expect("a damaged system is started");
        (name.version, root_hash)
    }
}
