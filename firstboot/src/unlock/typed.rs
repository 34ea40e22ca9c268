//! What somebody has typed: a recovery key, a passphrase or a PIN.

use crate::key::recovery::Typo;
use crate::key::{PoolKey, RecoveryKey, Refusal, Request, Slot, SlotName, Way};
use crate::secret::Secret;
use crate::tpm::{self, Tpm};

/// The pool's key, and whose slot gave it.
#[derive(Debug)]
pub struct Opened {
    /// The key.
    pub key: PoolKey,
    /// Name of the slot.
    pub slot: SlotName,
    /// Its way.
    pub way: Way,
}

/// Why what was typed gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum Denied {
    /// It opens no slot.
    #[error("this opens nothing{}", .0.map(|typo| format!("; if it was the recovery key: {typo}")).unwrap_or_default())]
    Wrong(Option<Typo>),
    /// It may be a PIN, and the TPM refuses whatever the PIN is.
    #[error("this opens nothing as passphrase or recovery key; as a PIN it cannot be tried: {0}")]
    Tpm(tpm::Refused),
    /// It could not be tried.
    #[error(transparent)]
    Fault(#[from] anyhow::Error),
}

/// Tries what was typed on all slots that somebody can open by typing.
///
/// # Errors
/// It opens none, or could not be tried on one that it may be meant for.
pub fn open_typed(slots: &[Slot], tpm: &Tpm, typed: &Secret) -> Result<Opened, Denied> {
    let recovery = typed.expose().parse::<RecoveryKey>();
    let (mut fault, mut refused) = (None, None);
    // The recovery key first: that costs milliseconds, a passphrase a part of a second, and a wrong PIN one of few tries.
    for way in [Way::Recovery, Way::Passphrase, Way::Tpm2Pin] {
        let request = match (way, &recovery) {
            (Way::Recovery, Ok(key)) => Request::Recovery(key),
            (Way::Passphrase, _) => Request::Passphrase(typed),
            // What has the form of a recovery key is no PIN.
            (Way::Tpm2Pin, Err(Typo::Length(_))) => Request::Tpm2Pin(tpm, typed),
            _ => continue,
        };
        for slot in slots.iter().filter(|slot| slot.way() == way) {
            match slot.open(&request) {
                Ok(key) => return Ok(Opened { key, slot: slot.name.clone(), way }),
                Err(Refusal::Wrong | Refusal::Tpm(tpm::Refused::WrongPin)) => {}
                Err(Refusal::Tpm(why)) => refused = Some(why),
                // Nobody asks servers for what was typed.
                Err(Refusal::Tang(why)) => fault = Some(why.into()),
                Err(Refusal::Fault(error)) => fault = Some(error.context(format!("trying the key {}", slot.name))),
            }
        }
    }
    match (fault, refused) {
        (Some(error), _) => Err(error.into()),
        (None, Some(why)) => Err(Denied::Tpm(why)),
        // What has another length was hardly meant to be one.
        (None, None) => Err(Denied::Wrong(recovery.err().filter(|typo| !matches!(typo, Typo::Length(_))))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::testing::MemoryStore;
    use crate::key::{SlotStore as _, enroll};

    fn secret(text: &str) -> Secret {
        Secret::new(text.to_owned())
    }

    #[test]
    fn passphrase_and_recovery_key_are_told_apart_by_what_they_open() {
        let (store, key, recovery) =
            (MemoryStore::default(), PoolKey::generate().unwrap(), RecoveryKey::generate().unwrap());
        enroll(&store, &key, Way::Recovery.into(), &Request::Recovery(&recovery)).unwrap();
        enroll(&store, &key, Way::Passphrase.into(), &Request::Passphrase(&secret("several words"))).unwrap();
        let slots = store.slots().unwrap().slots;
        let opened = open_typed(&slots, &Tpm::at("/nowhere"), &secret("several words")).unwrap();
        assert_eq!((opened.way, opened.key), (Way::Passphrase, key.clone()));
        let typed = secret(&recovery.text().expose().to_lowercase());
        let opened = open_typed(&slots, &Tpm::at("/nowhere"), &typed).unwrap();
        assert_eq!((opened.way, opened.key), (Way::Recovery, key));
        insta::assert_snapshot!(open_typed(&slots, &Tpm::at("/nowhere"), &secret("")).unwrap_err(), @"this opens nothing");
        let (group, place) = (recovery.group(3), recovery.text().expose().find(recovery.group(3)).unwrap());
        let mut wrong = recovery.text().expose().to_owned();
        wrong.replace_range(place..=place, if group.starts_with('A') { "B" } else { "A" });
        insta::assert_snapshot!(open_typed(&slots, &Tpm::at("/nowhere"), &secret(&wrong)).unwrap_err(), @"this opens nothing; if it was the recovery key: group 3 is not right: a wrong character, two that were swapped, or another group's place");
        let another = RecoveryKey::generate().unwrap();
        insta::assert_snapshot!(open_typed(&slots, &Tpm::at("/nowhere"), &another.text()).unwrap_err(), @"this opens nothing");
    }
}
