//! What a server's metadata must be before it is believed, and what is remembered of it.
//!
//! The keys in the image are the start. Newer ones are fetched until the server has none, each signed by the keys before;
//! they are kept as they were fetched, and followed anew from the image's each time: nothing is believed because it lies on
//! the state partition. The serial number of each channel may only rise.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context as _;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::channel::{Channel, Expected, Offer};
use super::envelope::Envelope;
use super::keys::{Keys, TrustedKeys};
use super::source::{self, Patience, Server, SourceError};
use super::{MAX_ENVELOPE, TrustError};
use crate::report::Mistake;
use crate::state::State;

/// The image's keys, relative to its root; `null` in an image that was built without any.
const ANCHOR: &str = "usr/lib/larder/release-keys.json";
/// Relative to the state's folder.
const FILE: &str = "update.json";
/// Versions of keys that are followed at once; a server that has more is not one of ours.
const MAX_ROTATIONS: u32 = 64;
/// A clock may be so much behind that of whoever has signed.
const CLOCK_ERROR: SignedDuration = SignedDuration::from_hours(24);

/// What is remembered.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Seen {
    /// Keys after those in the image, in their order.
    keys: Vec<Envelope>,
    /// The highest serial number of each channel.
    serials: BTreeMap<String, u64>,
}

/// What this system is, and asks for.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// Channel of the settings.
    pub channel: &'a str,
    /// Profile of the image.
    pub profile: &'a str,
    /// The time.
    pub now: Timestamp,
}

impl Seen {
    /// What the system below `root` remembers.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read(root: &Path) -> anyhow::Result<Self> {
        let Some(bytes) = State::at(root).read(FILE)? else { return Ok(Self::default()) };
        serde_json::from_slice(&bytes).with_context(|| format!("reading {FILE} of the state partition"))
    }

    fn write(&self, root: &Path) -> anyhow::Result<()> {
        State::at(root).write(FILE, &serde_json::to_vec(self)?)
    }

    /// The keys that count: the image's, and what follows from them.
    fn trusted(&self, root: &Path) -> anyhow::Result<TrustedKeys> {
        let path = root.join(ANCHOR);
        let text = fs_err::read(&path).map_err(|error| no_keys().because(error))?;
        if text.trim_ascii() == b"null" {
            return Err(no_keys().into());
        }
        let anchor = Envelope::parse(&text).and_then(|envelope| TrustedKeys::anchor(&envelope));
        let mut trusted = anchor.with_context(|| format!("reading the keys of this image, {}", path.display()))?;
        for next in &self.keys {
            // A newer image brings what was fetched before it; what does not follow is left aside.
            trusted = trusted.follow(next).unwrap_or(trusted);
        }
        Ok(trusted)
    }
}

/// Fetches a channel, with the keys that it is signed by, and remembers both.
///
/// # Errors
/// The server cannot be reached, or what it has is not to be believed.
pub fn ask(root: &Path, server: &dyn Server, question: &Question<'_>, patience: &Patience) -> anyhow::Result<Offer> {
    let mut seen = Seen::read(root)?;
    let trusted = follow(&mut seen, root, server, patience)?;
    let Question { channel, profile, now } = *question;
    let path = Channel::path(channel, profile);
    let bytes = source::small(server, &path, MAX_ENVELOPE, patience).map_err(Mistake::from)?;
    let serial = seen.serials.get(channel).copied().unwrap_or_default();
    let expected = Expected { channel, profile, now, serial };
    let offer = Envelope::parse(&bytes)
        .and_then(|envelope| envelope.verify::<Channel>(&trusted))
        .and_then(|channel| channel.accept(&expected))
        .map_err(|error| unbelieved(&path, error))?;
    if now + CLOCK_ERROR < offer.issued() {
        let mistake = Mistake::new(format!("this machine's clock says {now}, and {path} was signed after that"));
        return Err(mistake.hint("set the clock (`timedatectl`), or let the machine reach a time server").into());
    }
    seen.serials.insert(channel.to_owned(), offer.serial());
    seen.write(root)?;
    Ok(offer)
}

/// Fetches newer keys, and keeps them.
fn follow(seen: &mut Seen, root: &Path, server: &dyn Server, patience: &Patience) -> anyhow::Result<TrustedKeys> {
    let mut trusted = seen.trusted(root)?;
    for _ in 0..MAX_ROTATIONS {
        let path = Keys::path(trusted.version() + 1);
        let bytes = match source::small(server, &path, MAX_ENVELOPE, patience) {
            Err(SourceError::NotFound(_)) => break,
            bytes => bytes.map_err(Mistake::from)?,
        };
        let envelope = Envelope::parse(&bytes).map_err(|error| unbelieved(&path, error))?;
        trusted = trusted.follow(&envelope).map_err(|error| unbelieved(&path, error))?;
        seen.keys.push(envelope);
        seen.write(root)?;
    }
    Ok(trusted)
}

fn no_keys() -> Mistake {
    Mistake::new("this image has no keys that updates could be signed with")
        .hint("build it in a project with release keys of its own: `larder keys new`")
}

fn unbelieved(path: &str, error: TrustError) -> Mistake {
    let next = match &error {
        TrustError::Expired(_) => "if this machine's clock is right, whoever publishes has to publish anew",
        TrustError::RolledBack { .. } => "somebody serves an old state: tell whoever runs the server",
        TrustError::Channel { .. } | TrustError::Profile { .. } => {
            "tell whoever runs the server: its files are mixed up"
        }
        TrustError::Schema(_) => "install a version in between by writing the boot medium anew",
        _ => "do not install from this server until it is clear why",
    };
    Mistake::new(format!("{path} of the server is not believed: {error}")).because(error).hint(next)
}

#[cfg(test)]
mod tests;
