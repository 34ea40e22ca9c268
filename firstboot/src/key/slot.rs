//! One way to open the data, as it is kept.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, de};

use super::passphrase::Argon2id;
use super::tang::Present;
use super::tpm2::{PinWrapped, Sealed};
use super::{Enc, KeyCheck, PoolKey};
use crate::{tang, tpm};

/// The pool's key, wrapped once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Slot {
    /// What its owner calls it; no two slots of a pool have the same name.
    pub name: SlotName,
    /// When it was made.
    pub created: Timestamp,
    /// What the key has to fit.
    pub check: KeyCheck,
    /// The key as it is kept.
    pub wrapped: Wrapped,
}

/// A kind of slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    /// A recovery key, on paper.
    Recovery,
    /// A passphrase.
    Passphrase,
    /// The machine's TPM, by itself.
    Tpm2,
    /// The machine's TPM, when somebody types a PIN.
    Tpm2Pin,
    /// Tang servers, and the machine's TPM, if it is in the settings.
    Tang,
}

/// What is in a slot, by its way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "way", rename_all = "kebab-case")]
pub enum Wrapped {
    /// Opened by a recovery key.
    Recovery(Enc),
    /// Opened by a passphrase.
    Passphrase(Argon2id),
    /// Opened by the TPM.
    Tpm2(Sealed),
    /// Opened by the TPM and a PIN.
    Tpm2Pin(Box<PinWrapped>),
    /// Opened by Tang servers, and perhaps the TPM.
    Tang(Box<Present>),
}

/// Lower-case letters, digits and hyphens, at most 32, the first one a letter: a part of a property's name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct SlotName(String);

/// Why a slot did not give the key.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// What was given is not what it was wrapped with.
    #[error("this does not open it")]
    Wrong,
    /// The TPM refuses.
    #[error(transparent)]
    Tpm(#[from] tpm::Refused),
    /// Tang servers do not help.
    #[error(transparent)]
    Tang(#[from] tang::Absent),
    /// Something else is in the way.
    #[error(transparent)]
    Fault(#[from] anyhow::Error),
}

impl Slot {
    pub(super) fn new(name: SlotName, key: &PoolKey, wrapped: Wrapped) -> Self {
        Self { name, created: Timestamp::now(), check: key.check(), wrapped }
    }

    /// Which way it is.
    pub fn way(&self) -> Way {
        match self.wrapped {
            Wrapped::Recovery(_) => Way::Recovery,
            Wrapped::Passphrase(_) => Way::Passphrase,
            Wrapped::Tpm2(_) => Way::Tpm2,
            Wrapped::Tpm2Pin(_) => Way::Tpm2Pin,
            Wrapped::Tang(_) => Way::Tang,
        }
    }

    /// Lets through the key that this slot is about.
    pub(super) fn checked(&self, key: PoolKey) -> Result<PoolKey, Refusal> {
        if key.check() == self.check { Ok(key) } else { Err(Refusal::Wrong) }
    }
}

impl SlotName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Takes a name.
    ///
    /// # Errors
    /// It has other characters or more.
    pub fn parse(text: &str) -> Result<Self, String> {
        let is_allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        match text.starts_with(|c: char| c.is_ascii_lowercase()) && text.len() <= 32 && text.chars().all(is_allowed) {
            true => Ok(Self(text.to_owned())),
            false => Err(format!("`{text}` is no name for a key; use up to 32 lower-case letters, digits and hyphens")),
        }
    }
}

impl From<Way> for SlotName {
    /// The name of a slot whose owner gave it none.
    fn from(way: Way) -> Self {
        Self(way.as_str().to_owned())
    }
}

impl Way {
    /// All there are.
    pub const ALL: [Self; 5] = [Self::Recovery, Self::Passphrase, Self::Tpm2, Self::Tpm2Pin, Self::Tang];

    /// Whether it needs nobody.
    pub fn is_automatic(self) -> bool {
        matches!(self, Self::Tpm2 | Self::Tang)
    }

    /// Whether it needs others in the network.
    pub fn needs_network(self) -> bool {
        matches!(self, Self::Tang)
    }

    /// Its name in slots and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Recovery => "recovery",
            Self::Passphrase => "passphrase",
            Self::Tpm2 => "tpm2",
            Self::Tpm2Pin => "tpm2-pin",
            Self::Tang => "tang",
        }
    }
}

impl FromStr for Way {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|way| way.as_str() == text).ok_or_else(|| {
            let known = Self::ALL.map(Self::as_str).join(", ");
            format!("`{text}` is no way to open the data; there are: {known}")
        })
    }
}

impl FromStr for SlotName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::parse(text)
    }
}

impl<'de> Deserialize<'de> for SlotName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

impl fmt::Display for SlotName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
