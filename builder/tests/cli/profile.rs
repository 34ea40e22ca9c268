//! Profiles that cannot be understood.

use crate::bench::Bench;

#[test]
fn an_unknown_profile_is_answered_with_the_nearest_one() {
    let bench = Bench::new();
    insta::assert_snapshot!(bench.refuses(&["lock", "--profile", "nsa"]), @r"
    error: profile `nsa` does not exist (PROJECT/profiles/nsa.toml)

    hint: profiles: nas
    ");
    insta::assert_snapshot!(bench.refuses(&["build", "--profile", "nass"]), @r"
    error: profile `nass` does not exist (PROJECT/profiles/nass.toml)

    hint: did you mean `nas`?
    ");
    insta::assert_snapshot!(bench.refuses(&["try", "--profile", "xyz"]), @r"
    error: profile `xyz` does not exist (PROJECT/profiles/xyz.toml)

    hint: profiles: nas
    ");
}

#[test]
fn an_unknown_tools_tree_is_answered_with_those_that_exist() {
    let bench = Bench::new();
    insta::assert_snapshot!(bench.refuses(&["lock", "--tools", "kot"]), @r"
    error: tools tree `kot` does not exist (PROJECT/profiles/tools/kot.toml)

    hint: did you mean `kit`?
    ");
    insta::assert_snapshot!(bench.refuses(&["tools", "run", "kot", "--", "probe"]), @r"
    error: tools tree `kot` does not exist (PROJECT/profiles/tools/kot.toml)

    hint: did you mean `kit`?
    ");
}

#[test]
fn an_unknown_key_is_answered_with_the_nearest_right_one() {
    let bench = Bench::new();
    bench.write("profiles/nas.toml", "schema = 1\ninherits = \"base\"\n\n[packages]\nincludes = [\"probe\"]\n");
    insta::assert_snapshot!(bench.refuses(&["lock"]), @r"
    error: PROJECT/profiles/nas.toml:5:1: unknown field `includes`, expected one of `include`, `forbid`, `provided`, `pins`, `architectures`

    hint: did you mean `include`?
    ");
    bench.write("profiles/nas.toml", "schema = 1\ninherits = \"base\"\n[kernal]\nmodules = []\n");
    insta::assert_snapshot!(bench.refuses(&["build", "--profile", "nas"]), @r"
    error: PROJECT/profiles/nas.toml:3:2: unknown field `kernal`, expected one of `schema`, `inherits`, `description`, `archive`, `packages`, `overlays`, `kernel`, `files`, `lint`, `variables`

    hint: did you mean `kernel`?
    ");
}

#[test]
fn a_value_that_a_profile_and_its_base_set_is_a_conflict() {
    let bench = Bench::new();
    bench.write("profiles/nas.toml", "schema = 1\ninherits = \"base\"\n[variables]\nhostname = \"nas\"\n");
    insta::assert_snapshot!(bench.refuses(&["lock"]), @r"
    error: reading profile `nas`
      caused by: variables.hostname is set by the profile and, differently, by its base

    hint: remove it from one of the two files
    ");
}

#[test]
fn profiles_inherit_one_level_deep() {
    let bench = Bench::new();
    bench.write("profiles/large.toml", "schema = 1\ninherits = \"nas\"\n");
    insta::assert_snapshot!(bench.refuses(&["lock", "--profile", "large"]), @r"
    error: profiles/large.toml: its base inherits from `base` in turn

    hint: profiles inherit one level deep: name the last base directly
    ");
}

#[test]
fn a_base_that_does_not_exist_is_named() {
    let bench = Bench::new();
    bench.write("profiles/nas.toml", "schema = 1\ninherits = \"bsae\"\n");
    insta::assert_snapshot!(bench.refuses(&["lock"]), @r"
    error: reading the base of profile `nas`
      caused by: profile `bsae` does not exist (PROJECT/profiles/bsae.toml)

    hint: did you mean `base`?
    ");
}

#[test]
fn a_folder_that_is_no_project_is_refused() {
    let bench = Bench::new();
    let folder = bench.folder("empty");
    let mut larder = bench.in_environment(crate::bench::LARDER, &["lock", "--project", folder.to_str().unwrap()]);
    insta::assert_snapshot!(bench.refuses_to(&mut larder), @r"
    error: FOLDER/empty: has no `profiles` and `overlays` folders

    hint: point --project at a checkout of larder
    ");
}
