//! What `openssl enc -aes-256-cbc -pbkdf2 -md sha512 -nopad -a -A` writes (openssl-enc(1)): so that the recovery key opens
//! the pool on any Linux, without this program.
//!
//! Bytes, in base64 on one line: `Salted__`, salt (8), ciphertext (32). PBKDF2-HMAC-SHA512 makes key (32) and initial vector
//! (16) of password and salt, in this order (apps/enc.c). The format does not vouch for its content; a slot's `check` does.

use aes::Aes256;
use aes::cipher::block_padding::NoPadding;
use aes::cipher::{BlockModeDecrypt as _, BlockModeEncrypt as _, KeyIvInit as _};
use serde::{Deserialize, Serialize};
use sha2::Sha512;
use zeroize::Zeroizing;

use super::{Bytes, PoolKey};

const MAGIC: &[u8] = b"Salted__";
const SALT: usize = 8;
const KEY: usize = 32;
const IV: usize = 16;

/// Rounds of PBKDF2; openssl's own default, so it works without `-iter` too. More would slow down nobody: the password is
/// a recovery key, whose 160 random bits are not guessed.
const ITERATIONS: u32 = 10_000;
/// More are not believed: they would keep whoever opens the pool waiting.
const MAX_ITERATIONS: u32 = 10_000_000;

/// A pool's key in this format.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Enc {
    /// What goes behind `-iter`.
    pub iterations: u32,
    /// What `openssl enc -d -a -A` reads. The recovery kit's `sed` finds it by its name.
    pub openssl: Bytes,
}

impl Enc {
    pub(super) fn wrap(key: &PoolKey, password: &str) -> anyhow::Result<Self> {
        let salt = Bytes::random(SALT)?;
        Self::wrap_salted(key, password, salt.as_slice())
    }

    fn wrap_salted(key: &PoolKey, password: &str, salt: &[u8]) -> anyhow::Result<Self> {
        let derived = Derived::new(password, salt, ITERATIONS);
        let mut text = Zeroizing::new(*key.expose());
        cbc::Encryptor::<Aes256>::new_from_slices(derived.key(), derived.iv())?
            .encrypt_padded::<NoPadding>(text.as_mut_slice(), KEY)
            .map_err(|_| anyhow::anyhow!("a key is two blocks of AES long"))?;
        Ok(Self { iterations: ITERATIONS, openssl: [MAGIC, salt, text.as_slice()].concat().into() })
    }

    /// Some key, not necessarily the right one; `None` when this cannot be one.
    pub(super) fn unwrap(&self, password: &str) -> Option<PoolKey> {
        let (salt, text) = self.openssl.as_slice().strip_prefix(MAGIC)?.split_at_checked(SALT)?;
        if self.iterations > MAX_ITERATIONS || text.len() != PoolKey::SIZE {
            return None;
        }
        let derived = Derived::new(password, salt, self.iterations);
        let mut text = Zeroizing::new(text.to_vec());
        let decryptor = cbc::Decryptor::<Aes256>::new_from_slices(derived.key(), derived.iv()).ok()?;
        PoolKey::from_slice(decryptor.decrypt_padded::<NoPadding>(&mut text).ok()?)
    }
}

/// Key and initial vector.
struct Derived(Zeroizing<[u8; KEY + IV]>);

impl Derived {
    fn new(password: &str, salt: &[u8], iterations: u32) -> Self {
        let mut bytes = Zeroizing::new([0; KEY + IV]);
        pbkdf2::pbkdf2_hmac::<Sha512>(password.as_bytes(), salt, iterations, bytes.as_mut_slice());
        Self(bytes)
    }

    fn key(&self) -> &[u8] {
        &self.0[..KEY]
    }

    fn iv(&self) -> &[u8] {
        &self.0[KEY..]
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    use base64::prelude::{BASE64_STANDARD, Engine as _};

    use super::*;

    const PASSWORD: &str = "0000000001000020000300004000050000600007";

    fn key() -> PoolKey {
        PoolKey::from_slice(&std::array::from_fn::<u8, 32, _>(|i| i as u8)).unwrap()
    }

    /// Of OpenSSL 3.0.19: `openssl enc -aes-256-cbc -pbkdf2 -iter 10000 -md sha512 -nopad -S 0102030405060708 -a -A`, which
    /// leaves out `Salted__` and a salt that it was given.
    const TEXT: &str = "oqvQeUKtIOBQIgc6i5qgDiRPHzjXAxc646T5rjPTuHY=";

    #[test]
    fn what_is_written_is_what_openssl_writes() {
        let enc = Enc::wrap_salted(&key(), PASSWORD, &[1, 2, 3, 4, 5, 6, 7, 8]).unwrap();
        assert_eq!(BASE64_STANDARD.encode(&enc.openssl.as_slice()[16..]), TEXT);
    }

    #[test]
    fn the_program_openssl_opens_it() {
        let enc = Enc::wrap(&key(), PASSWORD).unwrap();
        let (read, mut write) = std::io::pipe().unwrap();
        let options = "enc -d -aes-256-cbc -pbkdf2 -iter 10000 -md sha512 -nopad -a -A -pass stdin -in";
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("wrapped");
        std::fs::write(&file, BASE64_STANDARD.encode(enc.openssl.as_slice())).unwrap();
        let mut command = Command::new("openssl");
        command.args(options.split(' ')).arg(file).stdin(read).stdout(Stdio::piped());
        // A host without the program: the recorded text above says as much.
        let Ok(child) = command.spawn() else { return };
        write.write_all(PASSWORD.as_bytes()).unwrap();
        drop((write, command));
        assert_eq!(child.wait_with_output().unwrap().stdout, key().expose());
    }

    #[test]
    fn another_password_gives_another_key() {
        let enc = Enc::wrap(&key(), PASSWORD).unwrap();
        assert_eq!(enc.unwrap(PASSWORD), Some(key()));
        assert_ne!(enc.unwrap("x"), Some(key()));
    }

    #[test]
    fn what_is_no_such_text_is_no_key_and_no_panic() {
        let enc = Enc::wrap(&key(), PASSWORD).unwrap();
        let with = |bytes: &[u8]| Enc { openssl: bytes.to_vec().into(), ..enc.clone() }.unwrap(PASSWORD);
        let bytes = enc.openssl.as_slice();
        for cut in 0..bytes.len() {
            assert_eq!(with(&bytes[..cut]), None, "{cut}");
        }
        assert_eq!(with(&[bytes, &[0; 16]].concat()), None);
        assert_eq!(Enc { iterations: u32::MAX, ..enc }.unwrap(PASSWORD), None);
    }
}
