//! The rules by which a disk becomes one that may be overwritten.
//!
//! ```text
//! /dev/disk/by-id/…  ── Machine::choose ──▶  Choice  ── Choice::confirm ──▶  Target  ── flash::Target::open ──▶  written
//!                       every rule below       asks for    typed by a person     the rules once more: it may
//!                                              a proof     who looks at the disk  have become another disk
//! ```
//!
//! A [`Target`] cannot be made in another way, and nothing but a `Target` can be opened for writing.

use std::path::{Path, PathBuf};

use super::{Area, Disk, Machine, Size, Use};
use crate::report::Mistake;

/// Where stable names are.
const BY_ID: &str = "/dev/disk/by-id";
/// How much of a serial number a person has to type.
const PROOF: usize = 4;

/// Whether a disk may be one that is built in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Internal {
    /// It may.
    Allowed,
    /// Only disks that are made to be pulled out.
    Refused,
}

/// What a disk must be like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// Whether it may be built in.
    pub internal: Internal,
    /// Bytes that it must have.
    pub needed: u64,
}

/// Why a disk is not written to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The name changes from one start to the next, and with the order in which disks are found.
    #[error("{}: no name that stays the same", .0.display())]
    NotById(PathBuf),
    /// There is no such name.
    #[error("{}: no such disk", .0.display())]
    Unknown(PathBuf),
    /// It stands for a part of a disk.
    #[error("{}: not a whole disk", .0.display())]
    NotWhole(PathBuf),
    /// The running system is on it.
    #[error("this is the disk that the running system is on")]
    System,
    /// It is in use.
    #[error("it is in use: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))]
    InUse(Vec<Use>),
    /// The kernel says that somebody has it.
    #[error("it is in use by another program or as part of a pool")]
    Busy,
    /// It belongs to a pool of several disks.
    #[error("it belongs to a pool ({0})")]
    Member(Box<Area>),
    /// It is built in.
    #[error("it is built in, not a stick or a card")]
    Internal,
    /// It is protected from writing.
    #[error("it is protected from writing")]
    ReadOnly,
    /// It is too small.
    #[error("it has {}, and {} are needed", Size(*size), Size(*needed))]
    TooSmall {
        /// What it has.
        size: u64,
        /// What is needed.
        needed: u64,
    },
    /// Its sectors have a size that nothing here can deal with.
    #[error("its sectors have {0} bytes instead of 512 or 4096")]
    Sector(u32),
    /// Another disk says the same of itself.
    #[error("{0} has the same model and serial number, so nobody can tell which of them is meant")]
    Ambiguous(String),
    /// What was typed is not the end of the serial number.
    #[error("this is not {0}")]
    WrongProof(Proof),
    /// Between the choice and now it was replaced.
    #[error("it is not the disk any more that was chosen")]
    Changed,
    /// It cannot be opened.
    #[error("it cannot be opened: {0}")]
    Unopened(String),
}

impl Refusal {
    /// What to do about it.
    fn next(&self) -> &'static str {
        match self {
            Self::NotById(_) => "name it as in /dev/disk/by-id; without a name all disks are listed",
            Self::Unknown(_) => "is it plugged in? without a name all disks are listed",
            Self::NotWhole(_) => "leave out the `-partN` at the end",
            Self::System => "start this computer from another disk first, or choose another one",
            Self::InUse(_) => "unmount it if it is the right one",
            Self::Busy => "close whatever has it open, if it is the right one",
            Self::Member(_) => "if the pool is not needed any more, remove what marks it: wipefs --all on the disk",
            Self::Internal => "if it is the right one, add --internal",
            Self::ReadOnly => "cards have a switch at their side",
            Self::TooSmall { .. } => "take a larger one",
            Self::Sector(_) => "take another one",
            Self::Ambiguous(_) => "unplug the other one",
            Self::WrongProof(_) => "look at the label of the disk, or list all disks",
            Self::Changed => "start again",
            Self::Unopened(_) => "writing to disks needs root: sudo, or log in as root",
        }
    }
}

impl From<Refusal> for Mistake {
    fn from(refusal: Refusal) -> Self {
        Self::new(refusal.to_string()).hint(refusal.next())
    }
}

/// What a person types to show that they have looked at the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    text: String,
    of: &'static str,
}

impl std::fmt::Display for Proof {
    /// Without the text itself.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the last {} characters of its {}", self.text.chars().count(), self.of)
    }
}

impl Proof {
    /// Of the serial number; of the model where there is none.
    fn of(disk: &Disk) -> Self {
        let (text, of) = match (&disk.serial, &disk.model) {
            (Some(serial), _) => (serial, "serial number"),
            (None, Some(model)) => (model, "model (it has no serial number)"),
            (None, None) => (&disk.name, "name (it has no serial number)"),
        };
        let text = text.trim();
        let skipped = text.chars().count().saturating_sub(PROOF);
        Self { text: text.chars().skip(skipped).collect(), of }
    }
}

/// A disk that no rule speaks against. What is missing is somebody who means it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    disk: Disk,
    id: PathBuf,
    node: PathBuf,
    is_real: bool,
}

impl Choice {
    /// The disk.
    pub fn disk(&self) -> &Disk {
        &self.disk
    }

    /// The name by which it was chosen.
    pub fn id(&self) -> &Path {
        &self.id
    }

    /// What a person has to type.
    pub fn proof(&self) -> Proof {
        Proof::of(&self.disk)
    }

    /// The disk may be overwritten, if `typed` is the proof; capital and small letters are the same.
    ///
    /// # Errors
    /// It is not.
    pub fn confirm(self, typed: &str) -> Result<Target, Refusal> {
        let proof = self.proof();
        if typed.trim().to_lowercase() == proof.text.trim().to_lowercase() {
            Ok(Target(self))
        } else {
            Err(Refusal::WrongProof(proof))
        }
    }

    /// The disk may be changed without being overwritten, which needs no proof.
    pub(crate) fn without_proof(self) -> Target {
        Target(self)
    }
}

/// A disk that may be overwritten.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target(Choice);

impl Target {
    /// The disk.
    pub fn disk(&self) -> &Disk {
        &self.0.disk
    }

    /// Its device node; below a folder that only looks like a computer, a plain file.
    pub(crate) fn node(&self) -> &Path {
        &self.0.node
    }

    /// Whether it is a disk and not a plain file.
    pub(crate) fn is_real(&self) -> bool {
        self.0.is_real
    }
}

impl Machine {
    /// Finds the disk `device` and holds it against the rules.
    ///
    /// # Errors
    /// The first rule that speaks against it.
    pub fn choose(&self, device: &Path, rules: Rules) -> Result<Choice, Refusal> {
        let id = match (device.parent(), device.file_name().and_then(|name| name.to_str())) {
            (Some(folder), Some(name)) if folder == Path::new(BY_ID) => name,
            _ => return Err(Refusal::NotById(device.to_owned())),
        };
        let unknown = || Refusal::Unknown(device.to_owned());
        let target = std::fs::read_link(self.root().join(&BY_ID[1..]).join(id)).map_err(|_| unknown())?;
        let name = target.file_name().and_then(|name| name.to_str()).ok_or_else(unknown)?;
        let disks = self.disks().map_err(|_| unknown())?;
        let Some(disk) = disks.iter().find(|disk| disk.name == name) else {
            return Err(Refusal::NotWhole(device.to_owned()));
        };
        if let Some(refusal) = refusal(disk, &disks, rules) {
            return Err(refusal);
        }
        let node = self.root().join("dev").join(name);
        Ok(Choice { disk: disk.clone(), id: device.to_owned(), node, is_real: self.is_real() })
    }
}

/// What speaks against writing to a disk of a machine.
pub(super) fn refusal(disk: &Disk, all: &[Disk], rules: Rules) -> Option<Refusal> {
    let twin = |other: &&Disk| {
        other.name != disk.name && disk.serial.is_some() && (&other.model, &other.serial) == (&disk.model, &disk.serial)
    };
    if disk.is_system() {
        return Some(Refusal::System);
    }
    if !disk.uses.is_empty() {
        return Some(Refusal::InUse(disk.uses.clone()));
    }
    if let Some(area) = disk.member(all) {
        return Some(Refusal::Member(Box::new(area.clone())));
    }
    if disk.read_only {
        return Some(Refusal::ReadOnly);
    }
    if disk.size < rules.needed {
        return Some(Refusal::TooSmall { size: disk.size, needed: rules.needed });
    }
    if !matches!(disk.sector, 512 | 4096) {
        return Some(Refusal::Sector(disk.sector));
    }
    if let Some(twin) = all.iter().find(twin) {
        return Some(Refusal::Ambiguous(twin.name.clone()));
    }
    (!disk.removable && rules.internal == Internal::Refused).then_some(Refusal::Internal)
}

impl Rules {
    /// What speaks against writing to `disk`, one of `all`.
    pub fn refusal(self, disk: &Disk, all: &[Disk]) -> Option<Refusal> {
        let unnamed = disk.ids.is_empty().then(|| Refusal::NotById(Path::new("/dev").join(&disk.name)));
        refusal(disk, all, self).or(unnamed)
    }
}
