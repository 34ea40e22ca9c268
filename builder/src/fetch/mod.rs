//! Downloads over HTTP: parallel, resumed, retried, and verified before they enter the store.
//!
//! A file whose hash is known goes to the store by [`Fetcher::to_store`]. It is collected in
//! `partial/<sha256>`, hashed while it streams, and renamed to its blob only when the hash is right,
//! so an interrupted run continues where it stopped and a wrong byte is never seen by anyone.
//! Small files whose hash is *not* known (a signed InRelease) come by [`Fetcher::get`].
//!
//! Trust comes from the hashes and the signatures, not from the transport: plain `http://` is fine.

mod error;
mod http;
mod retry;
mod transfer;

use std::collections::HashSet;
use std::io::{self, Read as _};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use indicatif::ProgressBar;

use crate::hash::Hash;
use crate::progress::Progress;
use crate::store::Store;

pub use error::{FetchError, mirror_variable};
use http::CONNECTIONS;
use retry::{Allowance, Patience};

/// A file to fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Download {
    /// Where it may be found, tried in order: the mirror, then the snapshot archive.
    pub urls: Vec<String>,
    /// What it must contain.
    pub sha256: Hash,
    /// Its exact size.
    pub size: u64,
    /// Name for people: `bash 5.2.37-2+b5 amd64`.
    pub label: String,
}

/// A file that is read as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Small {
    /// What is in it.
    pub content: Vec<u8>,
    /// What the server calls this version of it: a strong ETag or a date.
    pub validator: Option<String>,
}

/// Fetches files. One per run: its connections and its allowance of retries are shared by all.
#[derive(Debug)]
pub struct Fetcher {
    agent: ureq::Agent,
    progress: Progress,
    patience: Patience,
    allowance: Allowance,
}

impl Fetcher {
    /// A fetcher that shows its progress there.
    pub fn new(progress: Progress) -> Self {
        Self::with_patience(progress, Patience::default())
    }

    fn with_patience(progress: Progress, patience: Patience) -> Self {
        Self { agent: http::agent(&patience), progress, patience, allowance: Allowance::new(patience.allowance) }
    }

    /// A small file of at most `limit` bytes, unverified. `None` when it is still the one that the server
    /// gave this validator.
    pub fn get(&self, url: &str, limit: u64, validator: Option<&str>) -> Result<Option<Small>, FetchError> {
        let mut failures = 0;
        loop {
            let error = match self.get_once(url, limit, validator) {
                Ok(file) => return Ok(file),
                Err(error) => error,
            };
            failures += 1;
            if !error.is_transient() || failures >= self.patience.attempts || !self.allowance.take() {
                return Err(error);
            }
            thread::sleep(self.patience.pause_after(failures, &error));
        }
    }

    fn get_once(&self, url: &str, limit: u64, validator: Option<&str>) -> Result<Option<Small>, FetchError> {
        let answer = match validator {
            Some(validator) => http::ask_again(&self.agent, url, validator)?,
            None => Some(http::ask(&self.agent, url, None)?),
        };
        let Some(mut answer) = answer else { return Ok(None) };
        let (length, validator) = (answer.length, answer.validator.take());
        let mut bytes = Vec::new();
        let read = answer.reader().take(limit.saturating_add(1)).read_to_end(&mut bytes);
        let got = bytes.len() as u64;
        if got > limit {
            return Err(FetchError::TooLarge { url: url.to_owned(), limit });
        }
        match read {
            Ok(_) => Ok(Some(Small { content: bytes, validator })),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                let expected = length.unwrap_or(got + 1);
                Err(FetchError::Truncated { url: url.to_owned(), expected, got })
            }
            Err(error) => Err(http::classify(url, error.into())),
        }
    }

    /// Fetches what the store does not have yet. One result for each download, in their order.
    pub fn to_store(&self, store: &Store, downloads: &[Download]) -> Vec<Result<PathBuf, FetchError>> {
        let total = downloads.iter().map(|download| download.size).sum();
        let bar = self.progress.bytes("Fetching", total);
        let batch = Batch { fetcher: self, store, unreachable: Mutex::default(), disk_full: AtomicBool::new(false) };
        // Largest first, so that none of them starts when all others are done.
        let mut order: Vec<usize> = (0..downloads.len()).collect();
        order.sort_by_key(|&index| std::cmp::Reverse(downloads[index].size));
        let next = AtomicUsize::new(0);
        let work = || {
            let mut done = Vec::new();
            while let Some(&index) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
                done.push((index, batch.fetch(&downloads[index], &bar)));
            }
            done
        };
        let mut results = thread::scope(|scope| {
            let workers: Vec<_> = (0..CONNECTIONS.min(downloads.len())).map(|_| scope.spawn(work)).collect();
            let joined = workers
                .into_iter()
                .map(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
            joined.flatten().collect::<Vec<_>>()
        });
        bar.finish_and_clear();
        results.sort_by_key(|(index, _)| *index);
        results.into_iter().map(|(_, result)| result).collect()
    }
}

/// What the downloads of one call tell each other.
#[derive(Debug)]
struct Batch<'a> {
    fetcher: &'a Fetcher,
    store: &'a Store,
    /// Servers that did not answer after all retries: nobody else waits for them again.
    unreachable: Mutex<HashSet<String>>,
    disk_full: AtomicBool,
}

impl Batch<'_> {
    fn fetch(&self, download: &Download, bar: &ProgressBar) -> Result<PathBuf, FetchError> {
        bar.set_message(download.label.clone());
        self.check_disk()?;
        transfer::run(self, download, bar)
    }

    fn check_reachable(&self, url: &str) -> Result<(), FetchError> {
        let unreachable = self.unreachable.lock().unwrap_or_else(PoisonError::into_inner);
        if unreachable.contains(server(url)) {
            return Err(FetchError::Unreachable {
                url: url.to_owned(),
                reason: "it did not answer a moment ago".to_owned(),
            });
        }
        Ok(())
    }

    /// On a full disk the others stop too: every further byte would be in vain.
    fn check_disk(&self) -> Result<(), FetchError> {
        if self.disk_full.load(Ordering::Relaxed) {
            let path = self.store.folder().to_owned();
            return Err(FetchError::Disk { path, source: io::ErrorKind::StorageFull.into() });
        }
        Ok(())
    }

    fn remember(&self, error: &FetchError) {
        match error {
            FetchError::Unreachable { url, .. } => {
                let mut unreachable = self.unreachable.lock().unwrap_or_else(PoisonError::into_inner);
                unreachable.insert(server(url).to_owned());
            }
            FetchError::Disk { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                self.disk_full.store(true, Ordering::Relaxed);
            }
            _ => {}
        }
    }
}

/// Scheme and authority of an address: `http://deb.debian.org`.
fn server(url: &str) -> &str {
    let start = url.find("://").map_or(0, |at| at + 3);
    url[start..].find('/').map_or(url, |end| &url[..start + end])
}

#[cfg(test)]
mod tests;
