//! Points of the curves P-256 and P-521 (SP 800-186): what Tang's keys are.

use ecdsa::hazmat::VerifyPrimitive;
use ecdsa::signature::hazmat::PrehashVerifier as _;
use ecdsa::{Signature, SignatureSize, VerifyingKey};
use p256::NistP256;
use p256::elliptic_curve::generic_array::ArrayLength;
use p256::elliptic_curve::group::Curve as _;
use p256::elliptic_curve::sec1::{FromEncodedPoint, ModulusSize, ToEncodedPoint};
use p256::elliptic_curve::{
    AffinePoint, CurveArithmetic, FieldBytes, FieldBytesSize, NonZeroScalar, PrimeCurve, ProjectivePoint, PublicKey,
    Scalar,
};
use p521::NistP521;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha1::Sha1;
use sha2::{Digest as _, Sha256, Sha512};
use zeroize::{Zeroize as _, Zeroizing};

use super::advertisement::{base64url, from_base64url};
use crate::key::Bytes;

/// A point of one of the curves, other than the one at infinity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Point {
    /// Of P-256.
    P256(PublicKey<NistP256>),
    /// Of P-521, which tangd uses unless it is told otherwise.
    P521(PublicKey<NistP521>),
}

/// A number to multiply points of a curve with, from 1 to what their order is less one.
pub(super) enum Number {
    P256(NonZeroScalar<NistP256>),
    P521(NonZeroScalar<NistP521>),
}

/// A key, as RFC 7517 and 7518 (6.2) write it.
#[derive(Debug, Clone, Deserialize, Serialize)]
pub(super) struct Jwk {
    pub(super) kty: String,
    pub(super) crv: String,
    pub(super) x: String,
    pub(super) y: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) alg: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) key_ops: Vec<String>,
}

impl Point {
    /// The point of a key; `None` when it is of another curve, or of none.
    pub(super) fn of(jwk: &Jwk) -> Option<Self> {
        let (x, y) = (from_base64url(&jwk.x)?, from_base64url(&jwk.y)?);
        let uncompressed = [&[4], &x[..], &y[..]].concat();
        match (jwk.kty.as_str(), jwk.crv.as_str(), x.len(), y.len()) {
            ("EC", "P-256", 32, 32) => PublicKey::from_sec1_bytes(&uncompressed).ok().map(Self::P256),
            ("EC", "P-521", 66, 66) => PublicKey::from_sec1_bytes(&uncompressed).ok().map(Self::P521),
            _ => None,
        }
    }

    /// As a key.
    pub(super) fn jwk(&self) -> Jwk {
        let bytes = self.sec1(false);
        let (x, y) = bytes[1..].split_at(bytes.len() / 2);
        Jwk {
            kty: "EC".to_owned(),
            crv: self.curve().to_owned(),
            x: base64url(x),
            y: base64url(y),
            alg: None,
            key_ops: Vec::new(),
        }
    }

    fn curve(&self) -> &'static str {
        match self {
            Self::P256(_) => "P-256",
            Self::P521(_) => "P-521",
        }
    }

    /// As SEC 1, 2.3.3 writes it; compressed, x and the sign of y are enough.
    fn sec1(&self, compressed: bool) -> Vec<u8> {
        match self {
            Self::P256(key) => key.to_encoded_point(compressed).as_bytes().to_vec(),
            Self::P521(key) => key.to_encoded_point(compressed).as_bytes().to_vec(),
        }
    }

    /// What a shared point is used for.
    pub(super) fn x(&self) -> Zeroizing<Vec<u8>> {
        let mut bytes = Zeroizing::new(self.sec1(true));
        bytes.remove(0);
        bytes
    }

    /// Its digest (RFC 7638), as `tang-show-keys` prints it.
    pub fn thumbprint(&self) -> String {
        base64url(&Sha256::digest(self.canonical()))
    }

    /// The same by SHA-1, as old versions print it. What it is used for takes a second key with the digest of a given one,
    /// not any two with the same; that, SHA-1 still stands.
    pub(super) fn old_thumbprint(&self) -> String {
        base64url(&Sha1::digest(self.canonical()))
    }

    fn canonical(&self) -> String {
        let Jwk { kty, crv, x, y, .. } = self.jwk();
        format!(r#"{{"crv":"{crv}","kty":"{kty}","x":"{x}","y":"{y}"}}"#)
    }

    /// Whether it has signed this (RFC 7518, 3.4: ES256 and ES512).
    pub(super) fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::P256(key) => verify(key, &Sha256::digest(message), signature),
            Self::P521(key) => verify(key, &Sha512::digest(message), signature),
        }
    }

    /// The name of [`Self::has_signed`]'s algorithm.
    pub(super) fn algorithm(&self) -> &'static str {
        match self {
            Self::P256(_) => "ES256",
            Self::P521(_) => "ES512",
        }
    }

    /// A random number of the same curve, and what its generator is by it.
    pub(super) fn random(&self) -> anyhow::Result<(Number, Self)> {
        Ok(match self {
            Self::P256(_) => {
                let number = random(0xff)?;
                let point = Self::P256(PublicKey::from_secret_scalar(&number));
                (Number::P256(number), point)
            }
            Self::P521(_) => {
                let number = random(0x01)?;
                let point = Self::P521(PublicKey::from_secret_scalar(&number));
                (Number::P521(number), point)
            }
        })
    }

    /// So many times the point; `None` when the number is for another curve.
    pub(super) fn times(&self, number: &Number) -> Option<Self> {
        match (self, number) {
            (Self::P256(point), Number::P256(number)) => times(point, number).map(Self::P256),
            (Self::P521(point), Number::P521(number)) => times(point, number).map(Self::P521),
            _ => None,
        }
    }

    /// The sum; `None` when they are of two curves, or it is the point at infinity.
    pub(super) fn plus(&self, other: &Self) -> Option<Self> {
        match (self, other) {
            (Self::P256(one), Self::P256(other)) => sum(one.to_projective() + other.to_projective()).map(Self::P256),
            (Self::P521(one), Self::P521(other)) => sum(one.to_projective() + other.to_projective()).map(Self::P521),
            _ => None,
        }
    }

    /// The difference; `None` as for [`Self::plus`].
    pub(super) fn minus(&self, other: &Self) -> Option<Self> {
        match (self, other) {
            (Self::P256(one), Self::P256(other)) => sum(one.to_projective() - other.to_projective()).map(Self::P256),
            (Self::P521(one), Self::P521(other)) => sum(one.to_projective() - other.to_projective()).map(Self::P521),
            _ => None,
        }
    }
}

impl Drop for Number {
    fn drop(&mut self) {
        match self {
            Self::P256(number) => number.zeroize(),
            Self::P521(number) => number.zeroize(),
        }
    }
}

/// A random number below the order; `mask` is for the first byte, so that most are.
pub(super) fn random<C: CurveArithmetic>(mask: u8) -> anyhow::Result<NonZeroScalar<C>> {
    loop {
        let mut bytes = FieldBytes::<C>::default();
        getrandom::fill(&mut bytes)?;
        bytes[0] &= mask;
        let number = NonZeroScalar::from_repr(bytes.clone());
        bytes.zeroize();
        if let Some(number) = number.into() {
            return Ok(number);
        }
    }
}

fn times<C: CurveArithmetic>(point: &PublicKey<C>, number: &NonZeroScalar<C>) -> Option<PublicKey<C>> {
    sum(point.to_projective() * **number)
}

fn sum<C: CurveArithmetic>(point: ProjectivePoint<C>) -> Option<PublicKey<C>> {
    PublicKey::from_affine(point.to_affine()).ok()
}

fn verify<C>(key: &PublicKey<C>, digest: &[u8], signature: &[u8]) -> bool
where
    C: PrimeCurve + CurveArithmetic,
    AffinePoint<C>: VerifyPrimitive<C> + FromEncodedPoint<C> + ToEncodedPoint<C>,
    FieldBytesSize<C>: ModulusSize,
    SignatureSize<C>: ArrayLength<u8>,
    Scalar<C>: Sized,
{
    let key = VerifyingKey::<C>::from(key);
    Signature::<C>::from_slice(signature).is_ok_and(|signature| key.verify_prehash(digest, &signature).is_ok())
}

impl Serialize for Point {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Bytes::from(self.sec1(true)).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Point {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = Bytes::deserialize(deserializer)?;
        let point = match bytes.as_slice().len() {
            33 => PublicKey::from_sec1_bytes(bytes.as_slice()).ok().map(Self::P256),
            67 => PublicKey::from_sec1_bytes(bytes.as_slice()).ok().map(Self::P521),
            _ => None,
        };
        point.ok_or_else(|| de::Error::custom("it is no point of P-256 or P-521"))
    }
}
