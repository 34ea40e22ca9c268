//! The newest release of each suite.
//!
//! Signatures do not say which of two releases is the one of today. A mirror, or someone before it, may
//! serve an older one that has not expired yet, and so hold back a security update. What was read here once
//! is therefore remembered, and nothing older is believed: the mirror lags behind or cheats, and the
//! newer release is as good as ever.

use std::path::Path;
use std::thread;

use anyhow::{Context as _, Result};
use jiff::Timestamp;

use super::release::{Expected, Keyring, VerifiedRelease};
use super::{Archive, Fetch};

/// An `InRelease` file and where it is from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedRelease {
    /// Its address.
    pub url: String,
    /// What its server calls this version of it: an ETag or a date.
    pub validator: Option<String>,
    /// The file.
    pub content: Vec<u8>,
}

impl SignedRelease {
    /// The release as it is remembered: address and validator on a line each, then the file.
    pub fn to_bytes(&self) -> Vec<u8> {
        let validator = self.validator.as_deref().unwrap_or_default();
        [self.url.as_bytes(), b"\n", validator.as_bytes(), b"\n", &self.content].concat()
    }

    /// Reads what [`SignedRelease::to_bytes`] wrote. The file itself is as yet unverified.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut parts = bytes.splitn(3, |byte| *byte == b'\n');
        let mut line = || String::from_utf8(parts.next()?.to_owned()).ok();
        let (url, validator) = (line()?, line()?);
        let content = parts.next()?.to_owned();
        Some(Self { url, validator: Some(validator).filter(|text| !text.is_empty()), content })
    }
}

/// The newest release of each suite, in their order. They are waited for at the same time, whatever the
/// number of cores.
pub(super) fn releases(
    suites: &[(&Archive, &str)],
    keys: &Path,
    now: Timestamp,
    fetch: &dyn Fetch,
) -> Result<Vec<VerifiedRelease>> {
    thread::scope(|scope| {
        let load = |(archive, suite): &(&Archive, &str)| newest(archive, suite, keys, now, fetch);
        let threads: Vec<_> = suites.iter().map(|suite| scope.spawn(move || load(suite))).collect();
        let joined =
            threads.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        joined.collect()
    })
}

fn newest(archive: &Archive, suite: &str, keys: &Path, now: Timestamp, fetch: &dyn Fetch) -> Result<VerifiedRelease> {
    let keyring = Keyring::open(keys, &archive.keys)?;
    let url = format!("{}/dists/{suite}/InRelease", archive.mirror.trim_end_matches('/'));
    let expected = Expected { url: &url, suite, now };
    let known = fetch.known_release(&archive.name, suite);
    let received = fetch.release(&url, known.as_ref()).with_context(|| super::reading(archive))?;
    let release = VerifiedRelease::verify(&received.content, &keyring, &expected)?;
    if known.as_ref() == Some(&received) {
        return Ok(release);
    }
    // One that is no longer valid, or signed by a key that is no longer accepted, counts for nothing.
    let known = known.and_then(|known| VerifiedRelease::verify(&known.content, &keyring, &expected).ok());
    match known {
        Some(known) if known.date() > release.date() => {
            fetch.note(&format!(
                "{url}: is of {}, older than what was read before: the mirror lags behind; going on with the release of {}",
                release.date(),
                known.date()
            ));
            Ok(known)
        }
        _ => {
            fetch.remember_release(&archive.name, suite, &received)?;
            Ok(release)
        }
    }
}
