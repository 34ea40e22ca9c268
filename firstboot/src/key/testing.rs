//! A store in memory.

use std::cell::RefCell;
use std::collections::BTreeMap;

use super::{Listing, Slot, SlotName, SlotStore};

/// Holds the text of slots, as a pool does.
#[derive(Debug, Default)]
pub(crate) struct MemoryStore(pub(crate) RefCell<BTreeMap<SlotName, String>>);

impl SlotStore for MemoryStore {
    fn slots(&self) -> anyhow::Result<Listing> {
        let slots = self.0.borrow().values().map(|text| serde_json::from_str(text)).collect::<Result<_, _>>()?;
        Ok(Listing { slots, unreadable: Vec::new() })
    }

    fn put(&self, slot: &Slot) -> anyhow::Result<()> {
        self.0.borrow_mut().insert(slot.name.clone(), serde_json::to_string(slot)?);
        Ok(())
    }

    fn remove(&self, name: &SlotName) -> anyhow::Result<()> {
        self.0.borrow_mut().remove(name);
        Ok(())
    }
}
