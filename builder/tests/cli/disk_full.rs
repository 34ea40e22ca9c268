//! A cache on a disk that is too small: a tmpfs in a mount namespace of util-linux's making.

use crate::bench::Bench;
use crate::package::{Package, noise};
use crate::program::probe;

/// Mounts a disk of `$1` bytes as the cache and runs the rest there; then prints what is left that
/// should not be, and all blobs with their digests.
const SCRIPT: &str = r#"
mount -t tmpfs -o "size=$1" larder-test "$LARDER_CACHE_DIR" || exit 99
shift
"$@"
status=$?
cd "$LARDER_CACHE_DIR/v1" || exit 98
find tmp partial -mindepth 1
find . -mindepth 2 -path './*-v1/*' ! -path './indices-v1/*' ! -path './releases-v1/*' ! -size 0 -prune
find blobs -type f -exec sha256sum {} +
exit $status
"#;

/// Runs larder with a cache of this size, where it must refuse and leave nothing half-written behind;
/// its complaint.
fn refuses_with_disk(bench: &Bench, size: &str, args: &[&str]) -> String {
    fs_err::create_dir_all(bench.cache("")).unwrap();
    let larder = bench.larder(args);
    // Root needs no user namespace for a mount, and larder itself maps ids that only it may.
    let flags = if nix::unistd::geteuid().is_root() { vec!["-m"] } else { vec!["-m", "-r", "--map-auto"] };
    let mut command = bench.in_environment("unshare", &flags);
    command.args(["sh", "-c", SCRIPT, "sh", size]).arg(larder.get_program()).args(larder.get_args());
    let said = bench.ends(&mut command, 1);
    for line in said.stdout.lines() {
        let is_whole = line.split_once("  ").is_some_and(|(digest, path)| path.ends_with(digest));
        assert!(is_whole, "left behind: {line}");
    }
    said.stderr
}

#[test]
fn an_index_that_does_not_fit_is_blamed_on_the_disk() {
    let bench = Bench::new();
    let description = hex::encode(noise(300_000));
    bench.mirror.publish(&[Package::new("probe", "1").field("Description", &description)]);
    insta::assert_snapshot!(refuses_with_disk(&bench, "128k", &["lock"]), @r"
    error: reading the archive `debian`
      caused by: writing CACHE/v1/partial/SHA256
      caused by: No space left on device (os error 28)

    hint: the disk is full: free some room (`larder cache size`, `larder cache prune`) or set LARDER_CACHE_DIR to another disk
    ");
    assert_eq!(bench.locks(), [""; 0]);
}

#[test]
fn a_package_that_does_not_fit_is_blamed_on_the_disk() {
    let bench = Bench::new();
    bench.mirror.publish(&[probe("1").program("noise", &noise(4 << 20))]);
    bench.does(&["lock"]);
    let args = ["tools", "run", "kit", "--", "probe", "exit", "0"];
    insta::assert_snapshot!(refuses_with_disk(&bench, "2m", &args), @r"
    error: writing CACHE/v1/partial/SHA256
      caused by: No space left on device (os error 28)

    hint: the disk is full: free some room (`larder cache size`, `larder cache prune`) or set LARDER_CACHE_DIR to another disk
    ");
}

#[test]
fn a_package_that_does_not_fit_unpacked_is_blamed_on_the_disk() {
    let bench = Bench::new();
    bench.mirror.publish(&[probe("1").program("zeros", &vec![0; 16 << 20])]);
    let args = ["tools", "run", "kit", "--", "probe", "exit", "0"];
    insta::assert_snapshot!(refuses_with_disk(&bench, "4m", &args), @r"
    profiles/tools/kit.lock does not exist: resolving anew
    error: composing the tools tree `kit`
      caused by: unpacking probe 1
      caused by: unpacking CACHE/v1/blobs/XX/SHA256
      caused by: in data.tar.xz
      caused by: unpacking `./usr/bin/zeros`
      caused by: failed to write to file `CACHE/v1/tmp/unpacked-v1-RANDOM/data/usr/bin/zeros`: No space left on device (os error 28)

    hint: the disk is full: free some room (`larder cache size`, `larder cache prune`) or set LARDER_CACHE_DIR to another disk
    ");
}
