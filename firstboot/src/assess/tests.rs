use std::collections::BTreeMap;

use super::*;
use crate::esp::simulated::{Simulated, uki};

fn hash(byte: u8) -> RootHash {
    RootHash::from([byte; 32])
}

fn esp(names: &[(&str, u8)]) -> Simulated<'static> {
    let file = |(name, byte): &(&str, u8)| (format!("larder_{name}.efi"), uki(&hash(*byte), b""));
    Simulated::new(names.iter().map(file).collect::<BTreeMap<_, _>>(), &|| Ok(()))
}

fn fault(id: &'static str) -> Vec<Finding> {
    vec![Finding { id: id.into(), severity: Severity::Failure, message: format!("{id}!"), next: "".into() }]
}

fn assess<'a>(root: &'a tempfile::TempDir, esp: &Simulated<'_>, running: u8) -> Assessment<'a> {
    Assessment::new(root.path(), esp, hash(running)).unwrap()
}

#[test]
fn a_good_start_is_counted_and_its_pools_are_expected_at_the_next_one() {
    let root = tempfile::tempdir().unwrap();
    let esp = esp(&[("1+3", 1), ("2+1-2", 2)]);
    let pool = Known { guid: zfs::Guid(7), name: "tank".into(), disks: Vec::new() };
    let mut assessment = assess(&root, &esp, 2);
    assert_eq!(assessment.tell().unwrap(), []);
    assert_eq!(assessment.judge(&esp, &[]).unwrap(), Verdict::Good);
    assessment.mark_good(&esp, vec![pool.clone()], Some(&pool)).unwrap();
    assert_eq!(esp.names(), ["larder_1+3.efi", "larder_2+3.efi"]);
    let good = Memory::read(root.path()).unwrap().last_good.unwrap();
    assert_eq!((good.root_hash, good.pools), (hash(2), vec![pool]));
}

#[test]
fn a_new_system_that_cannot_load_zfs_gives_up_at_once_and_the_owner_is_told_why() {
    let root = tempfile::tempdir().unwrap();
    let esp = esp(&[("1+3", 1), ("2+2-1", 2)]);
    assert_eq!(assess(&root, &esp, 2).judge(&esp, &fault("zfs-not-loaded")).unwrap(), Verdict::Restart);
    assert_eq!(esp.names(), ["larder_1+3.efi", "larder_2+0-3.efi"]);
    let told = assess(&root, &esp, 1).tell().unwrap();
    insta::assert_snapshot!(told[0], @r"
    system-fell-back: system 2 failed, so 1 runs in its place: zfs-not-loaded!
      next: nothing has to be done now; a newer version is installed when there is one, this one only by `firstboot update install --again`
    ");
    assert_eq!(status::recorded(root.path(), TOPIC).unwrap().unwrap(), told);
}

#[test]
fn a_system_that_was_good_has_all_its_tries_before_the_other_one_has_its_turn() {
    let root = tempfile::tempdir().unwrap();
    let before = esp(&[("1+3", 1), ("2+3", 2)]);
    assess(&root, &before, 2).mark_good(&before, vec![], None).unwrap();
    for (counter, failed) in [("2+2-1", false), ("2+1-2", false), ("2+0-3", true)] {
        let esp = esp(&[("1+3", 1), (counter, 2)]);
        assert_eq!(assess(&root, &esp, 2).judge(&esp, &fault("zfs-not-loaded")).unwrap(), Verdict::Restart);
        assert!(esp.names().contains(&format!("larder_{counter}.efi")), "the boot loader counts");
        assert_eq!(Memory::read(root.path()).unwrap().failed.len(), usize::from(failed), "{counter}");
    }
}

#[test]
fn nothing_is_restarted_where_there_is_nothing_to_turn_to() {
    let root = tempfile::tempdir().unwrap();
    for others in [&[("2+2-1", 2)][..], &[("1+0-3", 1), ("2+2-1", 2)]] {
        let esp = esp(others);
        assert_eq!(assess(&root, &esp, 2).judge(&esp, &fault("zfs-not-loaded")).unwrap(), Verdict::Stay);
    }
}

#[test]
fn a_system_that_restarted_three_times_without_a_word_is_remembered() {
    let root = tempfile::tempdir().unwrap();
    let esp = esp(&[("1+2-1", 1), ("2+0-3", 2)]);
    let told = assess(&root, &esp, 1).tell().unwrap();
    assert_eq!(told[0].id, "system-fell-back");
    assert!(Memory::read(root.path()).unwrap().failure(&"2".parse().unwrap()).unwrap().contains("three times"));
    // Once it is good after all, it is not held against it any more.
    assess(&root, &esp, 2).mark_good(&esp, vec![], None).unwrap();
    assert_eq!(Memory::read(root.path()).unwrap().failed, []);
}

#[test]
fn a_start_for_want_of_anything_else_is_told() {
    let root = tempfile::tempdir().unwrap();
    let esp = esp(&[("1+0-3", 1), ("2+0-4", 2)]);
    let ids: Vec<_> = assess(&root, &esp, 2).tell().unwrap().into_iter().map(|finding| finding.id).collect();
    assert_eq!(ids, ["system-fell-back", "no-system-left"]);
}
