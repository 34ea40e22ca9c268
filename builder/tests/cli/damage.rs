//! What a failing disk does to the cache is found, and fetched or made again.

use std::path::PathBuf;

use crate::bench::{Bench, files};
use crate::miniature::BUILD;
use crate::package::Package;
use crate::program::probe;

const RUN: [&str; 6] = ["tools", "run", "kit", "--", "probe", "exit"];

/// `larder tools run kit -- probe exit 0`, with options.
fn run<'a>(options: &[&'a str]) -> Vec<&'a str> {
    [&RUN[..3], options, &RUN[3..], &["0"]].concat()
}

/// The three ways in which a file may be damaged.
const DAMAGES: [fn(&mut Vec<u8>); 3] = [|bytes| flip(bytes), |bytes| bytes.truncate(bytes.len() / 2), Vec::clear];

fn flip(bytes: &mut [u8]) {
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
}

fn damage(path: &PathBuf, damage: fn(&mut Vec<u8>)) {
    let mut bytes = fs_err::read(path).unwrap();
    damage(&mut bytes);
    fs_err::write(path, bytes).unwrap();
}

/// The only file of an entry of this bucket with this name.
fn entry_file(bench: &Bench, bucket: &str, name: &str) -> PathBuf {
    let mut found = files(&bench.cache(&format!("v1/{bucket}")));
    found.retain(|path| path.ends_with(name));
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

/// The file of a package in the cache.
fn blob(bench: &Bench, package: &Package) -> PathBuf {
    let digest = crate::archive::sha256(&package.deb());
    bench.cache(&format!("v1/blobs/{}/{digest}", &digest[..2]))
}

/// Whoever wants the tree has to unpack its package again.
fn forget_trees(bench: &Bench) {
    for bucket in ["unpacked-v1", "trees-v1"] {
        fs_err::remove_dir_all(bench.cache("v1").join(bucket)).unwrap();
    }
}

#[test]
fn a_damaged_package_is_fetched_again_when_it_is_unpacked() {
    let package = probe("1.0");
    for (times, spoil) in DAMAGES.into_iter().enumerate() {
        let bench = Bench::new();
        bench.mirror.publish(std::slice::from_ref(&package));
        bench.does(&run(&[]));
        forget_trees(&bench);
        damage(&blob(&bench, &package), spoil);
        let said = bench.does(&run(&[]));
        // A wrong size is seen before anything is unpacked, and not worth a word.
        let noticed = if times == 0 { "probe 1.0 was damaged in the cache and has been removed\n" } else { "" };
        assert_eq!(said, noticed);
        assert_eq!(bench.mirror.requests(&format!("debian/{}", package.path())), 2);
    }
}

#[test]
fn a_damaged_package_without_a_network_is_named_and_not_blamed_on_the_packager() {
    let bench = Bench::new();
    bench.mirror.publish(&[probe("1.0")]);
    bench.does(&run(&[]));
    forget_trees(&bench);
    damage(&blob(&bench, &probe("1.0")), DAMAGES[0]);
    insta::assert_snapshot!(bench.refuses(&run(&["--offline"])), @r"
    probe 1.0 was damaged in the cache and has been removed
    error: composing the tools tree `kit`
      caused by: not in the cache: 1 of 1 packages, and --offline forbids to fetch them

    hint: run the same command once without --offline
    ");
}

#[test]
fn a_damaged_index_is_fetched_again() {
    let bench = Bench::new();
    bench.mirror.publish(&[probe("1.0")]);
    bench.does(&["lock"]);
    let blobs = files(&bench.cache("v1/blobs"));
    assert_eq!(blobs.len(), 1);
    for spoil in DAMAGES {
        damage(&blobs[0], spoil);
        // Its condensed form is read in its place, as long as it is there.
        fs_err::remove_dir_all(bench.cache("v1/indices-v1")).unwrap();
        fs_err::remove_file(bench.project("profiles/nas.lock")).unwrap();
        bench.does(&["lock"]);
    }
}

#[test]
fn a_damaged_part_of_an_image_is_made_again_and_never_published() {
    let bench = Bench::miniature();
    bench.does(&BUILD);
    let good = bench.outputs("out");
    for (bucket, name) in [("images-v1", "root.erofs"), ("images-v1", "root.verity"), ("images-v1", "uki.efi")] {
        damage(&entry_file(&bench, bucket, name), DAMAGES[0]);
        // What is published already is not read again.
        fs_err::remove_dir_all(bench.folder("out")).unwrap();
        let said = bench.does(&BUILD);
        assert!(said.contains("parts of the image were damaged in the cache: making them again\n"), "{said}");
        assert_eq!(bench.outputs("out"), good, "after damage to {name}");
    }
}

#[test]
fn verifying_finds_damage_anywhere_and_the_next_build_mends_it() {
    let bench = Bench::miniature();
    bench.does(&BUILD);
    let good = bench.outputs("out");
    let verify = || {
        let output = bench.larder(&["cache", "verify"]).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let (status, said, _) = verify();
    assert_eq!(status, Some(0), "{said}");
    assert!(said.ends_with(" blobs and entries are what they were\n"), "{said}");

    let buckets = [
        ("unpacked-v1", "usr/share/more-1/7"),
        ("configured-v1", "etc/conf.d/3/file"),
        ("zfs-v1", "zfs.ko"),
        ("initrd-v1", "initrd"),
    ];
    let spoiled: Vec<PathBuf> = buckets.iter().map(|(bucket, name)| entry_file(&bench, bucket, name)).collect();
    for (path, spoil) in spoiled.iter().zip(DAMAGES.iter().cycle()) {
        damage(path, *spoil);
    }
    damage(&files(&bench.cache("v1/blobs"))[0], DAMAGES[1]);
    let (status, said, complaint) = verify();
    assert_eq!(status, Some(1), "{said}{complaint}");
    for (bucket, _) in buckets {
        assert!(said.contains(&format!("removed {bucket}/")), "{said}");
    }
    assert!(said.contains("removed blobs/"), "{said}");
    assert!(
        complaint.starts_with("error: 6 of ") && complaint.contains("\n\nhint: the next build fetches"),
        "{complaint}"
    );
    assert!(!spoiled.iter().any(|path| path.exists()));

    bench.does(&BUILD);
    assert_eq!(bench.outputs("out"), good);
    assert_eq!(verify().0, Some(0));
}
