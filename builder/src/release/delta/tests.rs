use std::os::unix::fs::FileExt as _;

use firstboot::verity::Tree;
use indicatif::ProgressBar;
use proptest::prelude::*;
use uuid::Uuid;

use super::*;

/// A system in a folder of its own, of blocks that a number each stands for.
fn system(folder: &Path, blocks: &[u8], uki: &[u8]) -> System {
    fs_err::create_dir_all(folder).unwrap();
    let path = |name: &str| folder.join(name);
    let content: Vec<u8> = blocks.iter().flat_map(|seed| block(*seed)).collect();
    fs_err::write(path("root"), content).unwrap();
    fs_err::write(path("uki"), uki).unwrap();
    let tree = fs_err::OpenOptions::new().read(true).write(true).create_new(true).open(path("tree")).unwrap();
    let root = fs_err::File::open(path("root")).unwrap();
    let root_hash = Tree::write(root.file(), tree.file(), Uuid::nil()).unwrap();
    let (root, tree, uki) = (path("root"), path("tree"), path("uki"));
    System { root_hash, root, tree, uki_object: object_of(&uki).unwrap(), uki }
}

/// Half of a block is noise, so that blocks are alike and differ.
fn block(seed: u8) -> Vec<u8> {
    let noise = |n: u32| (n.wrapping_mul(2_654_435_761).wrapping_add(u32::from(seed) * 40_503) >> 24) as u8;
    (0..4096).map(|n| if n % 512 == 0 { seed } else { noise(n) * u8::from(seed > 0) }).collect()
}

/// Makes `new` of `old` by a recipe, and compares; returns the size of the payload.
fn comes_out(old: Option<&System>, new: &System) -> u64 {
    let folder = tempfile::tempdir().unwrap();
    let open = old.map(|old| old.open().unwrap());
    let opened = new.open().unwrap();
    write(open.as_ref(), &opened, folder.path(), &ProgressBar::hidden()).unwrap();
    let (recipe, payload) = (folder.path().join(RECIPE), folder.path().join(PAYLOAD));
    let size = fs_err::metadata(&payload).unwrap().len();
    let bounds = Bounds {
        root: opened.size,
        uki: opened.uki.len() as u64,
        payload: size,
        old: open.as_ref().map(|old| (old.size, old.uki.len() as u64)),
    };
    let old = open.as_ref().map(|old| (&old.root, &old.uki[..]));
    let (root, uki) = follow((&recipe, &payload), &bounds, old, folder.path()).unwrap();
    assert_eq!(fs_err::read(root).unwrap(), fs_err::read(&new.root).unwrap());
    assert_eq!(fs_err::read(uki).unwrap(), fs_err::read(&new.uki).unwrap());
    size
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn whatever_two_systems_are_like_the_recipe_makes_the_new_one(
        old in prop::collection::vec(0..8_u8, 2..300),
        new in prop::collection::vec(0..8_u8, 2..300),
        keep in 0..300_usize,
        ukis in prop::array::uniform2(prop::collection::vec(any::<u8>(), 1..500)),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let new: Vec<u8> = old.iter().copied().take(keep).chain(new).collect();
        let old = system(&folder.path().join("old"), &old, &ukis[0]);
        let new = system(&folder.path().join("new"), &new, &ukis[1]);
        comes_out(Some(&old), &new);
        comes_out(None, &new);
    }
}

#[test]
fn the_same_system_again_costs_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let old = system(&folder.path().join("old"), &(1..200).collect::<Vec<_>>(), b"uki");
    assert_eq!(comes_out(Some(&old), &old.clone()), 0);
}

#[test]
fn what_moved_is_copied_and_what_changed_is_patched() {
    let folder = tempfile::tempdir().unwrap();
    let blocks: Vec<u8> = (1..=200).collect();
    let old = system(&folder.path().join("old"), &blocks, b"uki");
    let moved: Vec<u8> = [201].into_iter().chain(blocks).collect();
    let new = system(&folder.path().join("new"), &moved, b"uki");
    let root = fs_err::OpenOptions::new().write(true).open(&new.root).unwrap();
    root.file().write_all_at(b"changed", 100 * 4096 + 7).unwrap();
    fs_err::remove_file(&new.tree).unwrap();
    let root = fs_err::File::open(&new.root).unwrap();
    let tree = fs_err::OpenOptions::new().read(true).write(true).create_new(true).open(&new.tree).unwrap();
    let root_hash = Tree::write(root.file(), tree.file(), Uuid::nil()).unwrap();
    let size = comes_out(Some(&old), &System { root_hash, ..new });
    assert!(size < 2 * 4096, "{size}");
}
