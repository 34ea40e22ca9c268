//! Slots as user properties of the pool's root dataset: `larder:key-NAME`, JSON in base64.
//!
//! ZFS keeps properties on every disk and changes each of them as a whole. Slots are no secrets, so they may be arguments
//! of `zfs`.

use std::collections::BTreeMap;

use anyhow::ensure;
use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde::Deserialize;

use super::{Listing, Slot, SlotName, SlotStore, Unreadable};
use crate::command::Run;

/// What the names of the properties begin with.
pub const PREFIX: &str = "larder:key-";
/// Longest value of a property (ZAP_MAXVALUELEN, without the byte that ends it).
const MAX_VALUE: usize = 8191;

/// The slots of an imported pool.
#[derive(Debug, Clone)]
pub struct PoolSlots {
    pool: String,
}

impl PoolSlots {
    /// Those of `pool`.
    pub fn of(pool: impl Into<String>) -> Self {
        Self { pool: pool.into() }
    }
}

impl SlotStore for PoolSlots {
    fn slots(&self) -> anyhow::Result<Listing> {
        let all: Datasets = Run::new("zfs").args(["get", "-j", "-s", "local", "all", &self.pool]).json()?;
        Ok(all.listing(&self.pool))
    }

    fn put(&self, slot: &Slot) -> anyhow::Result<()> {
        let value = encode(slot)?;
        let property = format!("{PREFIX}{}={value}", slot.name);
        Run::new("zfs").args(["set", &property, &self.pool]).done()
    }

    fn remove(&self, name: &SlotName) -> anyhow::Result<()> {
        Run::new("zfs").args(["inherit", &format!("{PREFIX}{name}"), &self.pool]).done()
    }
}

/// What `zfs get -j` writes, as far as it is read here.
#[derive(Debug, Deserialize)]
pub(crate) struct Datasets {
    #[serde(default)]
    datasets: BTreeMap<String, Dataset>,
}

#[derive(Debug, Deserialize)]
struct Dataset {
    #[serde(default)]
    properties: BTreeMap<String, Property>,
}

#[derive(Debug, Deserialize)]
struct Property {
    value: String,
}

impl Datasets {
    /// The value of a property.
    pub(crate) fn value(&self, dataset: &str, property: &str) -> Option<&str> {
        Some(&self.datasets.get(dataset)?.properties.get(property)?.value)
    }

    fn listing(&self, pool: &str) -> Listing {
        let mut listing = Listing::default();
        let properties = self.datasets.get(pool).map(|dataset| &dataset.properties).into_iter().flatten();
        for (name, value) in properties.filter_map(|(name, value)| Some((name.strip_prefix(PREFIX)?, value))) {
            match decode(name, &value.value) {
                Ok(slot) => listing.slots.push(slot),
                Err(error) => {
                    listing.unreadable.push(Unreadable { name: name.to_owned(), why: format!("{error:#}") });
                }
            }
        }
        listing
    }
}

fn encode(slot: &Slot) -> anyhow::Result<String> {
    let value = BASE64_STANDARD.encode(serde_json::to_vec(slot)?);
    ensure!(value.len() <= MAX_VALUE, "the key {} takes {} bytes, more than a property of ZFS", slot.name, value.len());
    Ok(value)
}

fn decode(name: &str, value: &str) -> anyhow::Result<Slot> {
    let slot: Slot = serde_json::from_slice(&BASE64_STANDARD.decode(value)?)?;
    ensure!(slot.name.as_str() == name, "it calls itself {}", slot.name);
    Ok(slot)
}

#[cfg(test)]
mod tests {
    use super::super::{PoolKey, RecoveryKey, Request, enroll, testing::MemoryStore};
    use super::*;

    fn slot(name: &str) -> Slot {
        let key = (PoolKey::generate().unwrap(), RecoveryKey::generate().unwrap());
        let name = SlotName::parse(name).unwrap();
        enroll(&MemoryStore::default(), &key.0, name, &Request::Recovery(&key.1)).unwrap()
    }

    /// As zfs 2.3.9 writes it.
    fn datasets(properties: &[(&str, &str)]) -> Datasets {
        let property = |(name, value): &(&str, &str)| {
            format!(r#""{name}": {{"value": "{value}", "source": {{"type": "LOCAL", "data": "-"}}}}"#)
        };
        let properties = properties.iter().map(property).collect::<Vec<_>>().join(", ");
        let text = format!(
            r#"{{"output_version": {{"command": "zfs get", "vers_major": 0, "vers_minor": 1}}, "datasets": {{"tank": {{
                "name": "tank", "type": "FILESYSTEM", "pool": "tank", "createtxg": "1", "properties": {{{properties}}}}}}}}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn slots_come_back_from_properties_and_others_are_left_alone() {
        let (one, other) = (slot("attic"), slot("recovery"));
        let (first, second) = (encode(&one).unwrap(), encode(&other).unwrap());
        let all = datasets(&[
            ("canmount", "off"),
            ("larder:key-attic", &first),
            ("larder:key-recovery", &second),
            ("larder:setup", "complete"),
        ]);
        assert_eq!(all.listing("tank"), Listing { slots: vec![one, other], unreadable: Vec::new() });
        assert_eq!(all.value("tank", "larder:setup"), Some("complete"));
        assert_eq!(all.value("tank", "larder:adopt").or(all.value("pond", "canmount")), None);
        let none: Datasets = serde_json::from_str(r#"{"output_version": {}, "datasets": {}}"#).unwrap();
        assert_eq!(none.listing("tank"), Listing::default());
    }

    #[test]
    fn a_damaged_slot_does_not_hide_the_others() {
        let (good, newer) = (slot("good"), slot("newer"));
        let good_value = encode(&good).unwrap();
        let newer = serde_json::to_string(&newer).unwrap().replace(r#""way":"recovery""#, r#""way":"fido2""#);
        let all = datasets(&[
            ("larder:key-cut", &good_value[..good_value.len() - 8]),
            ("larder:key-empty", ""),
            ("larder:key-good", &good_value),
            ("larder:key-newer", &BASE64_STANDARD.encode(newer)),
            ("larder:key-renamed", &good_value),
        ]);
        let listing = all.listing("tank");
        assert_eq!(listing.slots, [good]);
        let unreadable: Vec<_> = listing.unreadable.iter().map(|slot| slot.name.as_str()).collect();
        assert_eq!(unreadable, ["cut", "empty", "newer", "renamed"]);
        assert!(listing.unreadable[2].why.contains("unknown variant `fido2`"), "{:?}", listing.unreadable[2]);
    }

    #[test]
    fn a_slot_fits_a_property() {
        assert!(encode(&slot("recovery")).unwrap().len() < 1000);
    }
}
