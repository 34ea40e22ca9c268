//! Wrapping with 32 bytes: AES-256-GCM (NIST SP 800-38D), as ZFS itself uses it. What wraps is used once only, so a random
//! nonce of 96 bits never comes twice.
//!
//! Sealed: nonce (12 bytes), ciphertext, tag (16 bytes).

use aes_gcm::aead::{Aead as _, KeyInit as _};
use aes_gcm::{Aes256Gcm, Key, Nonce};
use zeroize::Zeroizing;

use super::Bytes;

const NONCE: usize = 12;

/// Hides `plain`, and vouches for it.
pub(super) fn seal(with: &[u8; 32], plain: &[u8]) -> anyhow::Result<Bytes> {
    let nonce = Bytes::random(NONCE)?;
    let sealed = cipher(with)
        .encrypt(&nonce_of(nonce.as_slice()), plain)
        .map_err(|_| anyhow::anyhow!("{} bytes are too many to be sealed", plain.len()))?;
    Ok([nonce.as_slice(), &sealed].concat().into())
}

/// What was hidden; `None` when it was with something else, or was changed.
pub(super) fn open(with: &[u8; 32], sealed: &Bytes) -> Option<Zeroizing<Vec<u8>>> {
    let (nonce, sealed) = sealed.as_slice().split_at_checked(NONCE)?;
    cipher(with).decrypt(&nonce_of(nonce), sealed).ok().map(Zeroizing::new)
}

fn cipher(key: &[u8; 32]) -> Aes256Gcm {
    Aes256Gcm::new(&Key::<Aes256Gcm>::from(*key))
}

fn nonce_of(bytes: &[u8]) -> Nonce<aes_gcm::aead::consts::U12> {
    let bytes: [u8; NONCE] = bytes.try_into().expect("both callers have counted");
    bytes.into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_was_sealed_opens_with_the_same_bytes_and_no_others(with: [u8; 32], other: [u8; 32], plain: Vec<u8>) {
            prop_assume!(with != other);
            let sealed = seal(&with, &plain).unwrap();
            prop_assert_eq!(open(&with, &sealed).unwrap().to_vec(), plain);
            prop_assert_eq!(open(&other, &sealed), None);
        }

        #[test]
        fn what_was_changed_or_cut_does_not_open(plain: Vec<u8>, at: prop::sample::Index, change in 1..=255_u8) {
            let sealed = seal(&[7; 32], &plain).unwrap();
            let mut bytes = sealed.as_slice().to_vec();
            let at = at.index(bytes.len());
            bytes[at] ^= change;
            prop_assert_eq!(open(&[7; 32], &bytes.clone().into()), None);
            bytes.truncate(at);
            prop_assert_eq!(open(&[7; 32], &bytes.into()), None);
        }
    }
}
