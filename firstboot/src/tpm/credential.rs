//! Secrets that the TPM keeps for a policy: systemd-creds(1) with `tpm2-with-public-key`.

use super::pcr::REGISTERS;
use super::{Pcrs, Policy, Refused, Tpm};
use crate::command::{Failed, Run};
use crate::key::Bytes;
use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// The name that is sealed in, too.
const NAME: &str = "--name=larder-pool-key";

/// A sealed secret, in systemd's own format.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Credential(Bytes);

impl Credential {
    /// Seals `secret` for the systems that `policy` allows, now and later.
    ///
    /// # Errors
    /// There is no TPM, or systemd-creds fails.
    pub fn seal(tpm: &Tpm, policy: &Policy, secret: &[u8]) -> anyhow::Result<Self> {
        tpm.check()?;
        let [key, _] = policy.files(tpm)?;
        let registers = REGISTERS.map(|register| register.to_string()).join("+");
        let text = Run::new("systemd-creds")
            .args(["encrypt", NAME, "--with-key=tpm2-with-public-key", "--tpm2-device=auto", "--tpm2-pcrs="])
            .arg(format!("--tpm2-public-key={}", key.display()))
            .arg(format!("--tpm2-public-key-pcrs={registers}"))
            .args(["-", "-"])
            .secret(secret)
            .text()?;
        Ok(Self(BASE64_STANDARD.decode(text.split_whitespace().collect::<String>())?.into()))
    }

    /// The secret.
    ///
    /// # Errors
    /// The TPM refuses; why.
    pub fn unseal(&self, tpm: &Tpm) -> Result<Zeroizing<Vec<u8>>, Refused> {
        tpm.check()?;
        let fail = |error: anyhow::Error| Refused::Failed(format!("{error:#}"));
        let policy = Policy::read(tpm.root()).map_err(fail)?.ok_or(Refused::Unsigned)?;
        policy.check(&Pcrs::read(tpm.root()).map_err(fail)?)?;
        let [_, signatures] = policy.files(tpm).map_err(fail)?;
        let run = Run::new("systemd-creds")
            .args(["decrypt", NAME])
            .arg(format!("--tpm2-signature={}", signatures.display()))
            .args(["-", "-"])
            .secret(BASE64_STANDARD.encode(self.0.as_slice()).as_bytes());
        run.bytes().map(Zeroizing::new).map_err(|error| match error.downcast_ref::<Failed>() {
            Some(failed) => explain(&failed.said),
            None => fail(error),
        })
    }
}

/// What systemd-creds means. The registers were found right before, so what is left is the chip itself.
fn explain(said: &str) -> Refused {
    let said = said.to_lowercase();
    if said.contains("lockout") {
        Refused::LockedOut
    } else if ["integrity", "pin", "authorization", "srk", "parent"].iter().any(|word| said.contains(word)) {
        Refused::Replaced
    } else {
        Refused::Failed(said)
    }
}
