//! The key of the encrypted data, and the ways to get hold of it.
//!
//! ZFS has one key for an encryption root: 32 random bytes, the [`PoolKey`]. It is never written down as it is. Each [`Way`]
//! to open the data holds it wrapped once more in a [`Slot`] of its own; the slots lie in user properties of the pool's
//! root dataset ([`SlotStore`]), which is not encrypted: they are on every disk, and travel with the pool. A slot is of no
//! use without what it is wrapped with, so it may be seen by anybody.
//!
//! | way | the pool's key is wrapped with |
//! |---|---|
//! | recovery | a key on paper, of 160 random bits ([`recovery`]); in the format of `openssl enc`, so that any Debian opens it |
//! | passphrase | what Argon2id makes of it ([`passphrase`]) |
//! | tpm2 | a key that the TPM has, and uses only for a system that the box has allowed ([`crate::tpm`]) |
//! | tpm2-pin | the same, and a secret that the TPM gives for a PIN only |
//! | tang | what servers at home help to get ([`crate::tang`]), and with a TPM also a secret that it has |
//!
//! On disk a slot is JSON in base64, at most 8 KiB. `check` tells that what was unwrapped is this pool's key: a digest of
//! 256 random bits gives nothing away about them.
//!
//! ```json
//! {"name": "passphrase", "created": "2026-11-23T05:00:00Z", "check": "…", "wrapped": {"way": "passphrase", …}}
//! ```

mod bytes;
mod change;
mod kit;
mod openssl;
mod overview;
pub mod passphrase;
mod pool_key;
mod properties;
pub mod recovery;
mod seal;
mod slot;
mod store;
mod tang;
#[cfg(test)]
pub(crate) mod testing;
mod tpm2;
mod vault;

pub use bytes::Bytes;
pub use change::{Request, enroll, remove};
pub use kit::Kit;
pub use openssl::Enc;
pub use overview::{Key, Overview};
pub use pool_key::{KeyCheck, PoolKey};
pub use properties::PoolSlots;
pub use recovery::RecoveryKey;
pub use slot::{Refusal, Slot, SlotName, Way, Wrapped};
pub use store::{Listing, SlotStore, Unreadable};
pub use tang::{Part, Presence, Present, is_of_tpm};
pub use tpm2::{PinWrapped, Sealed};
pub use vault::Vault;
