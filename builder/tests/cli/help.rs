//! `--help`: what there is, and nothing that is not for people.

use crate::bench::{Bench, LARDER};

fn help(bench: &Bench, verb: &[&str]) -> String {
    bench.ends(&mut bench.in_environment(LARDER, &[verb, &["--help"]].concat()), 0).stdout
}

/// The names under "Commands:".
fn verbs_of(help: &str) -> Vec<String> {
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let names = listed.take_while(|line| !line.is_empty()).filter_map(|line| line.split_whitespace().next());
    names.filter(|name| *name != "help").map(str::to_owned).collect()
}

/// Checks the help of a verb and of the verbs below it; their names.
fn check(bench: &Bench, verb: &[&str]) -> Vec<String> {
    let text = help(bench, verb);
    let name = [&["larder"], verb].concat().join(" ");
    insta::assert_snapshot!(name.replace(' ', "-"), text);
    for line in text.lines() {
        assert!(line.chars().count() <= 100, "`{name} --help` is too wide: {line}");
    }
    let below = verbs_of(&text);
    below.iter().flat_map(|sub| check(bench, &[verb, &[sub.as_str()]].concat())).chain([name]).collect()
}

#[test]
fn every_verb_has_help_that_fits_a_terminal() {
    let bench = Bench::new();
    let mut verbs = check(&bench, &[]);
    verbs.sort();
    insta::assert_snapshot!(verbs.join("\n"), @r"
    larder
    larder build
    larder cache
    larder cache clean
    larder cache dir
    larder cache prune
    larder cache size
    larder cache verify
    larder diff
    larder flash
    larder inspect
    larder keys
    larder keys new
    larder keys rotate
    larder keys show
    larder keys sign
    larder lint
    larder lock
    larder profiles
    larder profiles detect
    larder profiles schema
    larder profiles show
    larder publish
    larder recovery-key
    larder seed
    larder serve
    larder sizes
    larder tools
    larder tools list
    larder tools run
    larder try
    larder why
    ");
}

#[test]
fn verbs_for_larder_itself_are_not_shown() {
    let bench = Bench::new();
    let text = help(&bench, &[]);
    for hidden in ["map-ids", "sandbox-exec", "sandbox-init"] {
        assert!(!text.contains(hidden));
    }
}

#[test]
fn the_version_is_printed() {
    let bench = Bench::new();
    let said = bench.ends(&mut bench.in_environment(LARDER, &["--version"]), 0);
    assert_eq!(said.stdout, format!("larder {}\n", env!("CARGO_PKG_VERSION")));
}
