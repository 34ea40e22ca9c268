//! Adding ways to open the data, and taking them away.

use super::passphrase::Argon2id;
use super::tang::{Presence, Present};
use super::tpm2::{PinWrapped, Sealed};
use super::{Enc, PoolKey, RecoveryKey, Refusal, Slot, SlotName, SlotStore, Way, Wrapped};
use crate::report::Mistake;
use crate::secret::Secret;
use crate::tang::{self, Client};
use crate::tpm::Tpm;

/// A way that is to be added, with what will open it.
#[derive(Debug)]
pub enum Request<'a> {
    /// This recovery key.
    Recovery(&'a RecoveryKey),
    /// This passphrase.
    Passphrase(&'a Secret),
    /// This TPM, for the system that runs now and those that the box will allow.
    Tpm2(&'a Tpm),
    /// This TPM with a PIN.
    Tpm2Pin(&'a Tpm, &'a Secret),
    /// These servers, and this TPM.
    Tang(&'a Presence<'a>),
}

/// Wraps the key, unwraps it again as a proof, and keeps it in the store under `name`, in place of what had that name.
///
/// # Errors
/// The way does not work here, or the store cannot be written.
pub fn enroll(store: &dyn SlotStore, key: &PoolKey, name: SlotName, request: &Request<'_>) -> anyhow::Result<Slot> {
    let slot = Slot::new(name, key, request.wrap(key)?);
    let opened = slot.open(request)?;
    anyhow::ensure!(opened == *key, "the slot {} opens with another key than it was made for", slot.name);
    store.put(&slot)?;
    Ok(slot)
}

/// Takes a way away.
///
/// # Errors
/// There is no such slot, it is the last recovery key, or the store cannot be written.
pub fn remove(store: &dyn SlotStore, name: &SlotName) -> anyhow::Result<()> {
    let listing = store.slots()?;
    let Some(slot) = listing.find(name) else {
        if listing.unreadable.iter().any(|unreadable| unreadable.name == name.as_str()) {
            return store.remove(name);
        }
        return Err(Mistake::new(format!("there is no key {name}")).hint("list them: firstboot keys list").into());
    };
    let recovery_keys = listing.slots.iter().filter(|slot| slot.way() == Way::Recovery).count();
    if slot.way() == Way::Recovery && recovery_keys == 1 {
        return Err(Mistake::new(format!(
            "{name} is the only recovery key: without it a fault of the others loses all data"
        ))
        .hint("add another one first: firstboot keys add recovery --name NAME")
        .into());
    }
    store.remove(name)
}

impl Request<'_> {
    /// The way that it asks for.
    pub fn way(&self) -> Way {
        match self {
            Self::Recovery(_) => Way::Recovery,
            Self::Passphrase(_) => Way::Passphrase,
            Self::Tpm2(_) => Way::Tpm2,
            Self::Tpm2Pin(..) => Way::Tpm2Pin,
            Self::Tang(_) => Way::Tang,
        }
    }

    fn wrap(&self, key: &PoolKey) -> anyhow::Result<Wrapped> {
        Ok(match self {
            Self::Recovery(recovery) => Wrapped::Recovery(Enc::wrap(key, recovery.password())?),
            Self::Passphrase(passphrase) => Wrapped::Passphrase(Argon2id::wrap(key, passphrase.expose())?),
            Self::Tpm2(tpm) => Wrapped::Tpm2(Sealed::wrap(key, tpm)?),
            Self::Tpm2Pin(tpm, pin) => Wrapped::Tpm2Pin(Box::new(PinWrapped::wrap(key, tpm, pin.expose())?)),
            Self::Tang(presence) => Wrapped::Tang(Box::new(Present::wrap(key, presence)?)),
        })
    }
}

impl Slot {
    /// Opens the slot with what a request for the same way would be made of.
    ///
    /// # Errors
    /// It is for another way, or [`Refusal`].
    pub fn open(&self, with: &Request<'_>) -> Result<PoolKey, Refusal> {
        let key = match (&self.wrapped, with) {
            (Wrapped::Recovery(enc), Request::Recovery(key)) => enc.unwrap(key.password()).ok_or(Refusal::Wrong),
            (Wrapped::Passphrase(argon2id), Request::Passphrase(passphrase)) => argon2id.unwrap(passphrase.expose()),
            (Wrapped::Tpm2(sealed), Request::Tpm2(tpm)) => sealed.unwrap(tpm),
            (Wrapped::Tpm2Pin(sealed), Request::Tpm2Pin(tpm, pin)) => sealed.unwrap(tpm, pin.expose()),
            (Wrapped::Tang(present), Request::Tang(presence)) => present.unwrap(presence),
            _ => Err(Refusal::Wrong),
        };
        self.checked(key?)
    }

    /// Opens the slot of an automatic way.
    ///
    /// # Errors
    /// It needs somebody, or [`Refusal`].
    pub fn open_alone(&self, tpm: &Tpm, client: &Client) -> Result<PoolKey, Refusal> {
        match self.way() {
            Way::Tpm2 => self.open(&Request::Tpm2(tpm)),
            Way::Tang => self.open(&Request::Tang(&Presence::of(client, tpm))),
            Way::Recovery | Way::Passphrase | Way::Tpm2Pin => Err(Refusal::Wrong),
        }
    }

    /// Whether the machine, and those in the network, still do their part, as far as that is known without anybody.
    ///
    /// # Errors
    /// It does not: why.
    pub fn check_machine(&self, tpm: &Tpm, client: &Client) -> Result<(), Refusal> {
        match &self.wrapped {
            Wrapped::Recovery(_) | Wrapped::Passphrase(_) => Ok(()),
            Wrapped::Tpm2(_) => self.open_alone(tpm, client).map(drop),
            Wrapped::Tpm2Pin(sealed) => Ok(sealed.pin.check_machine(tpm)?),
            Wrapped::Tang(present) => {
                let refused = present.rotated(client).map(|refused| vec![refused]);
                self.open_alone(tpm, client)?;
                refused.map_or(Ok(()), |refused| Err(tang::Absent { needed: 1, helped: 0, refused }.into()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::MemoryStore;
    use super::*;

    fn name(text: &str) -> SlotName {
        SlotName::parse(text).unwrap()
    }

    fn store_with(recovery_keys: &[&str]) -> (MemoryStore, PoolKey, RecoveryKey) {
        let (store, key, recovery) =
            (MemoryStore::default(), PoolKey::generate().unwrap(), RecoveryKey::generate().unwrap());
        for slot in recovery_keys {
            enroll(&store, &key, name(slot), &Request::Recovery(&recovery)).unwrap();
        }
        (store, key, recovery)
    }

    #[test]
    fn each_way_opens_with_its_own_and_nothing_else() {
        let (store, key, recovery) = store_with(&["recovery"]);
        let passphrase = Secret::new("several words".to_owned());
        enroll(&store, &key, Way::Passphrase.into(), &Request::Passphrase(&passphrase)).unwrap();
        let slots = store.slots().unwrap().slots;
        assert_eq!(slots.iter().map(Slot::way).collect::<Vec<_>>(), [Way::Passphrase, Way::Recovery]);
        let another = RecoveryKey::generate().unwrap();
        let wrong = Secret::new("several wordz".to_owned());
        for slot in &slots {
            let opens = |with: Request<'_>| slot.open(&with).is_ok_and(|opened| opened == key);
            assert_eq!(opens(Request::Recovery(&recovery)), slot.way() == Way::Recovery);
            assert_eq!(opens(Request::Passphrase(&passphrase)), slot.way() == Way::Passphrase);
            assert!(!opens(Request::Recovery(&another)) && !opens(Request::Passphrase(&wrong)));
        }
    }

    #[test]
    fn a_slot_says_what_it_is_and_nothing_of_the_key() {
        let (store, key, recovery) = store_with(&["recovery"]);
        let text = store.0.borrow()[&name("recovery")].clone();
        let shown = without_what_differs(&text);
        insta::assert_snapshot!(shown, @r#"{"check":"…","created":"…","name":"recovery","wrapped":{"iterations":10000,"openssl":"…","way":"recovery"}}"#);
        assert!(!text.contains(&hex::encode(key.expose())) && !text.contains(recovery.group(1)));
        let unknown = text.replace(r#""way":"recovery""#, r#""way":"horoscope""#);
        assert!(
            serde_json::from_str::<Slot>(&unknown).unwrap_err().to_string().starts_with("unknown variant `horoscope`")
        );
    }

    fn without_what_differs(text: &str) -> String {
        let mut slot: serde_json::Value = serde_json::from_str(text).unwrap();
        slot["created"] = "…".into();
        slot["check"] = "…".into();
        slot["wrapped"]["openssl"] = "…".into();
        slot.to_string()
    }

    #[test]
    fn the_last_recovery_key_stays() {
        let (store, ..) = store_with(&["recovery", "drawer"]);
        remove(&store, &name("recovery")).unwrap();
        let error = remove(&store, &name("drawer")).unwrap_err();
        insta::assert_snapshot!(crate::report::render(&error, None), @r"
        error: drawer is the only recovery key: without it a fault of the others loses all data

        hint: add another one first: firstboot keys add recovery --name NAME
        ");
        assert_eq!(store.slots().unwrap().slots.len(), 1);
        assert!(remove(&store, &name("attic")).is_err());
    }

    #[test]
    fn a_slot_of_another_pool_is_not_opened() {
        let (store, key, recovery) = store_with(&["recovery"]);
        let mut slot = store.slots().unwrap().slots.remove(0);
        assert_eq!(slot.open(&Request::Recovery(&recovery)).unwrap(), key);
        slot.check = PoolKey::generate().unwrap().check();
        assert!(matches!(slot.open(&Request::Recovery(&recovery)), Err(Refusal::Wrong)));
    }

    #[test]
    fn names_are_fit_for_a_property() {
        for bad in ["", "Paper", "1st", "a_b", "a b", "-a", &"a".repeat(33)] {
            assert!(SlotName::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(SlotName::from(Way::Recovery), name("recovery"));
    }
}
