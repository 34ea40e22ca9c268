//! Where updates come from: a server that hands out files, whole or in part.
//!
//! Plain HTTP/1.1, without TLS: nothing is believed because of where it came from, and a TLS library in C would make the
//! image depend on the compiler of whoever builds it. Who listens learns which version a box fetches.
//!
//! Whatever a server does, no more is read than was asked for, nothing is waited for without an end, and what was received
//! is not asked for again.

mod fetcher;
mod http;
mod limit;
#[cfg(test)]
pub(super) mod testing;
#[cfg(test)]
mod tests;

use std::io::Read;
use std::time::{Duration, Instant};

pub use fetcher::Fetcher;
pub use http::Http;
pub use limit::Limiter;

use super::Object;
use crate::report::Mistake;

/// A server.
pub trait Server {
    /// A file from byte `from` up to `to`; to its end without. A server may begin at 0 instead, and go on to the end.
    ///
    /// # Errors
    /// There is no such file, or nobody answers.
    fn get(&self, path: &str, from: u64, to: Option<u64>) -> Result<Answer, SourceError>;
}

/// What a server sends.
pub struct Answer {
    /// Where in the file its first byte belongs.
    pub offset: u64,
    /// The bytes.
    pub body: Box<dyn Read>,
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Answer").field("offset", &self.offset).finish_non_exhaustive()
    }
}

/// Why a file is not to be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// The server has no such file.
    #[error("the server has no {0}")]
    NotFound(String),
    /// The server refuses.
    #[error("the server answers with status {status}")]
    Status {
        /// HTTP status.
        status: u16,
        /// How long it asks to wait.
        retry_after: Option<Duration>,
    },
    /// Nobody answers there.
    #[error("the server cannot be reached: {0}")]
    Unreachable(String),
    /// It broke off.
    #[error("the connection broke off: {0}")]
    Interrupted(String),
    /// More than there may be.
    #[error("{path} has more than the {limit} bytes that it may have")]
    TooLong {
        /// Which file.
        path: String,
        /// How much it may have.
        limit: u64,
    },
    /// Not what its name says.
    #[error("{0} is damaged: it is not what its name says")]
    Damaged(String),
}

impl SourceError {
    /// Whether it may be otherwise in a moment.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Status { status, .. } => matches!(status, 408 | 429 | 500 | 502..=504),
            Self::Unreachable(_) | Self::Interrupted(_) => true,
            Self::NotFound(_) | Self::TooLong { .. } | Self::Damaged(_) => false,
        }
    }
}

impl From<SourceError> for Mistake {
    fn from(error: SourceError) -> Self {
        let next = match &error {
            SourceError::Unreachable(_) | SourceError::Interrupted(_) => {
                "is the network up, and `from` in [updates] right? what was fetched so far is kept"
            }
            SourceError::NotFound(_) => {
                "does the server have this channel, for this profile? see `from` and `channel` in [updates]"
            }
            SourceError::Status { .. } => "try again later",
            SourceError::TooLong { .. } | SourceError::Damaged(_) => {
                "tell whoever runs the server, or take another one"
            }
        };
        Self::new(error.to_string()).hint(next)
    }
}

/// How patient a client is.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// Attempts in a row that bring nothing.
    pub attempts: u32,
    /// First pause; doubled for each further one.
    pub pause: Duration,
    /// Longest pause, also where a server asks for more.
    pub longest_pause: Duration,
    /// To open a connection, for the start of an answer, and between any two reads of it.
    pub stall: Duration,
    /// For a small file, from beginning to end: whoever sends a byte a minute is not waited for.
    pub small: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            attempts: 5,
            pause: Duration::from_secs(1),
            longest_pause: Duration::from_secs(60),
            stall: Duration::from_secs(30),
            small: Duration::from_secs(120),
        }
    }
}

impl Patience {
    /// Waits after this many failures in a row.
    fn wait(&self, failures: u32, error: &SourceError) {
        let doubled = self.pause.saturating_mul(1 << failures.saturating_sub(1).min(16));
        let asked = match error {
            SourceError::Status { retry_after: Some(asked), .. } => *asked,
            _ => Duration::ZERO,
        };
        std::thread::sleep(doubled.max(asked).min(self.longest_pause));
    }

    /// Does it until it works, or cannot work.
    fn retry<T>(&self, mut attempt: impl FnMut() -> Result<T, SourceError>) -> Result<T, SourceError> {
        let mut failures = 0;
        loop {
            match attempt() {
                Err(error) if error.is_transient() && failures + 1 < self.attempts => {
                    failures += 1;
                    self.wait(failures, &error);
                }
                result => return result,
            }
        }
    }
}

/// A whole file of at most `limit` bytes.
///
/// # Errors
/// It is longer, or not to be had.
pub fn small(server: &dyn Server, path: &str, limit: u64, patience: &Patience) -> Result<Vec<u8>, SourceError> {
    let deadline = Instant::now() + patience.small;
    patience.retry(|| {
        let answer = server.get(path, 0, None)?;
        let mut body = answer.body.take(limit + 1);
        let (mut bytes, mut piece) = (Vec::new(), [0; 16 << 10]);
        loop {
            match body.read(&mut piece) {
                Ok(0) => break,
                Ok(count) => bytes.extend_from_slice(&piece[..count]),
                Err(error) => return Err(SourceError::Interrupted(error.to_string())),
            }
            if Instant::now() > deadline {
                return Err(SourceError::Damaged(format!("{path} (it does not come to an end)")));
            }
        }
        let is_whole = bytes.len() as u64 <= limit;
        if is_whole { Ok(bytes) } else { Err(SourceError::TooLong { path: path.to_owned(), limit }) }
    })
}

/// A whole object, which is what its name says.
///
/// # Errors
/// It is not, or not to be had.
pub fn object(server: &dyn Server, object: &Object, patience: &Patience) -> Result<Vec<u8>, SourceError> {
    let path = object.path();
    let bytes = small(server, &path, object.size, patience)?;
    if object.is(&bytes) { Ok(bytes) } else { Err(SourceError::Damaged(path)) }
}
