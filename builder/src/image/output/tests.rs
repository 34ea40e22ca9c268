use super::*;

fn manifest() -> Manifest {
    Manifest {
        schema: SCHEMA,
        profile: "qemu".into(),
        version: "1.0".parse().unwrap(),
        snapshot: "2026-11-21T02:10:46Z".into(),
        root_hash: RootHash::from([0xab; 32]),
        kernel: "6.12.117+deb13-amd64".into(),
        zfs: "2.3.9-1".into(),
        packages: vec![Package {
            name: "bash".into(),
            version: "5.2-1".into(),
            architecture: "amd64".into(),
            sha256: Hash::of("bash"),
            size: 1000,
            location: "debian:pool/main/b/bash/bash_5.2-1_amd64.deb".into(),
            installed_size: 4096,
            source: Source { name: "bash".into(), version: "5.2-1".into() },
        }],
        files: Vec::new(),
        inputs: vec![Input { name: "tree".into(), key: Hash::of("tree") }],
    }
}

/// A store and an output folder.
struct Fixture {
    _folder: TempDir,
    store: Store,
    out: PathBuf,
}

impl Fixture {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(Some(folder.path().join("store"))).unwrap();
        Self { store, out: folder.path().join("out"), _folder: folder }
    }

    fn output(&self, profile: &str) -> Output {
        Output::open(&self.out, profile, &"1.0".parse().unwrap(), &Progress::silent()).unwrap()
    }

    /// Publishes a build of which the image and the tree have this content; the content is its key.
    fn publish(&self, profile: &str, content: &str) -> Manifest {
        let output = self.output(profile);
        let staging = output.stage().unwrap();
        let files = [Artifact::Image, Artifact::Verity].map(|artifact| {
            fs_err::write(staging.path(artifact), content).unwrap();
            staging.describe(artifact).unwrap()
        });
        let manifest = Manifest { profile: profile.to_owned(), files: files.to_vec(), ..manifest() };
        staging.publish(&manifest, &self.store, &Hash::of(content)).unwrap();
        manifest
    }

    fn holds(&self, content: &str) -> Option<Manifest> {
        self.output("qemu").published(&self.store, &Hash::of(content))
    }

    fn names(&self) -> Vec<String> {
        let entries = fs_err::read_dir(&self.out).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn read(&self, name: &str) -> String {
        fs_err::read_to_string(self.out.join(name)).unwrap()
    }
}

#[test]
fn a_published_build_has_files_manifest_and_checksums() {
    let fixture = Fixture::new();
    let written = fixture.publish("qemu", "image");
    insta::assert_snapshot!(fixture.names().join("\n"), @r"
    larder-qemu-1.0.SHA256SUMS
    larder-qemu-1.0.img
    larder-qemu-1.0.manifest.json
    larder-qemu-1.0.root.verity
    ");
    let json = fixture.read("larder-qemu-1.0.manifest.json");
    assert_eq!(serde_json::from_str::<Manifest>(&json).unwrap(), written);
    insta::assert_snapshot!(json, @r#"
    {
      "schema": 2,
      "profile": "qemu",
      "version": "1.0",
      "snapshot": "2026-11-21T02:10:46Z",
      "root_hash": "abababababababababababababababababababababababababababababababab",
      "kernel": "6.12.117+deb13-amd64",
      "zfs": "2.3.9-1",
      "packages": [
        {
          "name": "bash",
          "version": "5.2-1",
          "architecture": "amd64",
          "sha256": "37d2b12d5d9abc2a364ef9448767ee03938e383c0284193477dc7618f4b7c6c2",
          "size": 1000,
          "location": "debian:pool/main/b/bash/bash_5.2-1_amd64.deb",
          "installed_size": 4096,
          "source": {
            "name": "bash",
            "version": "5.2-1"
          }
        }
      ],
      "files": [
        {
          "name": "larder-qemu-1.0.img",
          "size": 5,
          "sha256": "6105d6cc76af400325e94d588ce511be5bfdbb73b437dc51eca43917d7a43e3d"
        },
        {
          "name": "larder-qemu-1.0.root.verity",
          "size": 5,
          "sha256": "6105d6cc76af400325e94d588ce511be5bfdbb73b437dc51eca43917d7a43e3d"
        }
      ],
      "inputs": [
        {
          "name": "tree",
          "key": "dc9c5edb8b2d479e697b4b0b8ab874f32b325138598ce9e7b759eb8292110622"
        }
      ]
    }
    "#);
    let sums = fixture.read("larder-qemu-1.0.SHA256SUMS");
    assert!(sums.starts_with(&format!("{}  larder-qemu-1.0.img\n", Hash::of("image"))));
    assert!(sums.ends_with(&format!("{}  larder-qemu-1.0.manifest.json\n", Hash::of(&json))));
}

#[test]
fn builds_of_two_profiles_lie_side_by_side() {
    let fixture = Fixture::new();
    fixture.publish("qemu", "one");
    let before = fixture.names();
    fixture.publish("n150", "two");
    assert_eq!(fixture.names().len(), 2 * before.len());
    assert!(fixture.read("larder-qemu-1.0.SHA256SUMS").contains(&Hash::of("one").to_string()));
    assert!(fixture.holds("one").is_some());
}

#[test]
fn an_abandoned_build_leaves_nothing_behind_and_the_earlier_one_untouched() {
    let fixture = Fixture::new();
    fixture.publish("qemu", "image");
    let before = fixture.names();
    let output = fixture.output("qemu");
    let staging = output.stage().unwrap();
    fs_err::write(staging.path(Artifact::Image), "other").unwrap();
    drop(staging);
    assert_eq!(fixture.names(), before);
    assert_eq!(fixture.read("larder-qemu-1.0.img"), "image");
}

#[test]
fn what_a_killed_build_left_is_swept() {
    let fixture = Fixture::new();
    let abandoned = fixture.out.join(".larder-staging-killed");
    fs_err::create_dir_all(&abandoned).unwrap();
    fs_err::write(abandoned.join("larder-qemu-1.0.img"), "half").unwrap();
    fixture.publish("qemu", "image");
    assert!(!abandoned.exists());
}

#[test]
fn who_comes_second_to_a_folder_waits_until_the_first_is_done() {
    let fixture = Fixture::new();
    let first = fixture.output("qemu");
    std::thread::scope(|threads| {
        let second = threads.spawn(|| fixture.holds("image").is_some());
        let staging = first.stage().unwrap();
        fs_err::write(staging.path(Artifact::Image), "image").unwrap();
        let files = vec![staging.describe(Artifact::Image).unwrap()];
        staging.publish(&Manifest { files, ..manifest() }, &fixture.store, &Hash::of("image")).unwrap();
        drop(first);
        assert!(second.join().unwrap());
    });
}

#[test]
fn publishing_again_replaces_files_and_checksums() {
    let fixture = Fixture::new();
    fixture.publish("qemu", "one");
    fixture.publish("qemu", "two");
    assert_eq!(fixture.read("larder-qemu-1.0.root.verity"), "two");
    assert!(fixture.read("larder-qemu-1.0.SHA256SUMS").starts_with(&Hash::of("two").to_string()));
}

#[test]
fn a_build_that_is_there_is_recognised_by_its_key() {
    let fixture = Fixture::new();
    assert_eq!(fixture.holds("image"), None);
    let written = fixture.publish("qemu", "image");
    assert_eq!(fixture.holds("image"), Some(written));
    assert_eq!(fixture.holds("of other inputs"), None);
    fixture.publish("qemu", "of other inputs");
    assert_eq!(fixture.holds("image"), None);
}

#[test]
fn a_file_that_someone_has_touched_is_no_longer_what_was_published() {
    type Harm = fn(&Path);
    let harms: [(&str, Harm); 6] = [
        ("edited", |path| {
            let modified = fs_err::metadata(path).unwrap().modified().unwrap();
            let file = fs_err::OpenOptions::new().write(true).open(path).unwrap();
            std::os::unix::fs::FileExt::write_all_at(file.file(), b"X", 0).unwrap();
            file.file().set_modified(modified).unwrap();
        }),
        ("cut", |path| fs_err::OpenOptions::new().write(true).open(path).unwrap().set_len(3).unwrap()),
        ("replaced", |path| {
            let copy = path.with_extension("copy");
            fs_err::copy(path, &copy).unwrap();
            let modified = fs_err::metadata(path).unwrap().modified().unwrap();
            fs_err::File::open(&copy).unwrap().file().set_modified(modified).unwrap();
            fs_err::rename(copy, path).unwrap();
        }),
        ("removed", |path| fs_err::remove_file(path).unwrap()),
        ("made a link", |path| {
            fs_err::rename(path, path.with_extension("elsewhere")).unwrap();
            fs_err::os::unix::fs::symlink(path.with_extension("elsewhere"), path).unwrap();
        }),
        ("touched", |path| {
            fs_err::File::open(path).unwrap().file().set_modified(std::time::SystemTime::now()).unwrap();
        }),
    ];
    for (what, harm) in harms {
        for name in ["img", "manifest.json", "SHA256SUMS"] {
            let fixture = Fixture::new();
            fixture.publish("qemu", "image");
            assert!(fixture.holds("image").is_some());
            harm(&fixture.out.join(format!("larder-qemu-1.0.{name}")));
            assert_eq!(fixture.holds("image"), None, "{name} {what}");
        }
    }
}

#[test]
fn a_moved_folder_and_an_emptied_store_know_nothing() {
    let fixture = Fixture::new();
    fixture.publish("qemu", "image");
    let elsewhere = fixture.out.with_extension("elsewhere");
    fs_err::rename(&fixture.out, &elsewhere).unwrap();
    let moved = Output::open(&elsewhere, "qemu", &"1.0".parse().unwrap(), &Progress::silent()).unwrap();
    assert_eq!(moved.published(&fixture.store, &Hash::of("image")), None);
    drop(moved);
    fs_err::rename(elsewhere, &fixture.out).unwrap();
    assert!(fixture.holds("image").is_some());
    fs_err::remove_dir_all(fixture.store.folder().join("published-v1")).unwrap();
    assert_eq!(fixture.holds("image"), None);
}
