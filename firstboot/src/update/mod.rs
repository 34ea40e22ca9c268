//! What the builder publishes and the appliance installs: the formats that both must agree on.
//!
//! A server is any that serves files, with this below it:
//!
//! ```text
//! keys/2.json …             envelopes of kind larder-keys: which keys count from now on
//! CHANNEL/PROFILE.json      envelope of kind larder-channel: the releases, the newest first
//! objects/SHA256            everything else, by its digest; never overwritten
//! ```
//!
//! Nothing is believed because of where it came from. An [`envelope`] counts when the [`keys`] in the image have signed
//! it; a [`channel`] names objects by digest and size; a [`recipe`], one of these objects, names the digest of each piece
//! that it makes, and the root hash vouches for the whole.
//!
//! What is promised of the metadata (those of TUF, <https://theupdateframework.github.io/specification/latest/>, in the
//! smallest form that keeps them): a signature by enough keys, rotation signed by the old keys, an end of validity, a serial
//! number that never goes down, and that the channel is the one asked for, for this profile. There is one file to a channel,
//! so that nothing can be mixed; the `tough` crate would bring four roles, tokio and a C library for the same.

pub mod automatic;
pub mod channel;
pub mod checked;
pub mod client;
pub mod engine;
pub mod envelope;
pub mod keys;
mod local;
pub mod patch;
pub mod recipe;
pub mod slot;
pub mod source;
pub mod trust;

use serde::{Deserialize, Serialize};

use crate::hash::Hash;

/// Longest envelope that is read.
pub const MAX_ENVELOPE: u64 = 1 << 20;

/// Schema of the payloads of this larder. Within a schema, keys may be added; what would mislead an older appliance raises it.
pub const SCHEMA: u32 = 1;

/// A file below `objects/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Object {
    /// Digest of the content, which is also the name.
    pub sha256: Hash,
    /// Bytes.
    pub size: u64,
}

impl Object {
    /// Names some content.
    pub fn of(content: &[u8]) -> Self {
        Self { sha256: Hash::of(content), size: content.len() as u64 }
    }

    /// Where a server has it.
    pub fn path(&self) -> String {
        format!("objects/{}", self.sha256)
    }

    /// Whether some content is this one.
    pub fn is(&self, content: &[u8]) -> bool {
        *self == Self::of(content)
    }
}

/// Why something that was fetched is not believed.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// Longer than anything of its kind.
    #[error("it has {0} bytes, more than the {MAX_ENVELOPE} that are read")]
    TooLong(u64),
    /// No envelope.
    #[error("it is no signed envelope")]
    NoEnvelope(#[source] serde_json::Error),
    /// Too few of the keys that count have signed it.
    #[error("{valid} of the keys that count have signed it, {needed} are needed")]
    Unsigned {
        /// Keys of the set whose signature is good.
        valid: usize,
        /// The threshold.
        needed: usize,
    },
    /// Signed, but for something else.
    #[error("it is of kind `{found}`, not `{wanted}`")]
    Kind {
        /// What it is.
        found: String,
        /// What was asked for.
        wanted: &'static str,
    },
    /// From a newer larder.
    #[error("it has schema {0}, and this system reads {SCHEMA}")]
    Schema(u32),
    /// Signed, and still wrong.
    #[error("its content is not in order: {0}")]
    Malformed(String),
    /// Keys do not follow those that are known.
    #[error("keys of version {found} do not follow version {known}")]
    Sequence {
        /// What is known.
        known: u32,
        /// What was offered.
        found: u32,
    },
    /// Not the channel that was asked for.
    #[error("it is channel `{found}`, not `{wanted}`")]
    Channel {
        /// What it is.
        found: String,
        /// What was asked for.
        wanted: String,
    },
    /// Not for this hardware.
    #[error("it is for profile `{found}`, not `{wanted}`")]
    Profile {
        /// What it is for.
        found: String,
        /// What this system is.
        wanted: String,
    },
    /// Nobody has vouched for it for too long: someone may hold newer ones back.
    #[error("it has expired ({0})")]
    Expired(jiff::Timestamp),
    /// An older one than this system has seen.
    #[error("its serial number {found} is lower than {known}, which was seen before")]
    RolledBack {
        /// The highest that was seen.
        known: u64,
        /// What was offered.
        found: u64,
    },
}

#[cfg(test)]
mod engine_tests;
#[cfg(test)]
mod simulated;
#[cfg(test)]
mod tests;
