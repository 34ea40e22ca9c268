//! `InRelease`: the signed list of a suite's indices.
//!
//! A [`VerifiedRelease`] can only be made by [`VerifiedRelease::verify`], and the rest of the builder
//! reads nothing else: index hashes come from it, package hashes from the indices. Only the text
//! that the signature covers is used; a file with anything around it is refused, as a reader that
//! takes the wrong part has been the fault behind several broken verifiers.

use std::collections::HashMap;
use std::io::Read as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use jiff::{SignedDuration, Timestamp};
use sequoia_openpgp::cert::{Cert, CertParser};
use sequoia_openpgp::parse::Parse as _;
use sequoia_openpgp::parse::stream::{
    GoodChecksum, MessageLayer, MessageStructure, VerificationError, VerificationHelper, VerifierBuilder,
};
use sequoia_openpgp::policy::StandardPolicy;
use sequoia_openpgp::types::RevocationStatus;
use sequoia_openpgp::{KeyHandle, Result as PgpResult};

use crate::hash::Hash;
use crate::report::Mistake;

/// Clocks of mirrors and of the person's machine differ; a date later than this is a fault.
const CLOCK_TOLERANCE: SignedDuration = SignedDuration::from_hours(24);

/// The public keys that an archive's releases may be signed with.
#[derive(Debug, Clone)]
pub struct Keyring {
    certs: Vec<Cert>,
    names: String,
}

impl Keyring {
    /// Reads armoured or binary key files, `names` below `folder`.
    pub fn open(folder: &Path, names: &[String]) -> Result<Self> {
        let mut certs = Vec::new();
        for name in names {
            let path = folder.join(name);
            let missing = |error: anyhow::Error| {
                Mistake::new(format!("{}: not a readable OpenPGP key file", path.display()))
                    .hint("`keys` of an archive names files below profiles/archives/")
                    .because(error)
            };
            let bytes = fs_err::read(&path).map_err(|error| missing(error.into()))?;
            let found =
                CertParser::from_bytes(&bytes).and_then(Iterator::collect::<PgpResult<Vec<Cert>>>).map_err(missing)?;
            certs.extend(found);
        }
        Ok(Self { certs, names: names.join(", ") })
    }

    /// A keyring of given certificates, `names` for messages.
    pub fn of(certs: Vec<Cert>, names: &str) -> Self {
        Self { certs, names: names.to_owned() }
    }
}

/// What is asked of a release.
#[derive(Debug, Clone, Copy)]
pub struct Expected<'a> {
    /// The file's address, for messages.
    pub url: &'a str,
    /// Suite or codename that the file must be about.
    pub suite: &'a str,
    /// The time at which it must be valid.
    pub now: Timestamp,
}

/// An index file as the release lists it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listed {
    /// Digest of the file as it lies on the mirror.
    pub sha256: Hash,
    /// Its length.
    pub size: u64,
}

/// A release whose signature, name and dates have been checked.
#[derive(Debug)]
pub struct VerifiedRelease {
    date: Timestamp,
    sha256: Hash,
    fields: HashMap<String, String>,
    files: HashMap<String, Listed>,
}

impl VerifiedRelease {
    /// Checks the clear-signed file `bytes` and reads it.
    pub fn verify(bytes: &[u8], keyring: &Keyring, expected: &Expected<'_>) -> Result<Self> {
        let text = signed_text(bytes, keyring, expected)?;
        let (fields, files) = read_fields(&text).map_err(|problem| broken(expected, problem))?;
        let date = date(&fields, "date", expected)?.ok_or_else(|| broken(expected, "it has no Date"))?;
        let release = Self { date, sha256: Hash::of(bytes), fields, files };
        release.check_name(expected)?;
        release.check_dates(expected)?;
        Ok(release)
    }

    fn check_name(&self, expected: &Expected<'_>) -> Result<()> {
        let (suite, codename) = (self.field("suite"), self.field("codename"));
        if expected.suite == suite || expected.suite == codename {
            return Ok(());
        }
        let problem =
            format!("{}: is about the suite `{suite}` (codename `{codename}`), not `{}`", expected.url, expected.suite);
        Err(Mistake::new(problem)
            .hint("name the suite as its archive does; if it does, this mirror is misconfigured or hostile")
            .into())
    }

    fn check_dates(&self, expected: &Expected<'_>) -> Result<()> {
        let Expected { url, now, .. } = *expected;
        if self.date > now + CLOCK_TOLERANCE {
            let problem = format!("{url}: is dated {}, in the future (the clock here says {now})", self.date);
            return Err(Mistake::new(problem).hint("set this machine's clock").into());
        }
        match date(&self.fields, "valid-until", expected)? {
            Some(end) if end < now => Err(Mistake::new(format!("{url}: expired on {end} (the clock here says {now})"))
                .hint("the mirror is stale or replays old indices: choose another `mirror` in the profile, or set this machine's clock")
                .into()),
            _ => Ok(()),
        }
    }

    /// When the suite was published.
    pub fn date(&self) -> Timestamp {
        self.date
    }

    /// Digest of the signed file.
    pub fn sha256(&self) -> Hash {
        self.sha256
    }

    /// The index at `path`, relative to the suite's folder.
    pub fn file(&self, path: &str) -> Option<Listed> {
        self.files.get(path).copied()
    }

    /// Whether files are also kept under their hashes, so that a mirror in mid-update still serves
    /// what its release lists.
    pub fn by_hash(&self) -> bool {
        self.field("acquire-by-hash") == "yes"
    }

    /// Whether the suite lists this architecture.
    pub fn has_architecture(&self, name: &str) -> bool {
        self.field("architectures").split_whitespace().any(|listed| listed == name)
    }

    /// Whether `Architecture: all` packages have indices of their own, besides being part of the
    /// other architectures' (the field is named for what old readers cannot do).
    pub fn has_index_for_all(&self) -> bool {
        self.has_architecture("all") && !self.field("no-support-for-architecture-all").contains("Packages")
    }

    /// What apt_preferences(5) gives to the suite's versions by default.
    pub fn priority(&self) -> i32 {
        match (self.field("notautomatic"), self.field("butautomaticupgrades")) {
            ("yes", "yes") => 100,
            ("yes", _) => 1,
            _ => 500,
        }
    }

    /// A field by its lower-case name; empty when absent.
    fn field(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", String::as_str)
    }
}

/// The text under a good signature by one of the keys.
fn signed_text(bytes: &[u8], keyring: &Keyring, expected: &Expected<'_>) -> Result<String> {
    check_framing(bytes).map_err(|problem| broken(expected, problem))?;
    let policy = StandardPolicy::at(std::time::SystemTime::from(expected.now));
    let judge = Judge { keyring, policy: &policy, now: expected.now.into() };
    let refused = |error: anyhow::Error| {
        let hint = format!(
            "the accepted keys are {}; if the archive's owner has changed keys, add the new one to profiles/archives/ after checking it",
            keyring.names
        );
        Mistake::new(format!("{}: is not signed by a key that the profile accepts", expected.url))
            .hint(hint)
            .because(error)
    };
    let mut text = String::new();
    let mut verifier = VerifierBuilder::from_bytes(bytes)
        .and_then(|builder| builder.with_policy(&policy, Some(expected.now.into()), judge))
        .map_err(refused)?;
    verifier.read_to_string(&mut text).map_err(|error| refused(error.into()))?;
    anyhow::ensure!(verifier.message_processed(), "{}: verification stopped early", expected.url);
    Ok(text)
}

/// One clear-signed message and nothing else: RFC 9580, section 7.
fn check_framing(bytes: &[u8]) -> Result<(), &'static str> {
    let text = std::str::from_utf8(bytes).map_err(|_| "it is not UTF-8")?;
    let mut state =
        ["-----BEGIN PGP SIGNED MESSAGE-----", "-----BEGIN PGP SIGNATURE-----", "-----END PGP SIGNATURE-----"]
            .into_iter();
    let mut next = state.next();
    for (number, line) in text.lines().map(str::trim_end).enumerate() {
        if line.starts_with("-----") {
            if next != Some(line) {
                return Err("its clear-signed framing is damaged");
            }
            next = state.next();
        } else if (next.is_none() && !line.is_empty()) || number == 0 {
            return Err("it is not one clear-signed message");
        }
    }
    if next.is_some() { Err("it is cut short, or not clear-signed") } else { Ok(()) }
}

/// The archive's policy for signatures: one good one by a key of the keyring that is usable now.
struct Judge<'a> {
    keyring: &'a Keyring,
    policy: &'a StandardPolicy<'a>,
    now: std::time::SystemTime,
}

impl VerificationHelper for Judge<'_> {
    fn get_certs(&mut self, _ids: &[KeyHandle]) -> PgpResult<Vec<Cert>> {
        Ok(self.keyring.certs.clone())
    }

    fn check(&mut self, structure: MessageStructure<'_>) -> PgpResult<()> {
        let mut problems = Vec::new();
        for layer in structure {
            let MessageLayer::SignatureGroup { results } = layer else {
                anyhow::bail!("unexpected layer of encryption or compression")
            };
            for result in results {
                match result
                    .map_err(|error| explain(&error))
                    .and_then(|good| self.usable(&good).map_err(|error| format!("{error:#}")))
                {
                    Ok(()) => return Ok(()),
                    Err(problem) => problems.push(problem),
                }
            }
        }
        anyhow::ensure!(!problems.is_empty(), "it carries no signature");
        anyhow::bail!(problems.join("; "))
    }
}

impl Judge<'_> {
    /// Sequoia judges keys at the time of the signature, but whoever holds an expired or withdrawn
    /// key can write any time into a signature: keys must be good now.
    fn usable(&self, good: &GoodChecksum<'_>) -> Result<()> {
        let key = good.ka.key().key_handle();
        let cert = good.ka.cert().with_policy(self.policy, self.now).with_context(|| format!("key {key}"))?;
        cert.alive().with_context(|| format!("key {key} cannot be used now"))?;
        anyhow::ensure!(!matches!(cert.revocation_status(), RevocationStatus::Revoked(_)), "key {key} is revoked");
        let signer = cert.keys().for_signing().alive().revoked(false).key_handle(key.clone()).next();
        signer.with_context(|| format!("key {key} is expired, revoked or not for signing"))?;
        Ok(())
    }
}

fn explain(error: &VerificationError<'_>) -> String {
    match error {
        VerificationError::MissingKey { sig } => {
            let issuers: Vec<String> = sig.get_issuers().iter().map(ToString::to_string).collect();
            format!("signed by the unknown key {}", issuers.first().map_or("(unnamed)", String::as_str))
        }
        VerificationError::BadKey { ka, error, .. } => {
            format!("key {} is bad: {error}", ka.key().key_handle())
        }
        VerificationError::BadSignature { ka, .. } => {
            format!("the signature by key {} does not fit the text", ka.key().key_handle())
        }
        other => other.to_string(),
    }
}

type Fields = (HashMap<String, String>, HashMap<String, Listed>);

/// The one stanza of a release file.
fn read_fields(text: &str) -> Result<Fields, String> {
    let (mut fields, mut files) = (HashMap::<String, String>::new(), HashMap::new());
    let mut current = String::new();
    for (number, line) in text.lines().map(str::trim_end).enumerate() {
        let wrong = |problem: &str| format!("line {}: {problem}", number + 1);
        if line.is_empty() {
            continue;
        }
        if line.starts_with([' ', '\t']) {
            if current == "sha256" {
                let (path, listed) = read_listed(line).ok_or_else(|| wrong("not `SHA256 SIZE PATH`"))?;
                files.insert(path.to_owned(), listed);
            }
            continue;
        }
        let (name, value) = line.split_once(':').ok_or_else(|| wrong("not a field"))?;
        current = name.to_ascii_lowercase();
        if fields.insert(current.clone(), value.trim().to_owned()).is_some() {
            return Err(wrong("a field for the second time"));
        }
    }
    Ok((fields, files))
}

fn read_listed(line: &str) -> Option<(&str, Listed)> {
    let mut words = line.split_whitespace();
    let (sha256, size, path) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?, words.next()?);
    words.next().is_none().then_some((path, Listed { sha256, size }))
}

/// `Sat, 12 Sep 2026 07:55:41 UTC`; RFC 2822 but for the name of the zone.
fn date(fields: &HashMap<String, String>, name: &str, expected: &Expected<'_>) -> Result<Option<Timestamp>> {
    let Some(text) = fields.get(name) else {
        return Ok(None);
    };
    let parsed = jiff::fmt::rfc2822::parse(&text.replace(" UTC", " +0000"));
    let zoned = parsed.map_err(|error| broken(expected, format!("its {name} `{text}` is no date ({error})")))?;
    Ok(Some(zoned.timestamp()))
}

fn broken(expected: &Expected<'_>, problem: impl std::fmt::Display) -> Mistake {
    Mistake::new(format!("{}: not a valid InRelease file: {problem}", expected.url))
        .hint("something between here and the archive (a proxy, a login page) may have answered instead: open the address in a browser")
}

#[cfg(test)]
#[path = "release_tests.rs"]
mod tests;
