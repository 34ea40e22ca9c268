//! The two FAT volumes of an image, written in process: the ESP and the seed partition.
//!
//! ```text
//! ESP   EFI/BOOT/BOOTX64.EFI                 systemd-boot, where firmware looks by itself
//!       EFI/systemd/systemd-bootx64.efi      the same, where bootctl(1) updates it
//!       EFI/Linux/larder_VERSION+3.efi       the UKI, with three tries left (Boot Loader Specification)
//!       loader/loader.conf
//! seed  README.txt                           what belongs here
//! ```
//!
//! The same files give the same bytes: time stamps are fixed and the volume id is derived.

mod dots;

use std::fs::File;
use std::io::{self, Read, Seek as _, Write as _};
use std::path::Path;

use anyhow::{Context as _, Result, anyhow};
use fatfs::{Date, DateTime, Dir, FatType, FileSystem, FormatVolumeOptions, FsOptions, Time, TimeProvider};
use serde::Serialize;

use super::gpt::{self, Partition};
use super::version::Version;
use super::window::Window;

/// Boots that a new version has to prove itself before systemd-boot falls back to the other.
pub const TRIES: u32 = 3;
/// UKIs that the ESP must have room for: both slots' and the one being downloaded.
const UKIS: u64 = 3;
/// Room for FATs, directories, loader.conf and what firmware and random-seed add.
const OVERHEAD: u64 = 4 * gpt::MIB;
/// 512 MiB in clusters of 4 KiB make 131,000: enough to be FAT32 at all (65,525), which is what UEFI
/// 13.3 wants of a system partition.
const ESP_CLUSTER: u32 = 4096;
/// Data moves in pieces of this size.
const BUFFER: usize = 1 << 20;

const README: &str = "This is the settings partition of your home server.\r\n\
    \r\n\
    Put your settings file here, under the name nas.toml, before the first start.\r\n\
    The server reads it when it starts, applies it, and removes passwords and\r\n\
    other secrets from it.\r\n";

/// What goes on the ESP.
#[derive(Debug, Clone, Copy)]
pub struct BootFiles<'a> {
    /// Names the UKI.
    pub version: &'a Version,
    /// The unified kernel image.
    pub uki: &'a Path,
    /// systemd-bootx64.efi.
    pub boot_loader: &'a Path,
    /// Content of loader.conf.
    pub loader_conf: &'a str,
}

/// The largest UKI of which three fit next to a boot loader of `boot_loader` bytes.
pub fn largest_uki(boot_loader: u64) -> u64 {
    gpt::ESP_SIZE.saturating_sub(OVERHEAD + 2 * boot_loader.next_multiple_of(4096)) / UKIS / 4096 * 4096
}

/// Formats and fills the ESP in `image`, which must read as zeros there.
pub fn write_esp(image: &File, partition: &Partition, files: &BootFiles<'_>) -> Result<()> {
    let mut window = Window::new(image, partition.start, partition.size);
    let options = FormatVolumeOptions::new().fat_type(FatType::Fat32).bytes_per_cluster(ESP_CLUSTER);
    let volume = Volume::format(&mut window, partition, *b"ESP        ", options).context("formatting the ESP")?;
    let uki = format!("EFI/Linux/{}", files.version.uki_name(TRIES));
    volume.add_file("EFI/BOOT/BOOTX64.EFI", files.boot_loader)?;
    volume.add_file("EFI/systemd/systemd-bootx64.efi", files.boot_loader)?;
    volume.add("loader/loader.conf", &mut files.loader_conf.as_bytes())?;
    volume.add_file(&uki, files.uki)?;
    volume.finish()?;
    dots::drop_long_names_of_dots(&mut window).context("mending the ESP's directories")?;
    window.flush().context("writing the ESP")
}

/// Formats the seed partition in `image` and explains in it what it is for.
pub fn write_seed(image: &File, partition: &Partition) -> Result<()> {
    let mut window = Window::new(image, partition.start, partition.size);
    let label = format!("{:11}", gpt::SEED_LABEL).into_bytes();
    let label = label.try_into().map_err(|_| anyhow!("the seed's label is longer than 11 bytes"))?;
    let volume = Volume::format(&mut window, partition, label, FormatVolumeOptions::new())
        .context("formatting the seed partition")?;
    volume.add("README.txt", &mut README.as_bytes())?;
    volume.finish()?;
    window.flush().context("writing the seed partition")
}

/// A freshly formatted FAT volume that is being filled. The window is flushed by the one who made it:
/// `fatfs` writes behind its own last flush.
struct Volume<'a, 'f>(FileSystem<&'a mut Window<'f>>);

impl<'a, 'f> Volume<'a, 'f> {
    fn format(
        window: &'a mut Window<'f>,
        partition: &Partition,
        label: [u8; 11],
        options: FormatVolumeOptions,
    ) -> Result<Self> {
        let [a, b, c, d, ..] = *partition.id.as_bytes();
        let options = options.volume_label(label).volume_id(u32::from_be_bytes([a, b, c, d]));
        fatfs::format_volume(&mut *window, options)?;
        window.rewind()?;
        Ok(Self(FileSystem::new(window, FsOptions::new().time_provider(&THE_BEGINNING))?))
    }

    fn add_file(&self, path: &str, source: &Path) -> Result<()> {
        self.add(path, &mut fs_err::File::open(source)?)
    }

    fn add(&self, path: &str, source: &mut impl Read) -> Result<()> {
        self.try_add(path, source).with_context(|| format!("writing {path} to a FAT volume"))
    }

    fn try_add(&self, path: &str, source: &mut impl Read) -> io::Result<()> {
        let root = self.0.root_dir();
        for (slash, _) in path.match_indices('/') {
            root.create_dir(&path[..slash])?;
        }
        let mut file = root.create_file(path)?;
        let mut buffer = vec![0; BUFFER];
        loop {
            match source.read(&mut buffer)? {
                0 => return file.flush(),
                read => file.write_all(&buffer[..read])?,
            }
        }
    }

    fn finish(self) -> Result<()> {
        // Counts the free clusters: fatfs leaves the number unknown until someone asks.
        self.0.stats().context("counting free clusters")?;
        self.0.unmount().context("completing a FAT volume")
    }
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
        let mut content = Vec::new();
        io::copy(&mut self.0.root_dir().open_file(path)?, &mut content)?;
        Ok(content)
    }
}

/// Directories of a damaged volume can form loops.
const MAX_DEPTH: u32 = 16;

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
