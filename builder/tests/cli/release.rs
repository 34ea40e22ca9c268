//! Keys, releases and the server: what is published, what is refused, and that nothing secret shows.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use firstboot::update::channel::{Channel, Expected, Release};
use firstboot::update::envelope::Envelope;
use firstboot::update::keys::TrustedKeys;
use firstboot::verity::Tree;
use larder::hash::Hash;
use larder::image::output::{Manifest, OutputFile, SCHEMA};
use uuid::Uuid;

use crate::bench::{Bench, LARDER, files};

const PASSPHRASE: &str = "correct horse battery";

/// A bench with a release key and its passphrase in files of their own.
fn bench() -> Bench {
    let bench = Bench::new();
    fs_err::write(bench.folder("secret").join("passphrase"), format!("{PASSPHRASE}\n")).unwrap();
    bench.does(&["keys", "new", "secret/release.key", "--passphrase-file", "secret/passphrase"]);
    bench
}

/// The parts of a build in a folder of that name: what `larder publish` reads of one. `blocks` are its content.
fn build(bench: &Bench, version: &str, blocks: &[u8]) -> String {
    let name = format!("out-{version}-{}", blocks.len());
    let folder = bench.folder(&name);
    let path = |ending: &str| folder.join(format!("larder-nas-{version}.{ending}"));
    fs_err::write(path("root.erofs"), blocks.iter().flat_map(|block| noise(*block)).collect::<Vec<_>>()).unwrap();
    let root = fs_err::File::open(path("root.erofs")).unwrap();
    let tree = fs_err::OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path("root.verity"));
    let root_hash = Tree::write(root.file(), tree.unwrap().file(), Uuid::nil()).unwrap();
    fs_err::write(path("uki.efi"), format!("kernel roothash={root_hash}")).unwrap();
    fs_err::write(path("img.zst"), vec![0; 10_000]).unwrap();
    let file = |ending: &str| {
        let size = fs_err::metadata(path(ending)).unwrap().len();
        let sha256 = Hash::of_file(&path(ending)).unwrap();
        OutputFile { name: path(ending).file_name().unwrap().to_string_lossy().into_owned(), size, sha256 }
    };
    let manifest = Manifest {
        schema: SCHEMA,
        profile: "nas".to_owned(),
        version: version.parse().unwrap(),
        snapshot: "2026-11-21T02:10:46Z".to_owned(),
        root_hash,
        kernel: "6.12".to_owned(),
        zfs: "2.3".to_owned(),
        packages: Vec::new(),
        files: ["root.erofs", "root.verity", "uki.efi", "img.zst"].map(file).to_vec(),
        inputs: Vec::new(),
    };
    fs_err::write(path("manifest.json"), serde_json::to_string(&manifest).unwrap()).unwrap();
    name
}

/// A block that does not compress.
fn noise(seed: u8) -> Vec<u8> {
    (0..128_u8).flat_map(|part| *Hash::of([seed, part]).as_bytes()).collect()
}

/// Arguments that publish and sign.
fn publish<'a>(build: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let signed =
        ["publish", build, "--to", "site", "--key", "secret/release.key", "--passphrase-file", "secret/passphrase"];
    [&signed, more].concat()
}

/// What an appliance with the keys of the project believes of the channel.
fn offered(bench: &Bench) -> Vec<Release> {
    let keys = Envelope::parse(bench.read("profiles/release-keys/1.json").as_bytes()).unwrap();
    let keys = TrustedKeys::anchor(&keys).unwrap();
    let channel = fs_err::read(bench.folder("site").join("stable/nas.json")).unwrap();
    let now = jiff::Timestamp::now();
    let expected = Expected { channel: "stable", profile: "nas", now, serial: 1 };
    let verified = Envelope::parse(&channel).unwrap().verify::<Channel>(&keys).unwrap();
    verified.accept(&expected).unwrap().releases().to_vec()
}

fn object(bench: &Bench, release: &Release) -> PathBuf {
    bench.folder("site").join(release.full.payload.path())
}

const ONE: &[u8] = &[1, 2, 3, 4, 5, 6, 7, 8];
const TWO: &[u8] = &[1, 2, 3, 9, 4, 5, 6, 7, 8];

#[test]
fn a_key_is_made_once_shown_and_never_lies_open() {
    let bench = bench();
    let key = bench.folder("secret").join("release.key");
    let text = fs_err::read_to_string(&key).unwrap();
    assert!(text.starts_with("untrusted comment: larder release key RW"), "{text}");
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs_err::metadata(&key).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    let shown = bench.prints(&["keys", "show"]);
    assert!(shown.starts_with("version 1, 1 of 1 must sign\nRW"), "{shown}");
    insta::assert_snapshot!(bench.refuses(&["keys", "new", "secret/release.key", "--passphrase-file", "secret/passphrase"]), @"
    error: secret/release.key: the key cannot be written
      caused by: failed to open file `secret/release.key`: File exists (os error 17)

    hint: name a file that does not exist yet, in a folder that you may write to
    ");
    assert_eq!(fs_err::read_to_string(&key).unwrap(), text);
}

#[test]
fn a_passphrase_is_long_enough_and_asked_for_at_a_terminal_only() {
    let bench = bench();
    fs_err::write(bench.folder("secret").join("short"), "abc\n").unwrap();
    insta::assert_snapshot!(bench.refuses(&["keys", "new", "other.key", "--passphrase-file", "secret/short"]), @"
    error: the passphrase has less than 8 characters

    hint: whoever gets the file could try all of them: take some words
    ");
    insta::assert_snapshot!(bench.refuses_to(bench.larder(&["keys", "new", "other.key"]).stdin(Stdio::null())), @"
    error: there is no terminal to ask for the passphrase at

    hint: name a file that holds it: --passphrase-file FILE
    ");
}

#[test]
fn two_builds_become_two_releases_and_a_small_way_between_them() {
    let bench = bench();
    let (one, two) = (build(&bench, "1", ONE), build(&bench, "2", TWO));
    bench.does(&publish(&one, &[]));
    let first = offered(&bench);
    assert_eq!(first.iter().map(|release| release.version.as_str()).collect::<Vec<_>>(), ["1"]);
    bench.does(&publish(&two, &["--minimum-version", "1"]));
    let releases = offered(&bench);
    assert_eq!(releases.iter().map(|release| release.version.as_str()).collect::<Vec<_>>(), ["2", "1"]);
    assert_eq!(releases[0].minimum_version.as_ref().unwrap().as_str(), "1");
    let delta = releases[0].delta_from(&first[0].root_hash, &first[0].uki).unwrap();
    assert_eq!(delta.from.as_str(), "1");
    for object in releases.iter().flat_map(|release| release.objects()) {
        let content = fs_err::read(bench.folder("site").join(object.path())).unwrap();
        assert!(object.is(&content), "{}", object.path());
    }
    let published = files(&bench.folder("site")).into_iter();
    let secrets = published.filter(|path| String::from_utf8_lossy(&fs_err::read(path).unwrap()).contains(PASSPHRASE));
    assert_eq!(secrets.collect::<Vec<_>>(), Vec::<PathBuf>::new());
}

#[test]
fn the_same_build_again_gives_its_channel_more_time() {
    let bench = bench();
    let one = build(&bench, "1", ONE);
    bench.does(&publish(&one, &[]));
    let before = fs_err::read_to_string(bench.folder("site").join("stable/nas.json")).unwrap();
    let objects = files(&bench.folder("site").join("objects"));
    bench.does(&publish(&one, &["--expires", "90"]));
    let after = fs_err::read_to_string(bench.folder("site").join("stable/nas.json")).unwrap();
    assert!(before != after && after.contains("\\\"serial\\\":2"), "{after}");
    assert_eq!(files(&bench.folder("site").join("objects")), objects);
}

#[test]
fn what_appliances_would_not_take_is_refused() {
    let bench = bench();
    let (one, two) = (build(&bench, "1", ONE), build(&bench, "2", TWO));
    let other = build(&bench, "2", &[1, 2, 3]);
    bench.does(&publish(&two, &[]));
    insta::assert_snapshot!(bench.refuses(&publish(&one, &[])), @"
    error: version 1 is older than 2, which is published

    hint: appliances never go back by themselves: build it with a higher --version
    ");
    insta::assert_snapshot!(bench.refuses(&publish(&other, &[])), @"
    error: version 2 was published with other content

    hint: appliances that have it would never get this one: build it with a higher --version
    ");
    insta::assert_snapshot!(bench.refuses(&publish(&two, &["--channel", "../etc"])), @"
    error: `../etc` is no name for a channel

    hint: use up to 64 small letters, digits and `-`, such as `stable`
    ");
    fs_err::write(bench.folder("secret").join("wrong"), "incorrect horse\n").unwrap();
    insta::assert_snapshot!(bench.refuses(&["publish", &two, "--to", "site", "--key", "secret/release.key", "--passphrase-file", "secret/wrong"]), @"
    error: secret/release.key: the key does not open with this passphrase
      caused by: Wrong password for that key
    ");
    let damaged = bench.folder(&two).join("larder-nas-2.root.erofs");
    fs_err::write(&damaged, b"something else").unwrap();
    insta::assert_snapshot!(bench.refuses(&publish(&two, &[])), @"
    error: out-2-9/larder-nas-2.root.erofs: this is not the file that the manifest tells of

    hint: build it again, into a folder of its own
    ");
}

#[test]
fn without_a_key_in_the_project_nothing_is_published() {
    let bench = Bench::new();
    let one = build(&bench, "1", ONE);
    insta::assert_snapshot!(bench.refuses(&["publish", &one, "--to", "site"]), @"
    error: there are no release keys, so no appliance would believe a release

    hint: make some: `larder keys new FILE`; then build the image again, as they go into it
    ");
}

#[test]
fn a_release_is_signed_elsewhere_on_digests_alone() {
    let bench = bench();
    let one = build(&bench, "1", ONE);
    let said = bench.does(&["publish", &one, "--to", "site"]);
    assert!(said.contains("larder keys sign site/stable/nas.unsigned.json --key FILE"), "{said}");
    assert!(!bench.folder("site").join("stable/nas.json").exists());
    let put = ["publish", "--signed", "site/stable/nas.unsigned.json", "--to", "site"];
    insta::assert_snapshot!(bench.refuses(&put), @"
    error: site/stable/nas.unsigned.json: this cannot be published
      caused by: 0 of the keys that count have signed it, 1 are needed

    hint: sign it: `larder keys sign site/stable/nas.unsigned.json --key FILE`
    ");
    // Another machine: the file and the key, nothing else.
    let elsewhere = bench.folder("elsewhere");
    fs_err::rename(bench.folder("site").join("stable/nas.unsigned.json"), elsewhere.join("to-sign.json")).unwrap();
    let sign = [
        "keys",
        "sign",
        "elsewhere/to-sign.json",
        "--key",
        "secret/release.key",
        "--passphrase-file",
        "secret/passphrase",
    ];
    let said = bench.does(&sign);
    assert!(said.contains("Signing channel stable/nas serial 1: newest release 1, root hash"), "{said}");
    let signed = fs_err::read(elsewhere.join("to-sign.json")).unwrap();
    bench.does(&sign);
    assert_eq!(fs_err::read(elsewhere.join("to-sign.json")).unwrap(), signed, "one key signs once");
    bench.does(&["publish", "--signed", "elsewhere/to-sign.json", "--to", "site"]);
    let release = offered(&bench).remove(0);
    insta::assert_snapshot!(bench.refuses(&["publish", "--signed", "elsewhere/to-sign.json", "--to", "site"]), @"
    error: elsewhere/to-sign.json: serial number 1 does not follow 1

    hint: something else was published meanwhile: publish again, and sign that
    ");
    // The server's disk was full, or somebody tidied up.
    fs_err::remove_file(object(&bench, &release)).unwrap();
    fs_err::remove_file(bench.folder("site").join("stable/nas.json")).unwrap();
    insta::assert_snapshot!(bench.refuses(&["publish", "--signed", "elsewhere/to-sign.json", "--to", "site"]), @"
    error: site: objects/SHA256 is missing or not whole

    hint: publish the build again: what is there already is kept
    ");
}

#[test]
fn keys_change_when_the_old_and_the_new_have_signed() {
    let bench = bench();
    let one = build(&bench, "1", ONE);
    bench.does(&publish(&one, &[]));
    let old = bench.prints(&["keys", "show"]).lines().nth(1).unwrap().to_owned();
    let new = bench.prints(&["keys", "new", "secret/new.key", "--passphrase-file", "secret/passphrase"]);
    let new = new.trim();
    insta::assert_snapshot!(bench.refuses(&["keys", "rotate", "--remove", &old]), @"
    error: this set of keys cannot work
      caused by: its content is not in order: a set has 1 to 16 keys, each of them once

    hint: see `larder keys show`
    ");
    let rotate = ["keys", "rotate", "--add", new, "--remove", &old, "--key", "secret/release.key"];
    bench.does(&[&rotate[..], &["--passphrase-file", "secret/passphrase"]].concat());
    assert!(bench.prints(&["keys", "show"]).contains(&old), "the new key has not signed yet");
    let next = bench.project("profiles/release-keys/next.json");
    let sign =
        ["keys", "sign", next.to_str().unwrap(), "--key", "secret/new.key", "--passphrase-file", "secret/passphrase"];
    bench.does(&sign);
    assert_eq!(bench.prints(&["keys", "show"]), format!("version 2, 1 of 1 must sign\n{new}\n"));
    assert!(!next.exists());
    // The channel that is there was signed by the old key, which somebody else may have by now: a person looks at it.
    let two = build(&bench, "2", TWO);
    let key = ["--key", "secret/new.key", "--passphrase-file", "secret/passphrase"];
    let publish_two = [&["publish", &two, "--to", "site"][..], &key].concat();
    let said = bench.refuses(&publish_two);
    assert!(said.contains("site/stable/nas.json: this channel is not signed with the keys of this project"), "{said}");
    assert!(said.contains("`larder keys sign site/stable/nas.json --key FILE`"), "{said}");
    bench.does(&[&["keys", "sign", "site/stable/nas.json"][..], &key].concat());
    bench.does(&publish_two);
    let channel = fs_err::read(bench.folder("site").join("stable/nas.json")).unwrap();
    let versions = Envelope::parse(&channel).unwrap().read::<Channel>().unwrap().releases.into_iter();
    assert_eq!(versions.map(|release| release.version.to_string()).collect::<Vec<_>>(), ["2", "1"]);
    assert_eq!(files(&bench.folder("site").join("keys")).len(), 2);
}

/// `larder serve` at work, until the test ends.
struct Server(Child, String);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn serve(bench: &Bench, folder: &Path) -> Server {
    let mut command = bench.in_environment(LARDER, &["serve", folder.to_str().unwrap(), "--port", "0"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(child.stdout.take().unwrap()), &mut line).unwrap();
    let address = line.trim().trim_start_matches("http://").trim_end_matches('/').to_owned();
    Server(child, address)
}

/// Status line and body of an answer.
fn get(server: &Server, path: &str, range: &str) -> (String, Vec<u8>) {
    let mut stream = TcpStream::connect(&server.1).unwrap();
    let range = if range.is_empty() { String::new() } else { format!("Range: {range}\r\n") };
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\n{range}Connection: close\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let head = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
    let status = String::from_utf8_lossy(&answer[..head]).lines().next().unwrap().to_owned();
    (status, answer[head + 4..].to_vec())
}

#[test]
fn a_folder_is_served_by_ranges_and_nothing_beside_it() {
    let bench = Bench::new();
    let site = bench.folder("site");
    fs_err::create_dir_all(site.join("objects")).unwrap();
    fs_err::write(site.join("objects/abc"), b"0123456789").unwrap();
    fs_err::write(bench.folder("").join("secret"), b"secret").unwrap();
    let server = serve(&bench, &site);
    assert_eq!(get(&server, "/objects/abc", ""), ("HTTP/1.1 200 OK".to_owned(), b"0123456789".to_vec()));
    assert_eq!(get(&server, "/objects/abc", "bytes=2-4"), ("HTTP/1.1 206 Partial Content".to_owned(), b"234".to_vec()));
    assert!(get(&server, "/objects/abc", "bytes=20-").0.contains("416"));
    for path in ["/../secret", "/objects/../../secret", "/objects", "/nothing"] {
        assert!(get(&server, path, "").0.contains("404"), "{path}");
    }
    insta::assert_snapshot!(bench.refuses(&["serve", "nowhere"]), @"
    error: nowhere: no such folder

    hint: make one: `larder publish BUILD --to DIR`
    ");
}
