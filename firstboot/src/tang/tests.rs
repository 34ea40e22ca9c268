use std::time::{Duration, Instant};

use aes_gcm::aead::{Aead as _, KeyInit as _, Payload};
use aes_gcm::{Aes256Gcm, Key};

use super::advertisement::from_base64url;
use super::curve::Jwk;
use super::testing::{Fault, Pair, TangServer, curves};
use super::*;

/// What tangd 11 advertises whose keys are those beside it, and what clevis 19 has sealed there with its help.
const ADVERTISEMENT: &[u8] = include_bytes!("fixtures/adv.jws");
const SIGNING: &str = include_str!("fixtures/signing.jwk");
const EXCHANGE: &str = include_str!("fixtures/exchange.jwk");
const SEALED: &str = include_str!("fixtures/clevis.jwe");
/// What jose 11 prints for the signing key.
const THUMBPRINT: &str = "CprZ-QJ8v0UM1Q-LHuxCPp-QRe_MRc9mv6nGt5_QDnI";
const OLD_THUMBPRINT: &str = "9fa_VSwUlynMw3EgNzmtDCZ6pFA";

fn quick() -> Client {
    Client::with(Duration::from_millis(700), Duration::ZERO)
}

fn pin(thumbprint: &str) -> Pin {
    Pin::Thumbprint(serde_json::from_value(thumbprint.into()).unwrap())
}

#[test]
fn an_advertisement_of_tangd_is_believed_by_either_digest_of_its_key() {
    let exchange = Pair::of(EXCHANGE).1;
    for thumbprint in [THUMBPRINT, OLD_THUMBPRINT] {
        let read = Advertisement::read(ADVERTISEMENT, &pin(thumbprint)).unwrap();
        assert_eq!(read, Advertisement { signer: Pair::of(SIGNING).1, exchange: vec![exchange] });
    }
    // It is in the set, and has signed nothing.
    let error = Advertisement::read(ADVERTISEMENT, &pin(&exchange.thumbprint())).unwrap_err();
    assert_eq!(error, Why::Stranger(exchange.thumbprint()));
}

#[test]
fn what_clevis_has_sealed_is_opened_with_the_help_of_a_server_that_has_the_keys() {
    let server = TangServer::with(vec![Pair::of(SIGNING)], vec![Pair::of(EXCHANGE)]);
    assert_eq!(server.thumbprint(), THUMBPRINT);
    let parts: Vec<_> = SEALED.trim().split('.').collect();
    let [header, _, nonce, sealed, tag] = parts[..] else { panic!("a JWE has five parts") };
    let read: serde_json::Value = serde_json::from_slice(&from_base64url(header).unwrap()).unwrap();
    let ours: Jwk = serde_json::from_value(read["epk"].clone()).unwrap();
    let bound = Bound { server: Pair::of(EXCHANGE).1, ours: Point::of(&ours).unwrap() };
    assert_eq!(read["kid"], bound.server.thumbprint());
    let key = bound.recover(&quick(), &server.url).unwrap();
    let sealed = [from_base64url(sealed).unwrap(), from_base64url(tag).unwrap()].concat();
    let nonce: [u8; 12] = from_base64url(nonce).unwrap().try_into().unwrap();
    let payload = Payload { msg: &sealed, aad: header.as_bytes() };
    let opened = Aes256Gcm::new(&Key::<Aes256Gcm>::from(*key)).decrypt(&nonce.into(), payload).unwrap();
    assert_eq!(opened, b"the key of a pool, 32 bytes long.");
}

#[test]
fn a_secret_comes_back_with_the_help_of_its_server_and_of_no_other() {
    for curve in curves() {
        let (server, other) = (TangServer::new(&curve), TangServer::new(&curve));
        let advertised = quick().advertisement(&server.server()).unwrap();
        let (bound, secret) = Bound::new(advertised.exchange[0]).unwrap();
        assert_eq!(bound.recover(&quick(), &server.url).unwrap(), secret);
        assert_eq!(bound.recover(&quick(), &server.url).unwrap(), secret);
        assert_eq!(bound.recover(&quick(), &other.url), Err(Why::Rotated));
        let kept: Bound = serde_json::from_str(&serde_json::to_string(&bound).unwrap()).unwrap();
        assert_eq!(kept, bound);
    }
}

#[test]
fn whatever_a_server_does_it_ends_soon_with_a_reason() {
    let server = TangServer::new(&curves()[0]);
    let (bound, secret) = Bound::new(quick().advertisement(&server.server()).unwrap().exchange[0]).unwrap();
    let begin = Instant::now();
    let mut said = String::new();
    for fault in [
        Fault::HangsUp,
        Fault::Silent,
        Fault::Endless,
        Fault::Html,
        Fault::Redirects,
        Fault::WrongPoint,
        Fault::OffCurve,
        Fault::OtherCurve,
        Fault::BadSignature,
    ] {
        server.fail(Some(fault));
        let advertised = quick().advertisement(&server.server()).err().map(|refused| refused.why.to_string());
        let recovered = match bound.recover(&quick(), &server.url) {
            Ok(other) if other == secret => "right".to_owned(),
            Ok(_) => "another secret".to_owned(),
            Err(why) => why.to_string(),
        };
        said += &format!("{fault:?}: {}; {recovered}\n", advertised.unwrap_or("right".to_owned()));
    }
    let said = said.replace(&server.thumbprint(), "THUMBPRINT");
    insta::assert_snapshot!(said);
    assert!(begin.elapsed() < Duration::from_secs(10));
}

#[test]
fn nobody_there_is_told_as_that() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = testing::url(&format!("http://{}/", free.local_addr().unwrap()));
    drop(free);
    let refused = quick().advertisement(&Server { url, pin: pin(THUMBPRINT) }).unwrap_err();
    assert_eq!(refused.why, Why::Unreachable("nobody listens there".to_owned()));
    assert!(crate::report::is_mendable(&Mistake::from(refused).into()));
}

#[test]
fn rotated_keys_vouch_for_the_new_ones_as_long_as_they_are_kept() {
    let curve = curves()[0];
    let server = TangServer::new(&curve);
    let before = quick().advertisement(&server.server()).unwrap();
    let settings = server.server();
    server.rotate(&curve);
    // The digest alone tells nothing of a key that is not shown any more.
    assert!(matches!(quick().advertisement(&settings).unwrap_err().why, Why::Stranger(_)));
    let known = Server { url: server.url.clone(), pin: Pin::Signer(before.signer) };
    let after = quick().advertisement(&known).unwrap();
    assert_eq!(after, quick().advertisement(&server.server()).unwrap());
    assert_ne!((after.signer, &after.exchange), (before.signer, &before.exchange));
    server.forget();
    assert!(matches!(quick().advertisement(&known).unwrap_err().why, Why::Stranger(_)));
}
