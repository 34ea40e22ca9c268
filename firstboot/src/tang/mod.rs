//! Tang servers: machines at home that help to open the data, and learn nothing (tang(8), of Debian's package `tang`).
//!
//! The exchange is that of McCallum and Relyea, as clevis(1) does it. The server has a key pair (s, S = sG):
//!
//! | when | |
//! |---|---|
//! | adding | of its advertisement `GET /adv`, which it signs, S is taken; c is random, C = cG is kept, and cS is the secret |
//! | opening | e is random, X = C + eG goes to `POST /rec/…`, and back comes Y = sX; the secret is Y − eS = sC = cS |
//!
//! So c is forgotten at once, and neither C and S, which lie in the open, nor X and Y, which everybody in the network sees,
//! give the secret away: that takes s. The server sees X only, which is another random point each time: not even that it is
//! the same box. Hence no TLS. Who answers anything but sX gives a secret that opens nothing.
//!
//! Whose S it is says the signature, by the key that the settings name. It is looked at when a key is added or repaired;
//! afterwards S itself is kept.
//!
//! Of several servers a few may be enough ([`shares`]).

mod advertisement;
mod client;
mod curve;
mod exchange;
pub(crate) mod shares;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::fmt;

pub use advertisement::{Advertisement, Pin};
pub use client::Client;
pub use curve::Point;
pub use exchange::Bound;

use crate::finding::{Finding, Severity};
use crate::report::Mistake;
use crate::settings::TangUrl;

/// A server, and how it is recognised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Where it is.
    pub url: TangUrl,
    /// What it signs with.
    pub pin: Pin,
}

/// Why a server does not help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    /// Nobody answers.
    #[error("cannot be reached: {0}")]
    Unreachable(String),
    /// Something answers that is no Tang server, or one that fails.
    #[error("answers with HTTP status {0}")]
    Status(u16),
    /// Its keys are others than before.
    #[error("does not have the key any more that this one was made with")]
    Rotated,
    /// What it advertises is not signed as the settings say.
    #[error("does not sign with the key {0}: it is another server, or its keys were rotated")]
    Stranger(String),
    /// Its answer makes no sense.
    #[error("answers with nonsense: {0}")]
    Nonsense(String),
    /// Its answer is right in its form, and does not give the secret.
    #[error("gives an answer that opens nothing")]
    Wrong,
}

/// A server that does not help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{url} {why}")]
pub struct Refused {
    /// Which one.
    pub url: TangUrl,
    /// Why.
    pub why: Why,
}

/// Less servers have helped than are needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Absent {
    /// So many are needed.
    pub needed: usize,
    /// So many have helped.
    pub helped: usize,
    /// What the others have done.
    pub refused: Vec<Refused>,
}

impl std::error::Error for Absent {}

impl fmt::Display for Absent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { needed, helped, refused } = self;
        if *needed > 1 {
            write!(f, "{needed} Tang servers are needed, and {helped} helped; ")?;
        }
        let refused: Vec<_> = refused.iter().map(|refused| format!("the Tang server {refused}")).collect();
        f.write_str(&refused.join("; "))
    }
}

impl Absent {
    /// Whether it may be otherwise in a moment, without anybody doing anything here.
    pub fn is_transient(&self) -> bool {
        let lasting = self.refused.iter().filter(|refused| matches!(refused.why, Why::Rotated | Why::Wrong)).count();
        lasting == 0 || self.helped + self.refused.len() - lasting >= self.needed
    }

    /// What `firstboot status` says about it.
    pub fn finding(&self, key: &str) -> Finding {
        let rotated = self.refused.iter().any(|refused| matches!(refused.why, Why::Rotated));
        let (id, next) = if self.refused.iter().all(|refused| matches!(refused.why, Why::Unreachable(_))) {
            (
                "tang-unreachable",
                "at home: is the server on, and the network up? It is asked again and again; a passphrase or the recovery key \
                 opens the data meanwhile",
            )
        } else if rotated {
            ("tang-rotated", "open the data with a passphrase or the recovery key, then `firstboot keys repair`")
        } else {
            (
                "tang-fails",
                "does `tangd` run there, with its own keys? A passphrase or the recovery key opens the data meanwhile",
            )
        };
        Finding {
            id: id.into(),
            severity: Severity::Warning,
            message: format!("the key {key} does not open the data: {self}"),
            next: next.into(),
        }
    }
}

impl From<Refused> for Mistake {
    fn from(refused: Refused) -> Self {
        let next = match refused.why {
            Why::Unreachable(_) | Why::Status(_) => "is it on, does `tangd` run there, and is `url` right?",
            Why::Stranger(_) | Why::Rotated => {
                "if that was you: put what `tang-show-keys` prints there into `thumbprint` of [keys], and `firstboot apply`"
            }
            Why::Nonsense(_) | Why::Wrong => "is this a Tang server?",
        };
        Self::new(format!("the Tang server {refused}")).hint(next)
    }
}
