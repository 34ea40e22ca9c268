//! The output folder: any number of builds, each with files of its own.
//!
//! ```text
//! larder-PROFILE-VERSION.img             disk image, sparse
//! larder-PROFILE-VERSION.img.zst         the same, to download
//! larder-PROFILE-VERSION.uki.efi         kernel, initrd and command line: what an update puts on the ESP
//! larder-PROFILE-VERSION.root.erofs      root file system, for updates
//! larder-PROFILE-VERSION.root.verity     its hash tree, the index of updates
//! larder-PROFILE-VERSION.spdx.json       its SBOM: packages, sources, licences
//! larder-PROFILE-VERSION.mtree           the files of the root file system, with digests
//! larder-PROFILE-VERSION.manifest.json   what is inside and where it came from
//! larder-PROFILE-VERSION.SHA256SUMS      written last: a build that has it is complete
//! ```
//!
//! Files are made in a hidden staging folder beside their place and renamed once all are complete and on
//! the disk; whatever fails before leaves the folder as it was. One larder at a time writes to a folder.
//!
//! A build that is there already is left alone. What makes that sound is in [`Look`].

use std::fmt;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use firstboot::verity::RootHash;
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use super::sparse;
use super::version::Version;
use crate::deb::Source;
use crate::hash::Hash;
use crate::progress::Progress;
use crate::store::{Note, Store};

/// Version of the manifest's format; raised when a reader of the old one would be misled.
pub const SCHEMA: u32 = 2;
/// How the name of a manifest ends.
pub const MANIFEST: &str = "manifest.json";
/// How the name of the checksums ends, which are in the format of sha256sum(1).
const CHECKSUMS: &str = "SHA256SUMS";
/// Prefix of the folders in which outputs are made.
const STAGING: &str = ".larder-staging-";

/// The files of a build, by what they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Artifact {
    /// Disk image.
    Image,
    /// Compressed disk image.
    CompressedImage,
    /// Unified kernel image.
    Uki,
    /// Root file system.
    Root,
    /// Hash tree of the root file system.
    Verity,
    /// What is inside, from where and under which licences: an SPDX document.
    Sbom,
    /// List of the files of the root file system.
    FileList,
}

impl Artifact {
    /// All of them, in the order of the manifest.
    pub const ALL: [Self; 7] =
        [Self::Image, Self::CompressedImage, Self::Uki, Self::Root, Self::Verity, Self::Sbom, Self::FileList];
}

impl fmt::Display for Artifact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Image => "img",
            Self::CompressedImage => "img.zst",
            Self::Uki => "uki.efi",
            Self::Root => "root.erofs",
            Self::Verity => "root.verity",
            Self::Sbom => "spdx.json",
            Self::FileList => "mtree",
        })
    }
}

/// `larder-PROFILE-VERSION.manifest.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Name of the profile.
    pub profile: String,
    /// Version of the image.
    pub version: Version,
    /// Date of the lock: of the newest package list that it was made from (RFC 3339).
    pub snapshot: String,
    /// Root hash of the root file system.
    pub root_hash: RootHash,
    /// The kernel, as `uname -r` says it.
    pub kernel: String,
    /// Version of the package that the ZFS modules were compiled from.
    pub zfs: String,
    /// Packages inside, in the order of the lock.
    pub packages: Vec<Package>,
    /// The files of the build, this one and the checksums left out.
    pub files: Vec<OutputFile>,
    /// What the build was made from.
    pub inputs: Vec<Input>,
}

/// A package inside the image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Package {
    /// Name.
    pub name: String,
    /// Debian version.
    pub version: String,
    /// Architecture.
    pub architecture: String,
    /// Digest of the .deb.
    pub sha256: Hash,
    /// Length of the .deb.
    pub size: u64,
    /// `ARCHIVE:PATH`; the path is below the archive's mirror.
    pub location: String,
    /// Bytes that it takes on a disk, by its builder's estimate.
    pub installed_size: u64,
    /// What it was built from.
    pub source: Source,
}

/// A file of a build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputFile {
    /// File name.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// Digest of the content.
    pub sha256: Hash,
}

/// A stage's key: equal keys mean equal content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Input {
    /// Name of the stage.
    pub name: String,
    /// Its key.
    pub key: Hash,
}

/// The place of one build in an output folder. No other larder writes to the folder meanwhile.
#[derive(Debug)]
pub struct Output {
    folder: PathBuf,
    stem: String,
    /// `None` where the file system cannot lock folders, as NFS.
    lock: Option<fs_err::File>,
}

impl Output {
    /// The place of a build of `profile` in `folder`, which is created if need be. Waits until no other
    /// larder writes there.
    pub fn open(folder: &Path, profile: &str, version: &Version, progress: &Progress) -> Result<Self> {
        fs_err::create_dir_all(folder)?;
        // The same folder by whatever path: what is noted about it must be found again.
        let folder = fs_err::canonicalize(folder)?;
        let lock = lock(&folder, progress)?;
        Ok(Self { folder, stem: format!("larder-{profile}-{version}"), lock })
    }

    /// File name of an artifact.
    pub fn file_name(&self, artifact: Artifact) -> String {
        self.name(artifact)
    }

    fn name(&self, ending: impl fmt::Display) -> String {
        format!("{}.{ending}", self.stem)
    }

    /// The manifest of the build that `key` names, when the folder holds exactly that: every file is
    /// still the one that [`Staging::publish`] put there.
    pub fn published(&self, store: &Store, key: &Hash) -> Option<Manifest> {
        let note = store.note(Note::Published, &self.subject())?;
        let published: Published = serde_json::from_slice(&note).ok()?;
        let unchanged = |file: &PublishedFile| Look::at(&self.folder.join(&file.name)).ok() == Some(file.look);
        if published.key != *key || !published.files.iter().all(unchanged) {
            return None;
        }
        serde_json::from_slice(&fs_err::read(self.folder.join(self.name(MANIFEST))).ok()?).ok()
    }

    /// Starts to make the files of the build.
    pub fn stage(&self) -> Result<Staging<'_>> {
        self.sweep()?;
        let folder = tempfile::Builder::new()
            .prefix(STAGING)
            .tempdir_in(&self.folder)
            .with_context(|| format!("creating a staging folder in {}", self.folder.display()))?;
        Ok(Staging { output: self, folder })
    }

    /// Removes what killed builds have left behind. Without a lock it might belong to a running one.
    fn sweep(&self) -> Result<()> {
        for entry in fs_err::read_dir(&self.folder)? {
            let entry = entry?;
            if self.lock.is_some() && entry.file_name().to_string_lossy().starts_with(STAGING) {
                fs_err::remove_dir_all(entry.path())?;
            }
        }
        Ok(())
    }

    fn subject(&self) -> Hash {
        Hash::of(self.folder.join(&self.stem).as_os_str().as_encoded_bytes())
    }
}

fn lock(folder: &Path, progress: &Progress) -> Result<Option<fs_err::File>> {
    let file = fs_err::File::open(folder)?;
    match file.file().try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(std::fs::TryLockError::WouldBlock) => {
            progress.note(format!("waiting for another larder that writes to {}", folder.display()));
            file.file().lock().with_context(|| format!("locking {}", folder.display()))?;
            Ok(Some(file))
        }
        Err(std::fs::TryLockError::Error(_)) => Ok(None),
    }
}

/// What was noted when a build was published.
#[derive(Debug, Serialize, Deserialize)]
struct Published {
    /// Names everything that the files follow from.
    key: Hash,
    files: Vec<PublishedFile>,
}

#[derive(Debug, Serialize, Deserialize)]
struct PublishedFile {
    name: String,
    look: Look,
}

/// What cannot stay the same when a file is replaced, edited or cut: a new file has another inode, and a
/// write moves both times, of which nobody can set back the second (inode(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Look {
    device: u64,
    inode: u64,
    size: u64,
    /// Seconds since 1970, and nanoseconds.
    modified: (i64, i64),
    /// Seconds since 1970, and nanoseconds.
    changed: (i64, i64),
}

impl Look {
    fn at(path: &Path) -> std::io::Result<Self> {
        let metadata = fs_err::symlink_metadata(path)?;
        Ok(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }

    /// A file's look after it was renamed, which counts as a change; `None` when more has happened to it.
    fn renamed(self, to: &Path) -> Option<Self> {
        let now = Self::at(to).ok()?;
        (Self { changed: now.changed, ..self } == now).then_some(now)
    }
}

/// A build in the making. Dropping it without [`Staging::publish`] leaves nothing behind.
#[derive(Debug)]
pub struct Staging<'a> {
    output: &'a Output,
    folder: TempDir,
}

impl Staging<'_> {
    /// Where to write an artifact.
    pub fn path(&self, artifact: Artifact) -> PathBuf {
        self.folder.path().join(self.output.file_name(artifact))
    }

    /// Reads an artifact that has been written, for its entry in the manifest.
    pub fn describe(&self, artifact: Artifact) -> Result<OutputFile> {
        let file = fs_err::File::open(self.path(artifact))?;
        let sha256 = sparse::hash(file.file()).with_context(|| format!("reading {}", file.path().display()))?;
        self.entry(artifact, sha256)
    }

    /// The same for one whose digest is known.
    pub fn entry(&self, artifact: Artifact, sha256: Hash) -> Result<OutputFile> {
        let size = fs_err::metadata(self.path(artifact))?.len();
        Ok(OutputFile { name: self.output.file_name(artifact), size, sha256 })
    }

    /// Waits until an artifact is on the disk. [`Staging::publish`] does so in any case; who calls this
    /// while something else is to be done saves the time.
    pub fn sync(&self, artifact: Artifact) -> Result<()> {
        Ok(fs_err::File::open(self.path(artifact))?.sync_all()?)
    }

    /// Moves the files of the manifest into the folder, then the manifest and, last, the checksums; notes
    /// in the store that the folder now holds the build `key`.
    pub fn publish(self, manifest: &Manifest, store: &Store, key: &Hash) -> Result<()> {
        let mut json = serde_json::to_string_pretty(manifest).context("encoding the manifest")?;
        json.push('\n');
        let (manifest_name, checksums) = (self.output.name(MANIFEST), self.output.name(CHECKSUMS));
        let sums = manifest.files.iter().map(|file| format!("{}  {}\n", file.sha256, file.name)).collect::<String>()
            + &format!("{}  {manifest_name}\n", Hash::of(&json));
        for (name, content) in [(&manifest_name, &json), (&checksums, &sums)] {
            fs_err::File::create(self.folder.path().join(name))?.write_all(content.as_bytes())?;
        }
        let mut names: Vec<&str> = manifest.files.iter().map(|file| file.name.as_str()).collect();
        names.extend([manifest_name.as_str(), &checksums]);
        let files = self.move_into_place(&names)?;
        if let Some(files) = files {
            let note = serde_json::to_vec(&Published { key: *key, files }).context("encoding a note")?;
            // The build is there and whole; without the note it is made again the next time.
            let _ = store.set_note(Note::Published, &self.output.subject(), &note);
        }
        Ok(())
    }

    /// The last of `names` are the checksums. Those of an earlier build go first and the new ones come
    /// last, when all else is on the disk: a crash in between must not leave a build that claims to be
    /// complete. Returns how the files look; `None` when someone else has touched them meanwhile.
    fn move_into_place(&self, names: &[&str]) -> Result<Option<Vec<PublishedFile>>> {
        let (staging, folder) = (self.folder.path(), &self.output.folder);
        let (Some(checksums), here) = (names.last(), fs_err::File::open(folder)?) else { return Ok(None) };
        match fs_err::remove_file(folder.join(checksums)) {
            Ok(()) => here.sync_all()?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
        let mut published = Vec::new();
        for name in names {
            fs_err::File::open(staging.join(name))?.sync_all()?;
            if name == checksums {
                here.sync_all()?;
            }
            let look = Look::at(&staging.join(name))?;
            fs_err::rename(staging.join(name), folder.join(name))?;
            published.push((name, look));
        }
        here.sync_all()?;
        let noted = published.into_iter().map(|(name, look)| {
            Some(PublishedFile { name: (*name).to_owned(), look: look.renamed(&folder.join(name))? })
        });
        Ok(noted.collect())
    }
}

#[cfg(test)]
mod tests;
