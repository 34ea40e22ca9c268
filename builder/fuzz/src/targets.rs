//! One function for each target. They panic when a promise is broken.

use std::cmp::Ordering;
use std::path::Path;
use std::sync::LazyLock;

use firstboot::fat::{Geometry, Window};
use firstboot::flash::{Source as _, scratch};
use firstboot::settings::Settings;
use firstboot::update::channel::Channel;
use firstboot::update::envelope::Envelope;
use firstboot::update::keys::Keys;
use firstboot::update::patch;
use firstboot::update::recipe::{Bounds, Recipe};
use jiff::Timestamp;
use larder::archive::packages::{self, Index};
use larder::archive::relation;
use larder::archive::release::{Expected, Keyring, VerifiedRelease};
use larder::deb::{Kind, Ownership};
use larder::image::frames::Frames;
use larder::kernel::modinfo::ModInfo;
use larder::lock::Lock;
use larder::profile::file::ProfileFile;
use larder::{path_glob, toml_file};
use sequoia_openpgp::Cert;

use super::{archive, deb as make};

/// A target's name, which is also that of its folder in `corpus/`, and what it does with an input.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const ALL: [Target; 14] = [
    ("packages", packages),
    ("relations", relations),
    ("version", version),
    ("deb", deb),
    ("tar", tar),
    ("release", release),
    ("signed_release", signed_release),
    ("lock", lock),
    ("profile", profile),
    ("modinfo", modinfo),
    ("settings", settings),
    ("frames", frames),
    ("fat", fat),
    ("update", update),
];

/// `Packages`: deb822 stanzas of an index.
pub fn packages(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        let index = Index { origin: "fuzz".to_owned(), release: 0, text: text.to_owned() };
        let _ = packages::parse(&index, 0);
    }
}

/// Relation fields; what was read is written in a form that reads the same.
pub fn relations(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(groups) = relation::parse(text) else { return };
    let written: Vec<String> =
        groups.iter().map(|group| group.iter().map(ToString::to_string).collect::<Vec<_>>().join(" | ")).collect();
    let written = written.join(", ");
    assert_eq!(relation::parse(&written).as_ref(), Ok(&groups), "{text:?} was written as {written:?}");
}

/// Versions, one a line: compared as Policy says, in a total order.
pub fn version(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let versions: Vec<_> = text
        .lines()
        .filter(|line| relation::is_version(line))
        .take(3)
        .map(|line| (line, relation::version(line).expect("is_version promises that it can be read")))
        .collect();
    for (one, a) in &versions {
        for (other, b) in &versions {
            assert_eq!(a.cmp(b), by_policy(one, other), "{one} against {other}");
            assert_eq!(a.cmp(b), b.cmp(a).reverse(), "{one} against {other}");
        }
    }
}

/// Debian Policy, 5.6.12, word for word.
fn by_policy(one: &str, other: &str) -> Ordering {
    let parts = |text: &str| {
        let (epoch, rest) = text.split_once(':').map_or((0, text), |(epoch, rest)| (epoch.parse().unwrap_or(0), rest));
        let (upstream, revision) = rest.rsplit_once('-').unwrap_or((rest, ""));
        (epoch, upstream.to_owned(), revision.to_owned())
    };
    let (a, b): ((u64, String, String), (u64, String, String)) = (parts(one), parts(other));
    a.0.cmp(&b.0).then_with(|| part_by_policy(&a.1, &b.1)).then_with(|| part_by_policy(&a.2, &b.2))
}

fn part_by_policy(mut one: &str, mut other: &str) -> Ordering {
    while !one.is_empty() || !other.is_empty() {
        let letters = |text: &str| text.find(|c: char| c.is_ascii_digit()).unwrap_or(text.len());
        let (a, b) = (letters(one), letters(other));
        // The end sorts after a tilde and before everything else.
        let weight = |byte: Option<&u8>| match byte {
            Some(b'~') => -1,
            None => 0,
            Some(byte) if byte.is_ascii_alphabetic() => i32::from(*byte),
            Some(byte) => i32::from(*byte) + 256,
        };
        for index in 0..a.max(b) {
            let at = |text: &str, end: usize| weight(text.as_bytes()[..end].get(index));
            let ordering = at(one, a).cmp(&at(other, b));
            if ordering.is_ne() {
                return ordering;
            }
        }
        (one, other) = (&one[a..], &other[b..]);
        let digits = |text: &str| text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (a, b) = (digits(one), digits(other));
        let (x, y) = (one[..a].trim_start_matches('0'), other[..b].trim_start_matches('0'));
        let ordering = x.len().cmp(&y.len()).then_with(|| x.cmp(y));
        if ordering.is_ne() {
            return ordering;
        }
        (one, other) = (&one[a..], &other[b..]);
    }
    Ordering::Equal
}

/// A package, byte for byte.
pub fn deb(data: &[u8]) {
    unpack(data);
}

/// The data archive of a package that is otherwise in order.
pub fn tar(data: &[u8]) {
    unpack(&make::deb_of("Package: fuzz\nVersion: 1\n", "", data));
}

/// Nothing is written outside the tree, and what the list says is what is there.
fn unpack(package: &[u8]) {
    let folder = tempfile::tempdir().expect("a folder for the test");
    let (file, tree) = (folder.path().join("fuzz.deb"), folder.path().join("tree"));
    fs_err::write(&file, package).expect("writing the package");
    fs_err::create_dir(&tree).expect("making the tree");
    fs_err::write(folder.path().join("canary"), "alive").expect("writing the canary");
    let result = larder::deb::unpack(&file, &tree, Ownership::Ignore);
    assert_eq!(fs_err::read(folder.path().join("canary")).expect("the canary is gone"), b"alive");
    let beside = fs_err::read_dir(folder.path()).expect("listing the folder").count();
    assert_eq!(beside, 3, "something was written beside the tree");
    let Ok(contents) = result else { return };
    for entry in contents.files {
        let path = tree.join("data").join(&entry.path);
        let found = fs_err::symlink_metadata(&path).expect("a listed path exists").file_type();
        let as_listed = match entry.kind {
            Kind::Folder => found.is_dir(),
            Kind::File { .. } | Kind::HardLink { .. } => found.is_file(),
            Kind::Symlink { .. } => found.is_symlink(),
        };
        assert!(as_listed, "{} is not what the list says", entry.path);
    }
}

static KEY: LazyLock<Cert> = LazyLock::new(|| archive::key(at("2026-01-01T00:00:00Z"), 3650));
static KEYRING: LazyLock<Keyring> = LazyLock::new(|| Keyring::of(vec![KEY.clone()], "fuzz.asc"));

fn at(time: &str) -> Timestamp {
    time.parse().expect("a time")
}

fn expected() -> Expected<'static> {
    Expected { url: "http://mirror.example/InRelease", suite: "trixie", now: at("2026-09-15T12:00:00Z") }
}

/// An `InRelease`, byte for byte: nothing that was not signed by the key is accepted.
pub fn release(data: &[u8]) {
    let result = VerifiedRelease::verify(data, &KEYRING, &expected());
    assert!(result.is_err(), "a release was accepted that nobody signed");
}

/// The text of an `InRelease`, properly signed.
pub fn signed_release(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        let signed = archive::sign(text, &KEY, at("2026-09-12T07:55:41Z"));
        let _ = VerifiedRelease::verify(&signed, &KEYRING, &expected());
    }
}

/// A lock; what was read is written in a form that reads the same.
pub fn lock(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(lock) = Lock::parse(text, Path::new("fuzz.lock")) else { return };
    let written = lock.render("larder lock --profile fuzz");
    let again = Lock::parse(&written, Path::new("written.lock")).expect("a lock that was written can be read");
    assert_eq!(lock, again);
}

/// A profile, and its globs.
pub fn profile(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let _ = toml_file::parse::<ProfileFile>(text, "profiles/fuzz.toml");
    if let Ok(glob) = path_glob::parse(text.lines().next().unwrap_or_default()) {
        glob.compile_matcher().is_match("usr/share/doc/bash/README");
    }
}

/// A kernel module.
pub fn modinfo(data: &[u8]) {
    let _ = ModInfo::of_module(data);
    let _ = ModInfo::of_section(data);
    let _ = ModInfo::of_builtin(data);
}

/// The owner's settings.
pub fn settings(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let _ = Settings::parse(text, "nas.toml");
}

/// A compressed image: what is read from its start is never longer than what its frames say.
pub fn frames(data: &[u8]) {
    let file = scratch(data.len() as u64).expect("memory");
    std::os::unix::fs::FileExt::write_all_at(&file, data, 0).expect("memory");
    if let Ok(Some(frames)) = Frames::open(file) {
        let _ = frames.read_at(&mut [0; 4096], 0);
    }
}

/// The boot sector and the tables of a FAT volume: what is in use lies in order and does not overlap.
pub fn fat(data: &[u8]) {
    let size = data.len() as u64;
    let file = scratch(size).expect("memory");
    std::os::unix::fs::FileExt::write_all_at(&file, data, 0).expect("memory");
    let mut window = Window::new(&file, 0, size);
    let Ok(in_use) = Geometry::read(&mut window).and_then(|geometry| geometry.in_use(&mut window)) else { return };
    assert!(in_use.windows(2).all(|pair| pair[0].end < pair[1].start), "{in_use:?}");
}

/// What a server of updates sends: an envelope with whatever is in it, a recipe, packed or not, and a patch. A recipe that
/// is accepted makes all of both parts and refers to nothing that is not there.
pub fn update(data: &[u8]) {
    if let Ok(envelope) = Envelope::parse(data) {
        let _ = envelope.read::<Channel>();
        let _ = envelope.read::<Keys>();
    }
    let bounds = Bounds { root: 16384, uki: 300, payload: 1000, old: Some((16384, 300)) };
    let _ = Recipe::decode(data, &bounds);
    if let Ok(recipe) = Recipe::parse(data, &bounds) {
        let made: u64 = recipe.records().iter().map(|record| record.length).sum();
        assert_eq!(made, bounds.root + bounds.uki);
        for record in recipe.records() {
            assert!(record.base().is_none_or(|base| base.at + base.length <= 16384));
            assert!(record.payload().is_none_or(|range| range.end <= bounds.payload));
            let base = vec![0; record.base().map_or(0, |base| base.length as usize)];
            let _ = record.make(&base, data);
        }
    }
    if let Ok(made) = patch::apply(data, data, 1000) {
        assert_eq!(made.len(), 1000);
    }
}
