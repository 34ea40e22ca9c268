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

#[test]
fn an_index_is_condensed_once_and_not_asked_for_again() {
    let mirror = FolderMirror::empty();
    mirror.publish("trixie", "", &stanza("a", "1"));
    let first = load(&mirror, &["trixie"]).unwrap();
    fs_err::remove_file(mirror.file("http://mirror.example/debian/dists/trixie/main/binary-amd64/Packages.xz"))
        .unwrap();
    let second = load(&mirror, &["trixie"]).unwrap();
    let package = |universe: &Universe| format!("{:?}", universe.packages);
    assert_eq!(package(&first), package(&second));
}

/// The versions of `a` after the mirror went from a release of the first day to one of the second.
fn versions_after(releases: [(&str, &str); 2]) -> (Vec<String>, Vec<String>) {
    let mirror = FolderMirror::empty();
    let versions = releases.map(|(day, extra)| {
        mirror.publish_at(&format!("{day}T07:55:41Z"), "trixie", extra, &stanza("a", day));
        let universe = load(&mirror, &["trixie"]).unwrap();
        universe.package(PackageId(0)).version().to_owned()
    });
    (versions.to_vec(), mirror.notes.into_inner().unwrap())
}

#[test]
fn a_newer_release_takes_the_place_of_the_one_that_was_read_before() {
    let (versions, notes) = versions_after([("2026-09-11", ""), ("2026-09-12", "")]);
    assert_eq!((versions, notes), (vec!["2026-09-11".to_owned(), "2026-09-12".to_owned()], vec![]));
}

#[test]
fn a_mirror_that_goes_back_in_time_is_not_followed() {
    let (versions, notes) = versions_after([("2026-09-12", ""), ("2026-09-11", "")]);
    assert_eq!(versions, ["2026-09-12", "2026-09-12"]);
    insta::assert_snapshot!(notes.join("\n"), @"http://mirror.example/debian/dists/trixie/InRelease: is of 2026-09-11T07:55:41Z, older than what was read before: the mirror lags behind; going on with the release of 2026-09-12T07:55:41Z");
}

#[test]
fn a_known_release_by_a_key_that_is_no_longer_accepted_counts_for_nothing() {
    let mirror = FolderMirror::empty();
    mirror.publish_at("2026-09-12T07:55:41Z", "trixie", "", &stanza("a", "2"));
    load(&mirror, &["trixie"]).unwrap();
    let other = FolderMirror::empty();
    other.publish_at("2026-09-11T07:55:41Z", "trixie", "", &stanza("a", "1"));
    let known = mirror.known_release("debian", "trixie").unwrap();
    other.remember_release("debian", "trixie", &known).unwrap();
    assert_eq!(load(&other, &["trixie"]).unwrap().package(PackageId(0)).version(), "1");
    assert_ne!(other.known_release("debian", "trixie").unwrap(), known);
}

proptest::proptest! {
    #[test]
    fn a_remembered_release_is_read_back(url in "[ -~]{0,20}", validator in proptest::option::of("[ -~]{1,9}"), content: Vec<u8>) {
        let release = SignedRelease { url, validator, content };
        proptest::prop_assert_eq!(SignedRelease::from_bytes(&release.to_bytes()).unwrap(), release);
    }

    #[test]
    fn any_bytes_are_read_as_a_remembered_release_or_refused(bytes: Vec<u8>) {
        let _ = SignedRelease::from_bytes(&bytes);
    }
}
