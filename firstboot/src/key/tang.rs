//! The way by presence: what the pool's key is sealed with takes Tang servers ([`crate::tang`]), and also the machine's TPM
//! if that is in the settings. So neither the box without its home opens, nor its disks at home in another box.

use std::sync::mpsc;
use std::thread;

use anyhow::Context as _;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::tpm2::allow_running;
use super::{Bytes, PoolKey, Refusal, seal};
use crate::report::Mistake;
use crate::settings::{self, Keys, TangUrl};
use crate::tang::shares::{self, Share};
use crate::tang::{Absent, Bound, Client, Pin, Point, Refused, Server, Why};
use crate::tpm::{Credential, Tpm};

/// What is asked, and what for.
#[derive(Debug, Clone)]
pub struct Presence<'a> {
    /// Asks servers.
    pub client: &'a Client,
    /// The servers, for a new key.
    pub servers: Vec<Server>,
    /// How many of them have to help.
    pub threshold: u8,
    /// The TPM that has to help, too; to open with, the one that may have to.
    pub tpm: Option<&'a Tpm>,
}

/// A pool's key, sealed with what servers help to get.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Present {
    /// How many servers have to help.
    pub threshold: u8,
    /// The servers.
    pub servers: Vec<Part>,
    /// The TPM's part, for systemd-creds(1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tpm: Option<Credential>,
    /// The key, sealed.
    pub sealed: Bytes,
}

/// A server's part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Part {
    /// Where the server is.
    pub url: TangUrl,
    /// What it signs with.
    pub signer: Point,
    /// What it helps to get.
    pub bound: Bound,
    /// The part, sealed with that.
    pub share: Bytes,
}

/// Marks what went wrong with the TPM, rather than with servers.
#[derive(Debug, thiserror::Error)]
#[error("having the TPM keep its part of the key")]
struct OfTpm;

/// Whether it is the TPM for which a key by presence could not be made.
pub fn is_of_tpm(error: &anyhow::Error) -> bool {
    error.is::<OfTpm>() || matches!(error.downcast_ref(), Some(Refusal::Tpm(_)))
}

impl<'a> Presence<'a> {
    /// What is needed to open a key, whose servers are in it.
    pub fn of(client: &'a Client, tpm: &'a Tpm) -> Self {
        Self { client, servers: Vec::new(), threshold: 0, tpm: Some(tpm) }
    }

    /// What the settings ask for: the TPM is taken, too, unless they say no, or there is none.
    ///
    /// # Errors
    /// They name no servers.
    pub fn wanted(keys: &Keys, client: &'a Client, tpm: Option<&'a Tpm>) -> Result<Self, Mistake> {
        if keys.tang.is_empty() {
            return Err(Mistake::new("the settings name no Tang server")
                .hint("add `tang` to [keys], as `firstboot check --example` shows, and `firstboot apply` it"));
        }
        let servers = keys
            .tang
            .iter()
            .map(|tang| Server { url: tang.url.clone(), pin: Pin::Thumbprint(tang.thumbprint.clone()) });
        let tpm = tpm.filter(|_| keys.tpm != settings::Tpm::Off);
        Ok(Self { client, servers: servers.collect(), threshold: keys.tang_threshold, tpm })
    }
}

impl Present {
    pub(super) fn wrap(key: &PoolKey, with: &Presence<'_>) -> anyhow::Result<Self> {
        let (secret, of_tpm) = (random()?, random()?);
        let count = u8::try_from(with.servers.len()).context("more than 255 servers")?;
        let shares = shares::split(&secret, with.threshold, count)?;
        let part = |(server, share): (&Server, Share)| {
            let advertised = with.client.advertisement(server).map_err(Mistake::from)?;
            let key = *advertised.exchange.first().context("an advertisement without a key")?;
            let (bound, sealing) = Bound::new(key)?;
            let share = seal::seal(&sealing, share.as_slice())?;
            anyhow::Ok(Part { url: server.url.clone(), signer: advertised.signer, bound, share })
        };
        let servers = with.servers.iter().zip(shares).map(part).collect::<Result<_, _>>()?;
        let seal = |tpm: &Tpm| Credential::seal(tpm, &allow_running(tpm)?, of_tpm.as_slice());
        let tpm = with.tpm.map(seal).transpose().context(OfTpm)?;
        let sealing = mix(&secret, tpm.is_some().then_some(of_tpm.as_slice()));
        Ok(Self { threshold: with.threshold, servers, tpm, sealed: seal::seal(&sealing, key.expose())? })
    }

    pub(super) fn unwrap(&self, with: &Presence<'_>) -> Result<PoolKey, Refusal> {
        let secret = self.gather(with.client)?;
        let of_tpm = match (&self.tpm, with.tpm) {
            (Some(credential), Some(tpm)) => Some(credential.unseal(tpm)?),
            (Some(_), None) => return Err(crate::tpm::Refused::Missing.into()),
            (None, _) => None,
        };
        let sealing = mix(&secret, of_tpm.as_ref().map(|secret| secret.as_slice()));
        let key = seal::open(&sealing, &self.sealed).ok_or(Refusal::Wrong)?;
        PoolKey::from_slice(&key).ok_or(Refusal::Wrong)
    }

    /// Asks all servers at once, until enough have helped. Those that take longer are left to themselves: they end soon.
    fn gather(&self, client: &Client) -> Result<Share, Refusal> {
        let needed = usize::from(self.threshold);
        if needed == 0 || needed > self.servers.len() || self.servers.len() > 255 {
            return Err(anyhow::anyhow!(
                "{needed} of {} servers make no sense: the slot is damaged",
                self.servers.len()
            )
            .into());
        }
        let (sender, answers) = mpsc::channel();
        for (part, number) in self.servers.iter().zip(1_u8..) {
            let (part, client, sender) = (part.clone(), client.clone(), sender.clone());
            // Whoever has enough does not listen any more.
            thread::spawn(move || _ = sender.send((number, part.ask(&client))));
        }
        drop(sender);
        let (mut parts, mut refused) = (Vec::new(), Vec::new());
        for (number, answer) in answers {
            match answer {
                Ok(share) => parts.push((number, share)),
                Err(refusal) => refused.push(refusal),
            }
            if parts.len() == needed {
                return Ok(shares::combine(&parts));
            }
        }
        refused.sort_by(|one, other| one.url.as_str().cmp(other.url.as_str()));
        Err(Absent { needed, helped: parts.len(), refused }.into())
    }

    /// The first server whose keys were rotated: it may soon forget those that it still helps with. One that does not answer
    /// is not asked what its keys are.
    pub(super) fn rotated(&self, client: &Client) -> Option<Refused> {
        let is_rotated = |part: &&Part| match client.advertisement(&part.server()) {
            Ok(advertised) => !advertised.exchange.contains(&part.bound.server),
            Err(refused) => matches!(refused.why, Why::Stranger(_)),
        };
        self.servers.iter().find(is_rotated).map(|part| Refused { url: part.url.clone(), why: Why::Rotated })
    }

    /// What a new key is made with that takes the place of this one.
    pub fn again<'a>(&self, client: &'a Client, tpm: &'a Tpm) -> Presence<'a> {
        Presence {
            client,
            servers: self.servers.iter().map(Part::server).collect(),
            threshold: self.threshold,
            tpm: self.tpm.is_some().then_some(tpm),
        }
    }
}

impl Part {
    fn ask(&self, client: &Client) -> Result<Share, Refused> {
        let refused = |why| Refused { url: self.url.clone(), why };
        let sealing = self.bound.recover(client, &self.url).map_err(refused)?;
        let opened = seal::open(&sealing, &self.share).ok_or_else(|| refused(Why::Wrong))?;
        let mut share = Zeroizing::new([0; 32]);
        if opened.len() != share.len() {
            return Err(refused(Why::Wrong));
        }
        share.copy_from_slice(&opened);
        Ok(share)
    }

    fn server(&self) -> Server {
        Server { url: self.url.clone(), pin: Pin::Signer(self.signer) }
    }
}

/// What the key is sealed with: both secrets are needed to know anything of it.
fn mix(of_servers: &[u8; 32], of_tpm: Option<&[u8]>) -> Zeroizing<[u8; 32]> {
    let mut mac = Hmac::<Sha256>::new_from_slice(of_servers).expect("HMAC takes keys of any length");
    mac.update(if of_tpm.is_some() { b"larder: servers and TPM".as_slice() } else { b"larder: servers" });
    mac.update(of_tpm.unwrap_or_default());
    Zeroizing::new(mac.finalize().into_bytes().into())
}

fn random() -> anyhow::Result<Zeroizing<[u8; 32]>> {
    let mut random = Zeroizing::new([0; 32]);
    getrandom::fill(random.as_mut_slice())?;
    Ok(random)
}

#[cfg(test)]
mod tests;
