//! Several larders at once share one cache and one output folder.

use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::bench::{Bench, Said, files};
use crate::miniature::BUILD;
use crate::mirror::Fault;
use crate::package::noise;
use crate::program::probe;

fn start(bench: &Bench, args: &[&str]) -> Child {
    bench.larder(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Waits for its end, which must be success.
fn end(child: Child) -> Said {
    let said = Said::from(child.wait_with_output().unwrap());
    assert!(said.status.success(), "{}{}", said.stdout, said.stderr);
    said
}

fn build(profile: &'static str, out: &'static str) -> Vec<&'static str> {
    let mut args = BUILD.to_vec();
    (args[2], args[6]) = (profile, out);
    args
}

/// What one build alone makes.
fn alone(bench: &Bench, profile: &'static str) -> Vec<(String, String)> {
    bench.does(&build(profile, "alone"));
    let outputs = bench.outputs("alone");
    fs_err::remove_dir_all(bench.folder("alone")).unwrap();
    bench.ends(&mut bench.larder(&["cache", "clean"]), 0);
    bench.seed_firstboot();
    outputs
}

#[test]
fn two_builds_of_one_profile_from_a_cold_cache_give_the_same_and_fetch_once() {
    let bench = Bench::miniature();
    let expected = alone(&bench, "nas");
    let before = bench.mirror.requests("debian/pool/more-2_1_amd64.deb");
    let both = ["one", "two"].map(|out| start(&bench, &build("nas", out)));
    both.into_iter().for_each(|build| drop(end(build)));
    for out in ["one", "two"] {
        assert_eq!(bench.outputs(out), expected);
    }
    assert_eq!(bench.mirror.requests("debian/pool/more-2_1_amd64.deb"), before + 1);
    bench.has_nothing_half_written();
}

#[test]
fn builds_into_one_output_folder_take_turns() {
    let bench = Bench::miniature();
    let expected = ["nas", "nas2"].map(|profile| alone(&bench, profile));
    for _ in 0..3 {
        let all = ["nas", "nas2", "nas", "nas2"].map(|profile| start(&bench, &build(profile, "out")));
        all.into_iter().for_each(|build| drop(end(build)));
        bench.is_whole("out");
        let outputs = bench.outputs("out");
        // Names of their own are those of a build alone; manifest and checksums are those of whoever came last.
        for wanted in expected.iter().flatten().filter(|(name, _)| name.starts_with("larder-")) {
            assert!(outputs.contains(wanted), "{wanted:?} is not in {outputs:?}");
        }
        let shared = |outputs: &[(String, String)]| {
            let shared = outputs.iter().filter(|(name, _)| !name.starts_with("larder-")).cloned();
            shared.collect::<Vec<_>>()
        };
        assert!(expected.iter().any(|one| shared(one) == shared(&outputs)), "{outputs:?}");
    }
}

#[test]
fn a_cache_that_a_build_uses_is_neither_pruned_cleaned_nor_verified() {
    let bench = Bench::new();
    let package = probe("1.0").program("noise", &noise(1 << 20));
    bench.mirror.publish(std::slice::from_ref(&package));
    bench.does(&["lock"]);
    bench.mirror.break_file(&format!("debian/{}", package.path()), Fault::StallsAfter(600_000));
    let mut larder = start(&bench, &["tools", "run", "kit", "--", "probe", "exit", "0"]);
    wait_for(|| !files(&bench.cache("v1/partial")).is_empty());
    for verb in ["prune", "clean", "verify"] {
        insta::allow_duplicates! {
            let complaint = bench.ends(&mut bench.larder(&["cache", verb]), 1).stderr;
            insta::assert_snapshot!(complaint, @r"
            error: CACHE: in use by another larder

            hint: wait until it is done, then run the command again
            ");
        }
    }
    larder.kill().unwrap();
    larder.wait().unwrap();
    bench.ends(&mut bench.larder(&["cache", "clean"]), 0);
}

#[test]
fn who_waits_for_another_larder_says_for_what() {
    let bench = Bench::new();
    bench.mirror.publish(&[probe("1.0")]);
    let run = ["tools", "run", "kit", "--", "probe", "exit", "0"];
    bench.does(&run);

    let lock = fs_err::File::open(bench.cache("v1/.lock")).unwrap();
    lock.file().lock().unwrap();
    let larder = start(&bench, &run);
    sleep(Duration::from_secs(2));
    drop(lock);
    insta::assert_snapshot!(end(larder).stderr, @"waiting for another larder, which prunes, cleans or verifies CACHE");

    let mut states = files(&bench.cache("v1/trees-v1"));
    states.retain(|path| path.extension().is_some_and(|extension| extension == "state"));
    fs_err::remove_dir_all(states[0].with_extension("")).unwrap();
    let state = fs_err::File::open(&states[0]).unwrap();
    state.file().lock().unwrap();
    let larder = start(&bench, &run);
    sleep(Duration::from_secs(2));
    drop(state);
    insta::assert_snapshot!(end(larder).stderr, @"waiting for another larder, which makes the same thing (trees-v1)");
}

fn wait_for(condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(60), "waited in vain");
        sleep(Duration::from_millis(20));
    }
}
