//! What can go wrong with a download, told apart where a caller or a person acts differently.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::hash::Hash;
use crate::report::Mistake;

/// A download failed.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The server answers, but has no such file (404, 410): re-resolving may help.
    #[error("{url}: not found on the server")]
    NotFound {
        /// What was asked for.
        url: String,
    },
    /// No server answers at that address.
    #[error("{url}: server unreachable: {reason}")]
    Unreachable {
        /// What was asked for.
        url: String,
        /// The connection's error.
        reason: String,
    },
    /// The server answers with another refusal.
    #[error("{url}: the server answers with HTTP status {status}")]
    Status {
        /// What was asked for.
        url: String,
        /// The HTTP status code.
        status: u16,
        /// How long it asks to be left alone.
        retry_after: Option<Duration>,
    },
    /// The connection broke or stalled.
    #[error("{url}: the transfer failed")]
    Interrupted {
        /// What was asked for.
        url: String,
        /// The connection's error.
        #[source]
        source: Box<ureq::Error>,
    },
    /// The body ended before its announced or known size.
    #[error("{url}: the file ends after {got} of {expected} bytes")]
    Truncated {
        /// What was asked for.
        url: String,
        /// Its size.
        expected: u64,
        /// What came.
        got: u64,
    },
    /// The body is longer than it may be.
    #[error("{url}: the file is larger than {limit} bytes")]
    TooLarge {
        /// What was asked for.
        url: String,
        /// The known size or the limit.
        limit: u64,
    },
    /// The content has another hash than the signed index says.
    #[error("{label}: hash mismatch: {url} has sha256 {got}, expected {expected}")]
    Mismatch {
        /// Name for people.
        label: String,
        /// Where it came from.
        url: String,
        /// Hash in the lock or index.
        expected: Hash,
        /// Hash of what came.
        got: Hash,
    },
    /// Not an address that can be fetched.
    #[error("{url}: not a usable address")]
    BadUrl {
        /// The text.
        url: String,
        /// What the parser says.
        #[source]
        source: Box<ureq::Error>,
    },
    /// A download without any address.
    #[error("{label}: no address to fetch it from")]
    NoUrl {
        /// Name for people.
        label: String,
    },
    /// The local disk failed; nothing the network can help with.
    #[error("writing {}", path.display())]
    Disk {
        /// The file.
        path: PathBuf,
        /// The error; `StorageFull` when the disk is.
        #[source]
        source: io::Error,
    },
}

impl FetchError {
    /// Whether the same request may succeed in a moment.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Truncated { .. } => true,
            Self::Interrupted { source, .. } => match &**source {
                ureq::Error::Rustls(_) | ureq::Error::Tls(_) | ureq::Error::TooManyRedirects => false,
                // A certificate that is refused arrives as this kind.
                ureq::Error::Io(error) => error.kind() != io::ErrorKind::InvalidData,
                _ => true,
            },
            // Request Timeout, Too Many Requests, and the server's own trouble.
            Self::Status { status, .. } => matches!(status, 408 | 429 | 500..=599),
            _ => false,
        }
    }

    /// Tells a person what to do next. `archive` is the name in the profile of where it came from.
    pub fn explain(self, archive: Option<&str>) -> anyhow::Error {
        let variable = mirror_variable(archive.unwrap_or("NAME"));
        let what = self.to_string();
        let hint = match &self {
            Self::Disk { .. } => return self.into(),
            Self::NotFound { .. } => {
                format!(
                    "check `mirror` and `suites` of the archive in the profile, and {variable}; if they are right, the mirror may be in the middle of an update: try again in some minutes"
                )
            }
            Self::Unreachable { .. } => {
                format!("check the network connection, or set {variable} to the address of a mirror that answers")
            }
            Self::Mismatch { .. } => {
                format!(
                    "the mirror or something on the way alters files: set {variable} to another mirror, or run `larder lock` if the archive replaced the file"
                )
            }
            Self::BadUrl { .. } | Self::NoUrl { .. } => {
                format!("check the archive's address in the profile and {variable}")
            }
            Self::Status { .. } | Self::Interrupted { .. } | Self::Truncated { .. } | Self::TooLarge { .. } => {
                format!("run the command again (what arrived is kept), or set {variable} to another mirror")
            }
        };
        let mistake = Mistake::new(what).hint(hint);
        match std::error::Error::source(&self) {
            // The text of the error itself is already the mistake's.
            Some(source) => mistake.because(anyhow::anyhow!("{source}")).into(),
            None => mistake.into(),
        }
    }
}

/// Name of the environment variable that replaces an archive's mirror.
pub fn mirror_variable(archive: &str) -> String {
    let name: String =
        archive.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect();
    format!("LARDER_MIRROR_{name}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report;

    #[test]
    fn an_unreachable_mirror_is_explained() {
        let error = FetchError::Unreachable {
            url: "http://deb.debian.org/debian/dists/trixie/InRelease".into(),
            reason: "host not found".into(),
        };
        insta::assert_snapshot!(report::render(&error.explain(Some("debian-security"))), @r"
        error: http://deb.debian.org/debian/dists/trixie/InRelease: server unreachable: host not found

        hint: check the network connection, or set LARDER_MIRROR_DEBIAN_SECURITY to the address of a mirror that answers
        ");
    }

    #[test]
    fn a_mismatch_names_file_address_and_both_hashes() {
        let error = FetchError::Mismatch {
            label: "bash 5.2".into(),
            url: "http://mirror/bash.deb".into(),
            expected: Hash::of("right"),
            got: Hash::of("wrong"),
        };
        let text = error.to_string();
        for part in
            ["bash 5.2", "http://mirror/bash.deb", &Hash::of("right").to_string(), &Hash::of("wrong").to_string()]
        {
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn a_full_disk_is_not_blamed_on_the_network() {
        let error = FetchError::Disk { path: "/cache/file".into(), source: io::ErrorKind::StorageFull.into() };
        let text = report::render(&error.explain(None));
        assert!(text.contains("the disk is full") && !text.contains("network"), "{text}");
    }
}
