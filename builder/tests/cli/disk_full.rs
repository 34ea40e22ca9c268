//! Disks that are too small or cannot be written: tmpfs and bind mounts in a mount namespace of util-linux's making.

use std::collections::BTreeSet;
use std::process::Command;

use crate::bench::{Bench, Said, files};
use crate::miniature::BUILD;
use crate::package::{Package, noise};
use crate::program::probe;

/// The rest of a script: runs larder, then prints what is left that should not be, and all blobs with their digests.
const RUN: &str = r#"
"$@"
status=$?
[ -d "$LARDER_CACHE_DIR/v1" ] && cd "$LARDER_CACHE_DIR/v1" || exit $status
find tmp partial -mindepth 1
for key in *-v1/*.digest; do [ ! -e "$key" ] || [ -d "${key%.digest}" ] || echo "$key"; done
find blobs -type f -exec sha256sum {} +
exit $status
"#;

/// `$seed` is for the cache, as its disk is new.
const SMALL_CACHE: &str = r#"
mount -t tmpfs -o "size=$size" larder-test "$LARDER_CACHE_DIR" || exit 99
mkdir "$LARDER_CACHE_DIR/v1"
[ -z "$seed" ] || cp -r "$seed" "$LARDER_CACHE_DIR/v1" || exit 99
"#;

impl Bench {
    /// A run of larder in a mount namespace that `script` prepares.
    fn on_disk(&self, script: &str, variables: &[(&str, &str)], args: &[&str]) -> Command {
        fs_err::create_dir_all(self.cache("")).unwrap();
        let larder = self.larder(args);
        // Root needs no user namespace for a mount, and larder itself maps ids that only it may.
        let flags = if nix::unistd::geteuid().is_root() { vec!["-m"] } else { vec!["-m", "-r", "--map-auto"] };
        let mut command = self.in_environment("unshare", &flags);
        command.envs(variables.iter().copied());
        command.args(["sh", "-c", &(script.to_owned() + RUN), "sh"]).arg(larder.get_program()).args(larder.get_args());
        command
    }
}

/// larder has left nothing half-written behind.
fn is_clean(said: &Said) {
    for line in said.stdout.lines() {
        let is_whole = line.split_once("  ").is_some_and(|(digest, path)| path.ends_with(digest));
        assert!(is_whole, "left behind: {line}\n{}", said.stderr);
    }
}

/// Runs larder where it must refuse; its complaint.
fn refuses(bench: &Bench, script: &str, variables: &[(&str, &str)], args: &[&str]) -> String {
    let said = bench.ends(&mut bench.on_disk(script, variables, args), 1);
    is_clean(&said);
    said.stderr
}

#[test]
fn an_index_that_does_not_fit_is_blamed_on_the_disk() {
    let bench = Bench::new();
    let description = hex::encode(noise(300_000));
    bench.mirror.publish(&[Package::new("probe", "1").field("Description", &description)]);
    insta::assert_snapshot!(refuses(&bench, SMALL_CACHE, &[("size", "128k")], &["lock"]), @r"
    error: reading the archive `debian`
      caused by: writing CACHE/v1/partial/SHA256
      caused by: No space left on device (os error 28)

    hint: the disk is full: free some room (`larder cache size`, `larder cache prune`) or set LARDER_CACHE_DIR to another disk; all that one profile needs takes about 4 GB there
    ");
    assert_eq!(bench.locks(), [""; 0]);
}

#[test]
fn packages_that_do_not_fit_are_not_even_begun() {
    let bench = Bench::new();
    let package = probe("1").program("noise", &noise(4 << 20));
    bench.mirror.publish(std::slice::from_ref(&package));
    bench.does(&["lock"]);
    let args = ["tools", "run", "kit", "--", "probe", "exit", "0"];
    insta::assert_snapshot!(refuses(&bench, SMALL_CACHE, &[("size", "2m")], &args), @r"
error: CACHE/v1: 4.21 MiB are to be fetched, the disk has room for 2.00 MiB

hint: the disk is full: free some room (`larder cache size`, `larder cache prune`) or set LARDER_CACHE_DIR to another disk; all that one profile needs takes about 4 GB there
");
    assert_eq!(bench.mirror.requests(&format!("debian/{}", package.path())), 0);
}

#[test]
fn a_package_that_does_not_fit_unpacked_is_blamed_on_the_disk() {
    let bench = Bench::new();
    bench.mirror.publish(&[probe("1").program("zeros", &vec![0; 16 << 20])]);
    let args = ["tools", "run", "kit", "--", "probe", "exit", "0"];
    insta::assert_snapshot!(refuses(&bench, SMALL_CACHE, &[("size", "4m")], &args), @r"
    profiles/tools/kit.lock does not exist: resolving anew
    error: composing the tools tree `kit`
      caused by: unpacking probe 1
      caused by: unpacking CACHE/v1/blobs/XX/SHA256
      caused by: in data.tar.xz
      caused by: unpacking `./usr/bin/zeros`
      caused by: failed to write to file `CACHE/v1/tmp/unpacked-v1-RANDOM/data/usr/bin/zeros`: No space left on device (os error 28)

    hint: the disk is full: free some room (`larder cache size`, `larder cache prune`) or set LARDER_CACHE_DIR to another disk; all that one profile needs takes about 4 GB there
    ");
}

/// Disks that grow by and by: each is full at a later moment of the same build.
#[test]
fn a_disk_that_is_full_at_any_stage_of_a_build_is_blamed_and_nothing_is_half_written() {
    let bench = Bench::miniature();
    let seed = bench.firstboot();
    let mut places = BTreeSet::new();
    // The first ones hold little more than the seed.
    let bytes = files(&seed).iter().map(|path| fs_err::metadata(path).unwrap().len()).sum::<u64>();
    for step in bytes.div_ceil(128 << 10) + 2.. {
        let size = format!("{}k", 128 * step);
        let mut build = bench.on_disk(SMALL_CACHE, &[("size", &size), ("seed", seed.to_str().unwrap())], &BUILD);
        let said = Said::from(build.output().unwrap());
        if said.status.success() {
            break;
        }
        is_clean(&said);
        assert_eq!(said.status.code(), Some(1), "with {size}:\n{}", said.stderr);
        assert!(said.stderr.contains("hint: the disk is full: free some room"), "with {size}:\n{}", said.stderr);
        assert_eq!(bench.outputs("out"), []);
        // `…/v1/tmp/images-v1-RANDOM/root.erofs` is what is being made for the bucket of that name.
        let complaint = said.stderr.split_once("error: ").unwrap().1.split_once("\n\nhint: ").unwrap().0;
        let place = complaint.split_once("/v1/").map_or(complaint, |(_, path)| path.trim_start_matches("tmp/"));
        places.insert(place.split(['-', '/', '\n']).next().unwrap().to_owned());
    }
    println!("full while writing: {places:?}");
    assert!(places.len() > 3, "{places:?}");
    bench.is_whole("out");
}

#[test]
fn an_output_folder_without_room_is_named_and_nothing_is_half_written() {
    let bench = Bench::miniature();
    bench.does(&BUILD);
    let whole = bench.outputs("out");
    let out = bench.folder("small");
    let script = r#"
        mount -t tmpfs -o "size=$size" larder-test "$out" || exit 99
        "$@" --out "$out"
        status=$?
        find "$out" -mindepth 1
        exit $status
    "#;
    for size in ["64k", "600k", "2m"] {
        let variables = [("size", size), ("out", out.to_str().unwrap())];
        let complaint = refuses(&bench, script, &variables, &BUILD[..5]);
        assert!(complaint.starts_with(&format!("error: {}: the disk is full\n", out.display())), "{complaint}");
        let hint = complaint.split_once("\n\nhint: ").unwrap().1;
        assert!(hint.starts_with("the output takes up to "), "{hint}");
        assert!(hint.ends_with(": --out DIR\n") && !hint.contains("LARDER_CACHE_DIR"), "{hint}");
    }
    assert_eq!(bench.outputs("out"), whole);
}

/// `$place` cannot be written.
const READ_ONLY: &str = r#"mount --bind "$place" "$place" && mount -o remount,bind,ro "$place" || exit 99"#;

#[test]
fn folders_that_cannot_be_written_are_named() {
    let bench = Bench::miniature();
    bench.does(&BUILD);
    for (place, args) in [("cache", &BUILD[..]), ("out", &BUILD[..]), ("project", &["lock"][..])] {
        if place == "project" {
            fs_err::remove_file(bench.project("profiles/nas.lock")).unwrap();
        }
        if place == "out" {
            fs_err::remove_file(bench.folder("out").join("larder-nas-1.img")).unwrap();
        }
        let folder = bench.folder(place);
        let complaint = refuses(&bench, READ_ONLY, &[("place", folder.to_str().unwrap())], args);
        insta::assert_snapshot!(format!("read-only {place}"), complaint);
    }
}

#[test]
fn a_lock_that_does_not_fit_is_not_half_written() {
    let bench = Bench::miniature();
    fs_err::remove_file(bench.project("profiles/nas.lock")).unwrap();
    let script = r#"
        cp -r "$project" "$copy"
        mount -t tmpfs -o size=1m larder-test "$project" || exit 99
        cp -r "$copy"/. "$project"
        cat /dev/zero > "$project/filler" 2> /dev/null
        "$@"
        status=$?
        find "$project" -name "*.lock*" -size 0 -o -name ".*" -type f
        exit $status
    "#;
    let (project, copy) = (bench.project(""), bench.folder("elsewhere").join("copy"));
    let variables = [("project", project.to_str().unwrap()), ("copy", copy.to_str().unwrap())];
    insta::assert_snapshot!(refuses(&bench, script, &variables, &["lock"]), @r"
    error: PROJECT/profiles/nas.lock: the disk is full
      caused by: writing PROJECT/profiles/nas.lock
      caused by: No space left on device (os error 28)

    hint: make room there, or let the folder be written
    ");
}
