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
    error: PROJECT/profiles/nas.toml:3:2: unknown field `kernal`, expected one of `schema`, `inherits`, `description`, `archive`, `packages`, `overlays`, `kernel`, `match`, `device`, `hazard`, `graphics`, `memory`, `boot`, `budget`, `files`, `lint`, `variables`

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

const BOARD: &str = "schema = 1\ninherits = \"base\"\ndescription = \"a box\"\noverlays = [\"video\"]\n\
    [packages]\ninclude = [\"probe\"]\n[memory]\nminimum = \"4 GiB\"\n[boot]\nmedium = \"emmc\"\nminimum-size = \"7 GiB\"\n\
    [match]\npci = [\"8086:46d4\"]\n[[match.dmi]]\nvendor = \"AZW\"\n";

fn board() -> Bench {
    let bench = Bench::new();
    fs_err::create_dir_all(bench.project("overlays/video")).unwrap();
    bench.write("overlays/video/overlay.toml", "schema = 1\npackages = [\"player\"]\nmodules = [\"i915\"]\n");
    bench.write("profiles/nas.toml", BOARD);
    bench
}

#[test]
fn profiles_are_listed_with_what_matters_when_choosing_one() {
    let bench = board();
    bench.write("profiles/other.toml", "schema = 1\ninherits = \"base\"\ndescription = \"another one\"\n");
    let said = bench.ends(&mut bench.larder(&["profiles"]), 0);
    insta::assert_snapshot!(said.stdout, @r"
    PROFILE  PACKAGES  MEMORY  MEDIUM      GPU  DESCRIPTION
    nas      no lock   4 GiB   eMMC 7 GiB  -    a box
    other    no lock   -       -           -    another one
    ");
}

#[test]
fn a_profile_is_shown_with_the_file_that_each_value_comes_from() {
    let bench = board();
    let said = bench.ends(&mut bench.larder(&["profiles", "show", "nas"]), 0);
    insta::assert_snapshot!(said.stdout, @r#"
    archive
        { components = ["main"], keys = ["test.asc"], mirror = "http://deb.debian.org/debian", name = "debian", suites = ["trixie"] }  # profiles/base.toml
    boot.medium
        "emmc"  # profiles/nas.toml
    boot.minimum-size
        "7 GiB"  # profiles/nas.toml
    description
        "a box"  # profiles/nas.toml
    kernel.modules
        "i915"  # overlays/video/overlay.toml
    match.dmi
        { vendor = "AZW" }  # profiles/nas.toml
    match.pci
        "8086:46d4"  # profiles/nas.toml
    memory.minimum
        "4 GiB"  # profiles/nas.toml
    overlays
        "video"  # profiles/nas.toml
    packages.include
        "probe"  # profiles/nas.toml
        "player"  # overlays/video/overlay.toml
    variables.hostname
        "larder"  # profiles/base.toml
    "#);
}

#[test]
fn a_dump_is_told_which_profile_it_wants() {
    let bench = board();
    bench.write("profiles/any.toml", "schema = 1\ninherits = \"base\"\n");
    let dump = bench.folder("dumps").join("dump.txt");
    let detect = |text: &str, status| {
        fs_err::write(&dump, text).unwrap();
        bench.ends(&mut bench.larder(&["profiles", "detect", "--from", dump.to_str().unwrap()]), status)
    };
    let gpu = "00:02.0 VGA [0300]: Intel [8086:46d4]\n";
    insta::assert_snapshot!(detect(&format!("{gpu}sys_vendor: AZW\n"), 0).stdout, @r"
    nas  exact     its firmware says vendor `AZW`; has 8086:46d4
    any  generic   fits every machine
    ");
    insta::assert_snapshot!(detect(gpu, 0).stdout, @r"
    any  generic   fits every machine
    nas  doubtful  its firmware says nothing, not vendor `AZW`; has 8086:46d4
    ");
    insta::assert_snapshot!(detect("nothing\n", 1).stderr, @r"
    error: FOLDER/dumps/dump.txt: lists no PCI devices

    hint: on the machine: lspci -nn > dump; grep . /sys/class/dmi/id/{sys_vendor,product_name,board_name} >> dump
    ");
    let missing = bench.refuses(&["profiles", "detect", "--from", "/nonexistent"]);
    assert!(missing.starts_with("error: /nonexistent: cannot be read\n"), "{missing}");
}

#[test]
fn hardware_that_cannot_be_understood_is_refused_with_its_place() {
    let bench = Bench::new();
    let refuses = |text: &str| {
        bench.write("profiles/nas.toml", &format!("schema = 1\ninherits = \"base\"\n{text}"));
        bench.refuses(&["profiles"])
    };
    insta::assert_snapshot!(refuses("[match]\npci = [\"8086:46D4\"]\n"), @r#"error: PROJECT/profiles/nas.toml:4:7: `8086:46D4` is not a PCI id: write it as `lspci -nn` does, "8086:46d4""#);
    insta::assert_snapshot!(refuses("[budget]\nroot = \"450\"\n"), @r#"error: PROJECT/profiles/nas.toml:4:8: `450` is not a size: write it as "450 MB" or "4 GiB""#);
    insta::assert_snapshot!(refuses("[[hazard]]\ncheck = \"jmb585-dm\"\nmeans = \"x\"\nnext = \"y\"\n"), @r"
    error: PROJECT/profiles/nas.toml:4:9: unknown variant `jmb585-dm`, expected one of `wrong-profile`, `less-memory`, `network-without-driver`, `graphics-without-driver`, `huc-not-authenticated`, `jmb585-dma`, `nvme-duplicate-ids`, `emmc-boot-areas`, `drive-dropped`

    hint: did you mean `jmb585-dma`?
    ");
    let hazard = "[[hazard]]\ncheck = \"jmb585-dma\"\nmeans = \"x\"\nnext = \"y\"\n";
    insta::assert_snapshot!(refuses(&format!("{hazard}{hazard}")), @r"
    error: reading profile `nas`
      caused by: the hazard `jmb585-dma` is described twice

    hint: put all that is known about it into one [[hazard]]
    ");
}

#[test]
fn a_memory_limit_that_base_and_profile_set_is_a_conflict() {
    let bench = Bench::new();
    bench.write("profiles/base.toml", &format!("{}[memory]\narc-percent = 30\n", bench.read("profiles/base.toml")));
    bench.write("profiles/nas.toml", "schema = 1\ninherits = \"base\"\n[memory]\narc-percent = 40\n");
    insta::assert_snapshot!(bench.refuses(&["profiles"]), @r"
    error: reading profile `nas`
      caused by: memory.arc-percent is set by the profile and, differently, by its base

    hint: remove it from one of the two files
    ");
}
