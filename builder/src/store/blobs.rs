//! Blobs: files named by the SHA-256 of their content.

use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use fs_err as fs;

use super::{Store, commit_file, files};
use crate::hash::{Hash, Hasher};
use crate::report::Mistake;

/// A stored file is not what it was when it was stored.
#[derive(Debug, thiserror::Error)]
#[error("{}: damaged in the cache: sha256 {got} instead of {expected}", path.display())]
pub struct DamagedBlob {
    /// The file.
    pub path: PathBuf,
    /// The hash of what was stored.
    pub expected: Hash,
    /// The hash of what is there.
    pub got: Hash,
}

/// A file that is hashed while it is read.
#[derive(Debug)]
pub struct BlobReader {
    file: std::fs::File,
    path: PathBuf,
    expected: Hash,
    hasher: Hasher,
}

impl BlobReader {
    /// Opens a file that should have this hash.
    pub fn open(path: &Path, expected: &Hash) -> io::Result<Self> {
        let file = fs::File::open(path)?.into_parts().0;
        Ok(Self { file, path: path.to_owned(), expected: *expected, hasher: Hasher::default() })
    }

    /// Reads what is left, and compares.
    ///
    /// # Errors
    /// [`DamagedBlob`] when the file has another hash.
    pub fn finish(mut self) -> anyhow::Result<()> {
        io::copy(&mut self, &mut io::sink()).with_context(|| format!("reading {}", self.path.display()))?;
        let Self { path, expected, hasher, .. } = self;
        let got = hasher.finish();
        if got == expected { Ok(()) } else { Err(DamagedBlob { path, expected, got }.into()) }
    }
}

impl Read for BlobReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        Ok(count)
    }
}

impl Store {
    /// Where a blob is or would be.
    pub fn blob_path(&self, hash: &Hash) -> PathBuf {
        let name = hash.to_string();
        self.folder().join("blobs").join(&name[..2]).join(name)
    }

    /// The blob, when it is there; counts as a use. Its size is unknown here: where it is known, ask
    /// [`Store::blob_of_size`] instead.
    pub fn blob(&self, hash: &Hash) -> Option<PathBuf> {
        let path = self.blob_path(hash);
        let metadata = fs::symlink_metadata(&path).ok().filter(|metadata| metadata.is_file())?;
        files::stamp(&path, &metadata);
        Some(path)
    }

    /// The blob, when it is there with this size. Presence is not validity: a disk fault may have cut
    /// it short, and a wrong size costs nothing to notice. Whoever reads it checks the rest, by [`BlobReader`].
    pub fn blob_of_size(&self, hash: &Hash, size: u64) -> Option<PathBuf> {
        let metadata = fs::symlink_metadata(self.blob_path(hash)).ok()?;
        if metadata.len() == size { self.blob(hash) } else { None }
    }

    /// The blob, when it is there and every byte of it is right; a damaged one is removed.
    pub fn sound_blob(&self, hash: &Hash) -> anyhow::Result<Option<PathBuf>> {
        let Some(path) = self.blob(hash) else { return Ok(None) };
        if Hash::of_file(&path)? == *hash {
            return Ok(Some(path));
        }
        fs::remove_file(&path).or_else(files::ignore_missing)?;
        Ok(None)
    }

    /// Stores what `reader` yields, provided that it has the expected hash.
    pub fn insert_blob(&self, mut reader: impl Read, expected: &Hash) -> anyhow::Result<PathBuf> {
        let mut file = self.temporary_file()?;
        let mut hasher = Hasher::default();
        let mut buffer = vec![0; 128 * 1024];
        loop {
            let count = match reader.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error).context("reading the content of a blob"),
            };
            hasher.update(&buffer[..count]);
            file.write_all(&buffer[..count]).context("writing a blob")?;
        }
        let got = hasher.finish();
        if got != *expected {
            return Err(Mistake::new(format!("hash mismatch: expected sha256 {expected}, got {got}")).into());
        }
        let path = self.blob_path(expected);
        commit_file(file, &path)?;
        Ok(path)
    }

    /// Where the download of a blob is collected.
    pub(crate) fn partial_path(&self, hash: &Hash) -> PathBuf {
        self.folder().join("partial").join(hash.to_string())
    }

    /// Moves a finished download, whose hash its caller has checked, to its final name.
    pub(crate) fn adopt_partial(&self, partial: &Path, file: &std::fs::File, hash: &Hash) -> io::Result<PathBuf> {
        let path = self.blob_path(hash);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        file.sync_data()?;
        fs::rename(partial, &path)?;
        Ok(path)
    }
}
