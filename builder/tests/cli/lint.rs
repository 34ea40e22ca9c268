//! `larder lint` as far as it goes without an image, and what profiles may say to it.

use crate::bench::Bench;

#[test]
fn all_lints_are_listed_with_what_they_protect_from() {
    let bench = Bench::new();
    let said = bench.ends(&mut bench.larder(&["lint", "--list"]), 0);
    let names: Vec<_> = said.stdout.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(names, larder::lint::LINTS.iter().map(|lint| lint.name).collect::<Vec<_>>());
    let setuid = said.stdout.lines().find(|line| line.starts_with("setuid ")).unwrap();
    assert!(setuid.ends_with("  programs that run with more rights than whoever starts them"), "{setuid}");
}

#[test]
fn a_profile_is_needed_unless_lints_are_listed() {
    let bench = Bench::new();
    let said = bench.ends(&mut bench.larder(&["lint"]), 2);
    assert!(said.stderr.contains("--profile <PROFILE>"), "{}", said.stderr);
}

#[test]
fn a_skip_of_an_unknown_lint_is_answered_with_the_nearest_one() {
    let bench = Bench::new();
    let skip = "[[lint.skip]]\nname = \"machine-identities\"\nreason = \"x\"\n";
    bench.write("profiles/nas.toml", &format!("schema = 1\ninherits = \"base\"\n\n{skip}"));
    let said = bench.refuses(&["lint", "--profile", "nas"]);
    let start = "error: PROJECT/profiles/nas.toml:5:8: unknown lint `machine-identities`, expected one of `accounts`,";
    let said = said.replace(&bench.project("").display().to_string(), "PROJECT/");
    assert!(said.starts_with(start), "{said}");
    assert!(said.ends_with("\nhint: did you mean `machine-identity`?\n"), "{said}");
}

#[test]
fn a_skip_without_a_reason_is_refused() {
    let bench = Bench::new();
    let skip = "[[lint.skip]]\nname = \"setuid\"\npath = \"/usr/bin/su\"\n";
    bench.write("profiles/nas.toml", &format!("schema = 1\ninherits = \"base\"\n\n{skip}"));
    insta::assert_snapshot!(bench.refuses(&["lint", "--profile", "nas"]), @"error: PROJECT/profiles/nas.toml:4:1: missing field `reason`");
    let skip = format!("{skip}reason = \"\"\n");
    bench.write("profiles/nas.toml", &format!("schema = 1\ninherits = \"base\"\n\n{skip}"));
    insta::assert_snapshot!(bench.refuses(&["lint", "--profile", "nas"]), @"error: PROJECT/profiles/nas.toml:7:10: a skip needs a reason: say why this is right in the image");
}
