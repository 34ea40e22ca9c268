use std::io::Write as _;
use std::path::Path;

use super::*;
use crate::deb::Source;
use crate::hash::Hash;
use crate::image::output::{Manifest, OutputFile, Package, SCHEMA as MANIFEST_SCHEMA};
use crate::progress::Progress;
use crate::project::Project;
use crate::recipe::Recipe;
use crate::session::Limits;
use crate::store::{Bucket, Store};

/// A project and a store with some packages unpacked.
struct Bench {
    folder: tempfile::TempDir,
    session: Session,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["profiles", "overlays"] {
            fs_err::create_dir_all(folder.path().join("project").join(name)).unwrap();
        }
        let project = Project::find(Some(&folder.path().join("project")), folder.path()).unwrap();
        let store = Store::open(Some(folder.path().join("cache"))).unwrap();
        let limits = Limits { locked: true, offline: true };
        Self { session: Session::new(project, store, Progress::silent(), limits), folder }
    }

    /// Puts a package into the store as if it had been unpacked there; documents by their names.
    fn unpack(&self, package: &Package, documents: &[(&str, &str)]) {
        let mut recipe = Recipe::new("unpack", 1);
        recipe.hash("deb", &package.sha256).field("ownership", "keep");
        let fill = |into: &Path| {
            let Package { name, version, source, .. } = package;
            let folder = into.join("data/usr/share/doc").join(name);
            fs_err::create_dir_all(&folder)?;
            fs_err::create_dir(into.join("control"))?;
            let control =
                format!("Package: {name}\nVersion: {version}\nSource: {} ({})\n", source.name, source.version);
            fs_err::write(into.join("control/control"), control)?;
            for (document, text) in documents {
                let mut file = flate2::write::GzEncoder::new(
                    fs_err::File::create(folder.join(document))?,
                    flate2::Compression::fast(),
                );
                file.write_all(text.as_bytes())?;
                file.finish()?;
            }
            Ok(())
        };
        self.session.store.entry(Bucket::Unpacked, &recipe, fill).unwrap();
    }

    /// Writes the output folder of a build.
    fn build(&self, name: &str, change: impl FnOnce(&mut Manifest)) -> String {
        let folder = self.folder.path().join(name);
        fs_err::create_dir_all(&folder).unwrap();
        let mut manifest = Manifest {
            schema: MANIFEST_SCHEMA,
            profile: "nas".into(),
            version: name.parse().unwrap(),
            snapshot: "2026-11-21T02:10:46Z".into(),
            root_hash: [1; 32].into(),
            kernel: "6.12.1-amd64".into(),
            zfs: "2.3.8-1".into(),
            packages: Vec::new(),
            files: Vec::new(),
            inputs: Vec::new(),
        };
        change(&mut manifest);
        fs_err::write(folder.join("manifest.json"), serde_json::to_string(&manifest).unwrap()).unwrap();
        folder.to_str().unwrap().to_owned()
    }

    fn compare(&self, old: &str, new: &str, files: bool) -> Difference {
        compare(&self.session, &Side::open(old).unwrap(), &Side::open(new).unwrap(), files).unwrap()
    }

    fn shown(&self, difference: &Difference) -> String {
        difference.to_string().replace(self.folder.path().to_str().unwrap(), "FOLDER")
    }
}

fn package(name: &str, version: &str, source: &str, source_version: &str, installed_size: u64) -> Package {
    Package {
        name: name.into(),
        version: version.into(),
        architecture: "amd64".into(),
        sha256: Hash::of(format!("{name} {version}")),
        size: 1,
        location: format!("debian:pool/{name}_{version}_amd64.deb"),
        installed_size,
        source: Source { name: source.into(), version: source_version.into() },
    }
}

fn artifact(name: &str, size: u64, content: &str) -> OutputFile {
    OutputFile { name: name.into(), size, sha256: Hash::of(content) }
}

fn entry(source: &str, version: &str, suite: &str, text: &str) -> String {
    format!(
        "{source} ({version}) {suite}; urgency=medium\n\n  * {text}\n\n -- Jo <jo@example.org>  Sat, 21 Nov 2026 10:00:00 +0000\n\n"
    )
}

/// Two builds: a kernel of a new name, two packages of one source, one rebuilt, one added, one gone.
fn two_builds(bench: &Bench) -> (String, String) {
    let old = bench.build("1.0", |manifest| {
        manifest.packages = vec![
            package("bash", "5.2-1", "bash", "5.2-1", 7 << 20),
            package("gone", "1", "gone", "1", 4096),
            package("libssl3", "3.5.1-1", "openssl", "3.5.1-1", 5 << 20),
            package("linux-image-6.12.1-amd64", "6.12.1-1", "linux-signed", "6.12.1+1", 100 << 20),
            package("openssl", "3.5.1-1", "openssl", "3.5.1-1", 2 << 20),
        ];
        manifest.files = vec![
            artifact("larder-nas-1.0.img", 1 << 30, "a"),
            artifact("larder-nas-1.0.uki.efi", 22 << 20, "same"),
            artifact("larder-nas-1.0.mtree", 1, "list"),
        ];
    });
    let bash = package("bash", "5.2-1+b2", "bash", "5.2-1", 7 << 20);
    let libssl = package("libssl3", "3.5.3-1", "openssl", "3.5.3-1", (5 << 20) + 1024);
    let linux = package("linux-image-6.12.9-amd64", "6.12.9-1", "linux-signed", "6.12.9+1", 101 << 20);
    let openssl = package("openssl", "3.5.3-1", "openssl", "3.5.3-1", 2 << 20);
    let fresh = package("fresh", "2", "fresh", "2", 8192);
    bench.unpack(&bash, &[("changelog.Debian.gz", &entry("bash", "5.2-1", "unstable", "CVE-2026-9999"))]);
    bench.unpack(&libssl, &[]);
    let mut text = entry("openssl", "3.5.3-1", "trixie-security", "Fix CVE-2026-0002 and CVE-2026-0001.");
    text += &entry("openssl", "3.5.2-1", "trixie", "DSA-6001-1: CVE-2026-0001");
    text += &entry("openssl", "3.5.1-1", "trixie", "CVE-2025-0009");
    bench.unpack(&openssl, &[("changelog.Debian.gz", &text)]);
    let many: Vec<_> = (1000..1020).map(|number| format!("CVE-2026-{number}")).collect();
    bench.unpack(
        &linux,
        &[(
            "changelog.gz",
            &(entry("linux-signed", "6.12.9+1", "trixie", "Sign")
                + &entry("linux", "6.12.8-1", "trixie", &many.join(" "))),
        )],
    );
    let new = bench.build("1.1", |manifest| {
        manifest.kernel = "6.12.9-amd64".into();
        manifest.root_hash = [2; 32].into();
        manifest.packages = vec![bash, fresh, libssl, linux, openssl];
        manifest.files = vec![
            artifact("larder-nas-1.1.img", (1 << 30) + (1 << 20), "b"),
            artifact("larder-nas-1.1.uki.efi", 22 << 20, "same"),
            artifact("larder-nas-1.1.mtree", 1, "list"),
        ];
    });
    (old, new)
}

#[test]
fn what_matters_most_comes_first() {
    let bench = Bench::new();
    let (old, new) = two_builds(&bench);
    insta::assert_snapshot!(bench.shown(&bench.compare(&old, &new, false)), @"
    larder-nas-1.0 → larder-nas-1.1
    kernel  6.12.1-amd64 → 6.12.9-amd64

    security fixes named in changelogs
      linux-signed  6.12.1+1 → 6.12.9+1
          CVE-2026-1000  CVE-2026-1001  CVE-2026-1002  CVE-2026-1003
          CVE-2026-1004  CVE-2026-1005  CVE-2026-1006  CVE-2026-1007
          CVE-2026-1008  CVE-2026-1009  CVE-2026-1010  CVE-2026-1011
          and 8 more (--json lists them)
      openssl       3.5.1-1 → 3.5.3-1  (trixie-security)
          CVE-2026-0001  CVE-2026-0002  DSA-6001-1

    packages: 3 changed, 2 added, 2 removed
      ~ bash                      5.2-1 → 5.2-1+b2
      + fresh                     2  +8.00 KiB
      - gone                      1  -4.00 KiB
      ~ libssl3                   3.5.1-1 → 3.5.3-1  +1.00 KiB
      - linux-image-6.12.1-amd64  6.12.1-1  -100.00 MiB
      + linux-image-6.12.9-amd64  6.12.9-1  +101.00 MiB
      ~ openssl                   3.5.1-1 → 3.5.3-1

    artifacts
      img       1.00 GiB →  1.00 GiB  +1.00 MiB
      uki.efi  22.00 MiB → 22.00 MiB  the same
      mtree          1 B →       1 B  the same
    ");
}

#[test]
fn machines_get_all_of_it() {
    let bench = Bench::new();
    let (old, new) = two_builds(&bench);
    let difference = bench.compare(&old, &new, false);
    assert_eq!(difference.fixes.iter().map(|fix| fix.ids.len()).collect::<Vec<_>>(), [20, 3]);
    let json = serde_json::to_value(&difference).unwrap();
    insta::assert_snapshot!(serde_json::to_string_pretty(&json["fixes"][1]).unwrap(), @r#"
    {
      "ids": [
        "CVE-2026-0001",
        "CVE-2026-0002",
        "DSA-6001-1"
      ],
      "new": "3.5.3-1",
      "old": "3.5.1-1",
      "source": "openssl",
      "suites": [
        "trixie-security"
      ],
      "urgent": false
    }
    "#);
    insta::assert_snapshot!(serde_json::to_string_pretty(&json["packages"][1]).unwrap(), @r#"
    {
      "name": "fresh",
      "new": {
        "installed_size": 8192,
        "version": "2"
      },
      "old": null
    }
    "#);
}

#[test]
fn a_build_has_no_difference_to_itself() {
    let bench = Bench::new();
    let (old, _) = two_builds(&bench);
    let difference = bench.compare(&old, &old, false);
    assert!(difference.is_empty());
    insta::assert_snapshot!(bench.shown(&difference), @"
    larder-nas-1.0 → larder-nas-1.0
    no difference
    ");
}

#[test]
fn a_changelog_that_cannot_be_had_is_named() {
    let bench = Bench::new();
    let old = bench.build("1.0", |manifest| manifest.packages = vec![package("curl", "1-1", "curl", "1-1", 1)]);
    let new = bench.build("1.1", |manifest| manifest.packages = vec![package("curl", "2-1", "curl", "2-1", 1)]);
    fs_err::write(
        bench.session.project.profiles().join("base.toml"),
        "schema = 1\n[[archive]]\nname = \"debian\"\nmirror = \"http://deb.debian.org/debian\"\nsuites = [\"trixie\"]\ncomponents = [\"main\"]\nkeys = [\"x.asc\"]\n",
    )
    .unwrap();
    insta::assert_snapshot!(bench.shown(&bench.compare(&old, &new, false)), @"
    larder-nas-1.0 → larder-nas-1.1

    changelogs that could not be read; fixes in them are missing here
      curl
          not in the cache: 1 of 1 packages, and --offline forbids to fetch them

    packages: 1 changed, 0 added, 0 removed
      ~ curl  1-1 → 2-1
    ");
}

#[test]
fn files_are_listed_with_what_is_different_about_them() {
    let bench = Bench::new();
    let list = |name: &str, lines: &str| {
        let file = artifact(&format!("larder-nas-{name}.mtree"), 1, lines);
        let folder = bench.build(name, |manifest| manifest.files = vec![file.clone()]);
        let text = format!("#mtree\n/set type=file uid=0 gid=0 mode=0644\n. type=dir mode=0755\n{lines}");
        fs_err::write(Path::new(&folder).join(&file.name), text).unwrap();
        folder
    };
    let (one, two) = (Hash::of("1"), Hash::of("2"));
    let old = list(
        "1.0",
        &format!(
            "./a size=5 sha256digest={one}\n./b size=5 sha256digest={one}\n./c type=link mode=0777 link=a\n./gone size=2048 sha256digest={one}\n./kept mode=0600\n"
        ),
    );
    let new = list(
        "1.1",
        &format!(
            "./a size=1029 sha256digest={two}\n./b size=5 mode=04755 gid=4 sha256digest={two}\n./c type=link mode=0777 link=b\n./fresh type=dir\n./kept mode=0600\n"
        ),
    );
    let difference = bench.compare(&old, &new, true);
    insta::assert_snapshot!(bench.shown(&difference), @"
    larder-nas-1.0 → larder-nas-1.1

    packages: 0 changed, 0 added, 0 removed

    artifacts
      mtree  1 B → 1 B  changed

    files: 3 changed, 1 added, 1 removed
      ~ /a  +1.00 KiB
      ~ /b  mode 644 → 4755, owner 0:0 → 0:4, content
      ~ /c  link a → b
      + /fresh
      - /gone  2.00 KiB
    ");
    assert!(bench.shown(&bench.compare(&old, &new, false)).contains("--files lists them"));
    let without = bench.build("1.2", |_| {});
    let error = compare(&bench.session, &Side::open(&old).unwrap(), &Side::open(&without).unwrap(), true).unwrap_err();
    insta::assert_snapshot!(crate::report::render(&error), @"
    error: larder-nas-1.2: there is no list of its files

    hint: compare the output folders of two builds, with their *.mtree files
    ");
}
