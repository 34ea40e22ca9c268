//! A signed archive in a folder, made on the spot: the fake mirror of the tests.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use sequoia_openpgp::cert::{Cert, CertBuilder};
use sequoia_openpgp::policy::StandardPolicy;
use sequoia_openpgp::serialize::SerializeInto as _;
use sequoia_openpgp::serialize::stream::{Message, Signer};
use tempfile::TempDir;

use super::Fetch;
use crate::hash::Hash;

/// The tests' clock.
pub const NOW: &str = "2026-09-15T12:00:00Z";

/// The time [`NOW`].
pub fn now() -> Timestamp {
    NOW.parse().unwrap()
}

/// A signing key made at 2026-01-01 that lasts `days`.
pub fn key_for(days: u64) -> Cert {
    let created: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    CertBuilder::new()
        .add_userid("Archive of the tests <archive@example.org>")
        .set_creation_time(SystemTime::from(created))
        .set_validity_period(Duration::from_secs(days * 86_400))
        .add_signing_subkey()
        .generate()
        .unwrap()
        .0
}

/// Clear-signs `text`, as of the release's date in [`release`].
pub fn sign(text: &str, key: &Cert) -> Vec<u8> {
    let at: Timestamp = "2026-09-12T07:55:41Z".parse().unwrap();
    let at = SystemTime::from(at);
    let policy = StandardPolicy::at(at);
    let pair = key
        .keys()
        .with_policy(&policy, at)
        .alive()
        .revoked(false)
        .for_signing()
        .secret()
        .next()
        .unwrap()
        .key()
        .clone()
        .into_keypair()
        .unwrap();
    let mut signed = Vec::new();
    let mut signer =
        Signer::new(Message::new(&mut signed), pair).unwrap().creation_time(at).cleartext().build().unwrap();
    signer.write_all(text.as_bytes()).unwrap();
    signer.finalize().unwrap();
    signed
}

/// A release's text; `extra` lines come before the hashes.
pub fn release(suite: &str, extra: &str, files: &[(&str, &[u8])]) -> String {
    let mut text = format!(
        "Origin: Debian\nSuite: {suite}\nCodename: {suite}\nDate: Sat, 12 Sep 2026 07:55:41 UTC\nArchitectures: all amd64\n{extra}SHA256:\n"
    );
    for (path, content) in files {
        text.push_str(&format!(" {} {} {path}\n", Hash::of(content), content.len()));
    }
    text
}

/// A folder served as a mirror under `http://mirror.example/`.
#[derive(Debug)]
pub struct FolderMirror {
    folder: TempDir,
    key: Cert,
}

impl FolderMirror {
    /// An empty mirror with a key.
    pub fn empty() -> Self {
        Self { folder: TempDir::new().unwrap(), key: key_for(3650) }
    }

    /// Writes the public key below `profiles/archives`-like `keys()`.
    pub fn keys(&self) -> PathBuf {
        let keys = self.folder.path().join("keys");
        fs_err::create_dir_all(&keys).unwrap();
        fs_err::write(keys.join("test.asc"), self.key.armored().to_vec().unwrap()).unwrap();
        keys
    }

    /// Publishes a suite whose component `main` has these stanzas, compressed by xz.
    pub fn publish(&self, suite: &str, extra: &str, packages: &str) {
        let mut encoder = xz2::write::XzEncoder::new(Vec::new(), 1);
        encoder.write_all(packages.as_bytes()).unwrap();
        self.publish_files(
            suite,
            extra,
            &BTreeMap::from([("main/binary-amd64/Packages.xz", encoder.finish().unwrap())]),
        );
    }

    /// Publishes a suite with these files.
    pub fn publish_files(&self, suite: &str, extra: &str, files: &BTreeMap<&str, Vec<u8>>) {
        let dist = self.folder.path().join("debian/dists").join(suite);
        fs_err::create_dir_all(&dist).unwrap();
        for (path, content) in files {
            let path = dist.join(path);
            fs_err::create_dir_all(path.parent().unwrap()).unwrap();
            fs_err::write(&path, content).unwrap();
            let by_hash = path.parent().unwrap().join("by-hash/SHA256");
            fs_err::create_dir_all(&by_hash).unwrap();
            fs_err::write(by_hash.join(Hash::of(content).to_string()), content).unwrap();
        }
        let listed: Vec<(&str, &[u8])> = files.iter().map(|(path, content)| (*path, content.as_slice())).collect();
        fs_err::write(dist.join("InRelease"), sign(&release(suite, extra, &listed), &self.key)).unwrap();
    }

    /// The file behind an address.
    pub fn file(&self, url: &str) -> PathBuf {
        self.folder.path().join(url.strip_prefix("http://mirror.example/").unwrap_or("nowhere"))
    }

    fn read(&self, path: &Path) -> Result<Vec<u8>> {
        fs_err::read(path).context("connection refused")
    }
}

impl Fetch for FolderMirror {
    fn release(&self, url: &str, cache_name: &str) -> Result<Vec<u8>> {
        anyhow::ensure!(!cache_name.contains('/'), "{cache_name} is no path component");
        self.read(&self.file(url))
    }

    fn blob(&self, url: &str, sha256: &Hash, size: u64) -> Result<PathBuf> {
        let content = self.read(&self.file(url))?;
        anyhow::ensure!(Hash::of(&content) == *sha256 && content.len() as u64 == size, "{url}: hash mismatch");
        Ok(self.file(url))
    }
}
