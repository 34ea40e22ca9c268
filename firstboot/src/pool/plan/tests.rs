use super::*;
use crate::disk::testing::{FakeDisk, FakeMachine, STICK};
use crate::settings::Settings;
use proptest::prelude::*;

/// Disks that hold what udev says, and nothing else; none complains.
struct Healthy;

impl Look for Healthy {
    fn is_blank(&self, _: &Disk) -> std::io::Result<bool> {
        Ok(true)
    }

    fn complaint(&self, _: &Disk) -> Option<String> {
        None
    }
}

const TB: u64 = 1_000_204_886_016;
const NAMES: [(&str, &str); 6] = [
    ("nvme0n1", "nvme-CT1000_A1"),
    ("nvme1n1", "nvme-CT1000_A2"),
    ("nvme2n1", "nvme-CT1000_A3"),
    ("nvme3n1", "nvme-CT1000_A4"),
    ("nvme4n1", "nvme-CT1000_A5"),
    ("nvme5n1", "nvme-CT1000_A6"),
];

fn empty(number: usize, size: u64) -> FakeDisk<'static> {
    let (name, id) = NAMES[number];
    let serial = &id[id.len() - 2..];
    FakeDisk { name, way: "pci0000:00/0000:00:1d.0/nvme/nvme0", id, serial, size, partitions: &[] }
}

fn machine(disks: impl IntoIterator<Item = FakeDisk<'static>>) -> FakeMachine {
    FakeMachine::new(&disks.into_iter().collect::<Vec<_>>())
}

fn wanted(table: &str) -> Pool {
    Settings::parse(&format!("schema = 1\n[pool]\n{table}"), "nas.toml").unwrap().pool
}

fn plan(machine: &FakeMachine, table: &str) -> anyhow::Result<Plan> {
    Plan::new(&machine.machine(), &Healthy, &wanted(table))
}

fn complaint(machine: &FakeMachine, table: &str) -> String {
    crate::report::render(&plan(machine, table).unwrap_err(), None)
}

#[test]
fn a_plan_says_what_it_holds_what_failures_cost_and_what_is_erased() {
    let used =
        FakeDisk { partitions: &[("nvme3n1p1", "E:ID_FS_TYPE=ntfs\nE:ID_FS_LABEL_ENC=Photos\n")], ..empty(3, TB) };
    let machine = machine([empty(0, TB), empty(1, TB), empty(2, 2 * TB), used]);
    insta::assert_snapshot!(plan(&machine, r#"layout = "raidz1"
        disks = ["nvme-CT1000_A1", "nvme-CT1000_A2", "/dev/disk/by-id/nvme-CT1000_A3"]
        spares = ["nvme-CT1000_A4"]
        erase = ["nvme-CT1000_A4"]"#).unwrap(), @r#"
    Pool `tank`: raidz1 of 3 disks, any one of which may fail

      Disk 1: Model, serial number A1, 1.0 TB
          nvme-CT1000_A1
      Disk 2: Model, serial number A2, 1.0 TB
          nvme-CT1000_A2
      Disk 3: Model, serial number A3, 2.0 TB
          nvme-CT1000_A3
      Spare 1: Model, serial number A4, 1.0 TB
          nvme-CT1000_A4

    Room for files: 1.9 TB of 4.0 TB
      999.9 GB lie idle, because the disks are not of one size.
    When one disk fails: nothing is lost.
    When two disks fail before one is replaced: everything is lost.

    ERASED, with everything on them:
      nvme-CT1000_A4
          nvme3n1p1: ntfs "Photos", 1.0 MB

    Plan 135ef4aa
    "#);
}

#[test]
fn without_names_all_empty_disks_are_taken_and_no_other() {
    let used = FakeDisk { partitions: &[("nvme1n1p1", "E:ID_FS_TYPE=ext4\n")], ..empty(1, TB) };
    let machine = machine([empty(0, TB), used, empty(2, TB), STICK]);
    insta::assert_snapshot!(plan(&machine, "layout = \"auto\"").unwrap(), @r"
    Pool `tank`: mirror of 2 disks, each of which holds everything
      Chosen because of two disks, each holds everything.

      Disk 1: Model, serial number A1, 1.0 TB
          nvme-CT1000_A1
      Disk 2: Model, serial number A3, 1.0 TB
          nvme-CT1000_A3

    Room for files: 965.2 GB of 2.0 TB
    When one disk fails: nothing is lost.
    When two disks fail before one is replaced: everything is lost.

    Nothing is erased: all disks are empty.

    Plan db535e5c
    ");
}

#[test]
fn auto_takes_what_suits_the_number_of_disks() {
    let taken =
        |count: usize| plan(&machine((0..count).map(|i| empty(i, TB))), "layout = \"auto\"").unwrap().arrangement;
    assert_eq!(
        (1..=6).map(taken).collect::<Vec<_>>(),
        [
            Arrangement::Single,
            Arrangement::Mirror,
            Arrangement::Raidz1,
            Arrangement::Raidz1,
            Arrangement::Raidz2,
            Arrangement::Raidz2
        ]
    );
}

#[test]
fn pairs_are_of_like_size() {
    let machine = machine([empty(0, TB), empty(1, 2 * TB), empty(2, TB), empty(3, 2 * TB)]);
    let plan = plan(&machine, "layout = \"mirrors\"").unwrap();
    assert_eq!(plan.disks.iter().map(|disk| disk.size).collect::<Vec<_>>(), [TB, TB, 2 * TB, 2 * TB]);
    assert_eq!(plan.capacity.idle, 0);
}

#[test]
fn a_disk_that_holds_something_is_refused_unless_it_is_named() {
    let member =
        FakeDisk { partitions: &[("nvme0n1p1", "E:ID_FS_TYPE=zfs_member\nE:ID_FS_LABEL=tank\n")], ..empty(0, TB) };
    let machine = machine([member, empty(1, TB)]);
    insta::assert_snapshot!(complaint(&machine, "layout = \"single\"\ndisks = [\"nvme-CT1000_A1\"]"), @r#"
    error: the disk nvme-CT1000_A1 is not empty: nvme0n1p1: ZFS pool "tank", 1.0 MB

    hint: if all of that may be lost, name the disk under `erase` too; a pool is taken over with `adopt`
    "#);
    plan(&machine, "layout = \"single\"\ndisks = [\"nvme-CT1000_A1\"]\nerase = [\"nvme-CT1000_A1\"]").unwrap();
    insta::assert_snapshot!(complaint(&machine, "layout = \"auto\"\nerase = [\"nvme-CT1000_A1\"]"), @r"
    error: nvme-CT1000_A1 is under `erase`, but neither under `disks` nor under `spares`

    hint: name it there too, or not at all
    ");
}

#[test]
fn what_is_mounted_or_of_the_running_system_is_refused_whatever_the_settings_say() {
    let used = FakeDisk { partitions: &[("nvme0n1p1", "E:ID_FS_TYPE=ext4\n")], ..empty(0, TB) };
    let machine = machine([used]);
    let table = "layout = \"single\"\ndisks = [\"nvme-CT1000_A1\"]\nerase = [\"nvme-CT1000_A1\"]";
    machine.mount("8:1", "/");
    insta::assert_snapshot!(complaint(&machine, table), @r"
    error: the disk nvme-CT1000_A1
      caused by: this is the disk that the running system is on

    hint: start this computer from another disk first, or choose another one
    ");
    machine.mount("8:1", "/srv");
    insta::assert_snapshot!(complaint(&machine, table), @r"
    error: the disk nvme-CT1000_A1
      caused by: it is in use: nvme0n1p1 is mounted at /srv

    hint: unmount it if it is the right one
    ");
}

#[test]
fn two_disks_with_one_serial_number_are_refused() {
    let machine = machine([empty(0, TB), FakeDisk { serial: "A1", ..empty(1, TB) }]);
    insta::assert_snapshot!(complaint(&machine, "layout = \"auto\""), @r"
    error: the disk nvme0n1
      caused by: nvme1n1 has the same model and serial number, so nobody can tell which of them is meant

    hint: unplug the other one
    ");
}

#[test]
fn a_disk_that_nobody_knows_or_that_fails_is_refused() {
    struct Suspicious;
    impl Look for Suspicious {
        fn is_blank(&self, _: &Disk) -> std::io::Result<bool> {
            Ok(false)
        }
        fn complaint(&self, disk: &Disk) -> Option<String> {
            (disk.name == "nvme1n1").then(|| "available spare below threshold".to_owned())
        }
    }
    // Disks without a table, which the fake ones have.
    let machine = machine([empty(0, TB), empty(1, TB)]);
    machine.write("run/udev/data/b8:0", "E:ID_SERIAL_SHORT=A1\n");
    let complaint = |table: &str| {
        crate::report::render(&Plan::new(&machine.machine(), &Suspicious, &wanted(table)).unwrap_err(), None)
    };
    insta::assert_snapshot!(complaint("layout = \"auto\""), @r"
    error: no disk is empty

    hint: name the disks under `disks`, and under `erase` those whose content may be lost; or name a pool under `adopt`
    ");
    insta::assert_snapshot!(complaint("layout = \"single\"\ndisks = [\"nvme-CT1000_A1\"]"), @r"
    error: the disk nvme-CT1000_A1 is not empty: something that nobody knows

    hint: if all of that may be lost, name the disk under `erase` too; a pool is taken over with `adopt`
    ");
    insta::assert_snapshot!(complaint("layout = \"single\"\ndisks = [\"nvme-CT1000_A2\"]"), @r"
    error: the disk nvme-CT1000_A2 says of itself that it fails: available spare below threshold

    hint: replace it before it holds anything
    ");
}

#[test]
fn a_layout_that_the_disks_do_not_suit_is_refused() {
    let machine = machine((0..3).map(|i| empty(i, TB)));
    for layout in ["single", "mirrors", "raidz2"] {
        let said = complaint(&machine, &format!("layout = \"{layout}\""));
        assert!(said.contains("3") && said.contains("hint"), "{said}");
    }
    insta::assert_snapshot!(complaint(&machine, "layout = \"single\"\ndisks = [\"nvme-CT1000_A1\"]\nspares = [\"nvme-CT1000_A2\"]"), @r"
    error: a spare is of no use to a single disk: what that one loses is lost

    hint: take the layout `mirror` with both
    ");
    insta::assert_snapshot!(complaint(&machine, "layout = \"mirror\"\ndisks = [\"nvme-CT1000_A1\", \"nvme-CT1000_A1\"]"), @r"
    error: nvme-CT1000_A1 is named twice

    hint: name every disk once
    ");
    insta::assert_snapshot!(complaint(&machine, "layout = \"mirror\"\ndisks = [\"nvme-CT1000_A9\"]"), @r"
    error: there is no disk nvme-CT1000_A9

    hint: `firstboot plan` lists the disks
    ");
}

#[test]
fn another_disk_in_the_same_place_is_another_plan() {
    let ids: std::collections::BTreeSet<_> = [
        machine([empty(0, TB)]),
        machine([empty(1, TB)]),
        machine([empty(0, 2 * TB)]),
        machine([FakeDisk { serial: "B7", ..empty(0, TB) }]),
    ]
    .iter()
    .map(|machine| plan(machine, "layout = \"single\"").unwrap().id())
    .collect();
    assert_eq!(ids.len(), 4);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn a_plan_survives_being_written_down(count in 1_usize..=6, size in (4_u64 << 30)..(15 << 40)) {
        let plan = plan(&machine((0..count).map(|i| empty(i, size / 512 * 512))), "layout = \"auto\"").unwrap();
        let text = serde_json::to_string(&plan).unwrap();
        let read: Plan = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(read.id(), plan.id());
        prop_assert!(plan.capacity.usable < plan.capacity.raw);
        prop_assert!(plan.capacity.usable > plan.capacity.raw / 4);
    }
}
