//! A secret that takes a server to get back.

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::curve::{Jwk, Number, Point};
use super::{Client, Why};
use crate::settings::TangUrl;

/// What a secret is used for (RFC 7518, 4.6.1.1, `enc`): so that it is the same that clevis(1) would make of it.
const USE: &[u8] = b"A256GCM";

/// What is kept of an exchange. It may be seen by anybody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Bound {
    /// The server's key, S.
    pub server: Point,
    /// Ours, C, whose secret half is forgotten.
    pub ours: Point,
}

/// A question that shows nothing of whose it is.
struct Question {
    /// e
    blind: Number,
    /// C + eG
    asked: Point,
}

impl Bound {
    /// A new secret, bound to the server that has this key.
    ///
    /// # Errors
    /// The kernel has no random numbers.
    pub fn new(server: Point) -> anyhow::Result<(Self, Zeroizing<[u8; 32]>)> {
        let (number, ours) = server.random()?;
        let shared = server.times(&number).context("a point of the curve that its number was made for")?;
        Ok((Self { server, ours }, derive(&shared)))
    }

    /// The secret, with the server's help.
    ///
    /// # Errors
    /// It does not help. When it answers with another point than it should, the secret is another one.
    pub fn recover(&self, client: &Client, url: &TangUrl) -> Result<Zeroizing<[u8; 32]>, Why> {
        let question = self.ask().map_err(|error| Why::Nonsense(format!("{error:#}")))?;
        let point = Jwk { alg: Some("ECMR".to_owned()), ..question.asked.jwk() };
        let point = serde_json::to_string(&point).map_err(|error| Why::Nonsense(error.to_string()))?;
        let answer = client.recover(url, self, &point)?;
        let answer = serde_json::from_slice(&answer).ok().and_then(|key: Jwk| Point::of(&key));
        let answer = answer.ok_or_else(|| Why::Nonsense("its answer is no point of P-256 or P-521".to_owned()))?;
        self.conclude(&question, &answer).ok_or_else(|| Why::Nonsense("its answer is of another curve".to_owned()))
    }

    fn ask(&self) -> anyhow::Result<Question> {
        let (blind, point) = self.server.random()?;
        let asked = self.ours.plus(&point).context("the two keys are of different curves: the slot is damaged")?;
        Ok(Question { blind, asked })
    }

    /// Y − eS
    fn conclude(&self, question: &Question, answer: &Point) -> Option<Zeroizing<[u8; 32]>> {
        let shared = answer.minus(&self.server.times(&question.blind)?)?;
        Some(derive(&shared))
    }
}

/// One round of Concat KDF (SP 800-56A, 5.8.1) as RFC 7518, 4.6.2 has it, for 256 bits and nobody's names.
fn derive(shared: &Point) -> Zeroizing<[u8; 32]> {
    let length = |bytes: usize| (bytes as u32).to_be_bytes();
    let mut digest = Sha256::new();
    digest.update(1_u32.to_be_bytes());
    digest.update(shared.x());
    digest.update(length(USE.len()));
    digest.update(USE);
    digest.update(length(0));
    digest.update(length(0));
    digest.update(256_u32.to_be_bytes());
    Zeroizing::new(digest.finalize().into())
}
