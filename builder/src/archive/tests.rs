use std::collections::BTreeMap;

use super::testing::{FolderMirror, now};
use super::*;
use crate::report::render;

fn stanza(name: &str, version: &str) -> String {
    let hash = Hash::of(name);
    format!(
        "Package: {name}\nVersion: {version}\nArchitecture: amd64\nFilename: pool/{name}.deb\nSize: 7\nSHA256: {hash}\nSource: src ({version})\n\n"
    )
}

fn load(mirror: &FolderMirror, suites: &[&str]) -> Result<Universe> {
    let archive = Archive {
        name: "debian".into(),
        mirror: "http://mirror.example/debian".into(),
        snapshot: None,
        suites: suites.iter().map(ToString::to_string).collect(),
        components: vec!["main".into()],
        keys: vec!["test.asc".into()],
    };
    Universe::load(&[archive], &["amd64".to_owned()], &mirror.keys(), now(), mirror)
}

#[test]
fn all_suites_of_the_request_are_loaded_in_its_order() {
    let mirror = FolderMirror::empty();
    mirror.publish("trixie", "Acquire-By-Hash: yes\n", &(stanza("a", "1") + &stanza("b", "1")));
    mirror.publish("trixie-updates", "NotAutomatic: yes\nButAutomaticUpgrades: yes\n", &stanza("a", "2"));
    let universe = load(&mirror, &["trixie", "trixie-updates"]).unwrap();
    let all: Vec<String> = universe
        .ids()
        .map(|id| universe.package(id))
        .map(|p| format!("{} {} {} {}", p.name(), p.version(), p.suite().name, p.source()))
        .collect();
    assert_eq!(all, ["a 1 trixie src", "b 1 trixie src", "a 2 trixie-updates src"]);
    assert_eq!(universe.suites()[1].priority, 100);
}

#[test]
fn an_index_is_read_in_whatever_form_the_archive_has_it() {
    let mirror = FolderMirror::empty();
    mirror.publish_files("trixie", "", &BTreeMap::from([("main/binary-all/Packages", stanza("a", "1").into_bytes())]));
    assert_eq!(load(&mirror, &["trixie"]).unwrap().len(), 1);
}

#[test]
fn a_release_that_lists_files_by_hash_is_fetched_so() {
    let mirror = FolderMirror::empty();
    mirror.publish("trixie", "Acquire-By-Hash: yes\n", &stanza("a", "1"));
    fs_err::write(
        mirror.file("http://mirror.example/debian/dists/trixie/main/binary-amd64/Packages.xz"),
        "of a later update",
    )
    .unwrap();
    assert_eq!(load(&mirror, &["trixie"]).unwrap().len(), 1);
}

#[test]
fn an_archive_that_cannot_be_read_is_named() {
    let mirror = FolderMirror::empty();
    let text = render(&load(&mirror, &["trixie"]).unwrap_err());
    let text = text.replace(mirror.file("http://mirror.example/").to_str().unwrap(), "MIRROR/");
    insta::assert_snapshot!(text, @r"
    error: reading the archive `debian`
      caused by: connection refused
      caused by: failed to open file `MIRROR/debian/dists/trixie/InRelease`: No such file or directory (os error 2)
    ");
}

#[test]
fn an_index_other_than_the_signed_one_is_refused() {
    let mirror = FolderMirror::empty();
    mirror.publish("trixie", "", &stanza("a", "1"));
    fs_err::write(mirror.file("http://mirror.example/debian/dists/trixie/main/binary-amd64/Packages.xz"), "evil")
        .unwrap();
    assert!(render(&load(&mirror, &["trixie"]).unwrap_err()).contains("hash mismatch"));
}

#[test]
fn a_component_that_the_suite_lacks_is_named() {
    let mirror = FolderMirror::empty();
    mirror.publish_files("trixie", "", &BTreeMap::new());
    let error = load(&mirror, &["trixie"]).unwrap_err();
    assert_eq!(error.to_string(), "the suite `trixie` of the archive `debian` has no component `main` for amd64");
}

#[test]
fn a_broken_stanza_is_named_with_archive_suite_index_and_line() {
    let mirror = FolderMirror::empty();
    mirror.publish("trixie", "", &(stanza("a", "1") + "Package: b\n"));
    let error = load(&mirror, &["trixie"]).unwrap_err();
    assert_eq!(error.to_string(), "debian trixie main/binary-amd64/Packages:9: the stanza has no version");
}
