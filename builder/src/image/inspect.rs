//! `larder inspect IMG`: what an image contains, and whether it holds together.
//!
//! The chain that is checked is the one that the target follows when it boots: the root hash on a
//! UKI's command line names a pair of partitions by their UUIDs, and every block of the root must match
//! the hash tree under that root hash.

mod erofs;
mod text;
pub(super) mod uki;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use firstboot::fat::{FatFile, FatReader};
use firstboot::layout::UKI_FOLDER;
use firstboot::verity::{self, BadBlock, Region, RootHash, VerityError};
use gptman::GPT;
use serde::Serialize;
use uuid::Uuid;

pub use erofs::Erofs;
pub use uki::{Section, Uki};

use super::{compress, frames};

use super::gpt;
use crate::report::Mistake;

/// What an image contains.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The inspected file.
    pub image: PathBuf,
    /// Bytes of the (decompressed) image.
    pub size: u64,
    /// Disk GUID.
    pub disk: Uuid,
    /// State of the two copies of the partition table.
    pub table: Table,
    /// Partitions in use, in the order of their numbers.
    pub partitions: Vec<PartitionReport>,
    /// Files of the EFI system partition.
    pub esp: Vec<FatFile>,
    /// Files of the seed partition.
    pub seed: Vec<FatFile>,
    /// The unified kernel images on the ESP, each with a verdict on the root that it boots.
    pub ukis: Vec<UkiReport>,
}

/// State of the partition table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Table {
    /// Both copies are valid.
    Ok,
    /// Only the backup at the end could be read.
    PrimaryDamaged,
    /// Only the primary at the start could be read.
    BackupDamaged,
}

/// A partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PartitionReport {
    /// Number, from 1.
    pub number: u32,
    /// GPT label.
    pub label: String,
    /// Type GUID.
    pub kind: Uuid,
    /// Unique GUID.
    pub id: Uuid,
    /// Byte offset.
    pub start: u64,
    /// Bytes.
    pub size: u64,
    /// The file system of a root partition.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub erofs: Option<Erofs>,
}

/// A unified kernel image.
#[derive(Debug, Clone, Serialize)]
pub struct UkiReport {
    /// Path on the ESP.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// Its content; `None` when it is no PE file.
    pub uki: Option<Uki>,
    /// The root hash on its command line.
    pub root_hash: Option<RootHash>,
    /// Whether it can boot from this image.
    pub verdict: Verdict,
}

/// Whether the root that a UKI names is there and unharmed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "result")]
pub enum Verdict {
    /// Every block matches the root hash.
    Ok,
    /// A block does not match: the first of them.
    Mismatch {
        /// Where it is.
        #[serde(flatten)]
        block: BadBlock,
    },
    /// There is no partition with the UUID that follows from the root hash.
    NoPartition {
        /// `root` or `verity`.
        role: &'static str,
        /// The UUID.
        id: Uuid,
    },
    /// The hash tree is none.
    NoTree {
        /// What is wrong with it.
        reason: String,
    },
    /// The command line has no root hash, or the file is no UKI.
    NoRootHash,
}

impl Report {
    /// Whether there is something to boot, and everything that there is will boot.
    pub fn is_sound(&self) -> bool {
        self.table == Table::Ok && !self.ukis.is_empty() && self.ukis.iter().all(|uki| uki.verdict == Verdict::Ok)
    }
}

/// Inspects an `.img` or `.img.zst`.
pub fn inspect(path: &Path) -> Result<Report> {
    let image = open(path)?;
    let size = image.metadata()?.len();
    let (disk, table, mut partitions) = read_table(&image, path)?;
    refuse_truncated(path, size, &partitions)?;
    for partition in partitions.iter_mut().filter(|partition| partition.kind == gpt::ROOT_TYPE) {
        partition.erofs = Erofs::read(&image, partition.start).context("reading the root file system")?;
    }
    let fat = |found: Option<&PartitionReport>| {
        found.map(|partition| FatReader::open(&image, partition.start, partition.size)).transpose()
    };
    let damaged =
        |what: &str, error: io::Error| Mistake::new(format!("{}: {what} is damaged", path.display())).because(error);
    let esp =
        fat(partitions.iter().find(|found| found.kind == gpt::ESP_TYPE)).map_err(|error| damaged("the ESP", error))?;
    let seed = fat(partitions.iter().find(|found| found.label == gpt::SEED_LABEL))
        .map_err(|error| damaged("the seed partition", error))?;
    let files = |volume: Option<&FatReader<'_>>| volume.map_or(Ok(Vec::new()), FatReader::files);
    let esp_files = files(esp.as_ref()).map_err(|error| damaged("the ESP", error))?;
    let mut ukis = Vec::new();
    for file in esp_files.iter().filter(|file| file.path.starts_with(UKI_FOLDER)) {
        let Some(esp) = &esp else { continue };
        let content = esp.read(&file.path).map_err(|error| damaged(&file.path, error))?;
        ukis.push(judge(&image, &partitions, file, &content)?);
    }
    Ok(Report {
        image: path.to_owned(),
        size,
        disk,
        table,
        seed: files(seed.as_ref()).map_err(|error| damaged("the seed partition", error))?,
        esp: esp_files,
        partitions,
        ukis,
    })
}

/// Opens an image; a compressed one is unpacked into an unnamed temporary file first.
pub(super) fn open(path: &Path) -> Result<File> {
    let image = open_file(path)?;
    if !is_compressed(&image) {
        return Ok(image);
    }
    let unpacked = unnamed_beside(path).context("creating a temporary file for the decompressed image")?;
    match compress::decompress(&mut &image, &unpacked) {
        Ok(()) => Ok(unpacked),
        Err(error) if is_disk_full(&error) => Err(error.context("decompressing the image")),
        Err(error) => Err(damaged(path).because(error).into()),
    }
}

/// Opens the file of an image.
pub(crate) fn open_file(path: &Path) -> Result<File> {
    let problem = |error: io::Error| Mistake::new(format!("cannot open {}", path.display())).because(error);
    let image = File::open(path).map_err(problem)?;
    if !image.metadata()?.is_file() {
        return Err(Mistake::new(format!("{} is no file", path.display()))
            .hint("give the path of an .img or .img.zst")
            .into());
    }
    Ok(image)
}

/// Whether it is an `.img.zst`, whatever its name says.
pub(crate) fn is_compressed(image: &File) -> bool {
    let mut magic = [0; 4];
    image.read_exact_at(&mut magic, 0).is_ok() && magic == frames::MAGIC
}

/// What to say of an image that is not whole.
pub(super) fn damaged(path: &Path) -> Mistake {
    Mistake::new(format!("{} is truncated or damaged", path.display()))
        .hint("compare it with its .SHA256SUMS file and download it again")
}

/// Beside the image there is likely room for another; elsewhere only if that folder is read-only.
fn unnamed_beside(path: &Path) -> io::Result<File> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    tempfile::tempfile_in(folder).or_else(|_| tempfile::tempfile())
}

fn is_disk_full(error: &anyhow::Error) -> bool {
    use io::ErrorKind::{QuotaExceeded, StorageFull};
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|error| matches!(error.kind(), StorageFull | QuotaExceeded))
}

pub(super) fn read_table(mut image: &File, path: &Path) -> Result<(Uuid, Table, Vec<PartitionReport>)> {
    let size = image.metadata()?.len();
    let no_image = |error: gptman::Error| {
        Mistake::new(format!("{} is no disk image: it has no valid GUID partition table", path.display()))
            .hint("give the path of an .img or .img.zst from the output folder")
            .because(anyhow::anyhow!("{error}"))
    };
    if size < 4 * gpt::SECTOR {
        return Err(Mistake::new(format!("{} is no disk image: it has only {size} bytes", path.display())).into());
    }
    let table = GPT::read_from(&mut image, gpt::SECTOR).map_err(no_image)?;
    let state = match (table.is_backup(), backup_is_valid(image, &table)) {
        (true, _) => Table::PrimaryDamaged,
        (false, true) => Table::Ok,
        (false, false) => Table::BackupDamaged,
    };
    let partitions = table.iter().filter(|(_, entry)| entry.is_used()).map(|(number, entry)| PartitionReport {
        number,
        label: entry.partition_name.to_string(),
        kind: Uuid::from_bytes_le(entry.partition_type_guid),
        id: Uuid::from_bytes_le(entry.unique_partition_guid),
        start: entry.starting_lba.saturating_mul(gpt::SECTOR),
        size: entry.size().unwrap_or(0).saturating_mul(gpt::SECTOR),
        erofs: None,
    });
    Ok((Uuid::from_bytes_le(table.header.disk_guid), state, partitions.collect()))
}

fn backup_is_valid(mut image: &File, table: &GPT) -> bool {
    let Some(offset) = table.header.backup_lba.checked_mul(gpt::SECTOR) else { return false };
    let header = io::Seek::seek(&mut image, io::SeekFrom::Start(offset))
        .map_err(gptman::Error::from)
        .and_then(|_| gptman::GPTHeader::read_from(&mut image));
    header.is_ok_and(|header| header.read_partitions(&mut image, gpt::SECTOR).is_ok())
}

fn refuse_truncated(path: &Path, size: u64, partitions: &[PartitionReport]) -> Result<()> {
    let end = |partition: &PartitionReport| partition.start.saturating_add(partition.size);
    let Some(cut) = partitions.iter().find(|partition| end(partition) > size) else { return Ok(()) };
    let problem = format!(
        "{} is truncated: partition {} ends at byte {}, the file at {size}",
        path.display(),
        cut.number,
        end(cut)
    );
    Err(Mistake::new(problem).hint("compare it with its .SHA256SUMS file and download or build it again").into())
}

fn judge(image: &File, partitions: &[PartitionReport], file: &FatFile, content: &[u8]) -> Result<UkiReport> {
    let uki = Uki::parse(content).ok();
    let root_hash = uki.as_ref().and_then(Uki::root_hash);
    let verdict = match &root_hash {
        Some(root_hash) => check_root(image, partitions, root_hash)?,
        None => Verdict::NoRootHash,
    };
    Ok(UkiReport { path: file.path.clone(), size: file.size, uki, root_hash, verdict })
}

fn check_root(image: &File, partitions: &[PartitionReport], root_hash: &RootHash) -> Result<Verdict> {
    let region = |id: Uuid| {
        let found = partitions.iter().find(|partition| partition.id == id)?;
        Some(Region { file: image, start: found.start })
    };
    let (root_id, verity_id) = (root_hash.root_partition_uuid(), root_hash.verity_partition_uuid());
    let Some(root) = region(root_id) else {
        return Ok(Verdict::NoPartition { role: "root", id: root_id });
    };
    let Some(tree) = region(verity_id) else {
        return Ok(Verdict::NoPartition { role: "verity", id: verity_id });
    };
    match verity::verify(root, tree, root_hash) {
        Ok(_) => Ok(Verdict::Ok),
        Err(VerityError::Damaged(block)) => Ok(Verdict::Mismatch { block }),
        // A superblock that claims more blocks than the image has.
        Err(VerityError::Io(_, error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
            Ok(Verdict::NoTree { reason: "it covers more than the image holds".to_owned() })
        }
        Err(error @ VerityError::Superblock(_)) => Ok(Verdict::NoTree { reason: error.to_string() }),
        Err(error) => Err(error).context("checking the root against its hash tree"),
    }
}

#[cfg(test)]
mod tests;
