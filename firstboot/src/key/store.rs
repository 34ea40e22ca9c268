//! Where the slots are.

use serde::Serialize;

use super::{Slot, SlotName};

/// The slots of one pool.
pub trait SlotStore {
    /// All of them, ordered by name.
    ///
    /// # Errors
    /// They cannot be asked for. A slot that makes no sense is in the list.
    fn slots(&self) -> anyhow::Result<Listing>;

    /// Puts a slot in, in place of one of the same name: when it fails, the old one is still there.
    ///
    /// # Errors
    /// It cannot be written.
    fn put(&self, slot: &Slot) -> anyhow::Result<()>;

    /// Takes a slot out, if it is there.
    ///
    /// # Errors
    /// It cannot be removed.
    fn remove(&self, name: &SlotName) -> anyhow::Result<()>;
}

/// What a store holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Listing {
    /// The slots.
    pub slots: Vec<Slot>,
    /// What is no slot that this version knows: damaged, or of a newer version.
    pub unreadable: Vec<Unreadable>,
}

/// A slot that makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unreadable {
    /// The name under which it is kept.
    pub name: String,
    /// What is wrong with it.
    pub why: String,
}

impl Listing {
    /// The slot of this name.
    pub fn find(&self, name: &SlotName) -> Option<&Slot> {
        self.slots.iter().find(|slot| slot.name == *name)
    }
}
