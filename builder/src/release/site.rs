//! The folder that is served.
//!
//! What is named by its content is written first, and never again; the channels, which name it, come last, by rename. So
//! whoever reads meanwhile, or after a crash, finds the old state or the new one.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use firstboot::update::Object;
use firstboot::update::channel::Channel;
use firstboot::update::envelope::Envelope;
use firstboot::update::keys::Keys;

use super::keys::{self, History};
use crate::hash::{Hash, HashingWriter};
use crate::image::output::Manifest;
use crate::report::Mistake;

/// How long an object stays that no channel names any more: a download that has begun may still want it.
const GRACE: Duration = Duration::from_secs(2 * 24 * 60 * 60);

/// The folder. No other larder writes to it meanwhile.
#[derive(Debug)]
pub struct Site {
    folder: PathBuf,
    _lock: fs_err::File,
}

impl Site {
    /// Opens the folder, which is made if need be.
    ///
    /// # Errors
    /// A [`Mistake`]: it cannot be written to, or another larder does just now.
    pub fn open(folder: &Path) -> anyhow::Result<Self> {
        let made = fs_err::create_dir_all(folder.join("objects"));
        made.map_err(|error| Mistake::new(format!("{}: cannot be written to", folder.display())).because(error))?;
        let lock = fs_err::File::open(folder)?;
        match lock.file().try_lock() {
            // Network file systems that know no locks.
            Ok(()) | Err(std::fs::TryLockError::Error(_)) => Ok(Self { folder: folder.to_owned(), _lock: lock }),
            Err(std::fs::TryLockError::WouldBlock) => {
                Err(Mistake::new(format!("{}: another larder publishes there", folder.display())).into())
            }
        }
    }

    /// Where a channel is.
    pub fn path(&self, channel: &str, profile: &str) -> PathBuf {
        self.folder.join(Channel::path(channel, profile))
    }

    /// The envelope of a channel, if there is one.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn channel(&self, channel: &str, profile: &str) -> anyhow::Result<Option<Envelope>> {
        let path = self.path(channel, profile);
        match fs_err::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            read => {
                let refuse = |error| Mistake::new(format!("{}: no channel of larder", path.display())).because(error);
                Ok(Some(Envelope::parse(&read?).map_err(refuse)?))
            }
        }
    }

    /// Puts a channel into its place. Everything that it names must be there.
    ///
    /// # Errors
    /// A [`Mistake`] that names an object which is missing or cut short.
    pub fn put_channel(&self, channel: &Channel, envelope: &Envelope) -> anyhow::Result<PathBuf> {
        for object in channel.releases.iter().flat_map(|release| release.objects()) {
            let found = fs_err::metadata(self.folder.join(object.path())).map(|metadata| metadata.len());
            if !found.as_ref().is_ok_and(|length| *length == object.size) {
                let what = format!("{}: {} is missing or not whole", self.folder.display(), object.path());
                return Err(Mistake::new(what).hint("publish the build again: what is there already is kept").into());
            }
        }
        let path = self.path(&channel.channel, &channel.profile);
        self.put_envelope(&path, envelope)?;
        Ok(path)
    }

    /// Leaves a channel to be signed elsewhere, beside its place.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn put_unsigned(&self, channel: &Channel, envelope: &Envelope) -> anyhow::Result<PathBuf> {
        let path = self.path(&channel.channel, &channel.profile).with_extension("unsigned.json");
        self.put_envelope(&path, envelope)?;
        Ok(path)
    }

    /// Keeps the manifest of a release, so that the next one can tell what changed.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn put_manifest(&self, channel: &Channel, manifest: &Manifest) -> anyhow::Result<()> {
        let path = self.manifest(channel, &manifest.version);
        fs_err::create_dir_all(path.parent().unwrap_or(&self.folder))?;
        super::replace(&path, |file| Ok(file.write_all(&serde_json::to_vec(manifest)?)?))
    }

    /// Where that manifest is.
    pub fn manifest(&self, channel: &Channel, version: &impl std::fmt::Display) -> PathBuf {
        self.folder.join(&channel.channel).join(format!("{}-{version}.manifest.json", channel.profile))
    }

    /// Puts every set of release keys there.
    ///
    /// # Errors
    /// A [`Mistake`] when another set of the same version is there.
    pub fn put_keys(&self, history: &History) -> anyhow::Result<()> {
        for (version, envelope) in history.envelopes() {
            let path = self.folder.join(Keys::path(version));
            match fs_err::read(&path) {
                Ok(there) if Envelope::parse(&there).is_ok_and(|there| there.payload == envelope.payload) => {}
                Ok(_) => {
                    let what = format!("{}: other keys of the same version were published here", path.display());
                    return Err(Mistake::new(what)
                        .hint("publish to another folder, or from the project that made them")
                        .into());
                }
                Err(_) => self.put_envelope(&path, envelope)?,
            }
        }
        Ok(())
    }

    fn put_envelope(&self, path: &Path, envelope: &Envelope) -> anyhow::Result<()> {
        fs_err::create_dir_all(path.parent().unwrap_or(&self.folder))?;
        keys::write(path, envelope)
    }

    /// Path of an object.
    pub fn object(&self, object: &Object) -> PathBuf {
        self.folder.join(object.path())
    }

    /// Copies a file to its place among the objects, unless it is there. It must be what it is said to be.
    ///
    /// # Errors
    /// It is something else, or cannot be written.
    pub fn put(&self, source: &Path, object: &Object) -> anyhow::Result<()> {
        let path = self.object(object);
        // A file that was cut short, by a disk that was full at the time, is made again.
        if fs_err::metadata(&path).is_ok_and(|there| there.len() == object.size)
            && Hash::of_file(&path)? == object.sha256
        {
            return Ok(());
        }
        super::replace(&path, |file| {
            let mut writer = HashingWriter::new(file);
            io::copy(&mut fs_err::File::open(source)?, &mut writer)?;
            let (_, sha256) = writer.finish();
            anyhow::ensure!(sha256 == object.sha256, "{} changed while it was published", source.display());
            Ok(())
        })
    }

    /// Removes objects that no channel has named for a while, and what killed runs have left; returns how many bytes.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn prune(&self) -> anyhow::Result<u64> {
        let named = self.named()?;
        let mut freed = 0;
        for entry in fs_err::read_dir(self.folder.join("objects"))? {
            let (path, metadata) = {
                let entry = entry?;
                (entry.path(), entry.metadata()?)
            };
            let age = metadata.modified()?.elapsed().unwrap_or_default();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if !named.contains(&name) && age > GRACE {
                freed += metadata.len();
                fs_err::remove_file(&path)?;
            }
        }
        Ok(freed)
    }

    /// Names of the objects of all channels, signed or waiting for it.
    fn named(&self) -> anyhow::Result<HashSet<String>> {
        let mut named = HashSet::new();
        for entry in walkdir::WalkDir::new(&self.folder).min_depth(2).max_depth(2) {
            let entry = entry?;
            if entry.path().extension().is_none_or(|ending| ending != "json")
                || entry.path().starts_with(self.folder.join("objects"))
            {
                continue;
            }
            let channel = Envelope::parse(&fs_err::read(entry.path())?).ok().and_then(|it| it.read::<Channel>().ok());
            let objects = channel.iter().flat_map(|channel| &channel.releases).flat_map(|release| release.objects());
            named.extend(objects.map(|object| object.sha256.to_string()));
        }
        Ok(named)
    }
}
