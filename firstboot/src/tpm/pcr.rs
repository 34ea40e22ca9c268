//! Values of the TPM's registers, and the policy that they make.

use std::path::Path;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// A SHA-256 digest.
pub type Digest = [u8; 32];

/// The registers that count; see [`super`] for why.
pub const REGISTERS: [u8; 2] = [4, 12];
/// What to call them.
const MEANINGS: [&str; 2] =
    ["the boot loader or the system (register 4)", "the kernel's command line or credentials (register 12)"];

/// TPM 2.0 library, part 2: TPM_CC_PolicyPCR, TPM_ALG_SHA256, and registers 0 to 23 in three bytes.
const POLICY_PCR: u32 = 0x17f;
const SHA256: u16 = 0x000b;
const SELECT: usize = 3;

/// The values of [`REGISTERS`], in this order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Pcrs(#[serde(with = "digests")] pub [Digest; 2]);

impl Pcrs {
    /// Those of the running system (sysfs-class-tpm, `pcr-sha256`).
    ///
    /// # Errors
    /// There are none: no TPM, or one without a bank of SHA-256.
    pub fn read(root: &Path) -> anyhow::Result<Self> {
        let folder = root.join("sys/class/tpm/tpm0/pcr-sha256");
        let read = |register: u8| {
            let text = fs_err::read_to_string(folder.join(register.to_string()))?;
            let mut value = Digest::default();
            hex::decode_to_slice(text.trim(), &mut value)
                .with_context(|| format!("register {register} is {text:?}"))?;
            anyhow::Ok(value)
        };
        Ok(Self([read(REGISTERS[0])?, read(REGISTERS[1])?]))
    }

    /// The digest of a policy that asks for these values: TPM2_PolicyPCR on a fresh session (part 3, 23.7).
    pub fn policy(&self) -> Digest {
        let mut select = [0_u8; SELECT];
        for register in REGISTERS {
            select[usize::from(register / 8)] |= 1 << (register % 8);
        }
        let values = Sha256::new().chain_update(self.0[0]).chain_update(self.0[1]).finalize();
        let policy = Sha256::new().chain_update(Digest::default()).chain_update(POLICY_PCR.to_be_bytes());
        // TPML_PCR_SELECTION: one bank.
        let policy = policy.chain_update(1_u32.to_be_bytes()).chain_update(SHA256.to_be_bytes());
        policy.chain_update([SELECT as u8]).chain_update(select).chain_update(values).finalize().into()
    }

    /// What is different from `other`, for people.
    pub fn difference(&self, other: &Self) -> String {
        let differ = (0..REGISTERS.len()).filter(|i| self.0[*i] != other.0[*i]);
        differ.map(|i| MEANINGS[i]).collect::<Vec<_>>().join(" and ")
    }
}

mod digests {
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer, de};

    use super::Digest;

    pub(super) fn serialize<S: Serializer>(digests: &[Digest; 2], serializer: S) -> Result<S::Ok, S::Error> {
        digests.map(hex::encode).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[Digest; 2], D::Error> {
        let texts = <[String; 2]>::deserialize(deserializer)?;
        let mut digests = [Digest::default(); 2];
        for (text, digest) in texts.iter().zip(&mut digests) {
            hex::decode_to_slice(text, digest).map_err(de::Error::custom)?;
        }
        Ok(digests)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_are_read_as_the_kernel_shows_them() {
        let root = tempfile::tempdir().unwrap();
        assert!(Pcrs::read(root.path()).is_err());
        let folder = root.path().join("sys/class/tpm/tpm0/pcr-sha256");
        std::fs::create_dir_all(&folder).unwrap();
        for (register, value) in [("4", "AB"), ("12", "00")] {
            std::fs::write(folder.join(register), value.repeat(32) + "\n").unwrap();
        }
        let pcrs = Pcrs::read(root.path()).unwrap();
        assert_eq!(pcrs, Pcrs([[0xab; 32], [0; 32]]));
        let text = serde_json::to_string(&pcrs).unwrap();
        assert_eq!(serde_json::from_str::<Pcrs>(&text).unwrap(), pcrs);
        std::fs::write(folder.join("4"), "AB\n").unwrap();
        assert!(Pcrs::read(root.path()).is_err());
    }

    /// With these values swtpm has opened what systemd-creds had sealed for the signed policy.
    #[test]
    fn the_policy_is_what_a_tpm_makes_of_the_registers() {
        let mut register_4 = Digest::default();
        hex::decode_to_slice("5a7fdf247215a97e23c4cc6f412bfa70895f6299b2f73b3489f7e25401b4b065", &mut register_4)
            .unwrap();
        let policy = Pcrs([register_4, [0; 32]]).policy();
        assert_eq!(hex::encode(policy), "f3d72dad6015334af730a5d9ba874790ef4f14d24eb84b16e9d89c7d31e47788");
    }

    #[test]
    fn what_has_changed_is_named() {
        let (one, other) = (Pcrs([[1; 32], [2; 32]]), Pcrs([[1; 32], [3; 32]]));
        assert_eq!(one.difference(&other), "the kernel's command line or credentials (register 12)");
        assert_ne!(one.policy(), other.policy());
    }
}
