use std::os::unix::fs::{MetadataExt as _, symlink};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use super::*;
use crate::hash::Hash;
use crate::recipe::Recipe;

fn store() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(Some(folder.path().to_owned())).unwrap();
    (folder, store)
}

fn recipe(name: &str) -> Recipe {
    let mut recipe = Recipe::new("test", 1);
    recipe.field("name", name);
    recipe
}

fn exclusive(folder: &tempfile::TempDir) -> Exclusive {
    Store::exclusive(Some(folder.path().to_owned())).unwrap()
}

fn left_in_tmp(store: &Store) -> usize {
    fs::read_dir(store.folder().join("tmp")).unwrap().count()
}

fn make_old(path: &Path) {
    let time = SystemTime::now() - Duration::from_secs(40 * 86400);
    fs::File::open(path).unwrap().set_modified(time).unwrap();
}

#[test]
fn the_place_is_taken_from_the_environment_in_order() {
    let place = |pairs: &[(&str, &str)]| {
        let find = |name: &str| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value));
        locate_in(None, find).map(|path| path.display().to_string())
    };
    assert_eq!(place(&[("LARDER_CACHE_DIR", "/a"), ("XDG_CACHE_HOME", "/b"), ("HOME", "/c")]).unwrap(), "/a");
    assert_eq!(place(&[("XDG_CACHE_HOME", "/b"), ("HOME", "/c")]).unwrap(), "/b/larder");
    assert_eq!(place(&[("XDG_CACHE_HOME", "relative"), ("HOME", "/c")]).unwrap(), "/c/.cache/larder");
    assert_eq!(place(&[("LARDER_CACHE_DIR", ""), ("HOME", "/c")]).unwrap(), "/c/.cache/larder");
    assert_eq!(place(&[]), None);
}

#[test]
fn backup_programs_are_told_that_it_is_a_cache() {
    let (folder, _store) = store();
    let tag = fs::read_to_string(folder.path().join("CACHEDIR.TAG")).unwrap();
    assert!(tag.starts_with("Signature: 8a477f597d28d172789f06886806bc55"));
}

#[test]
fn a_blob_is_found_by_the_hash_of_its_content() {
    let (_folder, store) = store();
    let hash = Hash::of("content");
    assert_eq!(store.blob(&hash), None);
    let path = store.insert_blob("content".as_bytes(), &hash).unwrap();
    assert_eq!(store.blob(&hash), Some(path.clone()));
    assert_eq!(fs::read(path).unwrap(), b"content");
}

#[test]
fn content_with_another_hash_is_refused_and_leaves_nothing() {
    let (_folder, store) = store();
    let hash = Hash::of("content");
    assert!(store.insert_blob("other".as_bytes(), &hash).is_err());
    assert_eq!(store.blob(&hash), None);
    assert_eq!(left_in_tmp(&store), 0);
}

#[test]
fn a_blob_that_was_cut_short_is_not_offered() {
    let (_folder, store) = store();
    let hash = Hash::of("content");
    let path = store.insert_blob("content".as_bytes(), &hash).unwrap();
    assert!(store.blob_of_size(&hash, 7).is_some());
    fs::write(path, "cont").unwrap();
    assert_eq!(store.blob_of_size(&hash, 7), None);
}

#[test]
fn an_entry_is_made_once_however_many_want_it() {
    let (folder, store) = store();
    let made = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                // Its own lock and files, as another process has.
                let store = Store::open(Some(folder.path().to_owned())).unwrap();
                let make = |into: &Path| {
                    made.fetch_add(1, Ordering::SeqCst);
                    std::thread::sleep(Duration::from_millis(50));
                    Ok(fs::write(into.join("file"), "made")?)
                };
                let path = store.entry(Bucket::Trees, &recipe("key"), make).unwrap();
                assert_eq!(fs::read_to_string(path.join("file")).unwrap(), "made");
            });
        }
    });
    assert_eq!(made.load(Ordering::SeqCst), 1);
    assert_eq!(left_in_tmp(&store), 0);
}

#[test]
fn an_entry_that_fails_leaves_nothing_and_can_be_made_later() {
    let (_folder, store) = store();
    let key = recipe("key");
    let failed = store.entry(Bucket::Zfs, &key, |into| {
        fs::write(into.join("half"), "half")?;
        anyhow::bail!("the compiler gave up")
    });
    assert_eq!(failed.unwrap_err().to_string(), "the compiler gave up");
    assert_eq!(store.existing_entry(Bucket::Zfs, &key), None);
    assert_eq!(left_in_tmp(&store), 0);
    store.entry(Bucket::Zfs, &key, |_| Ok(())).unwrap();
}

#[test]
fn a_store_tells_what_was_asked_of_it_and_what_had_to_be_made() {
    let (_folder, store) = store();
    store.entry(Bucket::Layers, &recipe("key"), |_| Ok(())).unwrap();
    store.entry(Bucket::Layers, &recipe("key"), |_| panic!("it is there")).unwrap();
    let uses = store.uses();
    assert!(matches!(uses[0].outcome, Outcome::Made(_)));
    assert_eq!((uses.len(), uses[1].outcome), (2, Outcome::Found));
}

#[test]
fn an_entry_from_before_a_power_cut_is_made_again() {
    let (_folder, store) = store();
    let key = recipe("key");
    let make = |content: &'static str| move |into: &Path| Ok(fs::write(into.join("file"), content)?);
    let path = store.entry(Bucket::Layers, &key, make("first")).unwrap();
    for lost in ["", "the-id-of-another-boot"] {
        fs::write(entries::state_path(&path), lost).unwrap();
        assert_eq!(store.existing_entry(Bucket::Layers, &key), None);
        store.entry(Bucket::Layers, &key, make("again")).unwrap();
        assert_eq!(fs::read_to_string(path.join("file")).unwrap(), "again");
    }
}

#[test]
fn entries_are_durable_once_the_store_is_closed() {
    let (_folder, store) = store();
    let path = store.entry(Bucket::Layers, &recipe("key"), |_| Ok(())).unwrap();
    assert_ne!(fs::read_to_string(entries::state_path(&path)).unwrap(), "durable");
    drop(store);
    assert_eq!(fs::read_to_string(entries::state_path(&path)).unwrap(), "durable");
}

#[test]
fn pruning_waits_for_nobody_and_says_so() {
    let (folder, store) = store();
    let error = Store::exclusive(Some(folder.path().to_owned())).unwrap_err();
    assert!(error.is::<Mistake>());
    assert!(error.to_string().ends_with("in use by another larder"));
    drop(store);
    exclusive(&folder);
}

#[test]
fn pruning_removes_only_what_was_not_used_lately() {
    let (folder, store) = store();
    let old_blob = store.insert_blob("old".as_bytes(), &Hash::of("old")).unwrap();
    let used_blob = store.insert_blob("used".as_bytes(), &Hash::of("used")).unwrap();
    let old_entry = store.entry(Bucket::Trees, &recipe("old"), |_| Ok(())).unwrap();
    let used_entry = store.entry(Bucket::Trees, &recipe("used"), |_| Ok(())).unwrap();
    drop(store);
    for path in [&old_blob, &used_blob, &entries::state_path(&old_entry), &entries::state_path(&used_entry)] {
        make_old(path);
    }
    let store = Store::open(Some(folder.path().to_owned())).unwrap();
    store.blob(&Hash::of("used")).unwrap();
    store.existing_entry(Bucket::Trees, &recipe("used")).unwrap();
    drop(store);

    let freed = exclusive(&folder).prune(Duration::from_secs(30 * 86400)).unwrap();
    assert_eq!(freed.count, 2);
    assert!(!old_blob.exists() && !old_entry.exists() && !entries::state_path(&old_entry).exists());
    assert!(used_blob.exists() && used_entry.exists());
}

/// Makes an entry of this many bytes and gives its folder.
fn make_of_size(store: &Store, bucket: Bucket, name: &str, bytes: usize) -> PathBuf {
    store.entry(bucket, &recipe(name), |into| Ok(fs::write(into.join("root"), vec![1; bytes])?)).unwrap()
}

#[test]
fn after_a_build_the_parts_of_images_take_no_more_than_they_may() {
    let (folder, store) = store();
    let make = |name| make_of_size(&store, Bucket::Images, name, 100_000);
    let (oldest, old, young) = (make("oldest"), make("old"), make("young"));
    let tree = make_of_size(&store, Bucket::Trees, "a tree", 1_000_000);
    drop(store);
    for (entry, hours) in [(&oldest, 9), (&old, 6), (&young, 3), (&tree, 20)] {
        let time = SystemTime::now() - Duration::from_secs(hours * 3600);
        fs::File::open(entries::state_path(entry)).unwrap().set_modified(time).unwrap();
    }
    let store = Store::open(Some(folder.path().to_owned())).unwrap();
    let new = make_of_size(&store, Bucket::Images, "new", 100_000);
    store.existing_entry(Bucket::Images, &recipe("oldest")).unwrap();
    let freed = store.tidy_within(350_000).unwrap();
    assert_eq!([&oldest, &old, &young, &new, &tree].map(|entry| entry.exists()), [true, false, true, true, true]);
    assert!(freed.count == 1 && freed.bytes >= 100_000, "{freed:?}");
    assert!(!entries::state_path(&old).exists() && !entries::digest_path(&old).exists());
}

#[test]
fn what_a_build_has_used_stays_however_large_it_is() {
    let (_folder, store) = store();
    let parts = ["root", "uki"].map(|name| make_of_size(&store, Bucket::Images, name, 100_000));
    assert_eq!(store.tidy_within(0).unwrap(), Freed::default());
    assert!(parts.iter().all(|part| part.exists()));
}

#[test]
fn after_a_build_what_was_not_used_for_a_month_goes() {
    let (folder, store) = store();
    let old = store.insert_blob("old".as_bytes(), &Hash::of("old")).unwrap();
    make_old(&old);
    // A run that has made nothing leaves everything as it is.
    store.tidy().unwrap();
    assert!(old.exists());
    let store = Store::open(Some(folder.path().to_owned())).unwrap();
    make_of_size(&store, Bucket::Images, "new", 1);
    store.tidy().unwrap();
    assert!(!old.exists());
}

#[test]
fn nothing_is_removed_while_another_larder_uses_the_store() {
    let (folder, store) = store();
    let old = store.insert_blob("old".as_bytes(), &Hash::of("old")).unwrap();
    make_old(&old);
    make_of_size(&store, Bucket::Images, "new", 1);
    let other = Store::open(Some(folder.path().to_owned())).unwrap();
    let image = other.scratch("try").unwrap();
    drop(other);
    assert_eq!(store.tidy().unwrap(), Freed::default());
    // Nor is what the other one is at, though it has closed the store otherwise.
    drop(Store::open(Some(folder.path().to_owned())).unwrap());
    assert!(old.exists() && image.path().exists());
}

#[test]
fn cleaning_removes_everything_even_read_only_folders() {
    let (folder, store) = store();
    store.insert_blob("blob".as_bytes(), &Hash::of("blob")).unwrap();
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("precious"), "kept").unwrap();
    let made = store.entry(Bucket::Trees, &recipe("tree"), |into| {
        fs::create_dir(into.join("locked"))?;
        fs::write(into.join("locked/file"), "file")?;
        symlink(outside.path(), into.join("locked/link"))?;
        Ok(files::set_mode(&into.join("locked"), 0o500)?)
    });
    made.unwrap();
    drop(store);

    let freed = exclusive(&folder).clean().unwrap();
    assert_eq!(freed.count, 2);
    assert!(outside.path().join("precious").exists());
    let left: u64 =
        Store::open(Some(folder.path().to_owned())).unwrap().usage().unwrap().iter().map(|part| part.count).sum();
    assert_eq!(left, 0);
}

#[test]
fn room_is_told_by_part() {
    let (_folder, store) = store();
    let make = |into: &Path| {
        fs::write(into.join("one"), vec![1; 100_000])?;
        Ok(fs::hard_link(into.join("one"), into.join("two"))?)
    };
    store.entry(Bucket::Unpacked, &recipe("deb"), make).unwrap();
    let usage = store.usage().unwrap();
    assert_eq!((usage[0].part.as_str(), usage[0].count), ("unpacked-v1", 1));
    assert!(usage[0].bytes < 200_000, "a hard-linked file counts once, not {}", usage[0].bytes);
}

fn verify(folder: &tempfile::TempDir) -> Verified {
    exclusive(folder).verify(&Progress::silent()).unwrap()
}

#[test]
fn verifying_finds_and_removes_damaged_blobs_whatever_the_damage() {
    let (folder, store) = store();
    let good = store.insert_blob("good".as_bytes(), &Hash::of("good")).unwrap();
    let insert = |text: &str| store.insert_blob(text.as_bytes(), &Hash::of(text)).unwrap();
    let (altered, cut, empty) = (insert("altered"), insert("cut short"), insert("emptied"));
    fs::write(&altered, "alter3d").unwrap();
    fs::write(&cut, "cut").unwrap();
    fs::write(&empty, "").unwrap();
    drop(store);
    let verified = verify(&folder);
    assert_eq!(verified.count, 4);
    let why: Vec<_> = verified.damaged.iter().map(|damaged| damaged.why.clone()).collect();
    for content in ["alter3d", "cut", ""] {
        assert!(why.contains(&format!("its sha256 is {}", Hash::of(content))), "{why:?}");
    }
    assert!(good.exists() && ![altered, cut, empty].iter().any(|path| path.exists()));
    assert_eq!(verify(&folder), Verified { count: 1, damaged: vec![] });
}

#[test]
fn verifying_finds_and_removes_damaged_entries_and_they_are_made_again() {
    let (folder, store) = store();
    let make = |into: &Path| Ok(fs::write(into.join("file"), "made")?);
    let path = |name: &str| store.entry(Bucket::Trees, &recipe(name), make).unwrap();
    let paths = ["good", "altered", "without a record", "before a power cut"].map(path);
    fs::write(paths[1].join("file"), "m4de").unwrap();
    fs::remove_file(entries::digest_path(&paths[2])).unwrap();
    drop(store);
    fs::write(entries::state_path(&paths[3]), "another boot").unwrap();

    let verified = verify(&folder);
    assert_eq!((verified.count, verified.damaged.len()), (4, 3));
    assert_eq!(paths.each_ref().map(|path| path.exists()), [true, false, false, false]);
    assert!(paths[1..].iter().all(|path| !entries::digest_path(path).exists() && !entries::state_path(path).exists()));

    let store = Store::open(Some(folder.path().to_owned())).unwrap();
    for (name, path) in [("altered", &paths[1]), ("good", &paths[0])] {
        store.entry(Bucket::Trees, &recipe(name), make).unwrap();
        assert_eq!(fs::read_to_string(path.join("file")).unwrap(), "made");
    }
}

#[test]
fn an_entry_that_became_unsound_is_made_again() {
    let (folder, store) = store();
    let key = recipe("key");
    let make = |into: &Path| Ok(fs::write(into.join("file"), "made")?);
    let path = store.entry(Bucket::Images, &key, make).unwrap();
    // What this very process made is known; damage comes later.
    drop(store);
    let store = Store::open(Some(folder.path().to_owned())).unwrap();
    assert!(store.is_sound(Bucket::Images, &key.key()).unwrap());
    drop(store);
    fs::write(path.join("file"), "m4de").unwrap();
    let store = Store::open(Some(folder.path().to_owned())).unwrap();
    assert!(!store.is_sound(Bucket::Images, &key.key()).unwrap());
    assert_eq!(store.existing_entry(Bucket::Images, &key), None);
    store.entry(Bucket::Images, &key, make).unwrap();
    assert_eq!(fs::read_to_string(path.join("file")).unwrap(), "made");
}

#[test]
fn a_damaged_blob_is_noticed_by_whoever_reads_it() {
    let (_folder, store) = store();
    let hash = Hash::of("content");
    let path = store.insert_blob("content".as_bytes(), &hash).unwrap();
    BlobReader::open(&path, &hash).unwrap().finish().unwrap();
    assert_eq!(store.sound_blob(&hash).unwrap(), Some(path.clone()));
    fs::write(&path, "c0ntent").unwrap();
    let error = BlobReader::open(&path, &hash).unwrap().finish().unwrap_err();
    assert_eq!(error.downcast::<DamagedBlob>().unwrap().got, Hash::of("c0ntent"));
    assert_eq!(store.sound_blob(&hash).unwrap(), None);
    assert!(!path.exists());
}

#[test]
fn a_folder_of_another_programs_results_is_emptied_after_a_restart() {
    let (_folder, store) = store();
    let cargo = store.until_restart("cargo").unwrap();
    fs::create_dir(cargo.join("debug")).unwrap();
    assert!(store.until_restart("cargo").unwrap().join("debug").exists());
    fs::write(cargo.join(".boot"), "another boot").unwrap();
    assert!(!store.until_restart("cargo").unwrap().join("debug").exists());
    fs::create_dir(cargo.join("debug")).unwrap();
    assert!(store.until_restart("cargo").unwrap().join("debug").exists());
}

#[test]
fn what_a_killed_process_left_is_swept_by_the_next() {
    let (folder, store) = store();
    fs::create_dir(store.folder().join("tmp/killed")).unwrap();
    assert_eq!(left_in_tmp(&store), 1);
    drop(store);
    let store = Store::open(Some(folder.path().to_owned())).unwrap();
    assert_eq!(left_in_tmp(&store), 0);
}

#[test]
fn stored_files_can_be_read_by_others() {
    let (_folder, store) = store();
    let path = store.insert_blob("blob".as_bytes(), &Hash::of("blob")).unwrap();
    assert_eq!(fs::metadata(path).unwrap().mode() & 0o444, 0o444);
}
