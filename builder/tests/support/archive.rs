//! A signed archive in a folder, made on the spot.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use jiff::{SignedDuration, Timestamp};
use sequoia_openpgp::cert::{Cert, CertBuilder};
use sequoia_openpgp::policy::StandardPolicy;
use sequoia_openpgp::serialize::SerializeInto as _;
use sequoia_openpgp::serialize::stream::{Message, Signer};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

/// The digest of a file, written down.
pub fn sha256(content: &[u8]) -> String {
    hex::encode(Sha256::digest(content))
}

/// A signing key made at `created` that lasts `days`.
pub fn key(created: Timestamp, days: u64) -> Cert {
    CertBuilder::new()
        .add_userid("Archive of the tests <archive@example.org>")
        .set_creation_time(SystemTime::from(created))
        .set_validity_period(Duration::from_secs(days * 86_400))
        .add_signing_subkey()
        .generate()
        .unwrap()
        .0
}

/// Clear-signs `text` at a time.
pub fn sign(text: &str, key: &Cert, at: Timestamp) -> Vec<u8> {
    let at = SystemTime::from(at);
    let policy = StandardPolicy::at(at);
    let keys = key.keys().with_policy(&policy, at).alive().revoked(false).for_signing().secret();
    let pair = keys.map(|key| key.key().clone().into_keypair().unwrap()).next().unwrap();
    let mut signed = Vec::new();
    let mut signer =
        Signer::new(Message::new(&mut signed), pair).unwrap().creation_time(at).cleartext().build().unwrap();
    signer.write_all(text.as_bytes()).unwrap();
    signer.finalize().unwrap();
    signed
}

/// A time as release files write it.
pub fn date(time: Timestamp) -> String {
    time.strftime("%a, %d %b %Y %H:%M:%S UTC").to_string()
}

/// A release's text; `extra` lines come before the hashes.
pub fn release(suite: &str, at: Timestamp, extra: &str, files: &[(&str, &[u8])]) -> String {
    let date = date(at);
    let mut text = format!(
        "Origin: Debian\nSuite: {suite}\nCodename: {suite}\nDate: {date}\nArchitectures: all amd64\n{extra}SHA256:\n"
    );
    for (path, content) in files {
        text.push_str(&format!(" {} {} {path}\n", sha256(content), content.len()));
    }
    text
}

/// An archive as it lies on a mirror: `debian/dists/…`, with its key.
#[derive(Debug)]
pub struct SignedFolder {
    folder: TempDir,
    key: Cert,
    published: Timestamp,
}

impl SignedFolder {
    /// An empty archive that publishes everything at this time.
    pub fn new(published: Timestamp) -> Self {
        let created = published - SignedDuration::from_hours(24 * 250);
        Self { folder: TempDir::new().unwrap(), key: key(created, 3650), published }
    }

    /// What a mirror serves.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The public key, armoured.
    pub fn public_key(&self) -> Vec<u8> {
        self.key.armored().to_vec().unwrap()
    }

    /// Publishes a suite whose component `main` has these stanzas, compressed by xz.
    pub fn publish(&self, suite: &str, extra: &str, packages: &str) {
        self.publish_at(self.published, suite, extra, packages);
    }

    /// The same with a release of another time.
    pub fn publish_at(&self, time: Timestamp, suite: &str, extra: &str, packages: &str) {
        let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 1);
        encoder.write_all(packages.as_bytes()).unwrap();
        let files = BTreeMap::from([("main/binary-amd64/Packages.xz", encoder.finish().unwrap())]);
        self.publish_files_at(time, suite, extra, &files);
    }

    /// Publishes a suite with these files.
    pub fn publish_files(&self, suite: &str, extra: &str, files: &BTreeMap<&str, Vec<u8>>) {
        self.publish_files_at(self.published, suite, extra, files);
    }

    fn publish_files_at(&self, time: Timestamp, suite: &str, extra: &str, files: &BTreeMap<&str, Vec<u8>>) {
        let dist = self.dist(suite);
        for (path, content) in files {
            let path = dist.join(path);
            let by_hash = path.parent().unwrap().join("by-hash/SHA256");
            fs_err::create_dir_all(&by_hash).unwrap();
            fs_err::write(&path, content).unwrap();
            fs_err::write(by_hash.join(sha256(content)), content).unwrap();
        }
        let listed: Vec<(&str, &[u8])> = files.iter().map(|(path, content)| (*path, content.as_slice())).collect();
        let text = release(suite, time, extra, &listed);
        fs_err::write(dist.join("InRelease"), sign(&text, &self.key, time)).unwrap();
    }

    fn dist(&self, suite: &str) -> PathBuf {
        let dist = self.path().join("debian/dists").join(suite);
        fs_err::create_dir_all(&dist).unwrap();
        dist
    }
}
