//! `larder diff`: builds and locks compared, and what is said when there is nothing to compare.

use crate::bench::Bench;
use crate::package::Package;

/// The package `probe` with a changelog that has an entry for each version.
fn probe(versions: &[(&str, &str)]) -> Package {
    let entries = versions.iter().map(|(version, text)| {
        format!("probe ({version}) trixie-security; urgency=high\n\n  * {text}\n\n -- Jo <jo@example.org>  Sat, 21 Nov 2026 10:00:00 +0000\n\n")
    });
    let changelog: String = entries.collect();
    Package::new("probe", versions[0].0).document("changelog.Debian.gz", &changelog)
}

/// A bench with the locks `old.lock` and `new.lock`, between which `probe` was updated and `libprobe` came in.
fn bench() -> Bench {
    let bench = Bench::new();
    let first = [("1.0-1", "First.")];
    bench.mirror.publish(&[probe(&first)]);
    bench.does(&["lock", "--profile", "nas"]);
    fs_err::rename(bench.project("profiles/nas.lock"), bench.project("old.lock")).unwrap();
    let both = [("1.0-2", "Fix CVE-2026-1234, as in DSA-6001-1."), first[0]];
    bench.mirror.publish(&[probe(&both).field("Depends", "libprobe"), Package::new("libprobe", "1.0")]);
    bench.does(&["lock", "--profile", "nas"]);
    fs_err::copy(bench.project("profiles/nas.lock"), bench.project("new.lock")).unwrap();
    bench
}

fn diff(bench: &Bench, args: &[&str]) -> String {
    let (old, new) = (bench.project("old.lock"), bench.project("new.lock"));
    let args = [&["diff", old.to_str().unwrap(), new.to_str().unwrap()], args].concat();
    bench.ends(&mut bench.larder(&args), 0).stdout
}

#[test]
fn two_locks_differ_by_packages_and_the_fixes_that_their_changelogs_name() {
    let bench = bench();
    insta::assert_snapshot!(diff(&bench, &[]), @"
    PROJECT/old.lock → PROJECT/new.lock

    security fixes named in changelogs
      probe  1.0-1 → 1.0-2  (trixie-security, urgent)
          CVE-2026-1234  DSA-6001-1

    packages: 1 changed, 1 added, 0 removed
      + libprobe  1.0
      ~ probe     1.0-1 → 1.0-2
    ");
    // The changelog's package is in the store now.
    assert_eq!(diff(&bench, &["--offline"]), diff(&bench, &[]));
}

#[test]
fn without_network_and_packages_the_fixes_are_said_to_be_missing() {
    let bench = bench();
    insta::assert_snapshot!(diff(&bench, &["--offline"]), @"
    PROJECT/old.lock → PROJECT/new.lock

    changelogs that could not be read; fixes in them are missing here
      probe
          not in the cache: 2 of 2 packages, and --offline forbids to fetch them

    packages: 1 changed, 1 added, 0 removed
      + libprobe  1.0
      ~ probe     1.0-1 → 1.0-2
    ");
}

#[test]
fn json_is_for_machines() {
    let bench = bench();
    let json: serde_json::Value = serde_json::from_str(&diff(&bench, &["--json"])).unwrap();
    assert_eq!(json["schema"], 1);
    assert_eq!(json["fixes"][0]["ids"], serde_json::json!(["CVE-2026-1234", "DSA-6001-1"]));
    assert_eq!(
        json["packages"][0],
        serde_json::json!({
            "name": "libprobe",
            "old": null,
            "new": { "version": "1.0", "installed_size": null },
        })
    );
}

#[test]
fn the_same_lock_has_no_difference() {
    let bench = bench();
    let lock = bench.project("new.lock");
    let lock = lock.to_str().unwrap();
    insta::assert_snapshot!(bench.ends(&mut bench.larder(&["diff", lock, lock]), 0).stdout, @"
    PROJECT/new.lock → PROJECT/new.lock
    no difference
    ");
}

#[test]
fn a_lock_of_an_earlier_commit_is_taken_from_git() {
    let bench = bench();
    let git = |args: &[&str]| {
        let mut command = bench.in_environment("git", args);
        command.current_dir(bench.project(""));
        for role in ["AUTHOR", "COMMITTER"] {
            command.env(format!("GIT_{role}_NAME"), "Jo").env(format!("GIT_{role}_EMAIL"), "jo@example.org");
        }
        bench.ends(&mut command, 0);
    };
    fs_err::copy(bench.project("old.lock"), bench.project("profiles/nas.lock")).unwrap();
    git(&["init", "--quiet"]);
    git(&["add", "."]);
    git(&["commit", "--quiet", "--message", "old"]);
    let in_project = |args: &[&str]| {
        let mut command = bench.larder(args);
        command.current_dir(bench.project(""));
        command
    };
    let said = bench.ends(&mut in_project(&["diff", "HEAD:profiles/nas.lock", "new.lock"]), 0).stdout;
    assert!(said.starts_with("HEAD:profiles/nas.lock → new.lock\n") && said.contains("~ probe"), "{said}");
    insta::assert_snapshot!(bench.refuses_to(&mut in_project(&["diff", "HEAD~7:profiles/nas.lock", "new.lock"])), @"
    error: HEAD~7:profiles/nas.lock: git does not find it
      caused by: fatal: invalid object name 'HEAD~7'.

    hint: name an output folder, a file of a build, a lock file, or REVISION:LOCK for one in git
    ");
}

#[test]
fn what_is_no_build_is_refused() {
    let bench = Bench::new();
    let empty = bench.folder("empty");
    let empty = empty.to_str().unwrap();
    insta::assert_snapshot!(bench.refuses(&["diff", empty, empty]), @"
    error: FOLDER/empty: there is no build in this folder

    hint: name an output folder, a file of a build, a lock file, or REVISION:LOCK for one in git
    ");
    insta::assert_snapshot!(bench.refuses(&["diff", "nowhere", empty]), @"
    error: nowhere: no such file or folder

    hint: name an output folder, a file of a build, a lock file, or REVISION:LOCK for one in git
    ");
    let file = bench.folder("out").join("larder-nas-1.0.img");
    fs_err::write(&file, "image").unwrap();
    insta::assert_snapshot!(bench.refuses(&["diff", file.to_str().unwrap(), empty]), @"
    error: FOLDER/out/larder-nas-1.0.img: no manifest in its folder tells of this file

    hint: name an output folder, a file of a build, a lock file, or REVISION:LOCK for one in git
    ");
}

#[test]
fn a_manifest_of_another_schema_is_refused() {
    let bench = Bench::new();
    let out = bench.folder("out");
    fs_err::write(out.join("larder-nas-1.0.manifest.json"), "{\"schema\": 99}").unwrap();
    let out = out.to_str().unwrap();
    insta::assert_snapshot!(bench.refuses(&["diff", out, out]), @"
    error: FOLDER/out/larder-nas-1.0.manifest.json: a manifest of schema 99; this larder reads 2

    hint: build it again, or compare with the larder that made it
    ");
}

#[test]
fn of_several_builds_in_a_folder_one_must_be_named() {
    let bench = Bench::new();
    let out = bench.folder("out");
    for version in ["1.0", "1.1"] {
        fs_err::write(out.join(format!("larder-nas-{version}.manifest.json")), "{\"schema\": 99}").unwrap();
    }
    let out = out.to_str().unwrap();
    insta::assert_snapshot!(bench.refuses(&["diff", out, out]), @"
    error: FOLDER/out: there are 2 builds in this folder

    hint: name one of FOLDER/out/larder-nas-1.0.manifest.json, FOLDER/out/larder-nas-1.1.manifest.json
    ");
}
