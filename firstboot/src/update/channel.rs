//! A channel: the releases of one profile, and what each of them is made of.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::envelope::{Payload, Verified};
use super::{Object, TrustError};
use crate::layout;
use crate::verity::{BLOCK_SIZE, RootHash};
use crate::version::Version;

/// Releases that a channel keeps at most.
const MAX_RELEASES: usize = 64;
/// Largest UKI: three of them fit the ESP with its boot loader.
pub const MAX_UKI: u64 = 160 << 20;
/// Largest recipe, as it is fetched.
pub const MAX_RECIPE: u64 = 8 << 20;
/// Largest object of any kind: a whole system, and some.
const MAX_OBJECT: u64 = 2 * layout::ROOT_SIZE;

/// Payload of kind `larder-channel`. Only an [`Offer`] lists its releases to an appliance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Channel {
    /// Its name, such as `stable`.
    pub channel: String,
    /// Hardware profile.
    pub profile: String,
    /// Rises with each change.
    pub serial: u64,
    /// When it was published.
    pub issued: Timestamp,
    /// From when on it is not believed any more.
    pub expires: Timestamp,
    /// Newest first.
    pub releases: Vec<Release>,
}

/// A system to install.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Release {
    /// Its version.
    pub version: Version,
    /// Oldest version that may install this one; older ones take a release in between first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minimum_version: Option<Version>,
    /// Root hash of the root file system.
    pub root_hash: RootHash,
    /// Bytes of the root file system.
    pub root_size: u64,
    /// Its hash tree, superblock included.
    pub tree: Object,
    /// Kernel, initrd and command line, as the recipe makes it; not on the server by itself.
    pub uki: Object,
    /// Bytes of the compressed disk image, for comparison.
    pub download: u64,
    /// Makes it out of nothing.
    pub full: Making,
    /// Make it out of an older system.
    #[serde(default)]
    pub deltas: Vec<Delta>,
    /// What it brings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changes: Option<Changes>,
}

/// A recipe and what it takes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Making {
    /// An xz-compressed [`super::recipe::Recipe`].
    pub recipe: Object,
    /// What its records name ranges of.
    pub payload: Object,
}

impl Making {
    /// Bytes to fetch for all of it.
    pub fn size(&self) -> u64 {
        self.recipe.size + self.payload.size
    }
}

/// The way from one system to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Delta {
    /// Version of the older system.
    pub from: Version,
    /// Root hash of its root file system.
    pub from_root_hash: RootHash,
    /// Its UKI.
    pub from_uki: Object,
    /// How it is done.
    #[serde(flatten)]
    pub making: Making,
}

/// What is new since another release, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changes {
    /// Since which version.
    pub from: Version,
    /// Packages that were added, removed or have another version.
    pub packages: Vec<PackageChange>,
    /// Security fixes that changelogs name.
    pub fixes: Vec<String>,
}

/// A package that changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackageChange {
    /// Name.
    pub name: String,
    /// Version before; absent when it was added.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old: Option<String>,
    /// Version now; absent when it was removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new: Option<String>,
}

/// Whether a channel or a profile may have this name: it becomes part of a path.
pub fn is_name(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && text != "keys"
        && text != "objects"
}

impl Payload for Channel {
    const KIND: &'static str = "larder-channel";

    fn check(&self) -> Result<(), TrustError> {
        let wrong = |what: &str| Err(TrustError::Malformed(what.to_owned()));
        if !is_name(&self.channel) || !is_name(&self.profile) {
            return wrong("the name of its channel or profile is not usable");
        }
        if self.issued >= self.expires {
            return wrong("it expires before it is issued");
        }
        if self.releases.len() > MAX_RELEASES {
            return wrong("it has too many releases");
        }
        if self.releases.windows(2).any(|pair| !pair[0].version.is_newer_than(&pair[1].version)) {
            return wrong("its releases are not in order, the newest first");
        }
        self.releases.iter().try_for_each(Release::check)
    }
}

impl Release {
    fn check(&self) -> Result<(), TrustError> {
        let wrong = |what: &str| Err(TrustError::Malformed(format!("release {}: {what}", self.version)));
        if self.root_size == 0
            || !self.root_size.is_multiple_of(BLOCK_SIZE as u64)
            || self.root_size > layout::ROOT_SIZE
        {
            return wrong("the root file system does not fit a slot");
        }
        if self.tree.size > layout::VERITY_SIZE {
            return wrong("the hash tree does not fit its partition");
        }
        if self.uki.size == 0 || self.uki.size > MAX_UKI {
            return wrong("the UKI does not fit the ESP");
        }
        let makings = || std::iter::once(&self.full).chain(self.deltas.iter().map(|delta| &delta.making));
        if makings().any(|making| making.recipe.size > MAX_RECIPE || making.payload.size > MAX_OBJECT) {
            return wrong("a recipe or a payload is too large");
        }
        if self.minimum_version.as_ref().is_some_and(|minimum| minimum.is_newer_than(&self.version)) {
            return wrong("it needs a newer system than itself");
        }
        Ok(())
    }

    /// The way from a system to this one, if there is one; all three must be the very same.
    pub fn delta_from(&self, root_hash: &RootHash, uki: &Object) -> Option<&Delta> {
        self.deltas.iter().find(|delta| delta.from_root_hash == *root_hash && delta.from_uki == *uki)
    }

    /// Every object that it names and that a server must have.
    pub fn objects(&self) -> impl Iterator<Item = Object> {
        let makings = std::iter::once(&self.full).chain(self.deltas.iter().map(|delta| &delta.making));
        std::iter::once(self.tree).chain(makings.flat_map(|making| [making.recipe, making.payload]))
    }
}

impl Channel {
    /// Where a server has it.
    pub fn path(channel: &str, profile: &str) -> String {
        format!("{channel}/{profile}.json")
    }
}

/// What an appliance asks for and already knows.
#[derive(Debug, Clone, Copy)]
pub struct Expected<'a> {
    /// The channel of the settings.
    pub channel: &'a str,
    /// The profile of this image.
    pub profile: &'a str,
    /// The time; one that is known to be wrong must be left at what the image was built at.
    pub now: Timestamp,
    /// The highest serial number that was seen on this channel; 0 when there was none.
    pub serial: u64,
}

/// A channel that is believed, meant for this appliance, and in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer(Verified<Channel>);

impl Verified<Channel> {
    /// Takes what it offers, if it is what is asked for.
    ///
    /// # Errors
    /// It is for others, has expired, or is older than one that was seen.
    pub fn accept(self, expected: &Expected<'_>) -> Result<Offer, TrustError> {
        let differs = |found: &str, wanted: &str| (found != wanted).then(|| (found.to_owned(), wanted.to_owned()));
        if let Some((found, wanted)) = differs(&self.channel, expected.channel) {
            return Err(TrustError::Channel { found, wanted });
        }
        if let Some((found, wanted)) = differs(&self.profile, expected.profile) {
            return Err(TrustError::Profile { found, wanted });
        }
        if self.serial < expected.serial {
            return Err(TrustError::RolledBack { known: expected.serial, found: self.serial });
        }
        if self.expires <= expected.now {
            return Err(TrustError::Expired(self.expires));
        }
        Ok(Offer(self))
    }
}

impl Offer {
    /// Its serial number, to be remembered.
    pub fn serial(&self) -> u64 {
        self.0.serial
    }

    /// When it was published.
    pub fn issued(&self) -> Timestamp {
        self.0.issued
    }

    /// Until when it counts.
    pub fn expires(&self) -> Timestamp {
        self.0.expires
    }

    /// Newest first.
    pub fn releases(&self) -> &[Release] {
        &self.0.releases
    }

    /// The newest release that a system of this version may install, when it is newer. Steps over those that need a
    /// newer system first.
    pub fn next_after(&self, running: &Version) -> Option<&Release> {
        let may_install = |release: &&Release| {
            release.version.is_newer_than(running)
                && release.minimum_version.as_ref().is_none_or(|minimum| !minimum.is_newer_than(running))
        };
        self.releases().iter().find(may_install)
    }
}
