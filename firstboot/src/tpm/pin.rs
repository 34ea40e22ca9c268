//! A secret behind a PIN: the chip itself counts wrong ones, and lets nobody try for a while when there were too many, so
//! that six digits are enough.
//!
//! systemd-creds(1) of Debian 13 knows no PIN, and tpm2-tools brings two versions of curl and GnuTLS along, 20 MB for four
//! commands. So the secret is one half of a pair: the chip gives one half for the right system ([`Credential`]), and
//! the other one for the right PIN. The PIN's half knows nothing of registers, and needs none.

use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::chip::{Chip, Object};
use super::{Credential, Policy, Refused, Tpm};

const HALF: usize = 32;

/// What is needed besides the PIN.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct PinSealed {
    credential: Credential,
    object: Object,
}

/// Both halves as one.
pub(crate) type Whole = Zeroizing<[u8; 32]>;

impl PinSealed {
    /// Makes a secret that only this chip has, for the systems that `policy` allows, and for this PIN.
    ///
    /// # Errors
    /// The chip fails.
    pub(crate) fn make(tpm: &Tpm, policy: &Policy, pin: &str) -> anyhow::Result<(Self, Whole)> {
        let (mut system_half, mut pin_half) = (Zeroizing::new([0; HALF]), Zeroizing::new([0; HALF]));
        getrandom::fill(system_half.as_mut_slice())?;
        getrandom::fill(pin_half.as_mut_slice())?;
        let credential = Credential::seal(tpm, policy, system_half.as_slice())?;
        let object = Chip::open(tpm)?.seal(authorization(pin).as_slice(), pin_half.as_slice())?;
        Ok((Self { credential, object }, whole(system_half.as_slice(), pin_half.as_slice())))
    }

    /// The secret. The PIN is tried only when the system is right: on another one it costs nothing.
    ///
    /// # Errors
    /// The chip refuses; why.
    pub(crate) fn open(&self, tpm: &Tpm, pin: &str) -> Result<Whole, Refused> {
        let system_half = self.credential.unseal(tpm)?;
        let pin_half = Chip::open(tpm)?.unseal(&self.object, authorization(pin).as_slice())?;
        Ok(whole(&system_half, &pin_half))
    }

    /// Whether the system and the chip are right; no PIN is tried.
    ///
    /// # Errors
    /// They are not; why.
    pub(crate) fn check_machine(&self, tpm: &Tpm) -> Result<(), Refused> {
        self.credential.unseal(tpm).map(drop)
    }
}

/// What stands for the PIN: of any length, in the 32 bytes that an object's authorization may have.
fn authorization(pin: &str) -> Zeroizing<[u8; 32]> {
    Zeroizing::new(Sha256::new().chain_update(b"larder: PIN ").chain_update(pin).finalize().into())
}

fn whole(system_half: &[u8], pin_half: &[u8]) -> Whole {
    let mac = Hmac::<Sha256>::new_from_slice(system_half).expect("HMAC takes keys of any length");
    Zeroizing::new(mac.chain_update(pin_half).finalize().into_bytes().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_halves_are_needed() {
        let secret = whole(&[1; HALF], &[2; HALF]);
        assert_ne!(secret, whole(&[1; HALF], &[3; HALF]));
        assert_ne!(secret, whole(&[3; HALF], &[2; HALF]));
        assert_ne!(authorization("271828"), authorization("271829"));
    }
}
