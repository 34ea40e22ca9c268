//! What `firstboot keys list` shows.

use std::fmt;

use jiff::Timestamp;
use serde::Serialize;

use super::{SlotName, SlotStore as _, Unreadable, Vault, Way};

/// The ways to open a pool's data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Overview {
    /// The pool's name.
    pub pool: String,
    /// The encrypted dataset.
    pub dataset: String,
    /// Whether it is open now.
    pub is_open: bool,
    /// The ways, ordered by name.
    pub keys: Vec<Key>,
    /// What this version cannot read.
    pub unreadable: Vec<Unreadable>,
}

/// One way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Key {
    /// What it is called.
    pub name: SlotName,
    /// Its kind.
    pub way: Way,
    /// Since when there is it.
    pub created: Timestamp,
}

impl Overview {
    /// Asks ZFS.
    ///
    /// # Errors
    /// ZFS does not answer.
    pub fn of(vault: &Vault) -> anyhow::Result<Self> {
        let listing = vault.slots().slots()?;
        let key = |slot: super::Slot| Key { way: slot.way(), name: slot.name, created: slot.created };
        Ok(Self {
            pool: vault.pool().to_owned(),
            dataset: vault.dataset(),
            is_open: vault.is_open()?,
            keys: listing.slots.into_iter().map(key).collect(),
            unreadable: listing.unreadable,
        })
    }
}

impl fmt::Display for Overview {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} is {}.", self.dataset, if self.is_open { "open" } else { "locked" })?;
        for Key { name, way, created } in &self.keys {
            writeln!(f, "{name:<20} {way:<12} since {}", created.strftime("%Y-%m-%d"))?;
        }
        for Unreadable { name, why } in &self.unreadable {
            writeln!(f, "{name:<20} cannot be read: {why}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_shows_each_key_and_what_cannot_be_read() {
        let key = |way: Way| Key { name: way.into(), way, created: Timestamp::UNIX_EPOCH };
        let overview = Overview {
            pool: "tank".to_owned(),
            dataset: "tank/data".to_owned(),
            is_open: true,
            keys: vec![key(Way::Passphrase), key(Way::Recovery)],
            unreadable: vec![Unreadable { name: "fob".to_owned(), why: "unknown variant `fido2`".to_owned() }],
        };
        insta::assert_snapshot!(overview, @r"
        tank/data is open.
        passphrase           passphrase   since 1970-01-01
        recovery             recovery     since 1970-01-01
        fob                  cannot be read: unknown variant `fido2`
        ");
        insta::assert_snapshot!(serde_json::to_string(&overview.keys).unwrap(), @r#"[{"name":"passphrase","way":"passphrase","created":"1970-01-01T00:00:00Z"},{"name":"recovery","way":"recovery","created":"1970-01-01T00:00:00Z"}]"#);
    }
}
