//! What a Tang server says about its keys: a set of them (RFC 7517), signed by one or several (RFC 7515).

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use serde::Deserialize;

use super::Why;
use super::curve::{Jwk, Point};
use crate::settings::Thumbprint;

/// What a server is recognised by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pin {
    /// The digest of a key that it signs with.
    Thumbprint(Thumbprint),
    /// Such a key itself. The server need not advertise it any more, as long as it still signs with it when it is asked
    /// to: so rotated keys vouch for the new ones.
    Signer(Point),
}

/// The keys that are to be used from now on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advertisement {
    /// What it signs with.
    pub signer: Point,
    /// What it opens with.
    pub exchange: Vec<Point>,
}

/// Both forms of RFC 7515, 7.2.
#[derive(Debug, Deserialize)]
struct Jws {
    payload: String,
    #[serde(default)]
    signatures: Vec<Signature>,
    #[serde(flatten)]
    signature: Option<Signature>,
}

#[derive(Debug, Deserialize)]
struct Signature {
    protected: String,
    signature: String,
}

#[derive(Debug, Deserialize)]
struct Header {
    alg: String,
    /// Extensions that have to be understood (RFC 7515, 4.1.11); there are none here.
    #[serde(default)]
    crit: Option<serde_json::Value>,
}

#[derive(Debug, Deserialize)]
struct Set {
    /// Keys of other kinds are passed over.
    keys: Vec<serde_json::Value>,
}

impl Pin {
    /// Where it is asked for: by a key that may be a rotated one, or without.
    pub(super) fn path(&self) -> String {
        match self {
            Self::Thumbprint(_) => "adv".to_owned(),
            Self::Signer(signer) => format!("adv/{}", signer.thumbprint()),
        }
    }

    pub(super) fn describe(&self) -> String {
        match self {
            Self::Thumbprint(thumbprint) => thumbprint.as_str().to_owned(),
            Self::Signer(signer) => signer.thumbprint(),
        }
    }

    fn find(&self, signers: &[Point]) -> Option<Point> {
        match self {
            Self::Thumbprint(wanted) => {
                let fits =
                    |key: &&Point| [key.thumbprint(), key.old_thumbprint()].iter().any(|it| it == wanted.as_str());
                signers.iter().find(fits).copied()
            }
            Self::Signer(signer) => Some(*signer),
        }
    }
}

impl Advertisement {
    /// Reads an answer, and believes it when it is signed by the key that is known.
    ///
    /// # Errors
    /// It is not, or there is no key in it that can be used.
    pub(super) fn read(answer: &[u8], pin: &Pin) -> Result<Self, Why> {
        let nonsense = |what: &str| Why::Nonsense(what.to_owned());
        let jws: Jws = serde_json::from_slice(answer).map_err(|_| nonsense("no signed set of keys"))?;
        let payload = from_base64url(&jws.payload).ok_or_else(|| nonsense("the set of keys is not in base64url"))?;
        let set: Set = serde_json::from_slice(&payload).map_err(|_| nonsense("the set of keys is none"))?;
        let keys: Vec<Jwk> = set.keys.into_iter().filter_map(|key| serde_json::from_value(key).ok()).collect();
        let for_use = |operation: &str| -> Vec<Point> {
            let is_for_it = |key: &&Jwk| key.key_ops.iter().any(|known| known == operation);
            keys.iter().filter(is_for_it).filter_map(Point::of).collect()
        };
        let signers = for_use("verify");
        let known = pin.find(&signers).filter(|key| jws.is_signed_by(key));
        let known = known.ok_or_else(|| Why::Stranger(pin.describe()))?;
        let exchange = for_use("deriveKey");
        if exchange.is_empty() {
            return Err(nonsense("it has no key for ECMR on P-256 or P-521"));
        }
        // A key that is not advertised any more hands on to one that is.
        let is_current = signers.contains(&known);
        let next = signers.into_iter().find(|key| jws.is_signed_by(key)).filter(|_| !is_current);
        Ok(Self { signer: next.unwrap_or(known), exchange })
    }
}

impl Jws {
    fn is_signed_by(&self, key: &Point) -> bool {
        self.signatures.iter().chain(&self.signature).any(|signature| signature.is_by(key, &self.payload))
    }
}

impl Signature {
    fn is_by(&self, key: &Point, payload: &str) -> bool {
        let header = from_base64url(&self.protected).and_then(|text| serde_json::from_slice::<Header>(&text).ok());
        let signature = from_base64url(&self.signature);
        let (Some(header), Some(signature)) = (header, signature) else { return false };
        header.alg == key.algorithm()
            && header.crit.is_none()
            && key.has_signed(format!("{}.{payload}", self.protected).as_bytes(), &signature)
    }
}

pub(super) fn base64url(bytes: &[u8]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

pub(super) fn from_base64url(text: &str) -> Option<Vec<u8>> {
    BASE64_URL_SAFE_NO_PAD.decode(text).ok()
}
