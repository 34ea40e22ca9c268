//! A Tang server on this computer, with the faults of servers and of whoever sits between.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ecdsa::hazmat::{SignPrimitive, bits2field, sign_prehashed};
use ecdsa::{Signature, SignatureSize};
use p256::NistP256;
use p256::elliptic_curve::generic_array::ArrayLength;
use p256::elliptic_curve::{CurveArithmetic, NonZeroScalar, PrimeCurve, PublicKey, Scalar};
use p521::NistP521;
use sha2::{Digest as _, Sha256, Sha512};

use super::advertisement::{base64url, from_base64url};
use super::curve::{Jwk, Number, Point};
use super::{Pin, Server};
use crate::settings::{Tang, TangUrl};

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Whoever asks is hung up on.
    HangsUp,
    /// Nothing is said.
    Silent,
    /// Answers have no end.
    Endless,
    /// It is some other server.
    Html,
    /// It sends whoever asks elsewhere.
    Redirects,
    /// It answers, with another point.
    WrongPoint,
    /// It answers with what is no point.
    OffCurve,
    /// It answers with a point of another curve.
    OtherCurve,
    /// What it advertises was changed on the way.
    BadSignature,
}

/// A key pair.
pub(crate) struct Pair(Number, pub(super) Point);

struct State {
    signers: Vec<Pair>,
    rotated_signers: Vec<Pair>,
    exchange: Vec<Pair>,
    rotated_exchange: Vec<Pair>,
    fault: Option<Fault>,
}

/// The server; it ends with the process.
pub(crate) struct TangServer {
    pub(crate) url: TangUrl,
    state: Arc<Mutex<State>>,
}

/// The curves.
pub(crate) fn curves() -> [Point; 2] {
    let one = || NonZeroScalar::<NistP521>::new(Scalar::<NistP521>::ONE).unwrap();
    let other = || NonZeroScalar::<NistP256>::new(Scalar::<NistP256>::ONE).unwrap();
    [Point::P521(PublicKey::from_secret_scalar(&one())), Point::P256(PublicKey::from_secret_scalar(&other()))]
}

pub(crate) fn url(text: &str) -> TangUrl {
    serde_json::from_value(text.into()).unwrap()
}

impl Pair {
    fn new(curve: &Point) -> Self {
        let (number, point) = curve.random().unwrap();
        Self(number, point)
    }

    /// Of a key with its secret half.
    pub(crate) fn of(text: &str) -> Self {
        let point = Point::of(&serde_json::from_str(text).unwrap()).unwrap();
        let secret = serde_json::from_str::<serde_json::Value>(text).unwrap()["d"].as_str().map(from_base64url);
        let secret = secret.flatten().unwrap();
        let number = match point {
            Point::P256(_) => Number::P256(NonZeroScalar::<NistP256>::try_from(&secret[..]).unwrap()),
            Point::P521(_) => Number::P521(NonZeroScalar::<NistP521>::try_from(&secret[..]).unwrap()),
        };
        Self(number, point)
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        match &self.0 {
            Number::P256(key) => sign(key, &Sha256::digest(message)),
            Number::P521(key) => sign(key, &Sha512::digest(message)),
        }
    }
}

fn sign<C>(key: &NonZeroScalar<C>, digest: &[u8]) -> Vec<u8>
where
    C: PrimeCurve + CurveArithmetic,
    Scalar<C>: SignPrimitive<C>,
    SignatureSize<C>: ArrayLength<u8>,
{
    let once = super::curve::random::<C>(0x01).unwrap();
    let signed: (Signature<C>, _) = sign_prehashed(&**key, *once, &bits2field::<C>(digest).unwrap()).unwrap();
    signed.0.to_bytes().to_vec()
}

impl TangServer {
    /// One whose keys are on this curve.
    pub(crate) fn new(curve: &Point) -> Self {
        Self::with(vec![Pair::new(curve)], vec![Pair::new(curve)])
    }

    pub(crate) fn with(signers: Vec<Pair>, exchange: Vec<Pair>) -> Self {
        let state = State { signers, exchange, rotated_signers: vec![], rotated_exchange: vec![], fault: None };
        let state = Arc::new(Mutex::new(state));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = url(&format!("http://{}", listener.local_addr().unwrap()));
        let of_thread = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&of_thread);
                // Whoever breaks off has had enough.
                std::thread::spawn(move || _ = serve(&state, &stream));
            }
        });
        Self { url, state }
    }

    pub(crate) fn thumbprint(&self) -> String {
        self.state.lock().unwrap().signers[0].1.thumbprint()
    }

    /// As settings name it.
    pub(crate) fn setting(&self) -> Tang {
        let thumbprint = serde_json::from_value(self.thumbprint().into()).unwrap();
        Tang { url: self.url.clone(), thumbprint }
    }

    pub(crate) fn server(&self) -> Server {
        Server { url: self.url.clone(), pin: Pin::Thumbprint(self.setting().thumbprint) }
    }

    pub(crate) fn fail(&self, fault: Option<Fault>) {
        self.state.lock().unwrap().fault = fault;
    }

    /// As `tangd-rotate-keys` does: the old ones are kept, and not advertised.
    pub(crate) fn rotate(&self, curve: &Point) {
        let mut state = self.state.lock().unwrap();
        let signers = std::mem::replace(&mut state.signers, vec![Pair::new(curve)]);
        let exchange = std::mem::replace(&mut state.exchange, vec![Pair::new(curve)]);
        state.rotated_signers.extend(signers);
        state.rotated_exchange.extend(exchange);
    }

    /// The old ones are deleted.
    pub(crate) fn forget(&self) {
        let mut state = self.state.lock().unwrap();
        state.rotated_signers.clear();
        state.rotated_exchange.clear();
    }
}

impl State {
    fn advertisement(&self, asked: Option<&str>) -> Option<String> {
        let fits = |pair: &&Pair| asked.is_some_and(|asked| pair.1.thumbprint() == asked);
        let rotated: Vec<_> = self.rotated_signers.iter().filter(fits).collect();
        if asked.is_some() && rotated.is_empty() && !self.signers.iter().any(|pair| fits(&pair)) {
            return None;
        }
        let key = |point: &Point, alg: &str, operation: &str| Jwk {
            alg: Some(alg.to_owned()),
            key_ops: vec![operation.to_owned()],
            ..point.jwk()
        };
        let mut keys: Vec<_> = self.signers.iter().map(|pair| key(&pair.1, pair.1.algorithm(), "verify")).collect();
        keys.extend(self.exchange.iter().map(|pair| key(&pair.1, "ECMR", "deriveKey")));
        let payload = base64url(&serde_json::to_vec(&serde_json::json!({ "keys": keys })).unwrap());
        let sign = |pair: &Pair| {
            let header = serde_json::json!({ "alg": pair.1.algorithm(), "cty": "jwk-set+json" });
            let protected = base64url(header.to_string().as_bytes());
            let mut signature = pair.sign(format!("{protected}.{payload}").as_bytes());
            signature[5] ^= u8::from(self.fault == Some(Fault::BadSignature));
            serde_json::json!({ "protected": protected, "signature": base64url(&signature) })
        };
        let mut signatures: Vec<_> = self.signers.iter().chain(rotated).map(sign).collect();
        // As tangd: one signature lies flat.
        let mut jws =
            if signatures.len() == 1 { signatures.remove(0) } else { serde_json::json!({ "signatures": signatures }) };
        jws["payload"] = payload.into();
        Some(jws.to_string())
    }

    fn recover(&self, asked: &str, body: &[u8]) -> Option<String> {
        let pair = self.exchange.iter().chain(&self.rotated_exchange).find(|pair| pair.1.thumbprint() == asked)?;
        let point = Point::of(&serde_json::from_slice(body).ok()?)?;
        let mut answer = point.times(&pair.0)?;
        match self.fault {
            Some(Fault::WrongPoint) => answer = Pair::new(&answer).1,
            Some(Fault::OtherCurve) => {
                let other = curves().into_iter().find(|curve| curve.algorithm() != answer.algorithm()).unwrap();
                answer = Pair::new(&other).1;
            }
            _ => {}
        }
        let mut key = answer.jwk();
        if self.fault == Some(Fault::OffCurve) {
            std::mem::swap(&mut key.x, &mut key.y);
        }
        Some(serde_json::to_string(&key).unwrap())
    }
}

fn serve(state: &Mutex<State>, mut stream: &TcpStream) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let (mut first, mut length) = (String::new(), 0);
    reader.read_line(&mut first)?;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let line = line.trim_end().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(text) = line.strip_prefix("content-length: ") {
            length = text.parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
    let state = state.lock().unwrap();
    let answer = match path.trim_start_matches('/').split_once('/') {
        None => state.advertisement(None),
        Some(("adv", thumbprint)) => state.advertisement(Some(thumbprint)),
        Some((_, key)) => state.recover(key, &body),
    };
    let fault = state.fault;
    drop(state);
    let head = |length: usize| format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
    match (fault, answer) {
        (Some(Fault::HangsUp), _) => Ok(()),
        (Some(Fault::Silent), _) => {
            std::thread::sleep(Duration::from_secs(20));
            Ok(())
        }
        (Some(Fault::Endless), _) => {
            stream.write_all(head(usize::MAX >> 1).as_bytes())?;
            loop {
                stream.write_all(&[b' '; 4096])?;
            }
        }
        (Some(Fault::Html), _) => stream.write_all((head(15) + "<html>..</html>").as_bytes()),
        (Some(Fault::Redirects), _) => {
            stream.write_all(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n")
        }
        (_, Some(answer)) => stream.write_all((head(answer.len()) + &answer).as_bytes()),
        (_, None) => stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"),
    }
}
