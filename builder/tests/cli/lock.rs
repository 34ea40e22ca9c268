//! `larder lock`: what it writes, when it refuses, and that it then writes nothing.

use crate::bench::{Bench, files};
use crate::mirror::{Fault, INDEX};
use crate::package::Package;

/// A bench whose mirror has the package `probe`.
fn bench() -> Bench {
    let bench = Bench::new();
    bench.mirror.publish(&[Package::new("probe", "1.0").field("Depends", "libprobe"), Package::new("libprobe", "1.0")]);
    bench
}

/// `larder lock` refuses and has written no lock.
fn refusal(bench: &Bench) -> String {
    let said = bench.refuses(&["lock", "--profile", "nas"]);
    assert_eq!(bench.locks(), [""; 0]);
    said
}

#[test]
fn every_profile_and_tools_tree_is_locked() {
    let bench = bench();
    insta::assert_snapshot!(bench.does(&["lock"]), @r"
    profiles/nas.lock: new, 2 packages
    profiles/tools/kit.lock: new, 2 packages
    ");
    insta::assert_snapshot!(bench.read("profiles/nas.lock"), @r#"
    # Made by `larder lock --profile nas`; do not edit. Run it again to take in newer packages.
    version = 1
    snapshot = "TIME"
    request = "SHA256"

    [[release]]
    archive = "debian"
    suite = "trixie"
    date = "TIME"
    sha256 = "SHA256"

    [[package]]
    name = "libprobe"
    version = "1.0"
    architecture = "amd64"
    sha256 = "SHA256"
    size = SIZE
    source = "debian:pool/libprobe_1.0_amd64.deb"

    [[package]]
    name = "probe"
    version = "1.0"
    architecture = "amd64"
    sha256 = "SHA256"
    size = SIZE
    source = "debian:pool/probe_1.0_amd64.deb"
    "#);
    assert_eq!(bench.locks(), ["nas.lock", "kit.lock"]);
}

#[test]
fn a_quiet_run_says_nothing() {
    let bench = bench();
    assert_eq!(bench.does(&["lock", "--quiet"]), "");
}

#[test]
fn the_archive_is_read_once_for_all_locks() {
    let bench = bench();
    bench.does(&["lock"]);
    assert_eq!(bench.mirror.requests("debian/dists/trixie/InRelease"), 1);
}

#[test]
fn the_same_archive_gives_the_same_bytes() {
    let bench = bench();
    bench.does(&["lock"]);
    let first = [bench.read("profiles/nas.lock"), bench.read("profiles/tools/kit.lock")];
    for path in ["profiles/nas.lock", "profiles/tools/kit.lock"] {
        fs_err::remove_file(bench.project(path)).unwrap();
    }
    bench.does(&["cache", "clean"]);
    bench.does(&["lock"]);
    assert_eq!(first, [bench.read("profiles/nas.lock"), bench.read("profiles/tools/kit.lock")]);
    insta::assert_snapshot!(bench.does(&["lock", "--tools", "kit"]), @"profiles/tools/kit.lock: unchanged, 2 packages");
}

#[test]
fn a_newer_archive_is_taken_in_and_the_difference_printed() {
    let bench = bench();
    bench.does(&["lock", "--profile", "nas"]);
    bench.mirror.publish(&[Package::new("probe", "1.1").field("Depends", "libnew"), Package::new("libnew", "2")]);
    insta::assert_snapshot!(bench.does(&["lock", "--profile", "nas"]), @r"
    profiles/nas.lock: changed, 2 packages
    + libnew 2
    - libprobe 1.0
    probe 1.0 → 1.1
    ");
}

#[test]
fn a_mirror_that_goes_back_in_time_is_named_and_not_followed() {
    let bench = bench();
    bench.mirror.publish(&[Package::new("probe", "1.1")]);
    bench.does(&["lock", "--profile", "nas"]);
    bench.mirror.go_back_to(&[Package::new("probe", "1.0")]);
    insta::assert_snapshot!(bench.does(&["lock", "--profile", "nas"]), @r"
    http://MIRROR/debian/dists/trixie/InRelease: is of TIME, older than what was read before: the mirror lags behind; going on with the release of TIME
    profiles/nas.lock: unchanged, 1 package
    ");
    // Whoever wants an older state names its address in the profile: it is another archive then.
    bench.write("profiles/base.toml", &bench.read("profiles/base.toml").replace("deb.debian.org", "old.example"));
    insta::assert_snapshot!(bench.does(&["lock", "--profile", "nas"]), @r"
    profiles/nas.lock: changed, 1 package
    probe 1.1 → 1.0
    ");
}

#[test]
fn a_check_is_content_with_a_lock_that_would_not_change() {
    let bench = bench();
    bench.does(&["lock"]);
    insta::assert_snapshot!(bench.does(&["lock", "--check"]), @r"
    profiles/nas.lock: unchanged, 2 packages
    profiles/tools/kit.lock: unchanged, 2 packages
    ");
}

#[test]
fn a_check_says_what_would_change_and_writes_nothing() {
    let bench = bench();
    insta::assert_snapshot!(bench.refuses(&["lock", "--check"]), @r"
    profiles/nas.lock: new, 2 packages
    profiles/tools/kit.lock: new, 2 packages
    error: not what the archive would give now: profiles/nas.lock, profiles/tools/kit.lock

    hint: run `larder lock`
    ");
    assert_eq!(bench.locks(), [""; 0]);
    bench.does(&["lock"]);
    let before = bench.read("profiles/nas.lock");
    bench.mirror.publish(&[Package::new("probe", "1.1")]);
    insta::assert_snapshot!(bench.refuses(&["lock", "--check", "--profile", "nas"]), @r"
    profiles/nas.lock: changed, 1 package
    - libprobe 1.0
    probe 1.0 → 1.1
    error: not what the archive would give now: profiles/nas.lock

    hint: run `larder lock`
    ");
    assert_eq!(bench.read("profiles/nas.lock"), before);
}

#[test]
fn a_check_notices_a_profile_that_asks_for_something_else() {
    let bench = bench();
    bench.does(&["lock"]);
    bench.write(
        "profiles/nas.toml",
        "schema = 1\ninherits = \"base\"\n[packages]\ninclude = [\"probe\", \"libprobe\"]\n",
    );
    insta::assert_snapshot!(bench.refuses(&["lock", "--check"]), @r"
    profiles/nas.lock: the same for a changed request, 2 packages
    profiles/tools/kit.lock: unchanged, 2 packages
    error: not what the archive would give now: profiles/nas.lock

    hint: run `larder lock`
    ");
}

#[test]
fn an_unknown_package_is_answered_with_the_nearest_one() {
    let bench = Bench::new();
    bench.mirror.publish(&[Package::new("prove", "1"), Package::new("other", "1")]);
    insta::assert_snapshot!(refusal(&bench), @r"
    error: no archive of the profile has a package `probe`

    hint: did you mean prove?
    ");
}

#[test]
fn a_conflict_is_printed_as_a_tree() {
    let bench = Bench::new();
    let probe = Package::new("probe", "1").field("Depends", "samba (>= 2:4), nfs");
    let samba = Package::new("samba", "2:4.22").field("Depends", "libwbclient0 (= 2:4.22)");
    let library = Package::new("libwbclient0", "2:4.22");
    bench.mirror.publish(&[probe, samba, library, Package::new("nfs", "1").field("Conflicts", "samba")]);
    insta::assert_snapshot!(refusal(&bench), @r"
    error: the profile's packages cannot be installed together:
      └─ probe cannot be installed:
         └─ probe 1 needs
            ├─ samba (>= 2:4), which could be:
            │  └─ samba 2:4.22
            └─ nfs, which cannot be installed:
               └─ nfs 1 excludes
                  └─ samba (Conflicts: samba)

    hint: change `include`, `forbid` or `pins` of the profile's [packages]; the tree's innermost lines name what clashes
    ");
}

#[test]
fn a_dependency_that_no_suite_has_is_printed_as_a_tree() {
    let bench = Bench::new();
    let samba = Package::new("samba", "2:4.22").field("Depends", "libwbclient0 (= 2:4.22)");
    let probe = Package::new("probe", "1").field("Depends", "samba (>= 2:4)");
    bench.mirror.publish(&[probe, samba, Package::new("libwbclient0", "2:4.21")]);
    insta::assert_snapshot!(refusal(&bench), @r"
    error: the profile's packages cannot be installed together:
      probe cannot be installed:
      └─ probe 1 needs
         └─ samba (>= 2:4), which cannot be installed:
            └─ samba 2:4.22 needs
               └─ libwbclient0 (= 2:4.22), which no suite has

    hint: change `include`, `forbid` or `pins` of the profile's [packages]; the tree's innermost lines name what clashes
    ");
}

#[test]
fn an_unreachable_mirror_is_named_with_what_sets_another() {
    let bench = bench();
    // tcpmux: nobody has it.
    let mut larder = bench.larder(&["lock", "--profile", "nas"]);
    insta::assert_snapshot!(bench.refuses_to(larder.env("LARDER_MIRROR_DEBIAN", "http://127.0.0.1:1/debian")), @r"
    error: reading the archive `debian`
      caused by: http://127.0.0.1:1/debian/dists/trixie/InRelease: server unreachable: Connection refused (os error 111)

    hint: check the network connection, or set LARDER_MIRROR_DEBIAN to the address of a mirror that answers
    ");
    assert_eq!(bench.locks(), [""; 0]);
}

#[test]
fn an_address_without_an_archive_is_refused() {
    let bench = Bench::new();
    insta::assert_snapshot!(refusal(&bench), @r"
    error: reading the archive `debian`
      caused by: http://MIRROR/debian/dists/trixie/InRelease: not found on the server

    hint: check `mirror` and `suites` of the archive in the profile, and LARDER_MIRROR_DEBIAN; if they are right, the mirror may be in the middle of an update: try again in some minutes
    ");
}

#[test]
fn an_archive_signed_by_another_key_is_refused() {
    let bench = bench();
    fs_err::write(bench.project("profiles/archives/test.asc"), Bench::new().mirror.public_key()).unwrap();
    insta::assert_snapshot!(refusal(&bench), @r"
    error: http://MIRROR/debian/dists/trixie/InRelease: is not signed by a key that the profile accepts
      caused by: signed by the unknown key FINGERPRINT

    hint: the accepted keys are test.asc; if the archive's owner has changed keys, add the new one to profiles/archives/ after checking it
    ");
    assert_eq!(files(&bench.cache("v1/blobs")).len(), 0);
}

#[test]
fn an_expired_index_is_refused() {
    let bench = Bench::new();
    bench.mirror.publish_expired(&[Package::new("probe", "1")]);
    insta::assert_snapshot!(refusal(&bench), @r"
    error: http://MIRROR/debian/dists/trixie/InRelease: expired on TIME (the clock here says TIME)

    hint: the mirror is stale or replays old indices: choose another `mirror` in the profile, or set this machine's clock
    ");
}

#[test]
fn an_index_other_than_the_signed_one_is_refused() {
    let bench = bench();
    let mut index = fs_err::read(bench.mirror.path(INDEX)).unwrap();
    index[40] ^= 1;
    bench.mirror.break_file(INDEX, Fault::Other(index));
    insta::assert_snapshot!(refusal(&bench), @r"
    error: reading the archive `debian`
      caused by: trixie/main/binary-amd64/Packages.xz: hash mismatch: http://MIRROR/debian/dists/trixie/main/binary-amd64/Packages.xz has sha256 SHA256, expected SHA256

    hint: the mirror or something on the way alters files: set LARDER_MIRROR_DEBIAN to another mirror, or run `larder lock` if the archive replaced the file
    ");
    assert_eq!(files(&bench.cache("v1/partial")).len(), 0);
}

#[test]
fn a_truncated_index_is_refused_and_kept_to_go_on_with() {
    let bench = bench();
    bench.mirror.break_file(INDEX, Fault::EndsAfter(50));
    insta::assert_snapshot!(refusal(&bench), @r"
    error: reading the archive `debian`
      caused by: http://MIRROR/debian/dists/trixie/main/binary-amd64/Packages.xz: the file ends after 50 of SIZE bytes

    hint: run the command again (what arrived is kept), or set LARDER_MIRROR_DEBIAN to another mirror
    ");
    assert_eq!(files(&bench.cache("v1/partial")).len(), 1);
    bench.mirror.mend();
    bench.does(&["lock"]);
    assert_eq!(files(&bench.cache("v1/partial")).len(), 0);
}

#[test]
fn a_login_page_in_place_of_the_archive_is_recognised() {
    let bench = bench();
    bench.mirror.break_file("debian/dists/trixie/InRelease", Fault::Other(b"<html>Please log in</html>".to_vec()));
    insta::assert_snapshot!(refusal(&bench), @r"
    error: http://MIRROR/debian/dists/trixie/InRelease: not a valid InRelease file: it is not one clear-signed message

    hint: something between here and the archive (a proxy, a login page) may have answered instead: open the address in a browser
    ");
}

#[test]
fn a_lock_edited_by_hand_is_refused_with_its_line() {
    let bench = bench();
    bench.does(&["lock"]);
    bench.write("profiles/nas.lock", &bench.read("profiles/nas.lock").replace("size = ", "size = -"));
    insta::assert_snapshot!(bench.refuses(&["lock", "--profile", "nas"]), @r"
    error: PROJECT/profiles/nas.lock:17: invalid value: integer `-548`, expected u64

    hint: locks are written by larder: restore the file from version control, or remove it and run `larder lock`
    ");
}
