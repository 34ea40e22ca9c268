use std::cell::RefCell;
use std::os::unix::fs::symlink;

use super::*;
use crate::report::render;

/// `overlays/` with the given files; paths below it, with their content.
struct Overlays(tempfile::TempDir);

impl Overlays {
    fn new(files: &[(&str, &str)]) -> Self {
        let overlays = Self(tempfile::tempdir().unwrap());
        fs_err::create_dir(overlays.folder()).unwrap();
        for (path, content) in files {
            let path = overlays.folder().join(path);
            fs_err::create_dir_all(path.parent().unwrap()).unwrap();
            fs_err::write(path, content).unwrap();
        }
        overlays
    }

    fn folder(&self) -> PathBuf {
        self.0.path().join("overlays")
    }

    fn plan(&self, names: &[&str]) -> Result<Plan> {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        let variables = toml::from_str("host_name = 'larder'\nconsole = { device = 'ttyS0' }").unwrap();
        plan(&self.folder(), &names, &variables)
    }

    /// The message for a person, with the temporary folder left out.
    fn refusal(&self, names: &[&str]) -> String {
        render(&self.plan(names).unwrap_err()).replace(&*self.0.path().to_string_lossy(), "")
    }
}

fn base() -> Overlays {
    let overlays = Overlays::new(&[
        ("base/root/etc/hostname.tera", "{{ host_name }}\n"),
        ("base/root/usr/bin/hello", "#!/bin/sh\n"),
        ("base/root/usr/lib/systemd/system-preset/50-larder.preset", "enable larder.service\n"),
        ("base/root/etc/secret", "hidden\n"),
        (
            "base/overlay.toml",
            "schema = 1\ndescription = 'what every image has'\n[[path]]\npath = '/etc/secret'\nmode = '0600'\ngroup = 42\n\n[[directory]]\npath = '/var/lib/larder'\nmode = '0700'\n",
        ),
        ("smb/root/etc/samba/smb.conf", "[global]\n"),
        ("smb/overlay.toml", "schema = 1\nrequires = ['base']\n"),
    ]);
    let root = overlays.folder().join("base/root");
    symlink("/run/localtime", root.join("etc/localtime")).unwrap();
    fs_err::set_permissions(root.join("usr/bin/hello"), std::fs::Permissions::from_mode(0o700)).unwrap();
    fs_err::set_permissions(root.join("etc/hostname.tera"), std::fs::Permissions::from_mode(0o600)).unwrap();
    overlays
}

#[test]
fn a_plan_lists_every_path_with_mode_owner_hash_and_origin() {
    let plan = base().plan(&["smb"]).unwrap();
    assert_eq!(plan.overlays().iter().collect::<Vec<_>>(), ["base", "smb"], "required overlays come along");
    insta::assert_snapshot!(plan, @"
    f 0644 0:0 /etc/hostname 1c0792ea4ba7 (overlays/base/root/etc/hostname.tera)
    l 0777 0:0 /etc/localtime -> /run/localtime (overlays/base/root/etc/localtime)
    f 0644 0:0 /etc/samba/smb.conf c87899c878bf (overlays/smb/root/etc/samba/smb.conf)
    f 0600 0:42 /etc/secret e084a3683ef7 (overlays/base/root/etc/secret)
    f 0755 0:0 /usr/bin/hello a8076d3d28d2 (overlays/base/root/usr/bin/hello)
    f 0644 0:0 /usr/lib/systemd/system-preset/50-larder.preset aadde97b4c16 (overlays/base/root/usr/lib/systemd/system-preset/50-larder.preset)
    d 0700 0:0 /var/lib/larder (overlays/base/overlay.toml:8)
    ");
}

#[test]
fn a_plan_serialises_without_contents() {
    let overlays = Overlays::new(&[("one/root/etc/motd", "hello\n")]);
    insta::assert_snapshot!(serde_json::to_string(&overlays.plan(&["one"]).unwrap()).unwrap(), @r#"
    {"overlays":["one"],"entries":{"/etc/motd":{"kind":"file","hash":"5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03","mode":420,"owner":0,"group":0,"origin":"overlays/one/root/etc/motd"}}}
    "#);
}

#[test]
fn the_key_follows_content_and_modes_but_not_origin() {
    let key = |files: &[(&str, &str)], name: &str| {
        let mut recipe = Recipe::new("overlay", 1);
        Overlays::new(files).plan(&[name]).unwrap().cover(&mut recipe);
        recipe.key()
    };
    let first = key(&[("a/root/etc/motd", "hello\n")], "a");
    assert_eq!(first, key(&[("b/root/etc/motd.tera", "hello\n")], "b"));
    assert_ne!(first, key(&[("a/root/etc/motd", "hello!\n")], "a"));
    let mode = "schema = 1\n[[path]]\npath = '/etc/motd'\nmode = '0600'\n";
    assert_ne!(first, key(&[("a/root/etc/motd", "hello\n"), ("a/overlay.toml", mode)], "a"));
}

#[test]
fn templates_render_values_and_escape_nothing() {
    let overlays =
        Overlays::new(&[("a/root/etc/x.conf.tera", "{% if console.device %}tty=<{{ console.device }}>&\n{% endif %}")]);
    let plan = overlays.plan(&["a"]).unwrap();
    let Kind::File { content, .. } = &plan.entries()["/etc/x.conf"].kind else { panic!("not a file") };
    assert_eq!(String::from_utf8_lossy(content), "tty=<ttyS0>&\n");
}

#[test]
fn a_path_written_by_two_overlays_is_refused() {
    let overlays = Overlays::new(&[("a/root/etc/motd", ""), ("b/root/etc/motd.tera", "")]);
    insta::assert_snapshot!(overlays.refusal(&["a", "b"]), @"
    error: /etc/motd is written twice: by overlays/a/root/etc/motd and by overlays/b/root/etc/motd.tera

    hint: keep it in one overlay and let the other one require that
    ");
    let overlays = Overlays::new(&[("a/root/etc/motd", ""), ("a/root/etc/motd.tera", "")]);
    assert!(overlays.refusal(&["a"]).contains("written twice"), "also within one overlay");
}

#[test]
fn a_file_where_another_overlay_has_a_folder_is_refused() {
    let overlays = Overlays::new(&[("a/root/etc/motd.d/10-hello", ""), ("b/root/etc/motd.d", "")]);
    insta::assert_snapshot!(overlays.refusal(&["a", "b"]), @"
    error: /etc/motd.d is a folder for overlays/a/root/etc/motd.d/10-hello, but no folder in overlays/b/root/etc/motd.d

    hint: give one of them another path
    ");
    let overlays =
        Overlays::new(&[("a/overlay.toml", "schema = 1\n[[directory]]\npath = '/etc/x'\n"), ("b/root/etc/x", "")]);
    insta::assert_snapshot!(overlays.refusal(&["a", "b"]), @"
    error: /etc/x is written twice: by overlays/a/overlay.toml:2 and by overlays/b/root/etc/x

    hint: keep it in one overlay and let the other one require that
    ");
}

#[test]
fn undefined_variables_are_refused_with_file_and_line() {
    let refusal = |template: &str| Overlays::new(&[("a/root/etc/x.tera", template)]).refusal(&["a"]);
    insta::assert_snapshot!(refusal("first\n{{ hostname }}\n"), @"
    error: overlays/a/root/etc/x.tera:2: variable `hostname` is not defined

    hint: did you mean host_name? else set it in the profile's [variables]
    ");
    insta::assert_snapshot!(refusal("a typo\n\n{% if typo %}x{% endif %}\n"), @"
    error: overlays/a/root/etc/x.tera:3: variable `typo` is not defined

    hint: set it in the profile's [variables]
    ");
    insta::assert_snapshot!(refusal("{{ host_name }}\n{{ console.speed }}\n"), @"
    error: overlays/a/root/etc/x.tera:2: Field `speed` is not defined. Available fields: device
    ");
    insta::assert_snapshot!(refusal("{% if host_name %}\n"), @"
    error: overlays/a/root/etc/x.tera:2: Unexpected end of input
    ");
}

#[test]
fn names_that_a_template_sets_itself_are_defined() {
    let template = "{% for word in [1, 2] %}{% set twice = word * 2 %}{{ twice }} {% endfor %}\n";
    Overlays::new(&[("a/root/etc/x.tera", template)]).plan(&["a"]).unwrap();
}

#[test]
fn an_unknown_overlay_is_refused_with_the_nearest_name() {
    insta::assert_snapshot!(base().refusal(&["bsae"]), @"
    error: there is no overlay `bsae` in /overlays

    hint: did you mean base?
    ");
    let overlays = Overlays::new(&[("a/overlay.toml", "schema = 1\nrequires = [\n  'zebra',\n]\n")]);
    insta::assert_snapshot!(overlays.refusal(&["a"]), @"
    error: overlays/a/overlay.toml:3: there is no overlay `zebra` in /overlays

    hint: the overlays are a
    ");
    assert!(base().plan(&["../overlays/base"]).is_err(), "a name is no path");
}

#[test]
fn mistakes_in_overlay_toml_are_refused_with_file_and_line() {
    let refusal =
        |manifest: &str| Overlays::new(&[("a/overlay.toml", manifest), ("a/root/etc/motd", "")]).refusal(&["a"]);
    insta::assert_snapshot!(refusal("schema = 2\n"), @"
    error: overlays/a/overlay.toml:1:10: schema 2 is not known to this larder, which reads schema 1
    ");
    insta::assert_snapshot!(refusal("schema = 1\nrequire = []\n"), @r"
    error: overlays/a/overlay.toml:2:1: unknown field `require`, expected one of `schema`, `description`, `requires`, `packages`, `exclude`, `modules`, `path`, `directory`

    hint: did you mean `requires`?
    ");
    insta::assert_snapshot!(refusal("schema = 1\n\n[[path]]\npath = '/etc/modt'\nmode = '0600'\n"), @"
    error: overlays/a/overlay.toml:3: the overlay has no file for `/etc/modt`

    hint: did you mean /etc/motd?
    ");
    insta::assert_snapshot!(refusal("schema = 1\n[[path]]\npath = '/etc/motd'\nmode = '600 '\n"), @r#"
    error: overlays/a/overlay.toml:4:8: `600 ` is not a mode, write it as "0600"
    "#);
    insta::assert_snapshot!(refusal("schema = 1\n[[path]]\npath = '/etc/motd'\nowner = 'www-data'\n"), @r#"
    error: overlays/a/overlay.toml:4:9: "www-data" is no owner: write "root" or a number below 65536
    "#);
    insta::assert_snapshot!(refusal("schema = 1\n[[directory]]\npath = '/etc/../x'\n"), @"
    error: overlays/a/overlay.toml:2: `/etc/../x` is not an absolute path without `.` and `..`
    ");
}

#[test]
fn a_stray_file_beside_root_is_refused() {
    insta::assert_snapshot!(Overlays::new(&[("a/etc/motd", "")]).refusal(&["a"]), @"
    error: overlays/a/etc: an overlay holds `root`, `overlay.toml` and `README.md` only

    hint: what goes into the image belongs below `root`
    ");
}

#[test]
fn a_plan_is_written_with_modes_and_owners() {
    let plan = base().plan(&["base"]).unwrap();
    let image = tempfile::tempdir().unwrap();
    fs_err::create_dir_all(image.path().join("etc")).unwrap();
    fs_err::write(image.path().join("shared"), "of the store").unwrap();
    fs_err::hard_link(image.path().join("shared"), image.path().join("etc/hostname")).unwrap();

    let owners = RefCell::new(BTreeMap::new());
    let chown = |path: &Path, owner, group| {
        owners.borrow_mut().insert(path.strip_prefix(image.path()).unwrap().to_owned(), (owner, group));
        Ok(())
    };
    plan.write_with(image.path(), &chown).unwrap();
    plan.write_with(image.path(), &chown).unwrap();

    let mode = |path: &str| fs_err::symlink_metadata(image.path().join(path)).unwrap().permissions().mode() & 0o7777;
    assert_eq!(
        ["etc/hostname", "etc/secret", "usr", "usr/bin/hello", "var/lib/larder"].map(mode),
        [0o644, 0o600, 0o755, 0o755, 0o700]
    );
    assert_eq!(fs_err::read_to_string(image.path().join("etc/hostname")).unwrap(), "larder\n");
    assert_eq!(fs_err::read_to_string(image.path().join("shared")).unwrap(), "of the store");
    assert_eq!(fs_err::read_link(image.path().join("etc/localtime")).unwrap(), Path::new("/run/localtime"));
    assert_eq!(owners.borrow()[Path::new("etc/secret")], (0, 42));
    assert_eq!(owners.borrow()[Path::new("usr/bin")], (0, 0));
}

#[test]
fn writing_through_a_link_of_the_image_is_refused() {
    let overlays = Overlays::new(&[("a/root/bin/hello", "")]);
    let image = tempfile::tempdir().unwrap();
    symlink("usr/bin", image.path().join("bin")).unwrap();
    let error = overlays.plan(&["a"]).unwrap().write_with(image.path(), &|_, _, _| Ok(())).unwrap_err();
    insta::assert_snapshot!(render(&error), @"
    error: writing /bin/hello of overlays/a/root/bin/hello
      caused by: overlays/a/root/bin/hello: /bin is a link to usr/bin in the image

    hint: write the path without links
    ");
}

#[test]
fn an_overlay_says_what_it_needs_and_so_do_those_it_requires() {
    let overlays = Overlays::new(&[
        ("a/overlay.toml", "schema = 1\nrequires = [\"b\"]\npackages = [\"samba\"]\n"),
        ("b/overlay.toml", "schema = 1\nmodules = [\"nfsd\"]\nexclude = [\"usr/share/x/**\"]\n"),
    ]);
    let all = wants(&overlays.folder(), &BTreeSet::from(["a".to_owned()])).unwrap();
    let said: Vec<_> =
        all.into_iter().map(|wants| (wants.overlay, wants.packages, wants.modules, wants.exclude)).collect();
    let a = ("a".to_owned(), BTreeSet::from(["samba".to_owned()]), vec![], vec![]);
    let b = ("b".to_owned(), BTreeSet::new(), vec!["nfsd".to_owned()], vec!["usr/share/x/**".to_owned()]);
    assert_eq!(said, [a, b]);
}

#[test]
fn the_overlays_of_this_repository_make_a_plan() {
    let overlays = Path::new(env!("CARGO_MANIFEST_DIR")).join("../overlays");
    for name in fs_err::read_dir(&overlays).unwrap() {
        let name = name.unwrap().file_name().into_string().unwrap();
        let variables =
            toml::from_str("hostname = 'nas'\nprofile = 'qemu'\nversion = '1'\nhardware = '{}'\nrelease_keys = 'null'")
                .unwrap();
        let names = BTreeSet::from([name.clone()]);
        let plan = plan(&overlays, &names, &variables).unwrap();
        let wants_something = wants(&overlays, &names).unwrap().iter().any(|wants| !wants.packages.is_empty());
        assert!(!plan.entries().is_empty() || wants_something, "{name}");
    }
}

#[test]
fn a_template_for_the_appliance_is_checked_and_copied() {
    let template = "usr/share/larder/templates/etc/x.tera";
    let overlays = Overlays::new(&[(&format!("a/root/{template}"), "{# #}\n{{ system.hostname }}\n")]);
    let plan = overlays.plan(&["a"]).unwrap();
    let Kind::File { content, .. } = &plan.entries()[&format!("/{template}")].kind else { panic!("no file") };
    assert_eq!(content, b"{# #}\n{{ system.hostname }}\n");
    let overlays = Overlays::new(&[(&format!("a/root/{template}"), "{# #}\n{{ system.hostnam }}\n")]);
    let error = overlays.plan(&["a"]).unwrap_err();
    insta::assert_snapshot!(render(&error), @r"
    error: overlays/a/root/usr/share/larder/templates/etc/x.tera: the appliance cannot render this template
      caused by: rendering etc/x
      caused by: error: Field `hostnam` is not defined. Available fields: hostname, timezone
     --> etc/x:1:11
      |
    1 | {{ system.hostnam }}
      |           ^^^^^^^
    ");
}
