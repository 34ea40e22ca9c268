//! A recipe: how to make a root file system and a UKI, piece by piece.
//!
//! JSON, compressed by xz. Its records follow each other without gaps, first those of the root file system, then those of
//! the UKI; each says where its bytes come from and what they must be. A record by itself is small enough for memory, so
//! an appliance makes it, checks it, and writes it once.
//!
//! ```json
//! {"records": [
//!   {"to": "root", "at": 0, "length": 8192, "sha256": "…", "copy": {"of": "root", "at": 4096}},
//!   {"to": "root", "at": 8192, "length": 40960, "sha256": "…",
//!    "patch": {"of": "root", "at": 12288, "length": 45056, "offset": 0, "size": 812}},
//!   {"to": "uki", "at": 0, "length": 70001, "sha256": "…", "data": {"offset": 812, "size": 31007}}
//! ]}
//! ```
//!
//! `offset` and `size` name a range of the payload object, which holds one xz stream for each record that needs one.

use std::io::Read;
use std::ops::Range;

use lzma_rust2::XzReader;
use serde::{Deserialize, Serialize};

use super::patch;
use crate::hash::Hash;
use crate::verity::BLOCK_SIZE;

/// Longest piece that a record makes.
pub const MAX_LENGTH: u64 = 8 << 20;
/// Longest piece of old content that a patch refers to.
pub const MAX_BASE: u64 = 64 << 20;
/// Longest recipe when it is unpacked.
const MAX_UNPACKED: u64 = 64 << 20;
/// Largest dictionary of an xz stream in a payload or a recipe.
pub const MAX_DICTIONARY: u32 = 8 << 20;
/// What decoding one may take, in KiB: the dictionary, and what the decoder says that it needs besides.
const MEMORY: u32 = (MAX_DICTIONARY >> 10) + 1024;

/// What is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// The root file system.
    Root,
    /// The UKI, which is made after it.
    Uki,
}

/// Old content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Base {
    /// Root file system of the older system.
    Root,
    /// UKI of the older system.
    Uki,
    /// The root file system that this recipe makes, which is whole by then: for records of the UKI only.
    NewRoot,
}

/// A range of old content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BaseRange {
    /// Of what.
    pub of: Base,
    /// First byte.
    pub at: u64,
    /// Bytes.
    pub length: u64,
}

/// Where the bytes of a record come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// They are there already.
    Copy {
        /// In what.
        of: Base,
        /// First byte.
        at: u64,
    },
    /// What is there is much like them: an xz stream of a [`patch`].
    Patch {
        /// In what.
        of: Base,
        /// First byte of the old content.
        at: u64,
        /// Bytes of the old content.
        length: u64,
        /// Place in the payload.
        offset: u64,
        /// Bytes there.
        size: u64,
    },
    /// An xz stream of them.
    Data {
        /// Place in the payload.
        offset: u64,
        /// Bytes there.
        size: u64,
    },
}

/// One piece.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// What it belongs to.
    pub to: Target,
    /// Its place there.
    pub at: u64,
    /// Bytes.
    pub length: u64,
    /// Digest of these.
    pub sha256: Hash,
    /// Where they come from.
    #[serde(flatten)]
    pub origin: Origin,
}

/// How to make a system. What [`Recipe::decode`] returns is contiguous, complete and within its bounds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recipe {
    records: Vec<Record>,
}

/// What the signed release says, which a recipe must keep to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes of the root file system that is made.
    pub root: u64,
    /// Bytes of the UKI that is made.
    pub uki: u64,
    /// Bytes of the payload.
    pub payload: u64,
    /// Bytes of the older root file system and of the older UKI; `None` for a recipe that makes a system out of nothing.
    pub old: Option<(u64, u64)>,
}

/// A recipe is not usable.
#[derive(Debug, thiserror::Error)]
pub enum RecipeError {
    /// No xz stream, a damaged one, or one that wants too much.
    #[error("it cannot be unpacked")]
    Packed(#[source] std::io::Error),
    /// No recipe.
    #[error("it is no recipe")]
    Json(#[source] serde_json::Error),
    /// A record breaks the rules.
    #[error("record {place} {what}")]
    Record {
        /// Which, from 0.
        place: usize,
        /// How.
        what: &'static str,
    },
    /// Something is left unmade.
    #[error("it makes {made} of {wanted} bytes of the {of}")]
    Incomplete {
        /// What.
        of: &'static str,
        /// How far it gets.
        made: u64,
        /// How far it should.
        wanted: u64,
    },
}

/// A record did not give what it should.
#[derive(Debug, thiserror::Error)]
pub enum MakeError {
    /// What was fetched is damaged, or wants too much.
    #[error("what was fetched cannot be unpacked")]
    Packed(#[source] std::io::Error),
    /// The patch does not fit the old content.
    #[error(transparent)]
    Patch(#[from] patch::BadPatch),
    /// The old content is not what it should be, or what was fetched is not.
    #[error("the result is not what it must be (sha256 {found}, not {wanted})")]
    Differs {
        /// What came out.
        found: Hash,
        /// What should have.
        wanted: Hash,
    },
}

impl Recipe {
    /// Takes records as they are, for [`Recipe::check`].
    pub fn new(records: Vec<Record>) -> Self {
        Self { records }
    }

    /// The records, in order.
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// The JSON, to be compressed.
    pub fn to_json(&self) -> Vec<u8> {
        // Of numbers and strings: this cannot fail.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Unpacks a recipe and checks it.
    ///
    /// # Errors
    /// It is none, or breaks the rules.
    pub fn decode(bytes: &[u8], bounds: &Bounds) -> Result<Self, RecipeError> {
        let json = unpack(bytes, MAX_UNPACKED).map_err(RecipeError::Packed)?;
        Self::parse(&json, bounds)
    }

    /// The same, of JSON.
    ///
    /// # Errors
    /// It is none, or breaks the rules.
    pub fn parse(json: &[u8], bounds: &Bounds) -> Result<Self, RecipeError> {
        let recipe: Self = serde_json::from_slice(json).map_err(RecipeError::Json)?;
        recipe.check(bounds)?;
        Ok(recipe)
    }

    /// Whether the records follow each other, make all of it, and refer to what there is.
    ///
    /// # Errors
    /// How it breaks the rules.
    pub fn check(&self, bounds: &Bounds) -> Result<(), RecipeError> {
        let (mut root, mut uki) = (0, 0);
        for (place, record) in self.records.iter().enumerate() {
            let wrong = |what| RecipeError::Record { place, what };
            if record.to == Target::Root && uki > 0 {
                return Err(wrong("of the root file system comes after those of the UKI"));
            }
            let made = if record.to == Target::Root { &mut root } else { &mut uki };
            if record.at != *made {
                return Err(wrong("does not follow the one before"));
            }
            record.check(bounds).map_err(wrong)?;
            *made += record.length;
        }
        let complete = |of, made, wanted| {
            if made == wanted { Ok(()) } else { Err(RecipeError::Incomplete { of, made, wanted }) }
        };
        complete("root file system", root, bounds.root)?;
        complete("UKI", uki, bounds.uki)
    }
}

impl Record {
    fn check(&self, bounds: &Bounds) -> Result<(), &'static str> {
        if self.length == 0 || self.length > MAX_LENGTH {
            return Err("has no usable length");
        }
        if self.to == Target::Root && !self.length.is_multiple_of(BLOCK_SIZE as u64) {
            return Err("is no whole number of blocks");
        }
        if let Some(base) = self.base() {
            let size = match (base.of, bounds.old) {
                (Base::NewRoot, _) if self.to == Target::Root => return Err("is made of what is being made"),
                (Base::NewRoot, _) => bounds.root,
                (_, None) => return Err("is made of an older system, and there is none"),
                (Base::Root, Some((root, _))) => root,
                (Base::Uki, Some((_, uki))) => uki,
            };
            if base.length > MAX_BASE || !is_within(base.at, base.length, size) {
                return Err("is made of more than there is");
            }
        }
        if let Some(payload) = self.payload() {
            let size = payload.end - payload.start;
            // Of an xz stream that is longer than what is in it, something else is wrong.
            if size > 2 * self.length + (64 << 10) || !is_within(payload.start, size, bounds.payload) {
                return Err("names more of the payload than there is");
            }
        }
        Ok(())
    }

    /// What it needs of older content.
    pub fn base(&self) -> Option<BaseRange> {
        match self.origin {
            Origin::Copy { of, at } => Some(BaseRange { of, at, length: self.length }),
            Origin::Patch { of, at, length, .. } => Some(BaseRange { of, at, length }),
            Origin::Data { .. } => None,
        }
    }

    /// What it needs of the payload.
    pub fn payload(&self) -> Option<Range<u64>> {
        match self.origin {
            Origin::Copy { .. } => None,
            Origin::Patch { offset, size, .. } | Origin::Data { offset, size } => {
                Some(offset..offset.saturating_add(size))
            }
        }
    }

    /// Makes the piece, of what [`Record::base`] and [`Record::payload`] name, and checks it.
    ///
    /// # Errors
    /// The one or the other is not what it should be.
    pub fn make(&self, base: &[u8], fetched: &[u8]) -> Result<Vec<u8>, MakeError> {
        let made = match self.origin {
            Origin::Copy { .. } => base.to_vec(),
            Origin::Data { .. } => unpack(fetched, self.length).map_err(MakeError::Packed)?,
            Origin::Patch { .. } => {
                // The differences and the new bytes are as long as the piece; the steps, in any sane patch, are shorter.
                let patch = unpack(fetched, 2 * self.length + (64 << 10)).map_err(MakeError::Packed)?;
                patch::apply(base, &patch, self.length as usize)?
            }
        };
        let found = Hash::of(&made);
        if found == self.sha256 { Ok(made) } else { Err(MakeError::Differs { found, wanted: self.sha256 }) }
    }
}

fn is_within(at: u64, length: u64, size: u64) -> bool {
    at.checked_add(length).is_some_and(|end| end <= size)
}

/// Unpacks an xz stream of at most `limit` bytes.
fn unpack(packed: &[u8], limit: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    XzReader::new_mem_limit(packed, false, MEMORY).take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(std::io::Error::other("there is more in it than there may be"));
    }
    Ok(bytes)
}
