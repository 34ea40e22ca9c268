//! FAT volumes, written and read in process: the ESP and the seed partition.
//!
//! The same files give the same bytes: time stamps are fixed and the volume id is the caller's.

mod dots;
mod geometry;
mod window;

use std::fs::File;
use std::io::{self, Read, Seek as _, Write as _};
use std::ops::Range;

use anyhow::{Context as _, Result};
use fatfs::{Date, DateTime, Dir, FatType, FileSystem, FormatVolumeOptions, FsOptions, Time, TimeProvider};
use serde::Serialize;

pub use geometry::{Geometry, NotFat};
pub use window::Window;

/// 512 MiB in clusters of 4 KiB make 131,000: enough to be FAT32 at all (65,525), which is what UEFI
/// 13.3 wants of a system partition.
const ESP_CLUSTER: u32 = 4096;
/// Data moves in pieces of this size.
const BUFFER: usize = 1 << 20;
/// Directories of a damaged volume can form loops.
const MAX_DEPTH: u32 = 16;
/// Length of a label.
const LABEL: usize = 11;

/// What a FAT volume is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// EFI system partition: FAT32.
    System,
    /// Whatever fits its size.
    Data,
}

/// How a FAT volume is formatted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Format<'a> {
    /// What it is for.
    pub purpose: Purpose,
    /// Up to eleven capital letters.
    pub label: &'a str,
    /// Volume id, also called serial number.
    pub id: u32,
    /// Logical sectors of the disk in bytes: Linux mounts no volume with smaller ones.
    pub sector: u32,
    /// Sectors before the volume on its disk, which the boot sector repeats.
    pub before: u32,
}

/// Formats `range` of `image`, which must read as zeros there, and has it filled.
pub fn write(
    image: &File,
    range: Range<u64>,
    format: &Format<'_>,
    fill: impl FnOnce(&Volume<'_, '_>) -> Result<()>,
) -> Result<()> {
    let mut window = Window::new(image, range.start, range.end - range.start);
    let volume = Volume::format(&mut window, format)?;
    fill(&volume)?;
    volume.finish()?;
    if format.purpose == Purpose::System {
        dots::drop_long_names_of_dots(&mut window).context("mending directories")?;
    }
    geometry::set_sectors_before(&mut window, format.before).context("completing the boot sector")?;
    // `fatfs` writes behind its own last flush.
    Ok(window.flush()?)
}

/// Changes the volume in `range` of `image`.
pub fn change(image: &File, range: Range<u64>, change: impl FnOnce(&Volume<'_, '_>) -> Result<()>) -> Result<()> {
    let mut window = Window::new(image, range.start, range.end - range.start);
    let volume = Volume(FileSystem::new(&mut window, options())?);
    change(&volume)?;
    volume.finish()?;
    Ok(window.flush()?)
}

/// A FAT volume that is being filled.
pub struct Volume<'a, 'f>(FileSystem<&'a mut Window<'f>>);

impl std::fmt::Debug for Volume<'_, '_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Volume")
    }
}

impl<'a, 'f> Volume<'a, 'f> {
    fn format(window: &'a mut Window<'f>, format: &Format<'_>) -> Result<Self> {
        let label = format!("{:LABEL$}", format.label).into_bytes();
        let label = label.try_into().map_err(|_| anyhow::anyhow!("{:?} is longer than {LABEL} bytes", format.label))?;
        let sector = u16::try_from(format.sector).context("sectors are too large for FAT")?;
        let mut options = FormatVolumeOptions::new().volume_label(label).volume_id(format.id).bytes_per_sector(sector);
        if format.purpose == Purpose::System {
            options = options.fat_type(FatType::Fat32).bytes_per_cluster(ESP_CLUSTER);
        }
        fatfs::format_volume(&mut *window, options)?;
        window.rewind()?;
        Ok(Self(FileSystem::new(window, self::options())?))
    }

    /// Adds a file, and the folders above it.
    pub fn add(&self, path: &str, source: &mut impl Read) -> Result<()> {
        self.try_add(path, source).with_context(|| format!("writing {path} to a FAT volume"))
    }

    fn try_add(&self, path: &str, source: &mut impl Read) -> io::Result<()> {
        let root = self.0.root_dir();
        for (slash, _) in path.match_indices('/') {
            root.create_dir(&path[..slash])?;
        }
        let mut file = root.create_file(path)?;
        file.truncate()?;
        let mut buffer = vec![0; BUFFER];
        loop {
            match source.read(&mut buffer)? {
                0 => return file.flush(),
                read => file.write_all(&buffer[..read])?,
            }
        }
    }

    /// Removes a file, if it is there.
    pub fn remove(&self, path: &str) -> Result<()> {
        match self.0.root_dir().remove(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("removing {path} from a FAT volume"))
            }
            _ => Ok(()),
        }
    }

    fn finish(self) -> Result<()> {
        // Counts the free clusters: fatfs leaves the number unknown until someone asks.
        self.0.stats().context("counting free clusters")?;
        self.0.unmount().context("completing a FAT volume")
    }
}

fn options() -> FsOptions {
    FsOptions::new().time_provider(&THE_BEGINNING)
}

/// The first moment that FAT can express: nothing in an image depends on when it was built.
#[derive(Debug)]
struct FixedTime;

static THE_BEGINNING: FixedTime = FixedTime;

impl TimeProvider for FixedTime {
    fn get_current_date(&self) -> Date {
        Date { year: 1980, month: 1, day: 1 }
    }

    fn get_current_date_time(&self) -> DateTime {
        DateTime { date: self.get_current_date(), time: Time { hour: 0, min: 0, sec: 0, millis: 0 } }
    }
}

/// A file on a FAT volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FatFile {
    /// Path from the root of the volume, with `/`.
    pub path: String,
    /// Bytes.
    pub size: u64,
}

/// A FAT volume inside an image, for reading.
pub struct FatReader<'a>(FileSystem<Window<'a>>);

impl std::fmt::Debug for FatReader<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FatReader")
    }
}

impl<'a> FatReader<'a> {
    /// Opens the volume in `size` bytes of `image` from `start` on.
    pub fn open(image: &'a File, start: u64, size: u64) -> io::Result<Self> {
        FileSystem::new(Window::new(image, start, size), FsOptions::new()).map(Self)
    }

    /// The volume's label.
    pub fn label(&self) -> String {
        self.0.volume_label()
    }

    /// The label that desktops show: it is among the files.
    pub fn label_among_files(&self) -> io::Result<Option<String>> {
        self.0.read_volume_label_from_root_dir()
    }

    /// Bytes that are free for more files.
    pub fn free_bytes(&self) -> io::Result<u64> {
        let stats = self.0.stats()?;
        Ok(u64::from(stats.free_clusters()) * u64::from(stats.cluster_size()))
    }

    /// All files, sorted by path.
    pub fn files(&self) -> io::Result<Vec<FatFile>> {
        let mut files = Vec::new();
        walk(&self.0.root_dir(), "", 0, &mut files)?;
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(files)
    }

    /// Content of a file.
    pub fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        self.read_start(path, u64::MAX)
    }

    /// Up to `limit` bytes from the start of a file.
    pub fn read_start(&self, path: &str, limit: u64) -> io::Result<Vec<u8>> {
        let mut content = Vec::new();
        io::copy(&mut self.0.root_dir().open_file(path)?.take(limit), &mut content)?;
        Ok(content)
    }
}

fn walk(dir: &Dir<'_, Window<'_>>, prefix: &str, depth: u32, files: &mut Vec<FatFile>) -> io::Result<()> {
    if depth > MAX_DEPTH {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "directories are nested too deeply"));
    }
    for entry in dir.iter() {
        let entry = entry?;
        let path = format!("{prefix}{}", entry.file_name());
        match entry.is_dir() {
            true if matches!(entry.file_name().as_str(), "." | "..") => {}
            true => walk(&entry.to_dir(), &format!("{path}/"), depth + 1, files)?,
            false => files.push(FatFile { path, size: entry.len() }),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
