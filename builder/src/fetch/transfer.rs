//! One download: from its addresses into the store.

use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom, Write as _};
use std::path::PathBuf;

use fs_err as fs;
use indicatif::ProgressBar;

use super::error::FetchError;
use super::http::{self, Resume};
use super::{Batch, Download};
use crate::hash::Hasher;
use crate::store::{Store, files};

/// A download with what is here of it so far.
#[derive(Debug)]
pub(super) struct Transfer<'a> {
    batch: &'a Batch<'a>,
    wanted: &'a Download,
    partial: Partial,
    /// Validator of the version that the partial file came from, with its address.
    validator: Option<(String, String)>,
    bar: &'a ProgressBar,
}

/// The file that collects a download, with the running hash of its content.
#[derive(Debug)]
struct Partial {
    path: PathBuf,
    file: File,
    hasher: Hasher,
    length: u64,
}

/// Fetches one file into the store, unless it is already there.
pub(super) fn run(batch: &Batch<'_>, wanted: &Download, bar: &ProgressBar) -> Result<PathBuf, FetchError> {
    let store = batch.store;
    if let Some(path) = store.blob_of_size(&wanted.sha256, wanted.size) {
        bar.inc(wanted.size);
        return Ok(path);
    }
    let partial = Partial::open(store, wanted)?;
    // Another larder may have finished it while we waited for the lock.
    if let Some(path) = store.blob_of_size(&wanted.sha256, wanted.size) {
        partial.discard();
        bar.inc(wanted.size);
        return Ok(path);
    }
    bar.inc(partial.length);
    Transfer { batch, wanted, partial, validator: None, bar }.into_store()
}

impl Transfer<'_> {
    fn into_store(mut self) -> Result<PathBuf, FetchError> {
        match self.try_addresses() {
            Ok(()) => {}
            Err(error) => {
                // What is here is worth keeping unless the disk is the trouble: then room matters more.
                if self.partial.length == 0 || matches!(error, FetchError::Disk { .. }) {
                    self.partial.discard();
                }
                return Err(error);
            }
        }
        let Partial { path, file, .. } = &self.partial;
        self.batch.store.adopt_partial(path, file, &self.wanted.sha256).map_err(|source| {
            self.partial.discard();
            self.partial.failed(source)
        })
    }

    /// Tries the addresses in order. The first one's error is the telling one: a mirror that no longer
    /// has the file matters more than a snapshot archive that is out of reach.
    fn try_addresses(&mut self) -> Result<(), FetchError> {
        let mut first_error = None;
        for url in &self.wanted.urls {
            match self.try_address(url) {
                Ok(()) => return Ok(()),
                Err(error @ FetchError::Disk { .. }) => return Err(error),
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        Err(first_error.unwrap_or_else(|| FetchError::NoUrl { label: self.wanted.label.clone() }))
    }

    /// Tries one address until the whole file is here with the right hash. Content that proves wrong is
    /// fetched once more from scratch: a bad resumed part is more likely than a bad server.
    fn try_address(&mut self, url: &str) -> Result<(), FetchError> {
        let first = self.complete_and_check(url);
        if matches!(first, Err(FetchError::Mismatch { .. })) { self.complete_and_check(url) } else { first }
    }

    /// All bytes with the right hash, or none.
    fn complete_and_check(&mut self, url: &str) -> Result<(), FetchError> {
        self.complete(url)?;
        let (got, expected) = (self.partial.hasher.clone().finish(), self.wanted.sha256);
        if got == expected {
            return Ok(());
        }
        self.restart()?;
        Err(FetchError::Mismatch { label: self.wanted.label.clone(), url: url.to_owned(), expected, got })
    }

    /// Retries until all bytes are here. Attempts that bring nothing are counted; one that brings
    /// something starts the count anew.
    fn complete(&mut self, url: &str) -> Result<(), FetchError> {
        let patience = &self.batch.fetcher.patience;
        let mut fruitless = 0;
        while self.partial.length < self.wanted.size || self.wanted.size == 0 {
            self.batch.check_reachable(url)?;
            let before = self.partial.length;
            let Err(error) = self.attempt(url) else {
                return Ok(());
            };
            fruitless = if self.partial.length > before { 1 } else { fruitless + 1 };
            let again = error.is_transient() && fruitless < patience.attempts && self.batch.fetcher.allowance.take();
            if !again {
                self.batch.remember(&error);
                return Err(error);
            }
            std::thread::sleep(patience.pause_after(fruitless, &error));
        }
        Ok(())
    }

    /// One request, its body added to what is here.
    fn attempt(&mut self, url: &str) -> Result<(), FetchError> {
        let validator = self.validator.as_ref().filter(|(from, _)| from == url).map(|(_, value)| value.as_str());
        let resume = (self.partial.length > 0).then_some(Resume { offset: self.partial.length, validator });
        let mut answer = match http::ask(&self.batch.fetcher.agent, url, resume) {
            // Range Not Satisfiable: the server's file is not the one this part came from.
            Err(FetchError::Status { status: 416, .. }) if resume.is_some() => {
                self.restart()?;
                http::ask(&self.batch.fetcher.agent, url, None)?
            }
            answer => answer?,
        };
        if answer.length.is_some_and(|length| length > self.wanted.size) {
            return Err(FetchError::TooLarge { url: url.to_owned(), limit: self.wanted.size });
        }
        if answer.offset != self.partial.length {
            self.restart()?;
            if answer.offset != 0 {
                answer = http::ask(&self.batch.fetcher.agent, url, None)?;
            }
        }
        self.validator = answer.validator.take().map(|value| (url.to_owned(), value));
        self.receive(url, answer.reader())
    }

    /// Copies a body into the partial file, never more than the file's known size.
    fn receive(&mut self, url: &str, mut body: impl Read) -> Result<(), FetchError> {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            self.batch.check_disk()?;
            let count = match body.read(&mut buffer) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                // A connection closed early is the same fault however the body was framed.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => 0,
                Err(error) => return Err(http::classify(url, error.into())),
            };
            let missing = self.wanted.size - self.partial.length;
            if count == 0 {
                let (expected, got) = (self.wanted.size, self.partial.length);
                return if missing == 0 {
                    Ok(())
                } else {
                    Err(FetchError::Truncated { url: url.to_owned(), expected, got })
                };
            }
            if count as u64 > missing {
                self.restart()?;
                return Err(FetchError::TooLarge { url: url.to_owned(), limit: self.wanted.size });
            }
            self.partial.append(&buffer[..count]).inspect_err(|error| self.batch.remember(error))?;
            self.bar.inc(count as u64);
        }
    }

    fn restart(&mut self) -> Result<(), FetchError> {
        self.bar.dec(self.partial.length);
        self.validator = None;
        self.partial.restart()
    }
}

impl Partial {
    /// Opens and locks the partial file, hashing what an earlier run left.
    fn open(store: &Store, wanted: &Download) -> Result<Self, FetchError> {
        let path = store.partial_path(&wanted.sha256);
        let opened = files::open_locked(&path);
        let file = opened.map_err(|source| FetchError::Disk { path: path.clone(), source })?;
        let mut partial = Self { path, file, hasher: Hasher::default(), length: 0 };
        partial.take_stock(wanted.size)?;
        Ok(partial)
    }

    fn take_stock(&mut self, size: u64) -> Result<(), FetchError> {
        let length =
            io::copy(&mut (&self.file).take(size + 1), &mut self.hasher).map_err(|source| self.failed(source))?;
        self.length = length;
        if length > size { self.restart() } else { Ok(()) }
    }

    fn append(&mut self, data: &[u8]) -> Result<(), FetchError> {
        self.file.write_all(data).map_err(|source| self.failed(source))?;
        self.hasher.update(data);
        self.length += data.len() as u64;
        Ok(())
    }

    fn restart(&mut self) -> Result<(), FetchError> {
        self.file.set_len(0).map_err(|source| self.failed(source))?;
        self.file.seek(SeekFrom::Start(0)).map_err(|source| self.failed(source))?;
        self.hasher = Hasher::default();
        self.length = 0;
        Ok(())
    }

    fn failed(&self, source: io::Error) -> FetchError {
        FetchError::Disk { path: self.path.clone(), source }
    }

    /// Best effort: what cannot be removed is resumed or pruned later.
    fn discard(&self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// The same with a disk that takes no byte: every write to /dev/full fails with ENOSPC (full(4)).
#[cfg(test)]
pub(super) fn run_on_full_disk(batch: &Batch<'_>, wanted: &Download) -> Result<PathBuf, FetchError> {
    let mut partial = Partial::open(batch.store, wanted)?;
    partial.file = File::options().write(true).open("/dev/full").map_err(|source| partial.failed(source))?;
    Transfer { batch, wanted, partial, validator: None, bar: &ProgressBar::hidden() }.into_store()
}
