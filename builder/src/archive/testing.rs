//! The tests' archive at the tests' time, fetched without a network.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use sequoia_openpgp::cert::Cert;
use tempfile::TempDir;

use super::{Fetch, SignedRelease};
use crate::hash::Hash;
use crate::recipe::Recipe;
use signed::SignedFolder;

#[path = "../../tests/support/archive.rs"]
mod signed;

/// The tests' clock.
pub fn now() -> Timestamp {
    "2026-09-15T12:00:00Z".parse().unwrap()
}

/// The date of their releases.
fn published() -> Timestamp {
    "2026-09-12T07:55:41Z".parse().unwrap()
}

/// A signing key made at 2026-01-01 that lasts `days`.
pub fn key_for(days: u64) -> Cert {
    signed::key("2026-01-01T00:00:00Z".parse().unwrap(), days)
}

/// Clear-signs `text`, as of the release's date in [`release`].
pub fn sign(text: &str, key: &Cert) -> Vec<u8> {
    signed::sign(text, key, published())
}

/// A release's text; `extra` lines come before the hashes.
pub fn release(suite: &str, extra: &str, files: &[(&str, &[u8])]) -> String {
    signed::release(suite, published(), extra, files)
}

/// An archive behind `http://mirror.example/`.
#[derive(Debug)]
pub struct FolderMirror {
    archive: SignedFolder,
    keys: TempDir,
    /// What was said that is no error.
    pub notes: Mutex<Vec<String>>,
}

impl FolderMirror {
    /// An empty mirror with a key.
    pub fn empty() -> Self {
        let mirror =
            Self { archive: SignedFolder::new(published()), keys: TempDir::new().unwrap(), notes: Mutex::default() };
        fs_err::write(mirror.keys().join("test.asc"), mirror.archive.public_key()).unwrap();
        mirror
    }

    /// What `profiles/archives` is in a project.
    pub fn keys(&self) -> PathBuf {
        self.keys.path().to_owned()
    }

    /// Publishes a suite whose component `main` has these stanzas.
    pub fn publish(&self, suite: &str, extra: &str, packages: &str) {
        self.archive.publish(suite, extra, packages);
    }

    /// The same with a release of another time.
    pub fn publish_at(&self, time: &str, suite: &str, extra: &str, packages: &str) {
        self.archive.publish_at(time.parse().unwrap(), suite, extra, packages);
    }

    /// Publishes a suite with these files.
    pub fn publish_files(&self, suite: &str, extra: &str, files: &BTreeMap<&str, Vec<u8>>) {
        self.archive.publish_files(suite, extra, files);
    }

    /// The file behind an address.
    pub fn file(&self, url: &str) -> PathBuf {
        self.archive.path().join(url.strip_prefix("http://mirror.example/").unwrap_or("nowhere"))
    }

    fn memory(&self, archive: &str, suite: &str) -> PathBuf {
        self.keys.path().join(format!("newest-{archive}-{suite}"))
    }

    fn read(&self, path: &Path) -> Result<Vec<u8>> {
        fs_err::read(path).context("connection refused")
    }
}

impl Fetch for FolderMirror {
    fn release(&self, url: &str, known: Option<&SignedRelease>) -> Result<SignedRelease> {
        let content = self.read(&self.file(url))?;
        match known.filter(|known| known.url == url && known.content == content) {
            Some(known) => Ok(known.clone()),
            None => Ok(SignedRelease { url: url.to_owned(), validator: None, content }),
        }
    }

    fn known_release(&self, archive: &str, suite: &str) -> Option<SignedRelease> {
        SignedRelease::from_bytes(&fs_err::read(self.memory(archive, suite)).ok()?)
    }

    fn remember_release(&self, archive: &str, suite: &str, release: &SignedRelease) -> Result<()> {
        Ok(fs_err::write(self.memory(archive, suite), release.to_bytes())?)
    }

    fn blob(&self, url: &str, sha256: &Hash, size: u64) -> Result<PathBuf> {
        let content = self.read(&self.file(url))?;
        anyhow::ensure!(Hash::of(&content) == *sha256 && content.len() as u64 == size, "{url}: hash mismatch");
        Ok(self.file(url))
    }

    fn derived(&self, recipe: &Recipe, make: &dyn Fn(&Path) -> Result<()>) -> Result<PathBuf> {
        let folder = self.keys.path().join(recipe.key().to_string());
        if !folder.exists() {
            fs_err::create_dir(&folder)?;
            make(&folder).inspect_err(|_| fs_err::remove_dir_all(&folder).unwrap())?;
        }
        Ok(folder)
    }

    fn note(&self, line: &str) {
        self.notes.lock().unwrap().push(line.to_owned());
    }
}
