#[allow(dead_code, reason = "shared: each user takes what it needs")]
#[path = "../../tests/support/deb.rs"]
pub(crate) mod build;

use std::os::unix::fs::{MetadataExt as _, symlink as make_symlink};

use tar::EntryType;

use super::*;
use build::{Entry, ar, compress, deb, deb_with, file, folder, hard_link, node, symlink, tar};

/// A folder to unpack into, inside a folder that must stay as it is.
struct Bench {
    around: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let around = tempfile::tempdir().unwrap();
        fs::create_dir(around.path().join("into")).unwrap();
        fs::write(around.path().join("precious"), "kept").unwrap();
        Self { around }
    }

    fn unpack(&self, deb: &[u8]) -> anyhow::Result<Contents> {
        let path = self.around.path().join("package.deb");
        fs::write(&path, deb).unwrap();
        unpack(&path, &self.around.path().join("into"), Ownership::Ignore)
    }

    fn data(&self, path: &str) -> PathBuf {
        self.around.path().join("into/data").join(path)
    }

    fn nothing_outside_changed(&self) {
        let mut names: Vec<_> =
            fs::read_dir(self.around.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["into", "package.deb", "precious"]);
        assert_eq!(fs::read_to_string(self.around.path().join("precious")).unwrap(), "kept");
    }
}

fn error_chain(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// Unpacks a hostile package; returns what is said about it, after checking that no harm was done.
fn refuse(entries: &[Entry]) -> String {
    let bench = Bench::new();
    let error = bench.unpack(&deb(entries)).unwrap_err();
    bench.nothing_outside_changed();
    assert!(error.is::<Mistake>());
    error.chain().skip(1).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[test]
fn files_folders_and_links_are_unpacked() {
    let bench = Bench::new();
    let entries = [
        folder("./"),
        folder("./usr/"),
        folder("./usr/bin/"),
        Entry { mode: 0o4755, ..file("./usr/bin/su", "program") },
        hard_link("./usr/bin/su2", "./usr/bin/su"),
        symlink("./usr/bin/link", "../../../../etc/passwd"),
        Entry { mode: 0o2700, ..folder("./var/private/") },
    ];
    let contents = bench.unpack(&deb(&entries)).unwrap();
    let su = fs::metadata(bench.data("usr/bin/su")).unwrap();
    assert_eq!((su.mode() & 0o7777, su.mtime(), su.nlink()), (0o4755, 1_700_000_000, 2));
    assert_eq!(fs::read_to_string(bench.data("usr/bin/su2")).unwrap(), "program");
    assert_eq!(fs::read_link(bench.data("usr/bin/link")).unwrap(), Path::new("../../../../etc/passwd"));
    assert_eq!(fs::symlink_metadata(bench.data("usr/bin/link")).unwrap().mtime(), 1_700_000_000);
    assert_eq!(fs::metadata(bench.data("var/private")).unwrap().mode() & 0o7777, 0o2700);
    assert_eq!(fs::metadata(bench.data("usr")).unwrap().mtime(), 1_700_000_000);
    assert_eq!(fs::read_to_string(bench.around.path().join("into/control/control")).unwrap(), "Package: test\n");
    assert_eq!(Contents::read(&bench.around.path().join("into")).unwrap(), contents);
    let list: Vec<_> = contents.files[2..].iter().map(|file| serde_json::to_string(file).unwrap()).collect();
    insta::assert_snapshot!(list.join("\n"), @r#"
    {"path":"usr/bin/link","type":"symlink","target":"../../../../etc/passwd"}
    {"path":"usr/bin/su","type":"file","size":7}
    {"path":"usr/bin/su2","type":"hard-link","size":7,"target":"usr/bin/su"}
    {"path":"var","type":"folder"}
    {"path":"var/private","type":"folder"}
    "#);
}

#[test]
fn every_compression_of_the_format_is_read() {
    for suffix in ["", ".gz", ".xz", ".zst"] {
        let bench = Bench::new();
        bench.unpack(&deb_with(suffix, &compress(suffix, &tar(&[file("./etc/file", "content")])))).unwrap();
        assert_eq!(fs::read_to_string(bench.data("etc/file")).unwrap(), "content", "{suffix}");
    }
}

#[test]
fn owners_are_kept_by_number() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let bench = Bench::new();
    let entries = [
        Entry { owner: 42, mode: 0o2755, ..file("./usr/sbin/unix_chkpwd", "") },
        Entry { owner: 8, ..symlink("./x", "y") },
    ];
    let path = bench.around.path().join("package.deb");
    fs::write(&path, deb(&entries)).unwrap();
    unpack(&path, &bench.around.path().join("into"), Ownership::Keep).unwrap();
    let metadata = fs::metadata(bench.data("usr/sbin/unix_chkpwd")).unwrap();
    assert_eq!((metadata.uid(), metadata.gid(), metadata.mode() & 0o7777), (42, 42, 0o2755));
    assert_eq!(fs::symlink_metadata(bench.data("x")).unwrap().uid(), 8);
}

#[test]
fn read_only_folders_can_be_filled() {
    let bench = Bench::new();
    bench.unpack(&deb(&[Entry { mode: 0o500, ..folder("./locked/") }, file("./locked/file", "")])).unwrap();
    assert_eq!(fs::metadata(bench.data("locked")).unwrap().mode() & 0o7777, 0o500);
}

#[test]
fn old_top_level_folders_land_in_usr() {
    let bench = Bench::new();
    let entries = [
        folder("./lib/"),
        folder("./lib/systemd/"),
        file("./lib/systemd/unit", "one"),
        folder("./usr/lib/systemd/"),
        file("./usr/lib/systemd/other", "two"),
        hard_link("./bin/again", "./lib/systemd/unit"),
    ];
    bench.unpack(&deb(&entries)).unwrap();
    assert_eq!(fs::read_to_string(bench.data("usr/lib/systemd/unit")).unwrap(), "one");
    assert_eq!(fs::read_to_string(bench.data("usr/lib/systemd/other")).unwrap(), "two");
    assert_eq!(fs::read_to_string(bench.data("usr/bin/again")).unwrap(), "one");
    assert!(!bench.data("lib").exists());
}

#[test]
fn the_symlinks_of_base_files_stay() {
    let bench = Bench::new();
    bench.unpack(&deb(&[symlink("./lib", "usr/lib"), folder("./usr/lib/")])).unwrap();
    assert_eq!(fs::read_link(bench.data("lib")).unwrap(), Path::new("usr/lib"));
}

#[test]
fn paths_that_leave_the_tree_are_refused() {
    for name in ["../precious", "./usr/../../../precious", "/precious"] {
        assert!(refuse(&[file(name, "overwritten")]).contains("leads outside of the package"), "{name}");
        assert!(refuse(&[symlink(name, "x")]).contains("leads outside of the package"), "{name}");
        assert!(refuse(&[folder(name)]).contains("leads outside of the package"), "{name}");
    }
}

#[test]
fn a_symlink_is_never_used_as_a_folder() {
    for target in ["..", "../..", "/tmp", "usr"] {
        let said = refuse(&[symlink("./link", target), file("./link/precious", "overwritten")]);
        assert!(said.contains("`link` is used as a folder"), "{said}");
        let said = refuse(&[symlink("./link", target), folder("./link/"), file("./link/precious", "")]);
        assert!(said.contains("once not as a folder"), "{said}");
    }
    // `usr` itself as a link: what is moved to /usr must not follow it either.
    let said = refuse(&[symlink("./usr", "../.."), file("./bin/precious", "overwritten")]);
    assert!(said.contains("`usr` is used as a folder"), "{said}");
}

#[test]
fn a_file_is_not_written_through_a_symlink_of_its_name() {
    let said = refuse(&[symlink("./link", "../../precious"), file("./link", "overwritten")]);
    assert!(said.contains("occurs twice"), "{said}");
}

#[test]
fn hard_links_stay_inside_and_point_to_files() {
    for target in ["../../precious", "/etc/passwd", "./missing", "./folder", "./link"] {
        refuse(&[folder("./folder"), symlink("./link", "../../precious"), hard_link("./x", target)]);
    }
}

#[test]
fn device_nodes_and_pipes_are_refused() {
    assert!(refuse(&[node("./dev/sda", EntryType::Block)]).contains("device nodes are refused"));
    assert!(refuse(&[node("./dev/null", EntryType::Char)]).contains("device nodes are refused"));
    assert!(refuse(&[node("./run/pipe", EntryType::Fifo)]).contains("named pipes are refused"));
}

#[test]
fn owners_outside_of_the_namespace_are_refused() {
    assert!(refuse(&[Entry { owner: 70_000, ..file("./x", "") }]).contains("owner 70000 is out of range"));
}

#[test]
fn a_bomb_is_stopped_at_its_limit() {
    let zeros = compress(".xz", &vec![0; 2_000_000]);
    let mut stream = compression::decompress(".xz", &zeros[..], 1_000_000).unwrap();
    let error = std::io::copy(&mut stream, &mut std::io::sink()).unwrap_err();
    assert_eq!(error.to_string(), "more than 1000000 bytes when decompressed");
}

#[test]
fn a_package_cut_anywhere_is_an_error_that_names_the_file() {
    for suffix in [".xz", ".zst", ".gz", ""] {
        let content: String = (0..4000).map(|n| format!("{} ", n * n % 977)).collect();
        let whole = deb_with(suffix, &compress(suffix, &tar(&[file("./a", &content), file("./b", "b")])));
        for length in (0..whole.len() - 1).step_by(whole.len() / 60) {
            let bench = Bench::new();
            let error = bench.unpack(&whole[..length]).expect_err(&format!("{length} of {} {suffix}", whole.len()));
            assert!(error.is::<Mistake>() && error.to_string().contains("package.deb"), "{}", error_chain(&error));
        }
    }
}

#[test]
fn a_cut_package_says_where_it_ends() {
    let whole = deb(&[file("./a", "content")]);
    let bench = Bench::new();
    let error = bench.unpack(&whole[..whole.len() - 20]).unwrap_err();
    let offset = format!("damaged at byte {}", whole.len() - 20);
    assert!(error_chain(&error).contains(&offset), "{}", error_chain(&error));
}

#[test]
fn a_stream_cut_inside_a_whole_container_is_an_error() {
    for suffix in [".xz", ".zst", ".gz"] {
        let data = compress(suffix, &tar(&[file("./a", &"content".repeat(10_000))]));
        for cut in [1, 8, data.len() / 2] {
            let error = Bench::new()
                .unpack(&deb_with(suffix, &data[..data.len() - cut]))
                .expect_err(&format!("{suffix} {cut}"));
            assert!(error_chain(&error).contains("data.tar"), "{}", error_chain(&error));
        }
    }
    let data = tar(&[file("./a", &"content".repeat(1000))]);
    Bench::new().unpack(&deb_with("", &data[..2048])).unwrap_err();
}

#[test]
fn what_follows_the_data_must_be_a_known_extension() {
    let whole = deb(&[file("./a", "")]);
    let signed = [&whole[..], &ar(&[("_gpgorigin", b"signature")])[8..]].concat();
    Bench::new().unpack(&signed).unwrap();
    for tail in [b"garbage".to_vec(), ar(&[("data.tar.xz", b"again")])[8..].to_vec()] {
        Bench::new().unpack(&[&whole[..], &tail].concat()).unwrap_err();
    }
}

#[test]
fn other_formats_and_orders_are_refused() {
    let data = compress(".xz", &tar(&[]));
    for members in [
        vec![("debian-binary", &b"3.0\n"[..]), ("control.tar.xz", &data), ("data.tar.xz", &data)],
        vec![("control.tar.xz", &data), ("data.tar.xz", &data)],
        vec![("debian-binary", b"2.0\n"), ("data.tar.xz", &data), ("control.tar.xz", &data)],
        vec![("debian-binary", b"2.0\n"), ("control.tar.xz", &data)],
        vec![("debian-binary", b"2.0\n"), ("control.tar.lzma", &data), ("data.tar.xz", &data)],
        vec![],
    ] {
        assert!(Bench::new().unpack(&ar(&members)).unwrap_err().is::<Mistake>());
    }
}

#[test]
fn packages_are_unpacked_into_the_store_once_and_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(Some(folder.path().join("store"))).unwrap();
    let debs: Vec<_> = (0..10)
        .map(|n| {
            let (path, bytes) =
                (folder.path().join(n.to_string()), deb(&[file("./name", &n.to_string().repeat(n * n * 100))]));
            fs::write(&path, &bytes).unwrap();
            Deb { label: n.to_string(), sha256: Hash::of(bytes), file: path }
        })
        .collect();
    let entries = unpack_all(&store, &debs, Ownership::Ignore, &Progress::silent()).unwrap();
    for (n, entry) in entries.iter().enumerate() {
        assert_eq!(fs::read_to_string(entry.join("data/name")).unwrap(), n.to_string().repeat(n * n * 100));
    }
    for deb in &debs {
        fs::remove_file(&deb.file).unwrap();
    }
    assert_eq!(unpack_all(&store, &debs, Ownership::Ignore, &Progress::silent()).unwrap(), entries);
}

#[test]
fn one_bad_package_fails_all_and_leaves_no_entry_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(Some(folder.path().join("store"))).unwrap();
    let path = folder.path().join("bad.deb");
    fs::write(&path, "bad").unwrap();
    make_symlink("nowhere", folder.path().join("dangling.deb")).unwrap();
    for deb in ["bad.deb", "dangling.deb"] {
        let bad = Deb { label: "bad 1".into(), sha256: Hash::of(deb), file: folder.path().join(deb) };
        let error = unpack_all(&store, &[bad], Ownership::Ignore, &Progress::silent()).unwrap_err();
        assert!(error_chain(&error).contains(deb), "{}", error_chain(&error));
    }
    assert_eq!(store.usage().unwrap().iter().map(|part| part.count).sum::<u64>(), 0);
}
