//! `[keys]`: the ways to open the encrypted data, besides the recovery key, which there always is.
//!
//! What is a secret here is wiped from the seed once it was used.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, de};

use crate::key::RecoveryKey;
use crate::key::recovery::EXAMPLE;
use crate::secret::Secret;

/// All keys of the table.
pub(super) const KEYS: &[&str] = &["tpm", "tpm-pin", "passphrase", "recovery-key", "tang", "tang-threshold"];

/// Characters; shorter passphrases are guessed, Argon2id or not.
pub const MIN_PASSPHRASE: usize = 12;
/// Servers; so many fit into what ZFS keeps of a key.
const MAX_TANG: usize = 8;
/// Characters; a TPM counts the wrong tries, still, all of the shortest PINs are tried soon.
pub const MIN_PIN: usize = 6;

/// `[keys]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Raw")]
pub struct Keys {
    /// Whether the machine's TPM opens the data by itself.
    pub tpm: Tpm,
    /// The TPM does so only with this PIN.
    pub tpm_pin: Option<Secret>,
    /// A passphrase opens the data.
    pub passphrase: Option<Secret>,
    /// The recovery key, made beforehand; otherwise one is made and shown at the console.
    pub recovery_key: Option<RecoveryKey>,
    /// Servers whose presence opens the data.
    pub tang: Vec<Tang>,
    /// How many of them must be there.
    pub tang_threshold: u8,
}

/// Whether the TPM is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tpm {
    /// If there is one.
    #[default]
    Auto,
    /// No.
    Off,
    /// Yes; without one nothing is set up.
    Required,
}

/// A Tang server (tang(8)).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Tang {
    /// Where it is: `http://tang.lan`.
    pub url: TangUrl,
    /// Which key it signs with, as `tang-show-keys` prints it.
    pub thumbprint: Thumbprint,
}

/// An address that begins with `http://`: what goes over the network need not be hidden, and is not ([`crate::tang`]).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TangUrl(String);

/// Digest of a key: base64url, SHA-256 or SHA-1 (RFC 7638).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Thumbprint(String);

/// The table before it was looked at as a whole.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct Raw {
    tpm: Tpm,
    tpm_pin: Option<Secret>,
    passphrase: Option<Secret>,
    recovery_key: Option<RecoveryKey>,
    tang: Vec<Tang>,
    tang_threshold: Option<u8>,
}

impl Default for Keys {
    fn default() -> Self {
        let (tang, tang_threshold) = (Vec::new(), 1);
        Self { tpm: Tpm::Auto, tpm_pin: None, passphrase: None, recovery_key: None, tang, tang_threshold }
    }
}

impl TryFrom<Raw> for Keys {
    type Error = String;

    fn try_from(raw: Raw) -> Result<Self, String> {
        let Raw { tpm, tpm_pin, passphrase, recovery_key, tang, tang_threshold } = raw;
        let too_short = |secret: &Option<Secret>, least: usize| {
            secret.as_ref().is_some_and(|secret| secret.expose().chars().count() < least)
        };
        if too_short(&passphrase, MIN_PASSPHRASE) {
            return Err(format!("the passphrase has less than {MIN_PASSPHRASE} characters; several words are good"));
        }
        if too_short(&tpm_pin, MIN_PIN) {
            return Err(format!("the PIN has less than {MIN_PIN} characters"));
        }
        if recovery_key.as_ref().is_some_and(|key| key.text().expose() == EXAMPLE) {
            return Err(
                "the recovery key is that of the example, which everybody knows; `larder recovery-key` makes one"
                    .to_owned(),
            );
        }
        if tpm == Tpm::Off && tpm_pin.is_some() {
            return Err("a PIN for the TPM is of no use with `tpm = \"off\"`".to_owned());
        }
        let threshold = tang_threshold.unwrap_or(1);
        match (tang.len(), tang_threshold) {
            (0, Some(_)) => return Err("`tang-threshold` without a server in `tang`".to_owned()),
            (servers, Some(_)) if threshold == 0 || usize::from(threshold) > servers => {
                return Err(format!("`tang-threshold` is {threshold}, and there are {servers} servers in `tang`"));
            }
            (servers, _) if servers > MAX_TANG => return Err(format!("more than {MAX_TANG} servers in `tang`")),
            _ => {}
        }
        Ok(Self { tpm, tpm_pin, passphrase, recovery_key, tang, tang_threshold: threshold })
    }
}

impl TangUrl {
    /// The address.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn parse(text: String) -> Result<Self, String> {
        if text.starts_with("https://") {
            return Err(format!("`{text}` begins with https; Tang needs no TLS, so write it as `http://tang.lan`"));
        }
        let host = text.strip_prefix("http://");
        let is_clean = text.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"'\\`$<>".contains(&byte));
        match host {
            Some(host) if is_clean && !host.is_empty() && !host.starts_with('/') => Ok(Self(text)),
            _ => Err(format!("`{text}` is no address of a server; write it as `http://tang.lan`")),
        }
    }
}

impl Thumbprint {
    /// The digest.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn parse(text: String) -> Result<Self, String> {
        let is_base64url = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
        // 32 and 20 bytes without padding.
        match is_base64url && [43, 27].contains(&text.len()) {
            true => Ok(Self(text)),
            false => Err(format!("`{text}` is no thumbprint; `tang-show-keys` on the server prints it")),
        }
    }
}

impl<'de> Deserialize<'de> for TangUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Thumbprint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

impl fmt::Display for TangUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
