//! The TPM: a chip that gives a secret back only to the system that it was sealed for.
//!
//! What runs is in the TPM's registers (PCRs), into which firmware and boot loader hash whatever they start:
//!
//! | register | what is in it |
//! |---|---|
//! | 4 | every EFI program: boot loader, UKI and the kernel in it, hence the root hash and everything below it |
//! | 12 | what systemd-stub takes from outside the UKI: a kernel command line, credentials, extensions |
//!
//! Register 11, which is usual, holds the UKI as the stub itself measures it: without Secure Boot anybody's own loader
//! can put the same, public, values there. Register 7 changes with the firmware's lists of revoked keys.
//!
//! The values that are good are not sealed in, as every update changes them. The secret is bound to a key of the box
//! ([`policy`]) that signs good values: those of the running system, and those of an update before it is first started
//! ([`event_log`]). The private half lies in the encrypted data, so only a box that is open can allow another system.
//!
//! Sealing and unsealing is left to systemd-creds(1) ([`credential`]). It knows no PIN; the chip itself has to count the wrong
//! ones, so that part is our own ([`pin`]).

mod chip;
pub mod credential;
pub mod event_log;
pub mod pcr;
pub mod pe;
pub mod pin;
pub mod policy;

use std::path::{Path, PathBuf};

pub use credential::Credential;
pub use pcr::Pcrs;
pub use pin::PinSealed;
pub use policy::Policy;

use crate::finding::{Finding, Severity};
use crate::os_release;

/// The TPM of a system.
#[derive(Debug, Clone)]
pub struct Tpm {
    root: PathBuf,
}

/// Why the TPM does not give back what it was given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// There is none.
    #[error("this machine has no TPM 2.0, or it is switched off in the firmware's setup")]
    Missing,
    /// Something else was started than before.
    #[error("another system was started than the TPM was told to trust: {0}")]
    Changed(String),
    /// The chip does not know what it is asked for.
    #[error("the TPM was cleared, or it is another one")]
    Replaced,
    /// The chip has seen too many wrong PINs.
    #[error("the TPM has seen too many wrong PINs and lets nobody try for a while, often for hours")]
    LockedOut,
    /// Wrong PIN.
    #[error("this is not the PIN")]
    WrongPin,
    /// The policy's files are gone.
    #[error("the state partition holds no signature for the TPM: it was replaced or emptied")]
    Unsigned,
    /// Anything else.
    #[error("the TPM does not answer as it should: {0}")]
    Failed(String),
}

impl Tpm {
    /// That of the system below `root`; `/` for the real one.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Whether there is a TPM 2.0 that the kernel can use.
    pub fn is_there(&self) -> bool {
        self.root.join("dev/tpmrm0").exists()
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// What the running system calls itself (os-release(5)).
    pub(crate) fn system(&self) -> String {
        os_release::value(&self.root, "IMAGE_VERSION").unwrap_or_else(|_| "unknown".to_owned())
    }

    /// # Errors
    /// There is no TPM.
    pub(crate) fn check(&self) -> Result<(), Refused> {
        if self.is_there() { Ok(()) } else { Err(Refused::Missing) }
    }
}

impl Refused {
    /// What `firstboot status` says about it.
    pub fn finding(&self, key: &str) -> Finding {
        let id = match self {
            Self::Missing => "tpm-missing",
            Self::Changed(_) => "tpm-system-changed",
            Self::Replaced => "tpm-replaced",
            Self::LockedOut => "tpm-locked-out",
            Self::WrongPin => "tpm-wrong-pin",
            Self::Unsigned => "tpm-unsigned",
            Self::Failed(_) => "tpm-failed",
        };
        let next = match self {
            Self::LockedOut => {
                "open the data with a passphrase or the recovery key, or wait; leave the machine switched on"
            }
            Self::WrongPin => "try again",
            _ => "if that was you: open the data with a passphrase or the recovery key, then `firstboot keys repair`",
        };
        Finding {
            id: id.into(),
            severity: Severity::Warning,
            message: format!("the key {key} does not open the data: {self}"),
            next: next.into(),
        }
    }
}
