//! The archives' indices, as a universe for larder and as files for apt.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use larder::archive::{self, Archive, SignedRelease, Universe};
use larder::fetch::{Download, Fetcher, mirror_variable};
use larder::hash::Hash;
use larder::progress::Progress;
use larder::project::Project;
use larder::recipe::Recipe;
use larder::solve::PackageRequest;
use larder::store::Store;
use tempfile::TempDir;

/// The archives of a request.
pub struct Mirror {
    /// `ARCHIVE/dists/…`: what larder has read, and nothing else.
    pub folder: TempDir,
    /// The same for larder.
    pub universe: Universe,
}

impl Mirror {
    /// Fetches and verifies what is not yet in the store.
    pub fn fetch(project: &Project, request: &PackageRequest) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let mut archives = request.archives.clone();
        for archive in &mut archives {
            if let Ok(mirror) = std::env::var(mirror_variable(&archive.name)) {
                archive.mirror = mirror;
            }
        }
        let recorder = Recorder {
            store: Store::open(None)?,
            fetcher: Fetcher::new(Progress::silent()),
            archives: &archives,
            folder: folder.path(),
        };
        let keys = project.profiles().join("archives");
        let universe = Universe::load(&archives, &request.architectures, &keys, Timestamp::now(), &recorder)?;
        Ok(Self { folder, universe })
    }
}

/// Fetches as a session does and keeps a copy of each file where its mirror has it.
struct Recorder<'a> {
    store: Store,
    fetcher: Fetcher,
    archives: &'a [Archive],
    folder: &'a Path,
}

impl Recorder<'_> {
    fn place(&self, url: &str) -> Result<PathBuf> {
        let below = |archive: &Archive| {
            let path = url.strip_prefix(archive.mirror.trim_end_matches('/'))?.strip_prefix('/')?;
            Some(self.folder.join(&archive.name).join(path))
        };
        let place = self.archives.iter().find_map(below).with_context(|| format!("{url}: of no archive"))?;
        fs_err::create_dir_all(place.parent().unwrap())?;
        Ok(place)
    }
}

impl archive::Fetch for Recorder<'_> {
    fn release(&self, url: &str, _known: Option<&SignedRelease>) -> Result<SignedRelease> {
        let file = self.fetcher.get(url, 16 << 20, None)?.context("not modified since never")?;
        fs_err::write(self.place(url)?, &file.content)?;
        Ok(SignedRelease { url: url.to_owned(), validator: None, content: file.content })
    }

    /// apt must read the very release that larder reads, so what came earlier is left aside.
    fn known_release(&self, _archive: &str, _suite: &str) -> Option<SignedRelease> {
        None
    }

    fn remember_release(&self, _archive: &str, _suite: &str, _release: &SignedRelease) -> Result<()> {
        Ok(())
    }

    fn blob(&self, url: &str, sha256: &Hash, size: u64) -> Result<PathBuf> {
        let blob = match self.store.blob_of_size(sha256, size) {
            Some(path) => path,
            None => {
                let download = Download { urls: vec![url.to_owned()], sha256: *sha256, size, label: url.to_owned() };
                self.fetcher.to_store(&self.store, &[download]).remove(0)?
            }
        };
        fs_err::copy(&blob, self.place(url)?)?;
        Ok(blob)
    }

    /// Made anew each time: that reads the index, which apt needs as it is.
    fn derived(&self, recipe: &Recipe, make: &dyn Fn(&Path) -> Result<()>) -> Result<PathBuf> {
        let folder = self.folder.join("derived").join(recipe.key().to_string());
        fs_err::create_dir_all(&folder)?;
        make(&folder)?;
        Ok(folder)
    }

    fn note(&self, _line: &str) {}
}
