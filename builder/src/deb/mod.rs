//! Debian packages: an `ar` archive of `debian-binary`, `control.tar` and `data.tar` (deb(5)).
//!
//! [`unpack`] streams one package into a folder, without dpkg and without a temporary file:
//!
//! ```text
//! data/        the package's files: modes, numeric owners, times, hard links
//! control/     control, md5sums, conffiles, maintainer scripts, triggers
//! files.json   list of what is below data/
//! ```
//!
//! A package is signed, so its author is trusted to bring files for an image, but not to write anywhere
//! else: paths that leave the tree, symlinks used as folders, device nodes and decompression bombs are
//! refused. Paths below `bin`, `sbin`, `lib*` go below `usr/`, as on every merged-/usr system.

mod ar;
mod compression;
mod control;
mod documents;
mod extract;
mod place;

use std::io::{BufReader, Read};
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use fs_err as fs;
use serde::{Deserialize, Serialize};

use crate::hash::Hash;
use crate::progress::Progress;
use crate::recipe::Recipe;
use crate::report::Mistake;
use crate::store::{BlobReader, Bucket, Store};

pub use ar::ArError;
pub use control::{Control, Source};
pub use documents::find_document;

/// A path of a root tree, with or without a leading slash, as packages are unpacked: relative, and below `/usr` where it is merged.
pub fn merged_path(path: &Path) -> anyhow::Result<PathBuf> {
    let relative = path.strip_prefix("/").unwrap_or(path);
    Ok(place::merge_usr(place::clean(relative.as_os_str().as_encoded_bytes())?, false))
}

/// Raised when the same package unpacks to something else than before.
const REVISION: u32 = 1;
/// Largest unpacked package. Debian's largest are 2 GB; everything above is a bomb.
const DATA_LIMIT: u64 = 8 << 30;
/// Largest unpacked control archive; md5sums of the largest packages take a few MB.
const CONTROL_LIMIT: u64 = 64 << 20;
/// `debian-binary` is `2.0\n`; room for what minor revisions may add.
const VERSION_LIMIT: u64 = 64;

/// What happens to the owners in the archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ownership {
    /// Files belong to the ids in the archive: for root trees, as root of a namespace.
    Keep,
    /// Files belong to whoever unpacks: for tools trees.
    Ignore,
}

/// What a package contains.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contents {
    /// Everything below `data/`, sorted by path.
    pub files: Vec<FileEntry>,
}

/// One path of a package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Relative to the root, no leading slash.
    pub path: String,
    /// What it is.
    #[serde(flatten)]
    pub kind: Kind,
}

/// What a path is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Kind {
    /// A folder.
    Folder,
    /// A regular file.
    File {
        /// Bytes.
        size: u64,
    },
    /// A symlink.
    Symlink {
        /// As written in the package.
        target: String,
    },
    /// A further name of a regular file.
    HardLink {
        /// Bytes of that file.
        size: u64,
        /// Its path, no leading slash.
        target: String,
    },
}

impl Contents {
    /// Reads `files.json` of an unpacked package.
    pub fn read(unpacked: &Path) -> anyhow::Result<Self> {
        let path = unpacked.join("files.json");
        serde_json::from_slice(&fs::read(&path)?).with_context(|| format!("reading {}", path.display()))
    }
}

/// Unpacks one package into the existing, empty folder `into`.
pub fn unpack(deb: &Path, into: &Path, ownership: Ownership) -> anyhow::Result<Contents> {
    let file = fs::File::open(deb)?;
    unpack_stream(file, into, ownership).map_err(|error| explain(deb, error))
}

/// A damaged package is a person's business: it names the file, and what to do.
fn explain(deb: &Path, error: anyhow::Error) -> anyhow::Error {
    let mut causes = error.chain().filter_map(|cause| cause.downcast_ref::<std::io::Error>());
    if causes.any(is_the_disks) {
        return error.context(format!("unpacking {}", deb.display()));
    }
    let hint = "its bytes are those that the signed index names, so the package itself is bad: run `larder lock` for a newer version, or leave it out (`packages.forbid`)";
    Mistake::new(format!("{}: not a usable Debian package", deb.display())).hint(hint).because(error).into()
}

/// fs-err keeps the kind of an error, but not its number.
fn is_the_disks(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    error.raw_os_error().is_some() || matches!(error.kind(), StorageFull | QuotaExceeded | ReadOnlyFilesystem)
}

fn unpack_stream(source: impl Read, into: &Path, ownership: Ownership) -> anyhow::Result<Contents> {
    let mut package = ar::Reader::new(source)?;
    check_version(&mut package)?;
    let suffix = expect_member(&mut package, "control.tar")?;
    // The scripts and lists belong to the builder, whoever the archive says.
    extract_member(&mut package, &suffix, &into.join("control"), Ownership::Ignore, CONTROL_LIMIT)?;
    let suffix = expect_member(&mut package, "data.tar")?;
    let files = extract_member(&mut package, &suffix, &into.join("data"), ownership, DATA_LIMIT)?;
    while let Some(member) = package.next_member()? {
        ensure!(member.name.starts_with('_'), "unexpected member `{}` after the data", member.name);
    }
    let contents = Contents { files };
    fs::write(into.join("files.json"), serde_json::to_vec(&contents)?)?;
    Ok(contents)
}

fn check_version(package: &mut ar::Reader<impl Read>) -> anyhow::Result<()> {
    let member = package.next_member()?.context("the package is empty")?;
    ensure!(member.name == "debian-binary", "the first member is `{}`, not `debian-binary`", member.name);
    let mut version = String::new();
    package.take(VERSION_LIMIT).read_to_string(&mut version).context("reading `debian-binary`")?;
    ensure!(version.starts_with("2."), "package format {:?} is not known, only 2.x is", version.trim());
    Ok(())
}

/// Goes to the next member, which must be `base` with any compression's suffix. Members whose name
/// starts with an underscore may stand between (deb(5)).
fn expect_member(package: &mut ar::Reader<impl Read>, base: &str) -> anyhow::Result<String> {
    while let Some(member) = package.next_member()? {
        if let Some(suffix) = member.name.strip_prefix(base) {
            return Ok(suffix.to_owned());
        }
        ensure!(member.name.starts_with('_'), "member `{}` where `{base}` should be", member.name);
    }
    bail!("the package has no `{base}`")
}

fn extract_member(
    package: &mut ar::Reader<impl Read>,
    suffix: &str,
    into: &Path,
    ownership: Ownership,
    limit: u64,
) -> anyhow::Result<Vec<FileEntry>> {
    let name = into.file_name().unwrap_or_default().to_string_lossy();
    let merge_usr = name == "data";
    fs::create_dir(into)?;
    let stream = compression::decompress(suffix, package, limit)?;
    // The tar reader asks for 512-byte headers one at a time.
    let stream = BufReader::with_capacity(64 * 1024, stream);
    let extraction = extract::Extraction::new(into, ownership, merge_usr);
    extraction.run(stream).with_context(|| format!("in {name}.tar{suffix}"))
}

/// A package in the store.
#[derive(Debug, Clone)]
pub struct Deb {
    /// Name for people: `bash 5.2.37-2+b5`.
    pub label: String,
    /// Digest of the file.
    pub sha256: Hash,
    /// The file.
    pub file: PathBuf,
}

/// Unpacks packages in parallel, each into its own entry of the store; the result has the entries in
/// the order of `debs`.
pub fn unpack_all(
    store: &Store,
    debs: &[Deb],
    ownership: Ownership,
    progress: &Progress,
) -> anyhow::Result<Vec<PathBuf>> {
    let start = Instant::now();
    let bar = progress.items("Unpacking", debs.len() as u64);
    let order = largest_first(debs);
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::with_capacity(debs.len()));
    let work = || -> anyhow::Result<()> {
        while let Some(&index) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
            let deb = &debs[index];
            // A failure ends the others too, after the package they are at.
            let entry = unpack_to_store(store, deb, ownership)
                .inspect_err(|_| next.store(order.len(), Ordering::Relaxed))
                .with_context(|| format!("unpacking {}", deb.label))?;
            done.lock().unwrap_or_else(PoisonError::into_inner).push((index, entry));
            bar.inc(1);
        }
        Ok(())
    };
    // Threads of their own: rayon's may be busy with the stages beside this one.
    let workers = thread::available_parallelism()?.get().min(debs.len());
    let result = thread::scope(|threads| {
        let workers: Vec<_> = (0..workers).map(|_| threads.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().unwrap_or_else(|panic| resume_unwind(panic)))
    });
    bar.finish_and_clear();
    result?;
    // Most often they are in the store, which is not worth a line.
    if start.elapsed() >= Duration::from_secs(1) {
        progress.done("Unpacking", start);
    }
    let mut entries = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    entries.sort_by_key(|(index, _)| *index);
    Ok(entries.into_iter().map(|(_, entry)| entry).collect())
}

/// Decompression dominates, and one package is one thread's work: the largest must not start last.
fn largest_first(debs: &[Deb]) -> Vec<usize> {
    let size = |index: &usize| fs::metadata(&debs[*index].file).map_or(0, |metadata| metadata.len());
    let mut order: Vec<usize> = (0..debs.len()).collect();
    order.sort_by_cached_key(|index| std::cmp::Reverse(size(index)));
    order
}

fn unpack_to_store(store: &Store, deb: &Deb, ownership: Ownership) -> anyhow::Result<PathBuf> {
    let subject = match ownership {
        Ownership::Keep => deb.label.clone(),
        Ownership::Ignore => format!("{} for tools", deb.label),
    };
    let mut recipe = recipe(&deb.sha256, ownership);
    recipe.about(&subject);
    store.entry(Bucket::Unpacked, &recipe, |into| unpack_checked(deb, into, ownership))
}

fn recipe(deb: &Hash, ownership: Ownership) -> Recipe {
    let owners = match ownership {
        Ownership::Keep => "keep",
        Ownership::Ignore => "ignore",
    };
    let mut recipe = Recipe::new("unpack", REVISION);
    recipe.hash("deb", deb).field("ownership", owners);
    recipe
}

/// Where a package lies unpacked in the store, whoever its files belong to; `None` when it does not.
pub fn unpacked(store: &Store, deb: &Hash) -> Option<PathBuf> {
    let entry = |ownership| store.existing_entry(Bucket::Unpacked, &recipe(deb, ownership));
    entry(Ownership::Keep).or_else(|| entry(Ownership::Ignore))
}

/// A damaged file must neither get into an image nor be blamed on the package: so its hash is compared
/// before anything else is said about it.
fn unpack_checked(deb: &Deb, into: &Path, ownership: Ownership) -> anyhow::Result<()> {
    let mut file = BlobReader::open(&deb.file, &deb.sha256)?;
    let unpacked = unpack_stream(&mut file, into, ownership);
    file.finish()?;
    unpacked.map(drop).map_err(|error| explain(&deb.file, error))
}

#[cfg(test)]
pub(crate) mod tests;
