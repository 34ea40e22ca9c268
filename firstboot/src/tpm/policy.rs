//! Which systems the TPM opens the data for: what the key of the box has signed.
//!
//! | file | what |
//! |---|---|
//! | `/var/lib/larder/policy.pem` | the private key, RSA 2048, in the encrypted data |
//! | `/state/larder/tpm-policy.json` | this [`Policy`]: public key, values of registers, signatures; needed before the data is open |
//! | `/run/larder/tpm-policy.pem`, `tpm-signature.json` | the same for systemd-creds(1), made when it is called |

use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::pcr::{Pcrs, REGISTERS};
use super::{Refused, Tpm};
use crate::command::Run;
use crate::key::Bytes;
use crate::pool::SYSTEM_FOLDER;
use crate::report::Mistake;
use crate::zfs;

const PRIVATE_KEY: &str = "var/lib/larder/policy.pem";
const POLICY: &str = "state/larder/tpm-policy.json";
const RUN: &str = "run/larder";

/// Systems kept besides the newest: the other slot's, and the one before an update that was not started yet.
const KEPT: usize = 4;

/// What is allowed, and by whom.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Policy {
    /// The public key, PEM.
    pub public_key: String,
    /// Digest of the public key, as systemd-measure(1) names keys: SHA-256 of its PKCS#1 form, in hexadecimal.
    pub fingerprint: String,
    /// Systems that are allowed, the newest one first.
    pub allowed: Vec<Allowed>,
}

/// A system that is allowed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Allowed {
    /// What it is called, for people: its version.
    pub system: String,
    /// The values of the registers while it runs.
    pub pcrs: Pcrs,
    /// Signature of the policy that these make.
    pub signature: Bytes,
}

impl Policy {
    /// The policy of this box; `None` when there is none yet.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read(root: &Path) -> anyhow::Result<Option<Self>> {
        let path = root.join(POLICY);
        match std::fs::read(&path) {
            Ok(bytes) => {
                serde_json::from_slice(&bytes).with_context(|| format!("reading {}", path.display())).map(Some)
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
        }
    }

    /// Allows a system. The key is made when there is none; a policy of another key is forgotten, as it is of no use.
    ///
    /// # Errors
    /// The encrypted data is not open, or a file cannot be written.
    pub fn allow(root: &Path, system: &str, pcrs: Pcrs) -> anyhow::Result<Self> {
        check_home(root)?;
        Self::sign(root, system, pcrs)
    }

    fn sign(root: &Path, system: &str, pcrs: Pcrs) -> anyhow::Result<Self> {
        let key = private_key(root)?;
        let public_key = Run::new("openssl").args(["pkey", "-pubout", "-in"]).arg(&key).text()? + "\n";
        let old = Self::read(root).unwrap_or_default().filter(|old| old.public_key == public_key);
        let mut policy = match old {
            Some(policy) => policy,
            None => Self { fingerprint: fingerprint(&key)?, public_key, allowed: Vec::new() },
        };
        let sign = Run::new("openssl").args(["dgst", "-sha256", "-sign"]).arg(&key).secret(&pcrs.policy());
        let signature = sign.bytes()?.into();
        policy.allowed.retain(|allowed| allowed.pcrs != pcrs);
        policy.allowed.insert(0, Allowed { system: system.to_owned(), pcrs, signature });
        policy.allowed.truncate(KEPT);
        policy.write(root)?;
        Ok(policy)
    }

    fn write(&self, root: &Path) -> anyhow::Result<()> {
        let path = root.join(POLICY);
        fs_err::create_dir_all(path.parent().context("a file is in a folder")?)?;
        let new = path.with_extension("new");
        let mut file = fs_err::File::create(&new)?;
        std::io::Write::write_all(&mut file, &serde_json::to_vec_pretty(self)?)?;
        file.sync_all()?;
        Ok(fs_err::rename(new, path)?)
    }

    /// Lets through a system that is allowed.
    ///
    /// # Errors
    /// It is not; says in what it differs from the newest that is.
    pub fn check(&self, pcrs: &Pcrs) -> Result<(), Refused> {
        if self.allowed.iter().any(|allowed| allowed.pcrs == *pcrs) {
            return Ok(());
        }
        let newest = self.allowed.first().ok_or(Refused::Unsigned)?;
        Err(Refused::Changed(newest.pcrs.difference(pcrs)))
    }

    /// As systemd takes it (systemd-measure(1), `sign`).
    pub fn signatures(&self) -> serde_json::Value {
        let signature = |allowed: &Allowed| {
            serde_json::json!({
                "pcrs": REGISTERS,
                "pkfp": self.fingerprint,
                "pol": hex::encode(allowed.pcrs.policy()),
                "sig": allowed.signature,
            })
        };
        serde_json::json!({ "sha256": self.allowed.iter().map(signature).collect::<Vec<_>>() })
    }

    /// Writes the public key and the signatures to memory, for systemd-creds; their paths.
    pub(super) fn files(&self, tpm: &Tpm) -> anyhow::Result<[PathBuf; 2]> {
        let folder = tpm.root().join(RUN);
        fs_err::create_dir_all(&folder)?;
        let [key, signatures] = [folder.join("tpm-policy.pem"), folder.join("tpm-signature.json")];
        fs_err::write(&key, &self.public_key)?;
        fs_err::write(&signatures, self.signatures().to_string())?;
        Ok([key, signatures])
    }
}

/// The path of the private key, which is made if there is none.
fn private_key(root: &Path) -> anyhow::Result<PathBuf> {
    let path = root.join(PRIVATE_KEY);
    if path.exists() {
        return Ok(path);
    }
    // RSA, as that is what each TPM 2.0 can check and systemd 257 takes.
    let make = ["genpkey", "-quiet", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"];
    let key = zeroize::Zeroizing::new(Run::new("openssl").args(make).bytes()?);
    let new = path.with_extension("new");
    let _ = std::fs::remove_file(&new);
    let mut options = fs_err::OpenOptions::new();
    options.write(true).create_new(true).options_mut().mode(0o600);
    let mut file = options.open(&new).context("the encrypted data is not open")?;
    std::io::Write::write_all(&mut file, &key)?;
    file.sync_all()?;
    fs_err::rename(new, &path)?;
    Ok(path)
}

fn fingerprint(key: &Path) -> anyhow::Result<String> {
    let public = Run::new("openssl").args(["rsa", "-RSAPublicKey_out", "-outform", "DER", "-in"]).arg(key).bytes()?;
    Ok(hex::encode(Sha256::digest(public)))
}

/// The private key must be encrypted at rest, and there after a restart: not in the memory that `/var` lies in.
fn check_home(root: &Path) -> anyhow::Result<()> {
    let mounts = fs_err::read_to_string(root.join("proc/self/mountinfo"))?;
    let is_encrypted = match dataset_at(&mounts, SYSTEM_FOLDER) {
        Some(dataset) => zfs::property(dataset, "keystatus")?.as_deref() == Some("available"),
        None => false,
    };
    if is_encrypted {
        return Ok(());
    }
    Err(Mistake::new(format!("what the TPM trusts is kept in {SYSTEM_FOLDER}, where no encrypted dataset is mounted"))
        .hint("firstboot unlock")
        .into())
}

/// The dataset that is mounted there (proc_pid_mountinfo(5)); the last line counts, as it lies above the others.
fn dataset_at<'a>(mounts: &'a str, folder: &str) -> Option<&'a str> {
    let line = mounts.lines().rfind(|line| line.split(' ').nth(4) == Some(folder))?;
    let mut system = line.split_once(" - ")?.1.split(' ');
    (system.next()? == "zfs").then(|| system.next())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pcrs(number: u8) -> Pcrs {
        Pcrs([[number; 32], [0; 32]])
    }

    /// A box whose encrypted data is open.
    fn open_box() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("var/lib/larder")).unwrap();
        root
    }

    #[test]
    fn what_is_allowed_is_signed_by_the_key_of_the_box() {
        let root = open_box();
        let policy = Policy::sign(root.path(), "1", pcrs(1)).unwrap();
        assert_eq!(Policy::read(root.path()).unwrap().unwrap(), policy);
        let file = |name: &str, content: &[u8]| {
            let path = root.path().join(name);
            std::fs::write(&path, content).unwrap();
            path
        };
        let (key, signature) =
            (file("key", policy.public_key.as_bytes()), file("sig", policy.allowed[0].signature.as_slice()));
        let verify = Run::new("openssl").args(["dgst", "-sha256", "-verify"]).arg(key).arg("-signature").arg(signature);
        assert_eq!(verify.secret(&pcrs(1).policy()).text().unwrap(), "Verified OK");
        let json = policy.signatures();
        assert_eq!(json["sha256"][0]["pcrs"], serde_json::json!([4, 12]));
        assert_eq!(json["sha256"][0]["pkfp"].as_str().unwrap().len(), 64);
    }

    #[test]
    fn an_update_is_allowed_besides_the_running_system_and_old_ones_are_forgotten() {
        let root = open_box();
        for number in 1..=6 {
            Policy::sign(root.path(), &number.to_string(), pcrs(number)).unwrap();
        }
        let policy = Policy::sign(root.path(), "5", pcrs(5)).unwrap();
        let systems: Vec<_> = policy.allowed.iter().map(|allowed| allowed.system.as_str()).collect();
        assert_eq!(systems, ["5", "6", "4", "3"]);
        assert_eq!(policy.check(&pcrs(4)), Ok(()));
        let refused = policy.check(&pcrs(1)).unwrap_err();
        insta::assert_snapshot!(refused, @"another system was started than the TPM was told to trust: the boot loader or the system (register 4)");
    }

    #[test]
    fn nothing_is_allowed_while_the_data_is_locked() {
        let root = tempfile::tempdir().unwrap();
        let error = Policy::sign(root.path(), "1", pcrs(1)).unwrap_err();
        assert_eq!(error.to_string(), "the encrypted data is not open");
        assert_eq!(Policy::read(root.path()).unwrap(), None);
    }

    #[test]
    fn a_new_key_starts_a_new_policy() {
        let root = open_box();
        let old = Policy::sign(root.path(), "1", pcrs(1)).unwrap();
        std::fs::remove_file(root.path().join(PRIVATE_KEY)).unwrap();
        let new = Policy::sign(root.path(), "2", pcrs(2)).unwrap();
        assert_ne!(new.fingerprint, old.fingerprint);
        assert_eq!(new.allowed.len(), 1);
    }

    const MEMORY: &str = "30 1 0:30 / /var rw - tmpfs tmpfs rw\n";

    #[test]
    fn the_private_key_is_kept_in_a_dataset() {
        let mounted = format!("{MEMORY}41 30 0:41 / /var/lib/larder rw shared:9 - zfs tank/data/larder rw,xattr\n");
        assert_eq!(dataset_at(&mounted, SYSTEM_FOLDER), Some("tank/data/larder"));
        let hidden = format!("{mounted}42 41 0:42 / /var/lib/larder rw - tmpfs tmpfs rw\n");
        assert_eq!(dataset_at(&hidden, SYSTEM_FOLDER), None);
    }

    #[test]
    fn and_never_in_memory() {
        let root = open_box();
        std::fs::create_dir_all(root.path().join("proc/self")).unwrap();
        std::fs::write(root.path().join("proc/self/mountinfo"), MEMORY).unwrap();
        let error = Policy::allow(root.path(), "1", pcrs(1)).unwrap_err();
        insta::assert_snapshot!(error, @"what the TPM trusts is kept in /var/lib/larder, where no encrypted dataset is mounted");
        assert!(!root.path().join(PRIVATE_KEY).exists());
    }
}
