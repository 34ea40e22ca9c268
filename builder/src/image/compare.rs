//! Where two images first differ, and in which file: for people who build the same lock twice.
//!
//! A difference in the root changes its hash tree, the ids of two partitions, the kernel's command line
//! and the partition table; so partitions are looked at in the order of cause and effect: root, ESP (by
//! the sections of the UKI, and the initrd file by file), seed, hash tree, and the table last.

mod archive;
mod trees;

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use firstboot::fat::FatReader;
use object::read::pe::PeFile64;
use object::{Object as _, ObjectSection as _};

use super::inspect::{self, PartitionReport};
use super::{gpt, sparse};

/// What is compared at once.
const CHUNK: usize = 1 << 20;

/// The first difference of two images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Where on the disk: `partition 4 (larder_1.0)`, `partition table`.
    pub place: String,
    /// In which file there, down to the file of an initrd; empty when no file explains it.
    pub files: Vec<String>,
    /// What differs: `mode 100644 and 100600`.
    pub what: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.place)?;
        for file in &self.files {
            write!(f, "{file}: ")?;
        }
        f.write_str(&self.what)
    }
}

/// Extracts a root file system (a file) into an empty folder, owners and modes included.
pub type Extract<'a> = &'a dyn Fn(&Path, &Path) -> Result<()>;

/// Compares two images, `.img` or `.img.zst`; `None` when all bytes are the same. Differing roots are
/// extracted below `scratch`.
///
/// # Errors
/// An image cannot be read, or is none.
pub fn first_difference(one: &Path, two: &Path, scratch: &Path, extract: Extract<'_>) -> Result<Option<Difference>> {
    let images = [Image::open(one)?, Image::open(two)?];
    let [a, b] = [&images[0], &images[1]];
    let numbers: Vec<u32> = a.partitions.iter().map(|partition| partition.number).collect();
    let mut pairs = Vec::new();
    for number in numbers {
        let find = |image: &Image| image.partitions.iter().find(|partition| partition.number == number).cloned();
        let (Some(left), Some(right)) = (find(a), find(b)) else { continue };
        pairs.push([left, right]);
    }
    pairs.sort_by_key(|[left, _]| rank(left));
    for [left, right] in &pairs {
        let Some(at) = a.differs(left, b, right)? else { continue };
        let place = format!("partition {} ({})", left.number, left.label);
        let (files, what) = match left.kind {
            gpt::ROOT_TYPE => roots([(a, left), (b, right)], scratch, extract)?,
            gpt::VERITY_TYPE => None,
            _ => volumes([(a, left), (b, right)])?,
        }
        .unwrap_or_else(|| (Vec::new(), format!("its own tables, from byte {at} on")));
        return Ok(Some(Difference { place, files, what }));
    }
    let sizes = [a.size, b.size];
    if sizes[0] != sizes[1] {
        let what = format!("{} and {} bytes", sizes[0], sizes[1]);
        return Ok(Some(Difference { place: "image".to_owned(), files: Vec::new(), what }));
    }
    let at = differing_byte(&a.file, 0, &b.file, 0, a.size)?;
    Ok(at.map(|at| Difference {
        place: "partition table".to_owned(),
        files: Vec::new(),
        what: format!("from byte {at} of the image on"),
    }))
}

/// Causes before effects.
fn rank(partition: &PartitionReport) -> u32 {
    match partition.kind {
        gpt::ROOT_TYPE => 0,
        gpt::ESP_TYPE => 1,
        gpt::VERITY_TYPE => 3,
        _ => 2,
    }
}

/// In which file, nested, and what differs there.
type Found = Option<(Vec<String>, String)>;

struct Image {
    file: File,
    size: u64,
    partitions: Vec<PartitionReport>,
}

impl Image {
    fn open(path: &Path) -> Result<Self> {
        let file = inspect::open(path)?;
        let (_, _, partitions) = inspect::read_table(&file, path)?;
        Ok(Self { size: file.metadata()?.len(), file, partitions })
    }

    /// Offset in the partition of the first differing byte.
    fn differs(&self, own: &PartitionReport, other: &Self, others: &PartitionReport) -> Result<Option<u64>> {
        if own.size != others.size {
            return Ok(Some(own.size.min(others.size)));
        }
        differing_byte(&self.file, own.start, &other.file, others.start, own.size).context("comparing partitions")
    }

    /// The partition as a file of its own.
    fn copy_out(&self, partition: &PartitionReport, to: &Path) -> Result<()> {
        let target = fs_err::File::create(to)?;
        let end = partition.start + partition.size;
        for range in sparse::data_ranges(&self.file)? {
            let (start, end) = (range.start.max(partition.start), range.end.min(end));
            let mut at = start;
            while at < end {
                let mut buffer = vec![0; CHUNK.min(usize::try_from(end - at)?)];
                self.file.read_exact_at(&mut buffer, at)?;
                target.file().write_all_at(&buffer, at - partition.start)?;
                at += buffer.len() as u64;
            }
        }
        Ok(target.set_len(partition.size)?)
    }
}

/// Offset from the starts of the first byte that differs. What is a hole in both is not read.
fn differing_byte(one: &File, start_one: u64, two: &File, start_two: u64, size: u64) -> io::Result<Option<u64>> {
    let chunks = |file: &File, start: u64| -> io::Result<Vec<u64>> {
        let mut chunks = Vec::new();
        for range in sparse::data_ranges(file)? {
            let (from, to) = (range.start.max(start) - start, range.end.min(start + size).saturating_sub(start));
            chunks.extend(from / CHUNK as u64..to.div_ceil(CHUNK as u64).max(from / CHUNK as u64));
        }
        Ok(chunks)
    };
    let mut all = [chunks(one, start_one)?, chunks(two, start_two)?].concat();
    all.sort_unstable();
    all.dedup();
    let (mut left, mut right) = (vec![0; CHUNK], vec![0; CHUNK]);
    for chunk in all {
        let at = chunk * CHUNK as u64;
        let length = usize::try_from(size.saturating_sub(at)).unwrap_or(CHUNK).min(CHUNK);
        one.read_exact_at(&mut left[..length], start_one + at)?;
        two.read_exact_at(&mut right[..length], start_two + at)?;
        if let Some(inside) = position(&left[..length], &right[..length]) {
            return Ok(Some(at + inside as u64));
        }
    }
    Ok(None)
}

/// Where two byte strings first differ; the end of the shorter one counts.
fn position(one: &[u8], two: &[u8]) -> Option<usize> {
    if one == two {
        return None;
    }
    let common = one.iter().zip(two).position(|(a, b)| a != b);
    Some(common.unwrap_or(one.len().min(two.len())))
}

fn roots(sides: [(&Image, &PartitionReport); 2], scratch: &Path, extract: Extract<'_>) -> Result<Found> {
    let mut folders = Vec::new();
    for (side, (image, partition)) in ["one", "two"].iter().zip(sides) {
        let (file, folder) = (scratch.join(format!("{side}.erofs")), scratch.join(side));
        image.copy_out(partition, &file)?;
        fs_err::create_dir(&folder)?;
        extract(&file, &folder).context("extracting a root file system")?;
        folders.push(folder);
    }
    let found = trees::first_difference(&folders[0], &folders[1])?;
    Ok(found.map(|(path, what)| (vec![format!("/{path}")], what)))
}

fn volumes(sides: [(&Image, &PartitionReport); 2]) -> Result<Found> {
    let open = |(image, partition): (&'_ Image, &PartitionReport)| {
        let volume = FatReader::open(&image.file, partition.start, partition.size)?;
        let files = volume.files()?.into_iter().map(|file| Ok((file.path.clone(), volume.read(&file.path)?)));
        files.collect::<io::Result<Vec<_>>>()
    };
    let [(a, left), (b, right)] = sides;
    let (one, two) = (open((a, left))?, open((b, right))?);
    for pair in one.iter().zip(&two) {
        let ((path, content), (other_path, other)) = pair;
        if path != other_path {
            return Ok(Some((vec![path.clone()], format!("the other image has {other_path} here"))));
        }
        if content != other {
            let (inner, what) = in_uki(content, other).unwrap_or_else(|| (Vec::new(), bytes(content, other)));
            return Ok(Some(([vec![path.clone()], inner].concat(), what)));
        }
    }
    let (longer, shorter) = if one.len() > two.len() { (&one, &two) } else { (&two, &one) };
    let more = longer.get(shorter.len());
    Ok(more.map(|(path, _)| (vec![path.clone()], "only one of the images has it".to_owned())))
}

fn bytes(one: &[u8], two: &[u8]) -> String {
    let at = position(one, two).unwrap_or(0);
    if one.len() == two.len() {
        return format!("content, from byte {at} on");
    }
    format!("{} and {} bytes, different from byte {at} on", one.len(), two.len())
}

/// The first section that differs of two unified kernel images.
fn in_uki(one: &[u8], two: &[u8]) -> Found {
    let (left, right) = (PeFile64::parse(one).ok()?, PeFile64::parse(two).ok()?);
    for section in left.sections() {
        let name = section.name().ok()?;
        let (data, other) = (section.data().ok()?, right.section_by_name(name)?.data().ok()?);
        if data == other {
            continue;
        }
        let found = match name {
            ".initrd" => in_initrd(data, other),
            ".cmdline" | ".osrel" | ".uname" => Some((Vec::new(), text(data, other))),
            _ => None,
        };
        let (inner, what) = found.unwrap_or_else(|| (Vec::new(), bytes(data, other)));
        return Some(([vec![format!("section {name}")], inner].concat(), what));
    }
    None
}

fn text(one: &[u8], two: &[u8]) -> String {
    let shown = |data: &[u8]| String::from_utf8_lossy(data).trim_end_matches(['\0', '\n']).to_owned();
    format!("{:?} and {:?}", shown(one), shown(two))
}

fn in_initrd(one: &[u8], two: &[u8]) -> Found {
    let unpack = |data: &[u8]| {
        let mut archive = Vec::new();
        // A section is padded with zeros, which are no frame.
        zstd::stream::read::Decoder::new(data).ok()?.single_frame().read_to_end(&mut archive).ok()?;
        archive::entries(&archive)
    };
    let (path, what) = archive::first_difference(&unpack(one)?, &unpack(two)?)?;
    Some((vec![format!("/{path}")], what))
}

#[cfg(test)]
mod tests;
