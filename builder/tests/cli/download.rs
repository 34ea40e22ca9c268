//! Fetching what a lock names: damage, interruption, and locks that the mirror has left behind.

use std::time::{Duration, Instant};

use crate::bench::{Bench, files};
use crate::mirror::Fault;
use crate::package::{Package, noise};
use crate::program::probe;

const RUN: [&str; 6] = ["tools", "run", "kit", "--", "probe", "exit"];

/// `larder tools run kit -- probe exit 0`, with options.
fn run<'a>(options: &[&'a str]) -> Vec<&'a str> {
    [&RUN[..3], options, &RUN[3..], &["0"]].concat()
}

/// A bench with a lock, and the path of its only .deb on the server.
fn locked(package: &Package) -> (Bench, String) {
    let bench = Bench::new();
    bench.mirror.publish(std::slice::from_ref(package));
    bench.does(&["lock"]);
    (bench, format!("debian/{}", package.path()))
}

/// A package that takes more than one read, so that it can be half here.
fn large_probe() -> Package {
    probe("1.0").program("noise", &noise(1 << 20))
}

#[test]
fn a_truncated_deb_is_refused_and_kept_to_go_on_with() {
    let (bench, deb) = locked(&probe("1.0"));
    bench.mirror.break_file(&deb, Fault::EndsAfter(1000));
    insta::assert_snapshot!(bench.refuses(&run(&[])), @r"
    error: http://MIRROR/debian/pool/probe_1.0_amd64.deb: the file ends after 1000 of SIZE bytes

    hint: run the command again (what arrived is kept), or set LARDER_MIRROR_DEBIAN to another mirror
    ");
    assert_eq!(files(&bench.cache("v1/partial")).len(), 1);
    bench.mirror.mend();
    insta::assert_snapshot!(bench.does(&run(&[])), @"");
}

#[test]
fn a_deb_that_is_short_on_the_mirror_is_refused() {
    let package = probe("1.0");
    let (bench, deb) = locked(&package);
    bench.mirror.break_file(&deb, Fault::Other(package.deb()[..1000].to_vec()));
    insta::assert_snapshot!(bench.refuses(&run(&[])), @r"
    error: http://MIRROR/debian/pool/probe_1.0_amd64.deb: the file ends after 1000 of SIZE bytes

    hint: run the command again (what arrived is kept), or set LARDER_MIRROR_DEBIAN to another mirror
    ");
}

#[test]
fn a_deb_of_other_bytes_is_refused_and_thrown_away() {
    let package = probe("1.0");
    let (bench, deb) = locked(&package);
    let mut bytes = package.deb();
    *bytes.last_mut().unwrap() ^= 1;
    bench.mirror.break_file(&deb, Fault::Other(bytes));
    insta::assert_snapshot!(bench.refuses(&run(&[])), @r"
    error: probe 1.0: hash mismatch: http://MIRROR/debian/pool/probe_1.0_amd64.deb has sha256 SHA256, expected SHA256

    hint: the mirror or something on the way alters files: set LARDER_MIRROR_DEBIAN to another mirror, or run `larder lock` if the archive replaced the file
    ");
    assert_eq!(files(&bench.cache("v1/partial")).len(), 0);
}

#[test]
fn an_interrupted_download_goes_on_where_it_stopped() {
    let package = large_probe();
    let (bench, deb) = locked(&package);
    let (half, whole) = (600_000, package.deb().len());
    bench.mirror.break_file(&deb, Fault::StallsAfter(half));
    let mut larder = bench.larder(&run(&[])).spawn().unwrap();
    wait_for(|| partial_length(&bench) == half as u64);
    larder.kill().unwrap();
    larder.wait().unwrap();
    assert_eq!(bench.mirror.sent(&deb), half);

    bench.mirror.mend();
    bench.does(&run(&[]));
    assert_eq!(bench.mirror.sent(&deb), whole);
    assert_eq!(files(&bench.cache("v1/partial")).len(), 0);
}

fn partial_length(bench: &Bench) -> u64 {
    let lengths =
        files(&bench.cache("v1/partial")).into_iter().map(|path| fs_err::metadata(path).map_or(0, |m| m.len()));
    lengths.sum()
}

fn wait_for(condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(15), "waited in vain");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn what_the_cache_has_is_not_fetched_again() {
    let package = probe("1.0");
    let (bench, deb) = locked(&package);
    bench.does(&run(&[]));
    bench.does(&run(&["--offline"]));
    assert_eq!(bench.mirror.sent(&deb), package.deb().len());
}

#[test]
fn a_missing_lock_is_made() {
    let bench = Bench::new();
    bench.mirror.publish(&[probe("1.0")]);
    insta::assert_snapshot!(bench.does(&run(&[])), @"profiles/tools/kit.lock does not exist: resolving anew");
    assert_eq!(bench.locks(), ["kit.lock"]);
}

#[test]
fn a_lock_whose_files_are_gone_is_made_anew_and_the_run_goes_on() {
    let (bench, _) = locked(&probe("1.0"));
    bench.mirror.publish(&[probe("1.1").field("Depends", "libprobe"), Package::new("libprobe", "1")]);
    insta::assert_snapshot!(bench.does(&run(&[])), @r"
    profiles/tools/kit.lock names files that are gone (probe 1.0): resolving anew
    + libprobe 1
    probe 1.0 → 1.1
    ");
    assert!(bench.read("profiles/tools/kit.lock").contains("\"1.1\""));
    insta::assert_snapshot!(bench.does(&run(&["--locked"])), @"");
}

#[test]
fn a_mirror_that_lacks_what_it_lists_is_refused() {
    let package = probe("1.0");
    let (bench, deb) = locked(&package);
    fs_err::remove_file(bench.mirror.path(&deb)).unwrap();
    insta::assert_snapshot!(bench.refuses(&run(&[])), @r"
    profiles/tools/kit.lock names files that are gone (probe 1.0): resolving anew
    error: the mirror lists packages that it does not have: probe 1.0

    hint: the mirror may be in the middle of an update: try again in some minutes, or set another one (LARDER_MIRROR_NAME)
    ");
}

#[test]
fn a_stale_lock_is_not_made_anew_when_it_must_be_used_as_it_is() {
    let (bench, _) = locked(&probe("1.0"));
    let before = bench.read("profiles/tools/kit.lock");
    bench.mirror.publish(&[probe("1.1")]);
    insta::assert_snapshot!(bench.refuses(&run(&["--locked"])), @r"
    error: profiles/tools/kit.lock names files that are gone (probe 1.0), and --locked forbids to make it anew

    hint: run `larder lock --tools kit`
    ");
    bench.write("profiles/tools/kit.toml", "schema = 1\ndescription = \"\"\npackages = [\"libprobe\", \"probe\"]\n");
    insta::assert_snapshot!(bench.refuses(&run(&["--locked"])), @r"
    error: profiles/tools/kit.lock is not for what the profile asks now, and --locked forbids to make it anew

    hint: run `larder lock --tools kit`
    ");
    insta::assert_snapshot!(bench.refuses(&run(&["--offline"])), @r"
    error: profiles/tools/kit.lock is not for what the profile asks now, and --offline forbids to make it anew

    hint: run `larder lock --tools kit`
    ");
    assert_eq!(bench.read("profiles/tools/kit.lock"), before);
    fs_err::remove_file(bench.project("profiles/tools/kit.lock")).unwrap();
    insta::assert_snapshot!(bench.refuses(&run(&["--locked"])), @r"
    error: profiles/tools/kit.lock does not exist, and --locked forbids to make it anew

    hint: run `larder lock --tools kit`
    ");
}

#[test]
fn a_build_with_a_stale_lock_names_the_command_to_run() {
    let bench = Bench::new();
    bench.mirror.publish(&[probe("1.0"), Package::new("libprobe", "1")]);
    for tree in ["image", "zfs"] {
        bench.write(&format!("profiles/tools/{tree}.toml"), &bench.read("profiles/tools/kit.toml"));
    }
    bench.does(&["lock"]);
    let wants_more = bench.read("profiles/nas.toml").replace("[\"probe\"]", "[\"probe\", \"libprobe\"]");
    bench.write("profiles/nas.toml", &wants_more);
    insta::assert_snapshot!(bench.refuses(&["build", "--profile", "nas", "--locked"]), @r"
    error: profiles/nas.lock is not for what the profile asks now, and --locked forbids to make it anew

    hint: run `larder lock --profile nas`
    ");
    insta::assert_snapshot!(bench.refuses(&["build", "--profile", "nas", "--offline"]), @r"
    error: profiles/nas.lock is not for what the profile asks now, and --offline forbids to make it anew

    hint: run `larder lock --profile nas`
    ");
}

#[test]
fn without_a_network_missing_packages_are_not_fetched() {
    let (bench, deb) = locked(&probe("1.0"));
    insta::assert_snapshot!(bench.refuses(&run(&["--offline"])), @r"
    error: not in the cache: 1 of 1 packages, and --offline forbids to fetch them

    hint: run the same command once without --offline
    ");
    assert_eq!(bench.mirror.requests(&deb), 0);
}

#[test]
fn a_file_that_is_no_package_is_refused() {
    let bench = Bench::new();
    bench.mirror.publish(&[Package::new("probe", "1").raw(b"!<arch>\nnot a package")]);
    insta::assert_snapshot!(bench.refuses(&run(&[])), @r"
    profiles/tools/kit.lock does not exist: resolving anew
    error: composing the tools tree `kit`
      caused by: unpacking probe 1
      caused by: CACHE/v1/blobs/XX/SHA256: not a usable Debian package
      caused by: damaged at byte 8: the file ends within a member's header, or has something after its end

    hint: its bytes are those that the signed index names, so the package itself is bad: run `larder lock` for a newer version, or leave it out (`packages.forbid`)
    ");
}
