//! The keys that count: a set of public keys and how many of them must sign.
//!
//! Version 1 (or whichever was the newest when the image was made) lies in the image. Each further version is an envelope
//! `keys/N.json` that enough keys of the version before have signed, so that an appliance which was off for years follows
//! from one to the next; and enough keys of its own, so that nobody installs keys that nobody holds.

use std::collections::BTreeSet;

use minisign_verify::PublicKey;
use serde::{Deserialize, Serialize};

use super::TrustError;
use super::envelope::{Envelope, Payload};

/// Keys in a set.
const MAX_KEYS: usize = 16;
/// Versions that are followed in one go.
pub const MAX_ROTATIONS: u32 = 1000;
/// Where an image has the keys that it was made with. `null` in an image whose maker has none: it takes no updates.
pub const IN_IMAGE: &str = "usr/lib/larder/release-keys.json";

/// Payload of kind `larder-keys`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keys {
    /// 1 for the first set, and one more with each change.
    pub version: u32,
    /// Public keys as minisign prints them, `RW…`.
    pub keys: Vec<String>,
    /// How many of them must sign.
    pub threshold: u32,
}

impl Payload for Keys {
    const KIND: &'static str = "larder-keys";

    fn check(&self) -> Result<(), TrustError> {
        self.public_keys().map(drop)
    }
}

impl Keys {
    fn public_keys(&self) -> Result<Vec<PublicKey>, TrustError> {
        let wrong = |what: String| Err(TrustError::Malformed(what));
        let different = self.keys.iter().collect::<BTreeSet<_>>().len();
        if self.version == 0 {
            return wrong("there is no version 0 of keys".to_owned());
        }
        if self.keys.is_empty() || self.keys.len() > MAX_KEYS || different != self.keys.len() {
            return wrong(format!("a set has 1 to {MAX_KEYS} keys, each of them once"));
        }
        if self.threshold == 0 || self.threshold as usize > self.keys.len() {
            return wrong(format!("{} of {} keys cannot sign", self.threshold, self.keys.len()));
        }
        let read = |text: &String| {
            PublicKey::from_base64(text).map_err(|_| TrustError::Malformed(format!("`{text}` is no public key")))
        };
        self.keys.iter().map(read).collect()
    }

    /// Where a server has this version.
    pub fn path(version: u32) -> String {
        format!("keys/{version}.json")
    }
}

/// A set of keys that is believed.
#[derive(Clone)]
pub struct TrustedKeys {
    keys: Keys,
    public_keys: Vec<PublicKey>,
}

impl TrustedKeys {
    /// The keys of a place that is believed by itself: the image, or the state of this appliance. They must have signed
    /// themselves, so that a damaged file does not pass.
    ///
    /// # Errors
    /// It is no set of keys, or they have not signed it.
    pub fn anchor(envelope: &Envelope) -> Result<Self, TrustError> {
        let keys: Keys = envelope.read()?;
        let public_keys = keys.public_keys()?;
        let trusted = Self { keys, public_keys };
        envelope.verify::<Keys>(&trusted)?;
        Ok(trusted)
    }

    /// The next version, which both these and its own keys have signed.
    ///
    /// # Errors
    /// It is not the next one, or too few have signed it.
    pub fn follow(&self, next: &Envelope) -> Result<Self, TrustError> {
        let keys: Keys = next.verify::<Keys>(self)?.into_inner();
        if Some(keys.version) != self.keys.version.checked_add(1) {
            return Err(TrustError::Sequence { known: self.keys.version, found: keys.version });
        }
        Self::anchor(next)
    }

    /// Its version.
    pub fn version(&self) -> u32 {
        self.keys.version
    }

    /// The set, as it was published.
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// How many must sign.
    pub fn threshold(&self) -> usize {
        self.keys.threshold as usize
    }

    pub(super) fn public_keys(&self) -> &[PublicKey] {
        &self.public_keys
    }
}

impl std::fmt::Debug for TrustedKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("TrustedKeys").field(&self.keys).finish()
    }
}
