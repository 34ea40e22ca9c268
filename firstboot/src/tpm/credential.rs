//! Secrets that the TPM keeps for a policy: systemd-creds(1) with `tpm2-with-public-key`.

use super::pcr::REGISTERS;
use super::{Pcrs, Policy, Refused, Tpm, chip};
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

/// What systemd-creds means: the library below it names the chip's code. The registers were found right before, so what is
/// left is the chip itself.
fn explain(said: &str) -> Refused {
    let lower = said.to_lowercase();
    let mut codes =
        lower.split("errorcode (0x").skip(1).filter_map(|rest| u32::from_str_radix(rest.get(..8)?, 16).ok());
    let known = codes.find_map(chip::meaning);
    // Of what is said, only the end is for people.
    known.unwrap_or_else(|| Refused::Failed(said.trim().lines().next_back().unwrap_or_default().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What systemd-creds of Debian 13 has said with a TPM that was cleared (TPM2_Clear), in small letters.
    const CLEARED: &str = "warning:esys:src/tss2-esys/api/esys_load.c:324:esys_load_finish() received tpm error \n\
        error:esys:src/tss2-esys/api/esys_load.c:112:esys_load() esys finish errorcode (0x000001df) \n\
        failed to unseal secret using tpm2: state not recoverable";

    #[test]
    fn a_tpm_that_was_cleared_is_told_from_one_that_fails() {
        assert_eq!(explain(CLEARED), Refused::Replaced);
        assert_eq!(explain(&CLEARED.replace("01df", "0921")), Refused::LockedOut);
        assert_eq!(explain(&CLEARED.replace("01df", "018b")), Refused::Replaced);
        insta::assert_snapshot!(explain(&CLEARED.replace("01df", "0101")), @"the TPM does not answer as it should: failed to unseal secret using tpm2: state not recoverable");
    }
}
