use std::fs::File;
use std::os::unix::fs::{FileExt as _, symlink};
use std::path::Path;

use proptest::prelude::*;
use uuid::Uuid;

use super::content::{files, partitions};
use super::faulty::{Fault, Faulty, OLD};
use super::*;
use crate::disk::testing::{FakeDisk, FakeMachine, NVME, STICK};
use crate::disk::{Internal, Refusal, Rules, Target};
use crate::layout::{DISK_MIN_SIZE, ESP_SIZE, MIB, SEED_SIZE};
use crate::verity::{self, BLOCK_SIZE, Region, RootHash, Tree};

/// A system with a root of some MiB.
struct System {
    root: File,
    tree: File,
    root_hash: RootHash,
}

impl System {
    fn new() -> Self {
        let (root, tree) = (scratch(9 * MIB).unwrap(), scratch(MIB).unwrap());
        // Zeros in between, which count like everything else.
        for at in [0, 5 * MIB, 9 * MIB - 4096] {
            root.write_all_at(&[at as u8 + 1; 4096], at).unwrap();
        }
        let root_hash = Tree::write(&root, &tree, Uuid::nil()).unwrap();
        Self { root, tree, root_hash }
    }

    fn content(&self) -> Content<'_> {
        let blocks = 9 * MIB / BLOCK_SIZE as u64;
        Content {
            label: "larder_1.0".to_owned(),
            root_hash: self.root_hash,
            esp: vec![
                ("EFI/BOOT/BOOTX64.EFI".to_owned(), vec![1; 100_000]),
                ("EFI/Linux/larder_1.0+3.efi".to_owned(), [vec![2; 50_000], vec![0; 50_000], vec![3; 50_000]].concat()),
            ],
            seed: vec![("README.txt".to_owned(), b"hello".to_vec()), ("nas.toml".to_owned(), b"schema = 1\n".to_vec())],
            root: Part { source: &self.root, start: 0, size: blocks * BLOCK_SIZE as u64 },
            tree: Part { source: &self.tree, start: 0, size: Tree::over(blocks).size() },
        }
    }
}

fn target(machine: &FakeMachine, id: &str, proof: &str) -> Target {
    let rules = Rules { internal: Internal::Allowed, needed: DISK_MIN_SIZE };
    machine.machine().choose(&Path::new("/dev/disk/by-id").join(id), rules).unwrap().confirm(proof).unwrap()
}

fn stick() -> (FakeMachine, Target) {
    let machine = FakeMachine::new(&[STICK]);
    let target = target(&machine, STICK.id, "0101");
    (machine, target)
}

/// Writes the system to a disk that is full of something else; the disk's file.
fn written(sector: u32, identity: &Identity) -> File {
    let machine = FakeMachine::new(&[FakeDisk { size: 6_000_001_024 / 4096 * 4096, ..NVME }]);
    machine.set(&NVME, "queue/logical_block_size", &sector.to_string());
    let node = File::options().read(true).write(true).open(machine.path("dev/nvme0n1")).unwrap();
    let size = node.metadata().unwrap().len();
    for at in [0, MIB, 100 * MIB, 514 * MIB, 546 * MIB, 578 * MIB, size - MIB] {
        node.write_all_at(&vec![OLD; MIB as usize], at).unwrap();
    }
    let device = FileDevice::open(&target(&machine, NVME.id, "33AB")).unwrap();
    let system = System::new();
    let plan = Plan::new(&system.content(), device.size(), device.sector(), identity).unwrap();
    write(&device, &plan, &Unwatched).unwrap();
    node
}

fn head_of(disk: &File) -> Vec<u8> {
    let mut head = vec![0; MIB as usize];
    disk.read_exact_at(&mut head, 0).unwrap();
    head
}

#[test]
fn an_image_and_a_disk_of_either_sector_size_hold_the_same_system() {
    let system = System::new();
    for sector in [512, 4096] {
        let disk = written(sector, &Identity::random());
        let table = partitions(&head_of(&disk), sector).unwrap();
        let rows: Vec<_> =
            table.iter().map(|entry| (entry.label.as_str(), entry.range.start / MIB, entry.range.end / MIB)).collect();
        assert_eq!(rows, [("esp", 1, 513), ("LARDER", 513, 545), ("larder_1.0", 545, 577), ("larder_1.0", 577, 586)]);
        assert_eq!(files(&disk, &table[0].range).unwrap(), system.content().esp);
        assert_eq!(files(&disk, &table[1].range).unwrap(), system.content().seed);
        let region = |start| Region { file: &disk, start };
        verity::verify(region(table[3].range.start), region(table[2].range.start), &system.root_hash).unwrap();
    }
}

#[test]
fn what_was_written_can_be_read_as_an_image() {
    let (system, disk) = (System::new(), written(512, &Identity::random()));
    let content = Content::of_image(&disk, "disk").unwrap();
    let expected = system.content();
    assert_eq!((content.label, content.root_hash), (expected.label, expected.root_hash));
    assert_eq!((content.esp, content.seed), (expected.esp, expected.seed));
    assert_eq!((content.root.size, content.tree.size), (expected.root.size, expected.tree.size));
}

#[test]
fn what_is_no_image_is_refused_before_anything_is_written() {
    let empty = scratch(2 * MIB).unwrap();
    insta::assert_snapshot!(Content::of_image(&empty, "x.img").unwrap_err(), @"x.img is no larder image: it has no partition table");
    let short = scratch(1000).unwrap();
    insta::assert_snapshot!(Content::of_image(&short, "x.img").unwrap_err(), @"x.img cannot be read");
}

#[test]
fn both_copies_of_the_table_are_new_and_nothing_old_is_found_at_the_end() {
    for sector in [512, 4096] {
        let disk = written(sector, &Identity::random());
        let size = disk.metadata().unwrap().len();
        let mut tail = vec![0; MIB as usize];
        disk.read_exact_at(&mut tail, size - MIB).unwrap();
        assert!(!tail.windows(16).any(|bytes| bytes == [OLD; 16]));
        disk.write_all_at(&vec![0; 4096], u64::from(sector)).unwrap();
        let table = gptman::GPT::find_from(&mut &disk).unwrap();
        assert!(table.is_backup());
        assert_eq!((table.sector_size, table.header.primary_lba), (u64::from(sector), size / u64::from(sector) - 1));
    }
}

#[test]
fn only_what_is_in_use_is_written() {
    let disk = written(512, &Identity::random());
    let byte = |at: u64| {
        let mut byte = [0];
        disk.read_exact_at(&mut byte, at).unwrap();
        byte[0]
    };
    assert_eq!(byte(100 * MIB + 5), OLD, "a free cluster of the ESP");
    assert_eq!(byte(546 * MIB + 5), OLD, "behind the hash tree");
    assert_eq!(byte(578 * MIB + 5), 0, "a hole of the root");
    assert_eq!(byte(514 * MIB + 5), 0, "a free cluster of the seed, which may have held a secret");
}

#[test]
fn two_disks_with_the_same_system_can_be_told_apart() {
    let ids = |disk: &File| {
        let table = gptman::GPT::read_from(&mut &*disk, 512).unwrap();
        let parts: Vec<_> =
            table.iter().filter(|(_, entry)| entry.is_used()).map(|(_, entry)| entry.unique_partition_guid).collect();
        (table.header.disk_guid, parts)
    };
    let (one, two) = (ids(&written(512, &Identity::random())), ids(&written(512, &Identity::random())));
    assert_ne!(one.0, two.0);
    let same: Vec<_> = one.1.iter().zip(&two.1).map(|(one, two)| one == two).collect();
    assert_eq!(same, [false, false, true, true], "ESP and seed are its own, tree and root follow from the root hash");
}

#[test]
fn a_folder_that_looks_like_a_computer_is_no_way_to_a_disk() {
    let (machine, target) = stick();
    let node = machine.path("dev/sda");
    std::fs::remove_file(&node).unwrap();
    symlink("/dev/null", &node).unwrap();
    assert_eq!(FileDevice::open(&target).unwrap_err(), Refusal::Changed);
}

#[test]
fn a_disk_that_has_become_another_one_is_not_opened() {
    let (machine, target) = stick();
    File::options().write(true).open(machine.path("dev/sda")).unwrap().set_len(7_000_000_000).unwrap();
    assert_eq!(FileDevice::open(&target).unwrap_err(), Refusal::Changed);
}

/// Some MiB, with pieces all over them.
const SIZE: u64 = 20 * MIB;

fn small_plan() -> Plan<'static> {
    let noise =
        |seed: u8, length: usize| (0..length).map(|i| (i.wrapping_mul(31) >> 3) as u8 ^ seed).collect::<Vec<u8>>();
    Plan::of_pieces(
        SIZE,
        512,
        &[
            (MIB, noise(1, 700 << 10)),
            (2 * MIB, vec![0; 4096]),
            (4 * MIB, noise(2, 5 << 20)),
            (SIZE - 2 * MIB, noise(3, 512 << 10)),
        ],
    )
}

fn holds(stored: &[u8], plan: &Plan<'_>) -> bool {
    let mut buffer = vec![0; 4 << 20];
    plan.pieces().iter().all(|piece| {
        plan.read(piece, &mut buffer[..piece.length]).unwrap();
        stored[piece.at as usize..][..piece.length] == buffer[..piece.length]
    })
}

fn operations_of_a_whole_run() -> usize {
    let device = Faulty::new(SIZE, Fault::None);
    let plan = small_plan();
    write(&device, &plan, &Unwatched).unwrap();
    let operations = device.operations();
    let stored = device.into_stored();
    assert!(holds(&stored, &plan) && stored[..MIB as usize] == *plan.head() && stored.ends_with(plan.tail()));
    operations
}

#[test]
fn after_any_single_fault_the_first_mebibyte_is_zeros() {
    for number in 0..operations_of_a_whole_run() {
        let device = Faulty::new(SIZE, Fault::FailsAt(number));
        let error = write(&device, &small_plan(), &Unwatched).unwrap_err();
        assert_eq!(error.head, Head::Erased, "operation {number}: {error}");
        let stored = device.into_stored();
        assert!(stored[..MIB as usize].iter().all(|byte| *byte == 0), "operation {number}: {error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Whatever of the unflushed sectors is stored, and whenever it ends: no disk starts unless it is whole.
    #[test]
    fn a_stick_that_is_pulled_out_does_not_start_unless_it_is_whole(at in 0usize..120, bits: u64) {
        let (device, plan) = (Faulty::new(SIZE, Fault::DiesAt(at, bits)), small_plan());
        let result = write(&device, &plan, &Unwatched);
        let stored = device.into_stored();
        let first = &stored[..512];
        if first == &plan.head()[..512] {
            prop_assert!(holds(&stored, &plan) && stored[..MIB as usize] == *plan.head() && stored.ends_with(plan.tail()));
        } else {
            prop_assert!(result.is_err());
            // What was there before starts as it did before, or not at all; but it has not lost anything else.
            let is_old = first.iter().all(|byte| *byte == OLD);
            let rest_is_old = stored[MIB as usize..(SIZE - MIB) as usize].iter().all(|byte| *byte == OLD);
            prop_assert!(first.iter().all(|byte| *byte == 0) || (is_old && rest_is_old));
        }
        if let Err(error) = result {
            let gone = matches!(error.cause, Cause::Device { gone: true, .. });
            prop_assert!(gone, "{error}");
        }
    }

    #[test]
    fn a_device_that_lies_about_its_size_is_found_out_or_does_no_harm(mebibytes in 2u64..20, extra in 0u64..256, wraps: bool) {
        let real = mebibytes * MIB + extra * 4096;
        let fault = if wraps { Fault::WrapsAt(real) } else { Fault::DropsFrom(real) };
        let (device, plan) = (Faulty::new(SIZE, fault), small_plan());
        match write(&device, &plan, &Unwatched) {
            // What it dropped or wrapped was not asked for.
            Ok(_) => {
                prop_assert!(wraps, "what is dropped at the end is always missed");
                let mut buffer = vec![0; 4 << 20];
                for piece in plan.pieces() {
                    let mut expected = vec![0; piece.length];
                    plan.read(piece, &mut expected).unwrap();
                    device.read_at(&mut buffer[..piece.length], piece.at).unwrap();
                    prop_assert!(buffer[..piece.length] == expected);
                }
            }
            Err(_) => {
                let mut head = vec![1; MIB as usize];
                device.read_at(&mut head, 0).unwrap();
                prop_assert!(head.iter().all(|byte| *byte == 0));
            }
        }
    }

    #[test]
    fn a_sector_that_holds_something_else_is_found(sector in 0u64..SIZE / 512) {
        let (device, plan) = (Faulty::new(SIZE, Fault::Garbles(sector * 512)), small_plan());
        let result = write(&device, &plan, &Unwatched);
        let at = sector * 512;
        let matters = plan.pieces().iter().any(|piece| (piece.at..piece.at + piece.length as u64).contains(&at))
            || !(MIB..SIZE - MIB).contains(&at);
        let stored = device.into_stored();
        prop_assert!(result.is_err() || !matters);
        if result.is_err() {
            prop_assert!(at == 0 || stored[..512].iter().all(|byte| *byte == 0));
        }
    }
}

#[test]
fn a_forgery_is_named_with_the_room_that_it_has() {
    let claims = |fault| {
        let device = Faulty::new(SIZE, fault);
        crate::report::Mistake::from(write(&device, &small_plan(), &Unwatched).unwrap_err()).to_string()
    };
    insta::assert_snapshot!(claims(Fault::WrapsAt(8 * MIB)), @"the disk says that it has 20.9 MB, but what is written behind 8.3 MB replaces what is before; its start is erased, so nothing half-written can start from it");
    insta::assert_snapshot!(claims(Fault::DropsFrom(8 * MIB)), @"the disk says that it has 20.9 MB, but does not keep what is written at byte 9437184; its start is erased, so nothing half-written can start from it");
}

#[test]
fn a_stick_that_was_pulled_out_is_not_said_to_be_full() {
    let gone = Cause::Device {
        doing: Doing::Writing,
        offset: 4096,
        gone: true,
        source: std::io::ErrorKind::StorageFull.into(),
    };
    insta::assert_snapshot!(gone, @"the disk cannot be written at byte 4096: it is not there any more");
}

#[test]
fn what_is_full_says_so() {
    let device = Faulty::new(SIZE, Fault::FullAt(6 * MIB));
    let error = write(&device, &small_plan(), &Unwatched).unwrap_err();
    assert!(
        matches!(&error.cause, Cause::Device { source, .. } if source.kind() == std::io::ErrorKind::StorageFull),
        "{error}"
    );
}

#[test]
fn sizes_of_the_layout_add_up() {
    assert_eq!(DISK_MIN_SIZE, (1 + 512 + 32 + 2 * (2048 + 32) + 768 + 1) * MIB);
    const { assert!(DISK_MIN_SIZE < 6_000_000_000 && ESP_SIZE + SEED_SIZE == 544 * MIB) };
}
