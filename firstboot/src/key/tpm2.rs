//! The ways by TPM: [`crate::tpm`] keeps what the pool's key is wrapped with.

use serde::{Deserialize, Serialize};

use super::{Bytes, PoolKey, Refusal, seal};
use crate::tpm::{Credential, Pcrs, PinSealed, Policy, Tpm};

/// A pool's key in the keeping of the TPM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Sealed {
    /// The key, for systemd-creds(1).
    pub credential: Credential,
}

/// A pool's key, sealed with a secret that the TPM gives for a PIN.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct PinWrapped {
    /// What gives the secret.
    pub pin: PinSealed,
    /// The key, sealed with it.
    pub sealed: Bytes,
}

impl Sealed {
    pub(super) fn wrap(key: &PoolKey, tpm: &Tpm) -> anyhow::Result<Self> {
        Ok(Self { credential: Credential::seal(tpm, &allow_running(tpm)?, key.expose())? })
    }

    pub(super) fn unwrap(&self, tpm: &Tpm) -> Result<PoolKey, Refusal> {
        PoolKey::from_slice(&self.credential.unseal(tpm)?).ok_or(Refusal::Wrong)
    }
}

impl PinWrapped {
    pub(super) fn wrap(key: &PoolKey, tpm: &Tpm, pin: &str) -> anyhow::Result<Self> {
        let (pin, with) = PinSealed::make(tpm, &allow_running(tpm)?, pin)?;
        Ok(Self { pin, sealed: seal::seal(&with, key.expose())? })
    }

    pub(super) fn unwrap(&self, tpm: &Tpm, pin: &str) -> Result<PoolKey, Refusal> {
        let with = self.pin.open(tpm, pin)?;
        let key = seal::open(&with, &self.sealed).ok_or(Refusal::Wrong)?;
        PoolKey::from_slice(&key).ok_or(Refusal::Wrong)
    }
}

/// Whoever adds a key by TPM trusts the system that runs.
pub(super) fn allow_running(tpm: &Tpm) -> anyhow::Result<Policy> {
    tpm.check()?;
    Policy::allow(tpm.root(), &tpm.system(), Pcrs::read(tpm.root())?)
}
