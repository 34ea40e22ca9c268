//! The signed envelope: a text, and signatures over its bytes, in one file.
//!
//! ```json
//! {"payload": "{\"kind\":\"larder-channel\",…}", "signatures": ["untrusted comment: …\nRU…\n…"]}
//! ```
//!
//! Signatures are those of minisign (<https://jedisct1.github.io/minisign/>), over the UTF-8 bytes of `payload`, so anybody
//! can check one: `jq -j .payload FILE > payload; jq -j '.signatures[0]' FILE > payload.minisig; minisign -V -m payload -P KEY`.

use std::ops::Deref;

use minisign_verify::Signature;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::keys::TrustedKeys;
use super::{MAX_ENVELOPE, SCHEMA, TrustError};

/// Signatures that are looked at; more are left aside.
const MAX_SIGNATURES: usize = 16;

/// What is signed, with its signatures; nothing of it is believed yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// JSON.
    pub payload: String,
    /// minisign's own text, of four lines.
    #[serde(default)]
    pub signatures: Vec<String>,
}

/// What an envelope may hold.
pub trait Payload: Serialize + DeserializeOwned {
    /// Its `kind`.
    const KIND: &'static str;

    /// What must hold beyond the form.
    ///
    /// # Errors
    /// What is not in order.
    fn check(&self) -> Result<(), TrustError>;
}

/// A payload that enough of the keys that count have signed, and that is in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified<P>(P);

impl<P> Deref for Verified<P> {
    type Target = P;
    fn deref(&self) -> &P {
        &self.0
    }
}

impl<P> Verified<P> {
    /// The payload alone.
    pub fn into_inner(self) -> P {
        self.0
    }
}

/// Every payload begins with these.
#[derive(Serialize, Deserialize)]
struct Head<'a> {
    kind: std::borrow::Cow<'a, str>,
    schema: u32,
}

#[derive(Serialize)]
struct Headed<'a, P> {
    #[serde(flatten)]
    head: Head<'a>,
    #[serde(flatten)]
    payload: &'a P,
}

impl Envelope {
    /// Puts a payload into an envelope that nobody has signed yet.
    ///
    /// # Errors
    /// It is not in order, or too long.
    pub fn unsigned<P: Payload>(payload: &P) -> Result<Self, TrustError> {
        payload.check()?;
        let headed = Headed { head: Head { kind: P::KIND.into(), schema: SCHEMA }, payload };
        let payload = serde_json::to_string(&headed).map_err(|error| TrustError::Malformed(error.to_string()))?;
        let envelope = Self { payload, signatures: Vec::new() };
        // Room for signatures, each of some 300 bytes.
        let length = envelope.to_json().len() as u64 + MAX_SIGNATURES as u64 * 512;
        if length > MAX_ENVELOPE { Err(TrustError::TooLong(length)) } else { Ok(envelope) }
    }

    /// Reads one.
    ///
    /// # Errors
    /// It is too long, or no envelope.
    pub fn parse(bytes: &[u8]) -> Result<Self, TrustError> {
        if bytes.len() as u64 > MAX_ENVELOPE {
            return Err(TrustError::TooLong(bytes.len() as u64));
        }
        serde_json::from_slice(bytes).map_err(TrustError::NoEnvelope)
    }

    /// The file.
    pub fn to_json(&self) -> String {
        // Of two strings: this cannot fail.
        serde_json::to_string(self).unwrap_or_default() + "\n"
    }

    /// Opens it, if enough of the keys have signed it and it is what is asked for.
    ///
    /// # Errors
    /// Why it is not believed.
    pub fn verify<P: Payload>(&self, keys: &TrustedKeys) -> Result<Verified<P>, TrustError> {
        let signatures: Vec<_> = self.decoded_signatures().collect();
        let has_signed = |key: &&minisign_verify::PublicKey| {
            signatures.iter().any(|signature| key.verify(self.payload.as_bytes(), signature, false).is_ok())
        };
        let (valid, needed) = (keys.public_keys().iter().filter(has_signed).count(), keys.threshold());
        if valid < needed {
            return Err(TrustError::Unsigned { valid, needed });
        }
        self.read().map(Verified)
    }

    /// What it says, by whomever.
    ///
    /// # Errors
    /// It is not what is asked for, or not in order.
    pub fn read<P: Payload>(&self) -> Result<P, TrustError> {
        let malformed = |error: serde_json::Error| TrustError::Malformed(error.to_string());
        let head: Head<'_> = serde_json::from_str(&self.payload).map_err(malformed)?;
        if head.kind != P::KIND {
            return Err(TrustError::Kind { found: head.kind.chars().take(40).collect(), wanted: P::KIND });
        }
        if head.schema != SCHEMA {
            return Err(TrustError::Schema(head.schema));
        }
        let payload: P = serde_json::from_str(&self.payload).map_err(malformed)?;
        payload.check()?;
        Ok(payload)
    }

    fn decoded_signatures(&self) -> impl Iterator<Item = Signature> {
        self.signatures.iter().take(MAX_SIGNATURES).filter_map(|text| Signature::decode(text).ok())
    }
}
