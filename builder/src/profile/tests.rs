use super::*;

const BASE: &str = "schema = 1\n[packages]\ninclude = [\"systemd\"]\n[kernel]\ncommand-line = [\"quiet\"]\n[variables]\nhostname = \"larder\"\n";

fn project(files: &[(&str, &str)]) -> (tempfile::TempDir, Project) {
    let folder = tempfile::tempdir().unwrap();
    fs_err::create_dir(folder.path().join("overlays")).unwrap();
    fs_err::create_dir(folder.path().join("profiles")).unwrap();
    for (name, text) in files {
        fs_err::write(folder.path().join("profiles").join(name), text).unwrap();
    }
    let project = Project::find(Some(folder.path()), folder.path()).unwrap();
    (folder, project)
}

fn complaint(files: &[(&str, &str)], name: &str) -> String {
    let (folder, project) = project(files);
    let text = crate::report::render(&Profile::load(&project, name).unwrap_err());
    text.replace(&folder.path().display().to_string(), "PROJECT")
}

#[test]
fn a_profile_adds_to_the_lists_of_its_base() {
    let own = "schema = 1\ninherits = \"base\"\n[packages]\ninclude = [\"samba\"]\n[kernel]\ncommand-line = [\"console=ttyS0\"]\n";
    let (_folder, project) = project(&[("base.toml", BASE), ("nas.toml", own)]);
    let profile = Profile::load(&project, "nas").unwrap();
    assert_eq!(profile.packages.include.iter().collect::<Vec<_>>(), ["samba", "systemd"]);
    assert_eq!(profile.kernel.command_line, ["quiet", "console=ttyS0"]);
    assert_eq!(Profile::names(&project).unwrap(), ["nas"]);
}

#[test]
fn a_value_set_twice_is_a_conflict() {
    let own = "schema = 1\ninherits = \"base\"\n[variables]\nhostname = \"nas\"\n";
    insta::assert_snapshot!(complaint(&[("base.toml", BASE), ("nas.toml", own)], "nas"), @r"
    error: reading profile `nas`
      caused by: variables.hostname is set by the profile and, differently, by its base

    hint: remove it from one of the two files
    ");
}

#[test]
fn inheritance_is_one_level_deep() {
    let files = [
        ("base.toml", BASE),
        ("a.toml", "schema = 1\ninherits = \"base\"\n"),
        ("b.toml", "schema = 1\ninherits = \"a\"\n"),
    ];
    insta::assert_snapshot!(complaint(&files, "b"), @r"
    error: profiles/b.toml: its base inherits from `base` in turn

    hint: profiles inherit one level deep: name the last base directly
    ");
}

#[test]
fn an_unknown_profile_is_answered_with_the_nearest_one() {
    let files = [("base.toml", BASE), ("generic-n150.toml", "schema = 1\ninherits = \"base\"\n")];
    insta::assert_snapshot!(complaint(&files, "generic-n15"), @r"
    error: profile `generic-n15` does not exist (PROJECT/profiles/generic-n15.toml)

    hint: did you mean `generic-n150`?
    ");
}

#[test]
fn an_unknown_key_is_refused_with_its_place() {
    insta::assert_snapshot!(complaint(&[("nas.toml", "schema = 1\n[kernel]\nmodulse = []\n")], "nas"), @r"
    error: PROJECT/profiles/nas.toml:3:1: unknown field `modulse`, expected one of `command-line`, `modules`, `initrd-modules`, `firmware`, `firmware-of-devices`, `microcode`

    hint: did you mean `modules`?
    ");
}
