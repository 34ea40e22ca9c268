//! The way by passphrase: Argon2id (RFC 9106) makes 32 bytes of it, which the pool's key is sealed with.

use argon2::{Algorithm, Argon2, Params, Version};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{Bytes, PoolKey, Refusal, seal};

/// What Argon2id needs in memory, in KiB, at 20 MiB: this program may take 32 MB while everything else waits for it, on
/// boxes with 4 GB. OWASP's least is 19 MiB with 2 passes.
const MEMORY: u32 = 20 << 10;
/// Passes over it. RFC 9106's second choice is 3 passes over 64 MiB; as many bytes take 10 passes over 20 MiB, at about
/// half a second on the slowest board.
const PASSES: u32 = 10;
/// More of either is not believed: a damaged slot must not use up the memory of the appliance, or its time.
const MAX_MEMORY: u32 = 256 << 10;
const MAX_PASSES: u32 = 100;
/// RFC 9106, 3.1: 16 bytes are recommended.
const SALT: usize = 16;

/// A pool's key, sealed with a passphrase. How long guessing takes is kept with it, so that it may change later.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Argon2id {
    /// Memory in KiB.
    pub memory: u32,
    /// Passes over the memory.
    pub passes: u32,
    /// What makes equal passphrases different.
    pub salt: Bytes,
    /// The key, sealed.
    pub sealed: Bytes,
}

impl Argon2id {
    pub(super) fn wrap(key: &PoolKey, passphrase: &str) -> anyhow::Result<Self> {
        Self::wrap_at(key, passphrase, MEMORY, PASSES)
    }

    pub(super) fn wrap_at(key: &PoolKey, passphrase: &str, memory: u32, passes: u32) -> anyhow::Result<Self> {
        let salt = Bytes::random(SALT)?;
        let with = derive(passphrase, &salt, memory, passes)?;
        Ok(Self { memory, passes, sealed: seal::seal(&with, key.expose())?, salt })
    }

    pub(super) fn unwrap(&self, passphrase: &str) -> Result<PoolKey, Refusal> {
        let with = derive(passphrase, &self.salt, self.memory, self.passes)?;
        let key = seal::open(&with, &self.sealed).ok_or(Refusal::Wrong)?;
        PoolKey::from_slice(&key).ok_or(Refusal::Wrong)
    }
}

/// The bytes to seal with.
pub(super) fn derive(passphrase: &str, salt: &Bytes, memory: u32, passes: u32) -> anyhow::Result<Zeroizing<[u8; 32]>> {
    anyhow::ensure!(
        memory <= MAX_MEMORY && passes <= MAX_PASSES,
        "{memory} KiB and {passes} passes are more than is sensible: the slot is damaged"
    );
    let wrong = |error| anyhow::anyhow!("Argon2id with {memory} KiB and {passes} passes: {error}");
    let params = Params::new(memory, passes, 1, None).map_err(wrong)?;
    let mut with = Zeroizing::new([0; 32]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(passphrase.as_bytes(), salt.as_slice(), with.as_mut_slice())
        .map_err(wrong)?;
    Ok(with)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As little work as Argon2id does: nobody guesses in tests.
    fn quick(key: &PoolKey, passphrase: &str) -> Argon2id {
        Argon2id::wrap_at(key, passphrase, 8, 1).unwrap()
    }

    #[test]
    fn guessing_is_as_slow_as_it_says() {
        let key = PoolKey::generate().unwrap();
        let wrapped = Argon2id::wrap(&key, "several words").unwrap();
        assert_eq!((wrapped.memory, wrapped.passes), (20 << 10, 10));
        assert_eq!(wrapped.unwrap("several words").unwrap(), key);
        assert!(matches!(wrapped.unwrap("several word"), Err(Refusal::Wrong)));
    }

    /// RFC 9106 has no vector without a secret and associated data; this one is of src/test.c of P-H-C/phc-winner-argon2.
    #[test]
    fn it_is_argon2id() {
        let derived = derive("password", &b"somesalt".to_vec().into(), 256, 2).unwrap();
        assert_eq!(hex::encode(derived), "9dfeb910e80bad0311fee20f9c0e2b12c17987b4cac90c2ef54d5b3021c68bfe");
    }

    #[test]
    fn equal_passphrases_make_different_slots() {
        let key = PoolKey::generate().unwrap();
        assert_ne!(quick(&key, "x").sealed, quick(&key, "x").sealed);
    }

    #[test]
    fn a_damaged_slot_is_a_fault_and_takes_no_memory() {
        let wrapped = quick(&PoolKey::generate().unwrap(), "x");
        for (memory, passes) in [(u32::MAX, 1), (8, u32::MAX), (0, 1), (8, 0)] {
            let damaged = Argon2id { memory, passes, ..wrapped.clone() };
            assert!(matches!(damaged.unwrap("x"), Err(Refusal::Fault(_))), "{memory} {passes}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn the_passphrase_opens_it_and_no_other_does(passphrase in ".{0,40}", other in ".{0,40}") {
            let key = PoolKey::generate().unwrap();
            let wrapped = quick(&key, &passphrase);
            prop_assert_eq!(wrapped.unwrap(&passphrase).unwrap(), key);
            prop_assume!(passphrase != other);
            prop_assert!(matches!(wrapped.unwrap(&other), Err(Refusal::Wrong)));
        }
    }
}
