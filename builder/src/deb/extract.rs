//! Writes a tar stream into a fresh folder, safely.
//!
//! Nothing else writes below the folder, so what the archive has created so far is all there is, and
//! it is kept in memory: every folder on the way to a new path must be one that was created here as a
//! *folder*. A symlink is therefore never followed, whatever it points to.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::os::unix::fs as unix;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, bail, ensure};
use fs_err as fs;
use nix::sys::stat::{UtimensatFlags, utimensat};
use nix::sys::time::TimeSpec;
use tar::EntryType;

use super::place;
use super::{FileEntry, Kind, Ownership};

/// One tar stream on its way into a folder.
#[derive(Debug)]
pub struct Extraction<'a> {
    root: &'a Path,
    ownership: Ownership,
    /// Whether paths move to `/usr` (data) or stay (control).
    merge_usr: bool,
    created: BTreeMap<PathBuf, FileEntry>,
    /// Folders get their owner, mode and time last: a read-only one must be filled first.
    folders: BTreeMap<PathBuf, Attributes>,
    buffer: Vec<u8>,
}

/// Owner, mode and time of an entry.
#[derive(Debug, Clone, Copy)]
struct Attributes {
    uid: u32,
    gid: u32,
    mode: u32,
    mtime: u64,
}

/// Bytes that are written at once.
const BUFFER: usize = 128 * 1024;

/// Folders that no archive mentions, such as `usr` after a path was moved there.
const IMPLIED_FOLDER: Attributes = Attributes { uid: 0, gid: 0, mode: 0o755, mtime: 0 };

impl<'a> Extraction<'a> {
    /// Into the existing, empty folder `root`.
    pub fn new(root: &'a Path, ownership: Ownership, merge_usr: bool) -> Self {
        let (created, folders) = (BTreeMap::new(), BTreeMap::new());
        Self { root, ownership, merge_usr, created, folders, buffer: vec![0; BUFFER] }
    }

    /// Writes everything; the stream is read to its end, so that its checksums are checked too.
    pub fn run(mut self, stream: impl Read) -> anyhow::Result<Vec<FileEntry>> {
        let mut archive = tar::Archive::new(stream);
        for entry in archive.entries()? {
            let mut entry = entry.context("reading the tar archive")?;
            if entry.header().entry_type() == EntryType::XGlobalHeader {
                continue;
            }
            let raw = entry.path_bytes().into_owned();
            self.place(&raw, &mut entry)
                .with_context(|| format!("unpacking `{}`", String::from_utf8_lossy(&raw).escape_debug()))?;
        }
        io::copy(&mut archive.into_inner(), &mut io::sink()).context("reading the tar archive")?;
        for (path, attributes) in std::mem::take(&mut self.folders).into_iter().rev() {
            self.finish_folder(&self.root.join(path), attributes)?;
        }
        Ok(self.created.into_values().collect())
    }

    fn place<R: Read>(&mut self, raw: &[u8], entry: &mut tar::Entry<'_, R>) -> anyhow::Result<()> {
        let kind = entry.header().entry_type();
        let attributes = Attributes::of(entry.header())?;
        let path = self.destination(raw, kind == EntryType::Directory)?;
        if kind == EntryType::Directory {
            return self.folder(path, attributes);
        }
        ensure!(path.file_name().is_some(), "the root of a package must be a folder");
        self.parents(&path)?;
        ensure!(!self.created.contains_key(&path), "occurs twice in the archive");
        let at = self.root.join(&path);
        let kind = match kind {
            EntryType::Regular | EntryType::Continuous => Kind::File { size: self.file(&at, entry, attributes)? },
            EntryType::Symlink => self.symlink(&at, entry, attributes)?,
            EntryType::Link => self.hard_link(&at, entry)?,
            EntryType::Char | EntryType::Block => bail!("device nodes are refused"),
            EntryType::Fifo => bail!("named pipes are refused"),
            other => bail!("an entry of type {:?} is refused", char::from(other.as_byte())),
        };
        self.remember(path, kind)
    }

    fn destination(&self, raw: &[u8], is_folder: bool) -> anyhow::Result<PathBuf> {
        let path = place::clean(raw)?;
        Ok(if self.merge_usr { place::merge_usr(path, is_folder) } else { path })
    }

    fn remember(&mut self, path: PathBuf, kind: Kind) -> anyhow::Result<()> {
        let text = path.to_str().context("a path is not UTF-8")?.to_owned();
        self.created.insert(path, FileEntry { path: text, kind });
        Ok(())
    }

    fn folder(&mut self, path: PathBuf, attributes: Attributes) -> anyhow::Result<()> {
        self.parents(&path)?;
        if path.as_os_str().is_empty() {
            self.folders.insert(path, attributes);
            return Ok(());
        }
        match self.created.get(&path).map(|entry| &entry.kind) {
            // `lib` and `usr/lib` of one package meet in the same folder: the last one decides, as in dpkg.
            Some(Kind::Folder) => {}
            Some(_) => bail!("occurs twice in the archive, once not as a folder"),
            None => self.create_folder(&path)?,
        }
        self.folders.insert(path, attributes);
        Ok(())
    }

    /// Every component above `path` must be a folder that this archive created.
    fn parents(&mut self, path: &Path) -> anyhow::Result<()> {
        let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) else {
            return Ok(());
        };
        match self.created.get(parent).map(|entry| &entry.kind) {
            Some(Kind::Folder) => Ok(()),
            Some(_) => bail!("`{}` is used as a folder, but the package ships it as something else", parent.display()),
            None => {
                self.parents(parent)?;
                self.create_folder(parent)?;
                self.folders.insert(parent.to_owned(), IMPLIED_FOLDER);
                Ok(())
            }
        }
    }

    fn create_folder(&mut self, path: &Path) -> anyhow::Result<()> {
        fs::create_dir(self.root.join(path))?;
        self.remember(path.to_owned(), Kind::Folder)
    }

    fn file<R: Read>(
        &mut self,
        at: &Path,
        entry: &mut tar::Entry<'_, R>,
        attributes: Attributes,
    ) -> anyhow::Result<u64> {
        let mut file = fs::File::create_new(at)?;
        let size = self.copy(entry, &mut file)?;
        ensure!(size == entry.size(), "the archive ends after {size} of {} bytes", entry.size());
        let file = file.file();
        if self.ownership == Ownership::Keep {
            unix::fchown(file, Some(attributes.uid), Some(attributes.gid))
                .with_context(|| format!("changing the owner of {}", at.display()))?;
        }
        // After the owner: chown clears setuid and setgid (chown(2)).
        file.set_permissions(std::fs::Permissions::from_mode(attributes.mode))?;
        file.set_modified(attributes.modified())?;
        Ok(size)
    }

    /// [`io::copy`] with a buffer that makes one call of most files, and few of large ones.
    fn copy(&mut self, from: &mut impl Read, to: &mut impl Write) -> io::Result<u64> {
        let mut size = 0;
        loop {
            match from.read(&mut self.buffer) {
                Ok(0) => return Ok(size),
                Ok(count) => {
                    to.write_all(&self.buffer[..count])?;
                    size += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn symlink<R: Read>(&self, at: &Path, entry: &tar::Entry<'_, R>, attributes: Attributes) -> anyhow::Result<Kind> {
        let target = entry.link_name_bytes().context("a symlink without a target")?;
        let target = String::from_utf8(target.into_owned()).context("the target of a symlink is not UTF-8")?;
        unix::symlink(&target, at).with_context(|| format!("making the symlink {}", at.display()))?;
        if self.ownership == Ownership::Keep {
            unix::lchown(at, Some(attributes.uid), Some(attributes.gid))?;
        }
        set_time(at, attributes)?;
        Ok(Kind::Symlink { target })
    }

    /// Owner, mode and time are those of the file that it is another name of.
    fn hard_link<R: Read>(&self, at: &Path, entry: &tar::Entry<'_, R>) -> anyhow::Result<Kind> {
        let raw = entry.link_name_bytes().context("a hard link without a target")?;
        let target = self.destination(&raw, false)?;
        match self.created.get(&target).map(|entry| &entry.kind) {
            Some(Kind::File { size } | Kind::HardLink { size, .. }) => {
                fs::hard_link(self.root.join(&target), at)?;
                Ok(Kind::HardLink { size: *size, target: target.to_string_lossy().into_owned() })
            }
            _ => bail!("a hard link to `{}`, which is no file of this package", target.display()),
        }
    }

    fn finish_folder(&self, at: &Path, attributes: Attributes) -> anyhow::Result<()> {
        if self.ownership == Ownership::Keep {
            unix::lchown(at, Some(attributes.uid), Some(attributes.gid))
                .with_context(|| format!("changing the owner of {}", at.display()))?;
        }
        fs::set_permissions(at, std::fs::Permissions::from_mode(attributes.mode))?;
        set_time(at, attributes)
    }
}

impl Attributes {
    /// Numeric ids only: the names in the header mean whatever base-passwd gives them, which is the
    /// same numbers for all ids that packages may ship (Debian policy, 9.2).
    fn of(header: &tar::Header) -> anyhow::Result<Self> {
        let id = |value: u64| {
            u32::try_from(value).ok().filter(|id| *id < 65536).with_context(|| format!("owner {value} is out of range"))
        };
        Ok(Self {
            uid: id(header.uid()?)?,
            gid: id(header.gid()?)?,
            mode: header.mode()? & 0o7777,
            mtime: header.mtime()?,
        })
    }

    fn modified(self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(self.mtime)
    }
}

/// Sets the time of a folder or of a symlink itself.
fn set_time(at: &Path, attributes: Attributes) -> anyhow::Result<()> {
    let time = TimeSpec::new(i64::try_from(attributes.mtime)?, 0);
    let here = nix::fcntl::AT_FDCWD;
    utimensat(here, at, &TimeSpec::UTIME_OMIT, &time, UtimensatFlags::NoFollowSymlink)
        .with_context(|| format!("setting the time of {}", at.display()))
}
