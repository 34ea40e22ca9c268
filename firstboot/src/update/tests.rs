use std::io::Write as _;

use lzma_rust2::{XzOptions, XzWriter};
use minisign::KeyPair;
use proptest::prelude::*;

use super::channel::{Channel, Expected, Making, Release};
use super::envelope::Envelope;
use super::keys::{Keys, TrustedKeys};
use super::recipe::{Base, Bounds, Origin, Recipe, Record, Target};
use super::{MAX_ENVELOPE, Object, TrustError, patch};
use crate::hash::Hash;
use crate::verity::RootHash;

pub(super) fn pair() -> KeyPair {
    KeyPair::generate_unencrypted_keypair().unwrap()
}

pub(super) fn sign(mut envelope: Envelope, pairs: &[&KeyPair]) -> Envelope {
    for pair in pairs {
        let payload = envelope.payload.as_bytes();
        let signature = minisign::sign(Some(&pair.pk), &pair.sk, payload, Some("larder"), None).unwrap();
        envelope.signatures.push(signature.into_string());
    }
    envelope
}

pub(super) fn keys(version: u32, pairs: &[&KeyPair], threshold: u32) -> Envelope {
    let keys = pairs.iter().map(|pair| pair.pk.to_base64()).collect();
    Envelope::unsigned(&Keys { version, keys, threshold }).unwrap()
}

fn object(size: u64) -> Object {
    Object { sha256: Hash::of("object"), size }
}

fn release(version: &str) -> Release {
    Release {
        version: version.parse().unwrap(),
        minimum_version: None,
        root_hash: RootHash::from([7; 32]),
        root_size: 8192,
        tree: object(8192),
        uki: object(100),
        download: 1000,
        full: Making { recipe: object(10), payload: object(500) },
        deltas: Vec::new(),
        changes: None,
    }
}

pub(super) fn channel(serial: u64, releases: &[&str]) -> Channel {
    Channel {
        channel: "stable".to_owned(),
        profile: "nas".to_owned(),
        serial,
        issued: "2026-11-01T00:00:00Z".parse().unwrap(),
        expires: "2026-12-01T00:00:00Z".parse().unwrap(),
        releases: releases.iter().map(|version| release(version)).collect(),
    }
}

fn expected<'a>(now: &str, serial: u64) -> Expected<'a> {
    Expected { channel: "stable", profile: "nas", now: now.parse().unwrap(), serial }
}

/// Trusted keys with the one that they are.
fn trusted() -> (KeyPair, TrustedKeys) {
    let pair = pair();
    let trusted = TrustedKeys::anchor(&sign(keys(1, &[&pair], 1), &[&pair])).unwrap();
    (pair, trusted)
}

#[test]
fn a_channel_that_the_key_has_signed_is_believed_and_comes_through_its_file() {
    let (key, trusted) = trusted();
    let envelope = sign(Envelope::unsigned(&channel(3, &["2", "1"])).unwrap(), &[&key]);
    let read = Envelope::parse(envelope.to_json().as_bytes()).unwrap();
    let offer = read.verify::<Channel>(&trusted).unwrap().accept(&expected("2026-11-20T00:00:00Z", 3)).unwrap();
    assert_eq!((offer.serial(), offer.releases().len()), (3, 2));
    assert_eq!(offer.next_after(&"1".parse().unwrap()).unwrap().version.as_str(), "2");
    assert_eq!(offer.next_after(&"2".parse().unwrap()), None);
}

#[test]
fn what_another_key_has_signed_or_nobody_is_not_believed() {
    let (_, trusted) = trusted();
    let unsigned = Envelope::unsigned(&channel(1, &["1"])).unwrap();
    let error = unsigned.verify::<Channel>(&trusted).unwrap_err();
    insta::assert_snapshot!(error, @"0 of the keys that count have signed it, 1 are needed");
    let error = sign(unsigned, &[&pair()]).verify::<Channel>(&trusted).unwrap_err();
    assert!(matches!(error, TrustError::Unsigned { valid: 0, needed: 1 }), "{error}");
}

#[test]
fn a_signature_counts_for_the_payload_that_it_was_made_for_alone() {
    let (key, trusted) = trusted();
    let mut envelope = sign(Envelope::unsigned(&channel(1, &["1"])).unwrap(), &[&key]);
    envelope.payload = Envelope::unsigned(&channel(2, &["1"])).unwrap().payload;
    assert!(matches!(envelope.verify::<Channel>(&trusted), Err(TrustError::Unsigned { .. })));
}

#[test]
fn one_key_that_signs_twice_is_one() {
    let (a, b) = (pair(), pair());
    let two = TrustedKeys::anchor(&sign(keys(1, &[&a, &b], 2), &[&a, &b])).unwrap();
    let envelope = Envelope::unsigned(&channel(1, &["1"])).unwrap();
    let twice = sign(envelope.clone(), &[&a, &a]).verify::<Channel>(&two);
    assert!(matches!(twice, Err(TrustError::Unsigned { valid: 1, needed: 2 })));
    assert!(sign(envelope, &[&b, &a]).verify::<Channel>(&two).is_ok());
}

#[test]
fn keys_are_no_channel_and_a_newer_schema_is_said_to_be_one() {
    let (key, trusted) = trusted();
    let error = sign(keys(2, &[&key], 1), &[&key]).verify::<Channel>(&trusted).unwrap_err();
    insta::assert_snapshot!(error, @"it is of kind `larder-keys`, not `larder-channel`");
    let payload = r#"{"kind":"larder-channel","schema":2,"anything":true}"#.to_owned();
    let error = sign(Envelope { payload, signatures: vec![] }, &[&key]).verify::<Channel>(&trusted).unwrap_err();
    insta::assert_snapshot!(error, @"it has schema 2, and this system reads 1");
}

#[test]
fn what_a_newer_builder_says_besides_is_no_harm() {
    let (key, trusted) = trusted();
    let envelope = Envelope::unsigned(&channel(1, &["1"])).unwrap();
    let payload =
        envelope.payload.replacen('{', r#"{"waves":[1,2],"#, 1).replacen(r#""version":"#, r#""eol":1,"version":"#, 1);
    assert!(sign(Envelope { payload, signatures: vec![] }, &[&key]).verify::<Channel>(&trusted).is_ok());
}

#[test]
fn each_attack_on_the_metadata_is_told_apart() {
    let (key, trusted) = trusted();
    let envelope = sign(Envelope::unsigned(&channel(5, &["1"])).unwrap(), &[&key]);
    let refused = |expected: &Expected<'_>| {
        envelope.verify::<Channel>(&trusted).unwrap().accept(expected).unwrap_err().to_string()
    };
    let now = "2026-11-20T00:00:00Z";
    insta::assert_snapshot!(refused(&expected(now, 6)), @"its serial number 5 is lower than 6, which was seen before");
    insta::assert_snapshot!(refused(&expected("2026-12-01T00:00:00Z", 5)), @"it has expired (2026-12-01T00:00:00Z)");
    let other = Expected { channel: "beta", ..expected(now, 0) };
    insta::assert_snapshot!(refused(&other), @"it is channel `stable`, not `beta`");
    let other = Expected { profile: "n150", ..expected(now, 0) };
    insta::assert_snapshot!(refused(&other), @"it is for profile `nas`, not `n150`");
    let endless = vec![b' '; MAX_ENVELOPE as usize + 1];
    assert!(matches!(Envelope::parse(&endless), Err(TrustError::TooLong(_))));
    let json = envelope.to_json();
    for length in [0, 1, json.len() / 2, json.len() - 2] {
        assert!(matches!(Envelope::parse(&json.as_bytes()[..length]), Err(TrustError::NoEnvelope(_))), "{length}");
    }
}

#[test]
fn keys_follow_from_one_to_the_next_and_nobody_else_leads_away() {
    let (old, first) = trusted();
    let (new, stranger) = (pair(), pair());
    let second = first.follow(&sign(keys(2, &[&new], 1), &[&old, &new])).unwrap();
    assert_eq!(second.version(), 2);
    let by = |version, pairs: &[&KeyPair]| second.follow(&sign(keys(version, &[&stranger], 1), pairs));
    assert!(matches!(by(3, &[&stranger]), Err(TrustError::Unsigned { .. })), "signed by itself alone");
    assert!(matches!(by(3, &[&old, &stranger]), Err(TrustError::Unsigned { .. })), "signed by a key that counted once");
    assert!(matches!(by(3, &[&new]), Err(TrustError::Unsigned { .. })), "nobody has shown to hold the new key");
    assert!(matches!(by(4, &[&new, &stranger]), Err(TrustError::Sequence { known: 2, found: 4 })));
    assert!(matches!(by(2, &[&new, &stranger]), Err(TrustError::Sequence { known: 2, found: 2 })), "back");
    assert_eq!(by(3, &[&new, &stranger]).unwrap().version(), 3);
    let mine = sign(Envelope::unsigned(&channel(1, &["1"])).unwrap(), &[&old]);
    assert!(mine.verify::<Channel>(&second).is_err(), "the old key counts no more");
}

#[test]
fn sets_of_keys_that_cannot_work_are_refused() {
    let key = pair();
    let text = key.pk.to_base64();
    let check = |version, keys: &[&str], threshold| {
        let keys = keys.iter().map(|key| (*key).to_owned()).collect();
        Envelope::unsigned(&Keys { version, keys, threshold }).unwrap_err().to_string()
    };
    insta::assert_snapshot!(check(0, &[&text], 1), @"its content is not in order: there is no version 0 of keys");
    insta::assert_snapshot!(check(1, &[], 0), @"its content is not in order: a set has 1 to 16 keys, each of them once");
    insta::assert_snapshot!(check(1, &[&text, &text], 2), @"its content is not in order: a set has 1 to 16 keys, each of them once");
    insta::assert_snapshot!(check(1, &[&text], 2), @"its content is not in order: 2 of 1 keys cannot sign");
    insta::assert_snapshot!(check(1, &[&text], 0), @"its content is not in order: 0 of 1 keys cannot sign");
    insta::assert_snapshot!(check(1, &["RWx"], 1), @"its content is not in order: `RWx` is no public key");
}

#[test]
fn a_release_that_no_appliance_could_take_is_refused_where_it_is_made() {
    let wrong = |change: fn(&mut Channel)| {
        let mut channel = channel(1, &["2", "1"]);
        change(&mut channel);
        Envelope::unsigned(&channel).unwrap_err().to_string()
    };
    insta::assert_snapshot!(wrong(|channel| channel.releases.reverse()), @"its content is not in order: its releases are not in order, the newest first");
    insta::assert_snapshot!(wrong(|channel| channel.releases[0].root_size = 3 << 30), @"its content is not in order: release 2: the root file system does not fit a slot");
    insta::assert_snapshot!(wrong(|channel| channel.releases[0].root_size = 4097), @"its content is not in order: release 2: the root file system does not fit a slot");
    insta::assert_snapshot!(wrong(|channel| channel.releases[1].uki.size = 1 << 30), @"its content is not in order: release 1: the UKI does not fit the ESP");
    insta::assert_snapshot!(wrong(|channel| channel.releases[1].full.recipe.size = 1 << 30), @"its content is not in order: release 1: a recipe or a payload is too large");
    insta::assert_snapshot!(wrong(|channel| channel.profile = "../x".to_owned()), @"its content is not in order: the name of its channel or profile is not usable");
    insta::assert_snapshot!(wrong(|channel| channel.expires = channel.issued), @"its content is not in order: it expires before it is issued");
}

#[test]
fn a_release_that_needs_a_newer_system_is_reached_by_the_one_before() {
    let (key, trusted) = trusted();
    let mut channel = channel(1, &["3", "2", "1"]);
    channel.releases[0].minimum_version = Some("2".parse().unwrap());
    let envelope = sign(Envelope::unsigned(&channel).unwrap(), &[&key]);
    let offer = envelope.verify::<Channel>(&trusted).unwrap().accept(&expected("2026-11-20T00:00:00Z", 0)).unwrap();
    let next = |running: &str| offer.next_after(&running.parse().unwrap()).map(|release| release.version.to_string());
    assert_eq!(next("1").as_deref(), Some("2"));
    assert_eq!(next("2").as_deref(), Some("3"));
    assert_eq!(next("3"), None);
}

fn pack(bytes: &[u8]) -> Vec<u8> {
    let mut writer = XzWriter::new(Vec::new(), XzOptions::with_preset(6)).unwrap();
    writer.write_all(bytes).unwrap();
    writer.finish().unwrap()
}

const BOUNDS: Bounds = Bounds { root: 12288, uki: 100, payload: 1000, old: Some((16384, 90)) };

fn record(to: Target, at: u64, length: u64, origin: Origin) -> Record {
    Record { to, at, length, sha256: Hash::of("piece"), origin }
}

fn good() -> Vec<Record> {
    vec![
        record(Target::Root, 0, 8192, Origin::Copy { of: Base::Root, at: 8192 }),
        record(Target::Root, 8192, 4096, Origin::Patch { of: Base::Root, at: 0, length: 16384, offset: 0, size: 600 }),
        record(Target::Uki, 0, 40, Origin::Copy { of: Base::NewRoot, at: 12248 }),
        record(Target::Uki, 40, 60, Origin::Data { offset: 600, size: 400 }),
    ]
}

#[test]
fn a_recipe_is_read_as_it_was_written() {
    let recipe = Recipe::new(good());
    assert_eq!(Recipe::decode(&pack(&recipe.to_json()), &BOUNDS).unwrap(), recipe);
    insta::assert_snapshot!(String::from_utf8(Recipe::new(good()[3..].to_vec()).to_json()).unwrap(), @r#"{"records":[{"to":"uki","at":40,"length":60,"sha256":"34235a2c502e3919d3f00af5dabb87cb58aef4566b10631f2a5db94950ebffbd","data":{"offset":600,"size":400}}]}"#);
}

#[test]
fn a_recipe_that_breaks_a_rule_is_told_where() {
    let wrong = |change: fn(&mut Vec<Record>)| {
        let mut records = good();
        change(&mut records);
        Recipe::parse(&Recipe::new(records).to_json(), &BOUNDS).unwrap_err().to_string()
    };
    insta::assert_snapshot!(wrong(|records| {
            records.remove(1);
        }), @"it makes 8192 of 12288 bytes of the root file system");
    insta::assert_snapshot!(wrong(|records| {
            records.pop();
        }), @"it makes 40 of 100 bytes of the UKI");
    insta::assert_snapshot!(wrong(|records| records.clear()), @"it makes 0 of 12288 bytes of the root file system");
    insta::assert_snapshot!(wrong(|records| records.swap(0, 1)), @"record 0 does not follow the one before");
    insta::assert_snapshot!(wrong(|records| records.swap(1, 2)), @"record 2 of the root file system comes after those of the UKI");
    insta::assert_snapshot!(wrong(|records| records[1].at = 4096), @"record 1 does not follow the one before");
    insta::assert_snapshot!(wrong(|records| records[0].length = 0), @"record 0 has no usable length");
    insta::assert_snapshot!(wrong(|records| records[0].length = 1 << 30), @"record 0 has no usable length");
    insta::assert_snapshot!(wrong(|records| records[0].length = 8191), @"record 0 is no whole number of blocks");
    insta::assert_snapshot!(wrong(|records| records[0].origin = Origin::Copy { of: Base::Root, at: 8193 }), @"record 0 is made of more than there is");
    insta::assert_snapshot!(wrong(|records| records[0].origin = Origin::Copy { of: Base::Root, at: u64::MAX }), @"record 0 is made of more than there is");
    insta::assert_snapshot!(wrong(|records| records[0].origin = Origin::Copy { of: Base::NewRoot, at: 0 }), @"record 0 is made of what is being made");
    insta::assert_snapshot!(wrong(|records| records[2].origin = Origin::Copy { of: Base::Uki, at: 51 }), @"record 2 is made of more than there is");
    insta::assert_snapshot!(wrong(|records| records[3].origin = Origin::Data { offset: 601, size: 400 }), @"record 3 names more of the payload than there is");
    insta::assert_snapshot!(wrong(|records| records[3].origin = Origin::Data { offset: u64::MAX, size: u64::MAX }), @"record 3 names more of the payload than there is");
    let nothing = Bounds { old: None, ..BOUNDS };
    insta::assert_snapshot!(Recipe::new(good()).check(&nothing).unwrap_err(), @"record 0 is made of an older system, and there is none");
}

#[test]
fn a_record_gives_what_it_should_or_an_error() {
    let old = b"the quick brown fox".to_vec();
    let make = |origin, base: &[u8], fetched: &[u8], wanted: &[u8]| {
        let record = Record { to: Target::Uki, at: 0, length: wanted.len() as u64, sha256: Hash::of(wanted), origin };
        record.make(base, fetched).map_err(|error| error.to_string())
    };
    let data = Origin::Data { offset: 0, size: 0 };
    let patched = Origin::Patch { of: Base::Uki, at: 0, length: old.len() as u64, offset: 0, size: 0 };
    assert_eq!(make(Origin::Copy { of: Base::Uki, at: 0 }, &old, &[], &old).unwrap(), old);
    assert!(make(Origin::Copy { of: Base::Uki, at: 0 }, b"rotten", &[], &old).is_err());
    assert_eq!(make(data.clone(), &[], &pack(b"new"), b"new").unwrap(), b"new");
    let steps = [patch::Step { add: 3, insert: 1, seek: 0 }];
    let packed = pack(&patch::encode(&steps, &[0, 0, 1], b"!"));
    assert_eq!(make(patched.clone(), &old, &packed, b"thf!").unwrap(), b"thf!");
    insta::assert_snapshot!(make(patched, &old, &packed, b"thf?").unwrap_err(), @"the result is not what it must be (sha256 367eb3b9f34f0ab7fb5ecb031e88369082f2a46ba3e27dfe223eee33b7b9ebe5, not 8eb301afd552c177c79785d94f06c657f67ee70ec584d267a23a663893b7f945)");
    insta::assert_snapshot!(make(data.clone(), &[], &pack(&[0; 1 << 20]), b"new").unwrap_err(), @"what was fetched cannot be unpacked");
    assert!(make(data, &[], &pack(b"new")[..20], b"new").is_err());
}

proptest! {
    #[test]
    fn no_bytes_make_a_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..256), text in ".{0,64}") {
        let _ = Envelope::parse(&bytes);
        let _ = Recipe::decode(&bytes, &BOUNDS);
        let _ = Recipe::parse(text.as_bytes(), &BOUNDS);
        let _ = Envelope { payload: text, signatures: vec![] }.read::<Channel>();
    }

    /// What a recipe may hold beside what it must: whatever passes the check can be followed without looking.
    #[test]
    fn a_recipe_that_passes_refers_to_what_there_is(
        places in prop::collection::vec((0..5_u64, 0..5_u64, 0..5_u64, 0..3_u8), 1..5),
    ) {
        let mut at = 0;
        let records: Vec<_> = places.iter().map(|(length, from, size, kind)| {
            let origin = match kind {
                0 => Origin::Copy { of: Base::Root, at: from * 4096 },
                1 => Origin::Patch { of: Base::Root, at: from * 4096, length: size * 4096, offset: 300 * from, size: 300 * size },
                _ => Origin::Data { offset: 300 * from, size: 300 * size },
            };
            let record = record(Target::Root, at, length * 4096, origin);
            at += record.length;
            record
        }).collect();
        let bounds = Bounds { uki: 0, ..BOUNDS };
        if let Ok(recipe) = Recipe::parse(&Recipe::new(records).to_json(), &bounds) {
            prop_assert_eq!(recipe.records().iter().map(|record| record.length).sum::<u64>(), bounds.root);
            for record in recipe.records() {
                prop_assert!(record.base().is_none_or(|base| base.at + base.length <= 16384));
                prop_assert!(record.payload().is_none_or(|payload| payload.end <= 1000));
            }
        }
    }
}
