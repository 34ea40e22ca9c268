//! Each test is a universe of a few stanzas in short hand: `name version; Field: value; …`.

use super::*;
use crate::archive::Suite;
use crate::hash::Hash;
use crate::report::render;

fn suite(name: &str, priority: i32) -> Suite {
    Suite {
        archive: "debian".into(),
        name: name.into(),
        date: "2026-09-12T07:55:41Z".parse().unwrap(),
        sha256: Hash::of(name),
        priority,
    }
}

fn stanza(line: &str) -> String {
    let mut parts = line.split(';').map(str::trim);
    let (name, version) = parts.next().unwrap().split_once(' ').unwrap();
    let fields: Vec<&str> = parts.collect();
    let architecture =
        if fields.iter().any(|field| field.starts_with("Architecture:")) { "" } else { "Architecture: amd64\n" };
    let hash = Hash::of(line);
    format!(
        "Package: {name}\nVersion: {version}\n{architecture}Filename: pool/{name}\nSize: 1\nSHA256: {hash}\n{}\n\n",
        fields.join("\n")
    )
}

fn texts(lines: &[&str]) -> String {
    lines.iter().map(|line| stanza(line)).collect()
}

pub(super) fn universe(lines: &[&str]) -> Universe {
    Universe::of_texts(vec![(suite("trixie", 500), texts(lines))]).unwrap()
}

fn with_backports(lines: &[&str], backports: &[&str]) -> Universe {
    Universe::of_texts(vec![(suite("trixie", 500), texts(lines)), (suite("trixie-backports", 100), texts(backports))])
        .unwrap()
}

pub(super) fn request(include: &[&str]) -> PackageRequest {
    PackageRequest {
        include: include.iter().map(ToString::to_string).collect(),
        forbid: [].into(),
        provided: [].into(),
        pins: [].into(),
        essential: false,
        architectures: vec!["amd64".into(), "i386".into()],
        archives: Vec::new(),
    }
}

/// `name version` of all chosen packages, in one line.
fn chosen(request: &PackageRequest, universe: &Universe) -> String {
    let solution = solve(request, universe).unwrap_or_else(|error| panic!("{}", render(&error)));
    let show = |id: &PackageId| {
        let package = universe.package(*id);
        let foreign = if package.architecture() == "i386" { ":i386" } else { "" };
        format!("{}{foreign} {}", package.name(), package.version())
    };
    solution.iter().map(show).collect::<Vec<_>>().join(", ")
}

fn solved(include: &[&str], lines: &[&str]) -> String {
    chosen(&request(include), &universe(lines))
}

fn refusal(include: &[&str], lines: &[&str]) -> String {
    render(&solve(&request(include), &universe(lines)).unwrap_err())
}

#[test]
fn dependencies_are_followed_and_recommends_are_not() {
    assert_eq!(
        solved(&["a"], &["a 1; Depends: b; Pre-Depends: c; Recommends: d", "b 1", "c 1", "d 1"]),
        "a 1, b 1, c 1"
    );
}

#[test]
fn the_highest_version_is_taken() {
    assert_eq!(solved(&["a"], &["a 1.9", "a 1.10", "a 1.10~rc1"]), "a 1.10");
}

#[test]
fn an_older_version_is_taken_where_the_newest_cannot_be() {
    assert_eq!(solved(&["a"], &["a 1; Depends: b (<< 2)", "b 1", "b 2"]), "a 1, b 1");
}

#[test]
fn the_first_alternative_is_preferred() {
    assert_eq!(solved(&["a"], &["a 1; Depends: z | b", "b 1", "z 1"]), "a 1, z 1");
    assert_eq!(solved(&["a"], &["a 1; Depends: gone | b", "b 1"]), "a 1, b 1");
}

#[test]
fn an_alternative_that_comes_anyway_is_enough() {
    assert_eq!(solved(&["a", "b"], &["a 1; Depends: z | b", "b 1", "z 1"]), "a 1, b 1");
}

#[test]
fn an_alternative_is_not_needed_where_another_comes_later() {
    let lines = ["a 1; Depends: cron | sysv, b", "b 1; Depends: c", "c 1; Depends: sysv", "cron 1", "sysv 1"];
    assert_eq!(solved(&["a"], &lines), "a 1, b 1, c 1, sysv 1");
    let lines = ["a 1; Depends: v, b", "b 1; Depends: q", "p 1; Provides: v", "q 1; Provides: v"];
    assert_eq!(solved(&["a"], &lines), "a 1, b 1, q 1");
    let lines = ["a 1; Depends: v, b | c", "b 1; Depends: q", "c 1", "v 1", "q 1; Provides: v"];
    assert_eq!(solved(&["a"], &lines), "a 1, b 1, q 1, v 1");
}

#[test]
fn the_first_alternative_gives_way_where_it_cannot_be() {
    let lines = ["a 1; Depends: b | c, d", "b 1; Depends: e", "c 1", "d 1; Conflicts: e", "e 1"];
    assert_eq!(solved(&["a"], &lines), "a 1, c 1, d 1");
    let lines = ["a 1; Depends: b | c, d", "b 1; Conflicts: d", "c 1", "d 1"];
    assert_eq!(solved(&["a"], &lines), "a 1, c 1, d 1");
}

#[test]
fn a_real_package_is_preferred_to_providers() {
    assert_eq!(
        solved(&["a"], &["a 1; Depends: awk", "awk 1; Priority: extra", "mawk 1; Provides: awk; Priority: required"]),
        "a 1, awk 1"
    );
}

#[test]
fn of_providers_the_more_important_comes_first_then_the_name() {
    let lines =
        ["a 1; Depends: awk", "gawk 1; Provides: awk; Priority: optional", "mawk 1; Provides: awk; Priority: required"];
    assert_eq!(solved(&["a"], &lines), "a 1, mawk 1");
    assert_eq!(solved(&["a"], &["a 1; Depends: v", "q 1; Provides: v", "p 1; Provides: v"]), "a 1, p 1");
}

#[test]
fn only_a_versioned_provides_answers_a_versioned_relation() {
    let lines = ["a 1; Depends: v (>= 2)", "p 9; Provides: v", "q 1; Provides: v (= 1)", "r 1; Provides: v (= 2)"];
    assert_eq!(solved(&["a"], &lines), "a 1, r 1");
}

#[test]
fn a_package_may_conflict_with_what_it_provides() {
    let lines =
        ["exim 1; Provides: mta; Conflicts: mta", "postfix 1; Provides: mta; Conflicts: mta", "a 1; Depends: mta"];
    assert_eq!(solved(&["exim", "a"], &lines), "a 1, exim 1");
    assert!(refusal(&["exim", "postfix"], &lines).contains("cannot be installed together"));
}

#[test]
fn breaks_and_conflicts_keep_packages_out() {
    assert_eq!(solved(&["a"], &["a 1; Depends: b | c; Breaks: b (<< 2)", "b 1", "c 1"]), "a 1, c 1");
    assert_eq!(solved(&["a"], &["a 1; Depends: b | c; Conflicts: v", "b 1; Provides: v", "c 1"]), "a 1, c 1");
}

#[test]
fn essential_packages_come_when_they_are_asked_for() {
    let universe = universe(&[
        "a 1",
        "dpkg 1; Essential: yes; Depends: libc",
        "libc 1",
        "x 1; Essential: yes; Architecture: i386",
    ]);
    let request = PackageRequest { essential: true, ..request(&["a"]) };
    assert_eq!(chosen(&request, &universe), "a 1, dpkg 1, libc 1");
}

#[test]
fn foreign_packages_obey_multi_arch() {
    let wine = "wine 1; Architecture: i386; Depends: libc, tool, perl:any, data";
    let perl = "perl 1; Multi-Arch: allowed";
    let tool = "tool 1; Multi-Arch: foreign";
    let libc = ["libc 1; Multi-Arch: same", "libc 1; Multi-Arch: same; Architecture: i386"];
    let data = "data 1; Architecture: all; Multi-Arch: foreign; Depends: libc";
    assert_eq!(
        solved(&["wine:i386"], &[wine, perl, tool, libc[0], libc[1], data]),
        "data 1, libc 1, libc:i386 1, perl 1, tool 1, wine:i386 1"
    );
    assert!(refusal(&["wine:i386"], &[wine, perl, "tool 1", libc[0], libc[1], data]).contains("tool"));
    assert!(refusal(&["wine:i386"], &[wine, "perl 1", tool, libc[0], libc[1], data]).contains("perl"));
}

#[test]
fn the_own_architecture_is_preferred_to_a_newer_foreign_one() {
    let tool = ["tool 1; Multi-Arch: foreign", "tool 2; Multi-Arch: foreign; Architecture: i386"];
    assert_eq!(solved(&["a"], &["a 1; Depends: tool", tool[0], tool[1]]), "a 1, tool 1");
    assert_eq!(solved(&["a:i386"], &["a 1; Depends: tool; Architecture: i386", tool[0], tool[1]]), "a:i386 1, tool 1");
    let virtual_tool = ["p 1; Provides: tool; Multi-Arch: foreign; Architecture: i386", "q 1; Provides: tool"];
    assert_eq!(solved(&["a"], &["a 1; Depends: tool", virtual_tool[0], virtual_tool[1]]), "a 1, q 1");
}

#[test]
fn a_name_without_an_architecture_is_the_first_that_has_it() {
    let lines = ["wine32 1; Architecture: i386", "wine 1", "wine 2; Architecture: i386"];
    assert_eq!(solved(&["wine", "wine32"], &lines), "wine 1, wine32:i386 1");
    assert!(refusal(&["wine32:amd64"], &lines).contains("no archive of the profile has a package `wine32:amd64`"));
}

#[test]
fn two_architectures_of_a_library_have_one_version() {
    let lines = [
        "a 1; Depends: lib, lib:i386",
        "lib 2; Multi-Arch: same",
        "lib 1; Multi-Arch: same",
        "lib 1; Multi-Arch: same; Architecture: i386",
    ];
    assert_eq!(solved(&["a"], &lines), "a 1, lib 1, lib:i386 1");
    assert!(refusal(&["b", "b:i386"], &["b 1", "b 1; Architecture: i386"]).contains("cannot be installed together"));
}

#[test]
fn backports_are_used_for_pinned_packages_and_what_only_they_satisfy() {
    let universe = with_backports(
        &["zfs 1; Depends: lib", "lib 1", "other 1"],
        &["zfs 2; Depends: lib (= 2)", "lib 2", "other 2"],
    );
    let mut request = request(&["zfs", "other"]);
    assert_eq!(chosen(&request, &universe), "lib 1, other 1, zfs 1");
    request.pins.insert("zfs".into(), "trixie-backports".into());
    assert_eq!(chosen(&request, &universe), "lib 2, other 1, zfs 2");
}

#[test]
fn an_alternative_in_the_normal_suites_is_preferred_to_backports() {
    let universe = with_backports(&["a 1; Depends: b (>= 2) | c", "b 1", "c 1"], &["b 2"]);
    assert_eq!(chosen(&request(&["a"]), &universe), "a 1, c 1");
    let universe = with_backports(&["a 1; Depends: v", "q 1; Provides: v"], &["p 1; Provides: v"]);
    assert_eq!(chosen(&request(&["a"]), &universe), "a 1, q 1");
}

#[test]
fn a_pin_to_where_the_package_is_not_is_refused() {
    let universe = with_backports(&["a 1"], &["b 1"]);
    let mut request = request(&["a"]);
    request.pins.insert("a".into(), "trixie-backports".into());
    assert_eq!(
        solve(&request, &universe).unwrap_err().to_string(),
        "`a` is pinned to the suite `trixie-backports`, which does not have it"
    );
    request.pins.insert("a".into(), "sid".into());
    assert_eq!(
        solve(&request, &universe).unwrap_err().to_string(),
        "`a` is pinned to the suite `sid`, which no archive of the profile has"
    );
}

#[test]
fn a_forbidden_package_is_avoided_or_the_reason_given() {
    let universe = universe(&["a 1; Depends: b | c", "b 1", "c 1", "d 1; Depends: b"]);
    let mut request = request(&["a"]);
    request.forbid.insert("b".into());
    assert_eq!(chosen(&request, &universe), "a 1, c 1");
    request.include.insert("d".into());
    insta::assert_snapshot!(render(&solve(&request, &universe).unwrap_err()), @r"
    error: the profile's packages cannot be installed together:
      └─ d cannot be installed:
         └─ d 1 needs
            └─ b, which cannot be installed:
               └─ b 1 is excluded because the profile forbids it

    hint: change `include`, `forbid` or `pins` of the profile's [packages]; the tree's innermost lines name what clashes
    ");
}

#[test]
fn a_provided_name_counts_as_installed() {
    let universe =
        universe(&["linux 1; Depends: initramfs-tools | linux-initramfs-tool, kmod", "initramfs-tools 1", "kmod 1"]);
    let mut request = request(&["linux"]);
    request.provided.insert("linux-initramfs-tool".into());
    assert_eq!(chosen(&request, &universe), "kmod 1, linux 1");
}

#[test]
fn a_conflict_is_explained_as_a_tree() {
    let lines = [
        "nas 1; Depends: web, mail",
        "web 1; Depends: lib (>= 2)",
        "mail 1; Depends: mta",
        "mta 1; Depends: lib (<< 2)",
        "lib 1",
        "lib 2",
    ];
    insta::assert_snapshot!(refusal(&["nas"], &lines), @r"
    error: the profile's packages cannot be installed together:
      └─ nas cannot be installed:
         └─ nas 1 needs
            ├─ web, which could be:
            │  └─ web 1 needs
            │     └─ lib (>= 2), which could be:
            │        └─ lib 2
            └─ mail, which cannot be installed:
               └─ mail 1 needs
                  └─ mta, which cannot be installed:
                     └─ mta 1 needs
                        └─ lib (<< 2), which cannot be installed:
                           └─ lib 1, which rules out the versions above

    hint: change `include`, `forbid` or `pins` of the profile's [packages]; the tree's innermost lines name what clashes
    ");
    insta::assert_snapshot!(refusal(&["a", "b"], &["a 1; Breaks: b (<< 2)", "b 1"]), @r"
    error: the profile's packages cannot be installed together:
      ├─ b could be:
      │  └─ b 1
      └─ a cannot be installed:
         └─ a 1 excludes
            └─ b (Breaks: b (<< 2))

    hint: change `include`, `forbid` or `pins` of the profile's [packages]; the tree's innermost lines name what clashes
    ");
    let exim = "exim 2; Depends: light (>= 2) | heavy (>= 2) | mta-daemon";
    let daemons = [
        "light 2; Provides: mta",
        "light 3; Provides: mta",
        "heavy 2; Provides: mta",
        "x 1; Provides: mta-daemon, mta",
    ];
    let lines = [&[exim, "postfix 1; Conflicts: mta"][..], &daemons].concat();
    insta::assert_snapshot!(refusal(&["exim", "postfix"], &lines), @r"
    error: the profile's packages cannot be installed together:
      ├─ exim could be:
      │  └─ exim 2 needs
      │     └─ light (>= 2) | heavy (>= 2) | x (for light (>= 2) | heavy (>= 2) | mta-daemon) | light (>= 2), which could be:
      │        ├─ heavy 2
      │        ├─ x 1
      │        └─ light 2 | 3
      └─ postfix cannot be installed:
         └─ postfix 1 excludes
            ├─ heavy (Conflicts: mta)
            ├─ x (Conflicts: mta)
            └─ light (Conflicts: mta)

    hint: change `include`, `forbid` or `pins` of the profile's [packages]; the tree's innermost lines name what clashes
    ");
    insta::assert_snapshot!(refusal(&["a"], &["a 1; Depends: b (>= 2) | gone, c", "b 1", "c 1"]), @r"
    error: the profile's packages cannot be installed together:
      a cannot be installed:
      └─ a 1 needs
         └─ b (>= 2) | gone, which no suite has

    hint: change `include`, `forbid` or `pins` of the profile's [packages]; the tree's innermost lines name what clashes
    ");
}

#[test]
fn an_unknown_package_is_named_with_the_nearest_ones() {
    insta::assert_snapshot!(refusal(&["smaba"], &["samba 1", "samba-libs 1", "nginx 1"]), @r"
    error: no archive of the profile has a package `smaba`

    hint: did you mean samba?
    ");
    insta::assert_snapshot!(refusal(&["zzzz"], &["samba 1"]), @r"
    error: no archive of the profile has a package `zzzz`

    hint: search packages.debian.org for its name in trixie, or add the archive or component that has it
    ");
}

#[test]
fn a_virtual_package_is_taken_when_it_has_one_provider() {
    assert_eq!(solved(&["v"], &["p 1; Provides: v"]), "p 1");
    let text = refusal(&["v"], &["p 1; Provides: v", "q 1; Provides: v"]);
    assert!(text.contains("`v` is a virtual package") && text.contains("include one of p, q"), "{text}");
}

#[test]
fn a_broken_relation_is_named_with_index_and_package() {
    let text = refusal(&["a"], &["b 1", "a 1; Depends: b (!! 2)"]);
    assert!(
        text.contains("debian trixie Packages: a 1: no valid version restriction in the relation `b (!! 2)`"),
        "{text}"
    );
}

#[test]
fn the_order_of_stanzas_does_not_matter() {
    let mut lines = vec![
        "a 1; Depends: v, w | x",
        "p 1; Provides: v",
        "q 1; Provides: v",
        "w 1; Breaks: p",
        "x 1",
        "q 2; Provides: v; Depends: x",
        "p 1; Provides: v; Architecture: all",
    ];
    let first = solved(&["a"], &lines);
    for _ in 0..lines.len() {
        lines.rotate_left(1);
        assert_eq!(solved(&["a"], &lines), first);
        lines.swap(0, 3);
        assert_eq!(solved(&["a"], &lines), first);
    }
}
