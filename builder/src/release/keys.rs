//! Release keys: whose word appliances take.
//!
//! ```text
//! profiles/release-keys/1.json      the first set of public keys, signed by themselves
//! profiles/release-keys/2.json …    those that came after, each signed by the set before too
//! profiles/release-keys/next.json   one that does not have all signatures yet
//! ```
//!
//! The newest set goes into every image; all of them go to the server. Secret keys are minisign's, encrypted by a
//! passphrase through scrypt, and lie wherever their owner wants; a build needs none.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use firstboot::secret::Secret;
use firstboot::update::envelope::Envelope;
use firstboot::update::keys::{Keys, TrustedKeys};
use fs_err::os::unix::fs::OpenOptionsExt as _;
use minisign::{KeyPair, SecretKey, SecretKeyBox};

use crate::project::Project;
use crate::report::Mistake;

/// Name of the folder below `profiles`.
const FOLDER: &str = "release-keys";
/// A set that lacks signatures.
const NEXT: &str = "next.json";
/// Shortest passphrase that is taken for a new key.
const MIN_PASSPHRASE: usize = 8;

/// The sets of a project, oldest first.
#[derive(Debug)]
pub struct History {
    folder: PathBuf,
    sets: Vec<(Envelope, TrustedKeys)>,
}

/// What became of a set of keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Placed {
    /// It has all signatures and counts from now on; where it is.
    Complete(PathBuf),
    /// It lacks signatures; where it is, and what is said about it.
    Waiting(PathBuf, String),
}

impl History {
    /// Reads the sets of a project and follows them from the first to the last.
    ///
    /// # Errors
    /// A [`Mistake`] that names the file which does not follow.
    pub fn of(project: &Project) -> anyhow::Result<Self> {
        let folder = folder(project);
        let mut files = BTreeMap::new();
        if folder.is_dir() {
            for entry in fs_err::read_dir(&folder)? {
                let path = entry?.path();
                let number = path.file_stem().and_then(|stem| stem.to_str()?.parse::<u32>().ok());
                if let Some(number) = number.filter(|_| path.extension().is_some_and(|ending| ending == "json")) {
                    files.insert(number, path);
                }
            }
        }
        let mut sets: Vec<(Envelope, TrustedKeys)> = Vec::new();
        for (number, path) in files {
            let refuse = |error| {
                let what = format!("{}: these release keys cannot be used", project.relative(&path));
                Mistake::new(what).because(error).hint("take the file back from git, or see `larder keys --help`")
            };
            let envelope = Envelope::parse(&fs_err::read(&path)?).map_err(refuse)?;
            let keys = match sets.last() {
                None => TrustedKeys::anchor(&envelope),
                Some((_, before)) => before.follow(&envelope),
            };
            let keys = keys.map_err(refuse)?;
            if keys.version() != number {
                let what = format!("{}: it holds version {}", project.relative(&path), keys.version());
                return Err(Mistake::new(what).hint("give the file back its name").into());
            }
            sets.push((envelope, keys));
        }
        Ok(Self { folder, sets })
    }

    /// The set that counts.
    pub fn newest(&self) -> Option<&(Envelope, TrustedKeys)> {
        self.sets.last()
    }

    /// The same, where nothing can be done without one.
    ///
    /// # Errors
    /// A [`Mistake`]: there is none.
    pub fn trusted(&self) -> Result<&TrustedKeys, Mistake> {
        let none = || {
            Mistake::new("there are no release keys, so no appliance would believe a release")
                .hint("make some: `larder keys new FILE`; then build the image again, as they go into it")
        };
        self.newest().map(|(_, keys)| keys).ok_or_else(none)
    }

    /// Every set with its version.
    pub fn envelopes(&self) -> impl Iterator<Item = (u32, &Envelope)> {
        self.sets.iter().map(|(envelope, keys)| (keys.version(), envelope))
    }

    /// Puts a set into its place: that of its version when all have signed that must, else beside.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn place(&self, envelope: &Envelope) -> anyhow::Result<Placed> {
        let next = self.folder.join(NEXT);
        let followed = match self.newest() {
            None => TrustedKeys::anchor(envelope),
            Some((_, keys)) => keys.follow(envelope),
        };
        fs_err::create_dir_all(&self.folder)?;
        match followed {
            Ok(keys) => {
                let path = self.folder.join(format!("{}.json", keys.version()));
                write(&path, envelope)?;
                let _ = fs_err::remove_file(&next);
                Ok(Placed::Complete(path))
            }
            Err(error) => {
                write(&next, envelope)?;
                Ok(Placed::Waiting(next, error.to_string()))
            }
        }
    }
}

/// Where the sets of a project are.
pub fn folder(project: &Project) -> PathBuf {
    project.profiles().join(FOLDER)
}

/// Where a set waits that lacks signatures.
pub fn next(project: &Project) -> PathBuf {
    folder(project).join(NEXT)
}

/// What goes into an image: the newest set, or `null`.
///
/// # Errors
/// The sets of the project are not in order.
pub fn for_image(project: &Project) -> anyhow::Result<String> {
    let history = History::of(project)?;
    Ok(history.newest().map_or_else(|| "null".to_owned(), |(envelope, _)| envelope.to_json().trim_end().to_owned()))
}

/// Makes a key and writes it, encrypted, to a new file; returns the public one.
///
/// # Errors
/// A [`Mistake`] when there is such a file, or the passphrase is too short.
pub fn generate(path: &Path, passphrase: &Secret) -> anyhow::Result<String> {
    if passphrase.expose().chars().count() < MIN_PASSPHRASE {
        return Err(Mistake::new(format!("the passphrase has less than {MIN_PASSPHRASE} characters"))
            .hint("whoever gets the file could try all of them: take some words")
            .into());
    }
    let pair = KeyPair::generate_encrypted_keypair(Some(passphrase.expose().to_owned())).context("making a key")?;
    let public = pair.pk.to_base64();
    let text =
        pair.sk.to_box(Some(&format!("larder release key {public}"))).context("encrypting the key")?.into_string();
    let text = zeroize::Zeroizing::new(text);
    let mut file = fs_err::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(|error| {
        let mistake = Mistake::new(format!("{}: the key cannot be written", path.display())).because(error);
        mistake.hint("name a file that does not exist yet, in a folder that you may write to")
    })?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    Ok(public)
}

/// A secret key, opened.
pub struct Signer {
    key: SecretKey,
    public: minisign::PublicKey,
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Signer({})", self.public())
    }
}

impl Signer {
    /// Opens a key file.
    ///
    /// # Errors
    /// A [`Mistake`]: it is none, or the passphrase is wrong.
    pub fn open(path: &Path, passphrase: &Secret) -> anyhow::Result<Self> {
        let text = zeroize::Zeroizing::new(read_key_file(path)?);
        let no_key = |error: minisign::PError| {
            Mistake::new(format!("{}: this is no key that `larder keys new` made", path.display())).because(error)
        };
        let boxed = SecretKeyBox::from_string(&text).map_err(no_key)?;
        let key = boxed.into_secret_key(Some(passphrase.expose().to_owned())).map_err(|error| {
            Mistake::new(format!("{}: the key does not open with this passphrase", path.display())).because(error)
        })?;
        let public = minisign::PublicKey::from_secret_key(&key).map_err(no_key)?;
        Ok(Self { key, public })
    }

    /// Its public key.
    pub fn public(&self) -> String {
        self.public.to_base64()
    }

    /// Adds its signature, unless it is there.
    ///
    /// # Errors
    /// The system gives no random numbers.
    pub fn sign(&self, envelope: &mut Envelope) -> anyhow::Result<()> {
        let payload = envelope.payload.as_bytes();
        let comment = format!("larder: {}", what(envelope));
        let signature = minisign::sign(Some(&self.public), &self.key, payload, Some(&comment), Some("larder release"));
        let signature = signature.context("signing")?.into_string();
        if !envelope.signatures.iter().any(|known| self.has_made(known, payload)) {
            envelope.signatures.push(signature);
        }
        Ok(())
    }

    fn has_made(&self, signature: &str, payload: &[u8]) -> bool {
        let signature = minisign::SignatureBox::from_string(signature);
        signature.is_ok_and(|signature| {
            minisign::verify(&self.public, &signature, std::io::Cursor::new(payload), true, false, false).is_ok()
        })
    }
}

fn read_key_file(path: &Path) -> anyhow::Result<String> {
    let read = fs_err::read_to_string(path);
    Ok(read.map_err(|error| Mistake::new(format!("{}: the key cannot be read", path.display())).because(error))?)
}

/// What an envelope is about, in a few words: for whoever signs it.
pub fn what(envelope: &Envelope) -> String {
    use firstboot::update::channel::Channel;
    if let Ok(channel) = envelope.read::<Channel>() {
        let newest = channel.releases.first().map_or_else(
            || "no release".to_owned(),
            |release| format!("newest release {}, root hash {}", release.version, release.root_hash),
        );
        return format!("channel {}/{} serial {}: {newest}", channel.channel, channel.profile, channel.serial);
    }
    match envelope.read::<Keys>() {
        Ok(keys) => {
            let of = keys.keys.len();
            format!("release keys version {}: {} of {of}: {}", keys.version, keys.threshold, keys.keys.join(" "))
        }
        Err(error) => format!("nothing that larder knows ({error})"),
    }
}

/// Writes an envelope; what was there is there or the new one, whenever the power goes.
///
/// # Errors
/// It cannot be written.
pub fn write(path: &Path, envelope: &Envelope) -> anyhow::Result<()> {
    super::replace(path, |file| Ok(file.write_all(envelope.to_json().as_bytes())?))
}
