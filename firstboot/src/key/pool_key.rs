//! The 32 bytes that ZFS asks for.

use std::fmt;

use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::Bytes;

/// The key of an encryption root with `keyformat=raw`.
#[derive(Clone, PartialEq, Eq)]
pub struct PoolKey(Zeroizing<[u8; Self::SIZE]>);

/// Tells a pool's key from others, without giving it away: HMAC-SHA256 under it, shortened to 128 bits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeyCheck(Bytes);

impl PoolKey {
    /// Bytes of a key (zfsprops(7), `keyformat=raw`).
    pub const SIZE: usize = 32;

    /// A new one.
    ///
    /// # Errors
    /// The kernel has no random numbers.
    pub fn generate() -> anyhow::Result<Self> {
        let mut bytes = Zeroizing::new([0; Self::SIZE]);
        getrandom::fill(bytes.as_mut_slice())?;
        Ok(Self(bytes))
    }

    /// Takes what was unwrapped; `None` when it has another length.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        let mut key = Zeroizing::new([0; Self::SIZE]);
        (bytes.len() == Self::SIZE).then(|| key.copy_from_slice(bytes))?;
        Some(Self(key))
    }

    /// The bytes, for `zfs load-key` by its standard input.
    pub fn expose(&self) -> &[u8; Self::SIZE] {
        &self.0
    }

    /// What slots carry to recognise it.
    pub fn check(&self) -> KeyCheck {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.0.as_slice()).expect("HMAC takes keys of any length");
        mac.update(b"larder: this is the key of the pool");
        KeyCheck(mac.finalize().into_bytes()[..16].to_vec().into())
    }
}

impl fmt::Debug for PoolKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PoolKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_new_each_time_and_does_not_show_itself() {
        let (one, other) = (PoolKey::generate().unwrap(), PoolKey::generate().unwrap());
        assert_ne!(one, other);
        assert_ne!(one.check(), other.check());
        assert_eq!(format!("{one:?}"), "PoolKey(…)");
        assert_eq!(PoolKey::from_slice(one.expose()), Some(one));
    }

    #[test]
    fn what_has_another_length_is_no_key() {
        assert_eq!((PoolKey::from_slice(&[1; 31]), PoolKey::from_slice(&[1; 33])), (None, None));
    }

    #[test]
    fn the_check_stays_what_it_is() {
        let check = serde_json::to_string(&PoolKey::from_slice(&[7; 32]).unwrap().check()).unwrap();
        assert_eq!(check, "\"oqcswIz0GgQyr7NN8OKoZg==\"");
    }
}
