use super::*;
use crate::report::render;
use proptest::prelude::*;

fn package(name: &str, version: &str) -> LockedPackage {
    LockedPackage {
        name: name.into(),
        version: version.into(),
        architecture: "amd64".into(),
        sha256: Hash::of(name),
        size: 7,
        source: format!("debian:pool/main/{name}.deb"),
    }
}

fn lock(packages: Vec<LockedPackage>) -> Lock {
    let date = "2026-09-12T07:55:41Z".parse().unwrap();
    let release = LockedRelease { archive: "debian".into(), suite: "trixie".into(), date, sha256: Hash::of("release") };
    Lock { snapshot: date, request: Hash::of("request"), releases: vec![release], packages }
}

fn refusal(text: &str) -> String {
    Lock::parse(text, Path::new("profiles/nas.lock")).unwrap_err().to_string()
}

#[test]
fn a_lock_is_one_readable_table_per_package() {
    insta::assert_snapshot!(lock(vec![package("mawk", "1:1.3-2~b1")]).render("larder lock --profile nas"), @r#"
    # Made by `larder lock --profile nas`; do not edit. Run it again to take in newer packages.
    version = 1
    snapshot = "2026-09-12T07:55:41Z"
    request = "1f58b9145b24d108d7ac38887338b3ea3229833b9c1e418250343f907bfd1047"

    [[release]]
    archive = "debian"
    suite = "trixie"
    date = "2026-09-12T07:55:41Z"
    sha256 = "a4d451ec23463726f72c43d64c710968f6b602cd653b4de8adee1b556240a829"

    [[package]]
    name = "mawk"
    version = "1:1.3-2~b1"
    architecture = "amd64"
    sha256 = "aa27083a2f5806b0b92f0892b7f2746b33efc17d1cdf3fda4eb176c93bfe926e"
    size = 7
    source = "debian:pool/main/mawk.deb"
    "#);
}

#[test]
fn a_broken_lock_is_named_with_file_and_line() {
    let good = lock(vec![package("a", "1"), package("b", "1")]).render("larder lock");
    insta::assert_snapshot!(refusal(&good.replace("version = 1\n", "version = 2\n")), @"profiles/nas.lock:2: schema 2 is not known to this larder, which reads schema 1");
    insta::assert_snapshot!(refusal(&good.replace("size = 7", "size = 7\nsuite = 1")), @"profiles/nas.lock:18: unknown field `suite`, expected one of `name`, `version`, `architecture`, `sha256`, `size`, `source`");
    insta::assert_snapshot!(refusal(&good.replace("\"b\"", "\"a\"")), @"profiles/nas.lock:20: the package `a` (amd64) is there twice");
    insta::assert_snapshot!(refusal(&good.replace("\"b\"", "\"0\"")), @"profiles/nas.lock:20: the package `0` (amd64) is out of order");
    insta::assert_snapshot!(refusal(&good.replace("debian:pool/main/b", "debian:../b")), @"profiles/nas.lock:20: `debian:../b.deb` is not a valid source (ARCHIVE:PATH)");
    insta::assert_snapshot!(refusal(&good.replace("\"2026-09-12T07:55:41Z\"", "\"yesterday\"")), @"profiles/nas.lock:9: `yesterday` is no RFC 3339 time");
    insta::assert_snapshot!(refusal("<<<<<<< HEAD\n"), @"profiles/nas.lock:1: key with no value, expected `=`");
}

#[test]
fn a_diff_says_what_comes_goes_and_changes() {
    let old = lock(vec![package("a", "1"), package("b", "1"), package("c", "1")]);
    let mut rebuilt = package("c", "1");
    rebuilt.sha256 = Hash::of("other");
    let new = lock(vec![package("b", "2"), rebuilt, package("d", "1")]);
    insta::assert_snapshot!(Lock::diff(&old, &new), @r"
    - a 1
    b 1 → 2
    c 1 (sha256 2e7d2c03a950) → 1 (sha256 d9298a10d1b0)
    + d 1
    ");
    assert!(Lock::diff(&old, &old).is_empty());
}

#[test]
fn a_lock_is_written_whole_and_read_back() {
    let folder = tempfile::TempDir::new().unwrap();
    let path = path(folder.path(), "nas");
    assert!(Lock::read(&path).unwrap().is_none());
    let lock = lock(vec![package("a", "1")]);
    lock.write(&path, "larder lock").unwrap();
    assert_eq!(Lock::read(&path).unwrap().unwrap(), lock);
    assert_eq!(fs_err::read_dir(folder.path()).unwrap().count(), 1, "no temporary file stays");
    let error = lock.write(&folder.path().join("missing/nas.lock"), "larder lock").unwrap_err();
    assert!(render(&error).contains("missing/nas.lock"));
}

#[test]
fn a_lock_answers_its_own_request_only() {
    let mut request = PackageRequest {
        include: ["a".to_owned()].into(),
        forbid: [].into(),
        provided: [].into(),
        pins: [].into(),
        essential: true,
        architectures: vec!["amd64".into()],
        archives: Vec::new(),
    };
    let lock = Lock { request: request_hash(&request).unwrap(), ..lock(Vec::new()) };
    assert!(lock.matches(&request).unwrap());
    request.include.insert("b".to_owned());
    assert!(!lock.matches(&request).unwrap());
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(
        packages in prop::collection::btree_map("[a-z][a-z0-9+.-]{1,6}", ("([1-9]:)?[0-9][0-9a-z.+~]{0,6}(-[0-9])?", any::<u32>(), "\\PC{0,8}"), 0..6),
        suite in any::<String>(),
        seconds in 0..4_000_000_000_i64,
    ) {
        let locked = |(name, (version, size, path)): (String, (String, u32, String))| {
            LockedPackage { size: size.into(), source: format!("debian:pool/{}", path.replace("..", "")), ..package(&name, &version) }
        };
        let mut lock = lock(packages.into_iter().map(locked).collect());
        lock.releases[0].suite = suite;
        lock.snapshot = Timestamp::from_second(seconds).unwrap();
        prop_assert_eq!(Lock::parse(&lock.render("larder lock"), Path::new("x")).unwrap(), lock);
    }

    #[test]
    fn any_text_is_read_or_refused_and_never_panics(text in any::<String>()) {
        let _ = Lock::parse(&text, Path::new("x"));
    }
}
