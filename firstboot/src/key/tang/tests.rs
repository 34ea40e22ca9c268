use super::super::testing::MemoryStore;
use super::super::{Request, Slot, SlotName, SlotStore as _, Way, Wrapped, enroll};
use super::*;
use crate::tang::testing::{Fault, TangServer, curves};

fn servers(count: usize) -> Vec<TangServer> {
    (0..count).map(|number| TangServer::new(&curves()[number % 2])).collect()
}

fn nowhere() -> Tpm {
    Tpm::at("/nowhere")
}

/// A slot that needs so many of these servers.
fn slot(key: &PoolKey, servers: &[TangServer], threshold: u8) -> Slot {
    let keys =
        Keys { tang: servers.iter().map(TangServer::setting).collect(), tang_threshold: threshold, ..Keys::default() };
    let (store, client) = (MemoryStore::default(), Client::new());
    let presence = Presence::wanted(&keys, &client, None).unwrap();
    enroll(&store, key, Way::Tang.into(), &Request::Tang(&presence)).unwrap();
    store.slots().unwrap().find(&SlotName::from(Way::Tang)).unwrap().clone()
}

fn open(slot: &Slot) -> Result<PoolKey, Refusal> {
    slot.open_alone(&nowhere(), &Client::new())
}

#[test]
fn as_many_servers_as_are_needed_open_it_whichever_they_are_and_fewer_do_not() {
    let (key, servers) = (PoolKey::generate().unwrap(), servers(3));
    let slot = slot(&key, &servers, 2);
    for (down, fault) in [(0, Fault::HangsUp), (1, Fault::Html), (2, Fault::WrongPoint)] {
        servers[down].fail(Some(fault));
        assert_eq!(open(&slot).unwrap(), key, "without server {down}");
        servers[down].fail(None);
    }
    servers[0].fail(Some(Fault::HangsUp));
    servers[2].fail(Some(Fault::WrongPoint));
    let Err(Refusal::Tang(absent)) = open(&slot) else { panic!("one of two is enough") };
    assert_eq!((absent.needed, absent.helped, absent.refused.len()), (2, 1, 2));
    assert!(absent.is_transient() && absent.to_string().contains(servers[2].url.as_str()), "{absent}");
    assert!(!serde_json::to_string(&slot).unwrap().contains(&hex::encode(key.expose())));
}

#[test]
fn the_largest_slot_that_settings_can_ask_for_fits_a_property() {
    let slot = slot(&PoolKey::generate().unwrap(), &servers(8), 8);
    let Wrapped::Tang(mut present) = slot.wrapped.clone() else { panic!("another way") };
    // As large as systemd-creds makes it, with room to spare.
    present.tpm = serde_json::from_value("A".repeat(1600).into()).unwrap();
    let bytes = serde_json::to_vec(&Slot { wrapped: Wrapped::Tang(present), ..slot }).unwrap().len();
    assert!(bytes.div_ceil(3) * 4 < 8191, "{bytes} bytes");
}

#[test]
fn without_the_tpm_that_has_a_part_the_servers_alone_do_not_open_it() {
    let (key, servers) = (PoolKey::generate().unwrap(), servers(1));
    let mut slot = slot(&key, &servers, 1);
    let Wrapped::Tang(present) = &mut slot.wrapped else { panic!("another way") };
    present.tpm = serde_json::from_value("AAAA".into()).unwrap();
    assert!(matches!(open(&slot), Err(Refusal::Tpm(crate::tpm::Refused::Missing))));
    // Nor when somebody takes the TPM's part out of what lies in the open; it is mixed into what the key is sealed with.
    let secret = random().unwrap();
    assert_ne!(*mix(&secret, Some(&[0; 32])), *mix(&secret, None));
    assert_ne!(*mix(&secret, Some(&[0; 32])), *mix(&secret, Some(&[1; 32])));
}

#[test]
fn after_a_rotation_it_opens_is_told_to_be_repaired_and_is() {
    let (key, servers) = (PoolKey::generate().unwrap(), servers(1));
    let before = slot(&key, &servers, 1);
    before.check_machine(&nowhere(), &Client::new()).unwrap();
    servers[0].rotate(&curves()[0]);
    assert_eq!(open(&before).unwrap(), key);
    let refusal = before.check_machine(&nowhere(), &Client::new()).unwrap_err();
    assert!(refusal.to_string().contains("does not have the key any more"), "{refusal}");

    let (tpm, client, store) = (nowhere(), Client::new(), MemoryStore::default());
    let Wrapped::Tang(present) = &before.wrapped else { panic!("another way") };
    let after = enroll(&store, &key, Way::Tang.into(), &Request::Tang(&present.again(&client, &tpm))).unwrap();
    servers[0].forget();
    assert_eq!(open(&after).unwrap(), key);
    after.check_machine(&tpm, &client).unwrap();
    let Err(Refusal::Tang(absent)) = open(&before) else { panic!("the old keys are gone") };
    assert!(!absent.is_transient());
    let shown = absent.finding("tang").to_string().replace(servers[0].url.as_str(), "http://tang.lan");
    insta::assert_snapshot!(shown, @r"
    tang-rotated: the key tang does not open the data: the Tang server http://tang.lan does not have the key any more that this one was made with
      next: open the data with a passphrase or the recovery key, then `firstboot keys repair`
    ");
}

#[test]
fn a_server_that_is_off_is_a_finding_with_its_address() {
    let (key, servers) = (PoolKey::generate().unwrap(), servers(1));
    let slot = slot(&key, &servers, 1);
    servers[0].fail(Some(Fault::HangsUp));
    let Err(Refusal::Tang(absent)) = open(&slot) else { panic!("nobody has helped") };
    let finding = absent.finding("tang");
    assert_eq!(finding.id, "tang-unreachable");
    assert!(finding.message.contains(servers[0].url.as_str()), "{finding}");
}

#[test]
fn a_damaged_slot_is_a_fault_and_nobody_is_asked() {
    let slot = slot(&PoolKey::generate().unwrap(), &servers(1), 1);
    for threshold in [0, 2] {
        let mut damaged = slot.clone();
        let Wrapped::Tang(present) = &mut damaged.wrapped else { panic!("another way") };
        present.threshold = threshold;
        assert!(matches!(open(&damaged), Err(Refusal::Fault(_))));
    }
    let text = serde_json::to_string(&slot).unwrap();
    let Wrapped::Tang(present) = &slot.wrapped else { panic!("another way") };
    let key = serde_json::to_string(&present.servers[0].bound.ours).unwrap();
    assert!(serde_json::from_str::<Slot>(&text.replace(&key, "\"AgAA\"")).is_err());
}
