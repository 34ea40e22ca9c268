use minisign::KeyPair;

use super::super::source::testing::TestServer;
use super::super::source::{Http, Patience};
use super::super::tests::{channel, keys, pair, sign};
use super::*;

/// An image with these keys, and a server.
struct Scene {
    root: tempfile::TempDir,
    server: TestServer,
}

impl Scene {
    fn new(anchor: &Envelope) -> Self {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("usr/lib/larder")).unwrap();
        std::fs::write(root.path().join(ANCHOR), anchor.to_json()).unwrap();
        Self { root, server: TestServer::new([]) }
    }

    fn publish(&self, serial: u64, pairs: &[&KeyPair]) {
        let envelope = sign(Envelope::unsigned(&channel(serial, &["2", "1"])).unwrap(), pairs);
        self.server.put("stable/nas.json", envelope.to_json().into_bytes());
    }

    fn ask(&self, channel: &str, profile: &str, now: &str) -> anyhow::Result<Offer> {
        let patience = Patience { attempts: 1, ..Patience::default() };
        let question = Question { channel, profile, now: now.parse().unwrap() };
        ask(self.root.path(), &Http::new(self.server.address(), &patience), &question, &patience)
    }

    fn refusal(&self, now: &str) -> String {
        let error = self.ask("stable", "nas", now).unwrap_err();
        assert!(crate::report::is_mendable(&error), "{error:#}");
        error.to_string()
    }
}

const NOW: &str = "2026-11-20T00:00:00Z";

#[test]
fn a_channel_is_believed_and_remembered() {
    let key = pair();
    let scene = Scene::new(&sign(keys(1, &[&key], 1), &[&key]));
    scene.publish(7, &[&key]);
    assert_eq!(scene.ask("stable", "nas", NOW).unwrap().serial(), 7);
    assert_eq!(Seen::read(scene.root.path()).unwrap().serials["stable"], 7);
}

#[test]
fn wrong_key_expired_rolled_back_and_frozen_are_each_refused() {
    let key = pair();
    let scene = Scene::new(&sign(keys(1, &[&key], 1), &[&key]));
    scene.publish(7, &[&pair()]);
    assert!(scene.refusal(NOW).ends_with("0 of the keys that count have signed it, 1 are needed"));
    scene.publish(7, &[&key]);
    scene.ask("stable", "nas", NOW).unwrap();
    scene.publish(6, &[&key]);
    assert!(scene.refusal(NOW).contains("serial number 6 is lower than 7"));
    // A server that always hands out the same, so that nobody hears of newer ones, has time until it expires.
    scene.publish(7, &[&key]);
    scene.ask("stable", "nas", "2026-11-30T00:00:00Z").unwrap();
    assert!(scene.refusal("2026-12-01T00:00:00Z").contains("it has expired"));
}

#[test]
fn another_channel_or_profile_under_this_name_is_refused() {
    let key = pair();
    let scene = Scene::new(&sign(keys(1, &[&key], 1), &[&key]));
    scene.publish(1, &[&key]);
    let stable = sign(Envelope::unsigned(&channel(1, &["1"])).unwrap(), &[&key]).to_json().into_bytes();
    scene.server.put("beta/nas.json", stable.clone());
    scene.server.put("stable/other.json", stable);
    assert!(scene.ask("beta", "nas", NOW).unwrap_err().to_string().contains("it is channel `stable`, not `beta`"));
    assert!(
        scene.ask("stable", "other", NOW).unwrap_err().to_string().contains("it is for profile `nas`, not `other`")
    );
}

#[test]
fn keys_are_followed_from_version_to_version_and_the_old_ones_count_no_more() {
    let (first, second, third) = (pair(), pair(), pair());
    let scene = Scene::new(&sign(keys(1, &[&first], 1), &[&first]));
    scene.server.put("keys/2.json", sign(keys(2, &[&second], 1), &[&first, &second]).to_json().into_bytes());
    scene.server.put("keys/3.json", sign(keys(3, &[&third], 1), &[&second, &third]).to_json().into_bytes());
    scene.publish(1, &[&third]);
    scene.ask("stable", "nas", NOW).unwrap();
    scene.publish(2, &[&first]);
    assert!(scene.refusal(NOW).contains("0 of the keys"));
    // A newer image starts further on, and what is kept follows from there.
    std::fs::write(scene.root.path().join(ANCHOR), sign(keys(2, &[&second], 1), &[&second]).to_json()).unwrap();
    scene.publish(2, &[&third]);
    scene.ask("stable", "nas", NOW).unwrap();
}

#[test]
fn keys_that_the_old_ones_have_not_signed_lead_nowhere() {
    let (key, thief) = (pair(), pair());
    let scene = Scene::new(&sign(keys(1, &[&key], 1), &[&key]));
    scene.server.put("keys/2.json", sign(keys(2, &[&thief], 1), &[&thief]).to_json().into_bytes());
    scene.publish(1, &[&thief]);
    assert!(scene.refusal(NOW).starts_with("keys/2.json of the server is not believed"));
    // Nor do those that somebody has put on the state partition.
    let seen = Seen { keys: vec![sign(keys(2, &[&thief], 1), &[&thief])], ..Seen::default() };
    seen.write(scene.root.path()).unwrap();
    assert_eq!(seen.trusted(scene.root.path()).unwrap().version(), 1);
}

#[test]
fn a_clock_that_is_far_behind_is_told_from_an_attack() {
    let key = pair();
    let scene = Scene::new(&sign(keys(1, &[&key], 1), &[&key]));
    scene.publish(1, &[&key]);
    assert!(scene.refusal("2020-01-01T00:00:00Z").contains("this machine's clock says 2020"));
}

#[test]
fn an_image_without_keys_takes_no_updates() {
    let scene = Scene::new(&Envelope { payload: String::new(), signatures: Vec::new() });
    std::fs::write(scene.root.path().join(ANCHOR), "null\n").unwrap();
    assert_eq!(scene.refusal(NOW), "this image has no keys that updates could be signed with");
}
