//! What is written to: a disk, or a plain file in its place.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::fcntl::{FallocateFlags, OFlag, PosixFadviseAdvice, fallocate, posix_fadvise};

use crate::disk::{Machine, Refusal, Target};
use crate::layout::IMAGE_SECTOR;

/// Something with room for a fixed number of bytes. Offsets and lengths are multiples of its sectors; data lies at addresses
/// that the disk can use by itself (4096).
pub trait Device: Sync {
    /// Bytes.
    fn size(&self) -> u64;
    /// Bytes of a logical sector.
    fn sector(&self) -> u32;
    /// Writes all of `data`.
    ///
    /// # Errors
    /// Not all of it was written.
    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()>;
    /// Writes `zeros`, or has the device see to it that there are as many.
    ///
    /// # Errors
    /// As for writing.
    fn write_zeros(&self, zeros: &[u8], offset: u64) -> io::Result<()> {
        self.write_at(zeros, offset)
    }
    /// Fills `data` with what is on the device, not with what a cache remembers.
    ///
    /// # Errors
    /// It cannot be read.
    fn read_at(&self, data: &mut [u8], offset: u64) -> io::Result<()>;
    /// Returns when what was written outlasts a power cut.
    ///
    /// # Errors
    /// It may not.
    fn flush(&self) -> io::Result<()>;
    /// Whether it was pulled out.
    fn is_gone(&self) -> bool {
        false
    }
}

/// How long a node outlives its disk.
const GOODBYE: Duration = Duration::from_secs(2);

/// A disk or a file, past the page cache where its file system can do that.
#[derive(Debug)]
pub struct FileDevice {
    file: File,
    path: PathBuf,
    size: u64,
    sector: u32,
    /// Whether the page cache has to be emptied by hand before something is read.
    cached: bool,
    /// Whether it has refused to make zeros by itself.
    only_writes: AtomicBool,
}

impl FileDevice {
    /// Opens an accepted disk. Nobody else can mount it or take it into a pool meanwhile.
    ///
    /// # Errors
    /// Somebody uses it, it is not the accepted disk any more, or it cannot be opened.
    pub fn open(target: &Target) -> Result<Self, Refusal> {
        let exclusive = if target.is_real() { OFlag::O_EXCL } else { OFlag::empty() };
        let device = Self::open_path(target.node(), exclusive, target.disk().sector).map_err(|error| {
            match error.raw_os_error() {
                Some(code) if code == nix::errno::Errno::EBUSY as i32 => Refusal::Busy,
                _ => Refusal::Unopened(error.to_string()),
            }
        })?;
        // Disks are real on a real computer only, and files are files everywhere else: no folder that looks like a computer
        // is a way to a disk around the rules.
        let kind = device.file.metadata().map_err(|error| Refusal::Unopened(error.to_string()))?;
        let is_expected = if target.is_real() {
            let number = format!("{}:{}", nix::sys::stat::major(kind.rdev()), nix::sys::stat::minor(kind.rdev()));
            kind.file_type().is_block_device() && number == target.disk().number && is_still(target)
        } else {
            kind.is_file()
        };
        if is_expected && device.size == target.disk().size { Ok(device) } else { Err(Refusal::Changed) }
    }

    /// Opens a plain file in the place of a disk.
    ///
    /// # Errors
    /// It cannot be opened, or is no plain file.
    pub fn open_image(path: &Path) -> io::Result<Self> {
        if !std::fs::metadata(path)?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no plain file"));
        }
        Self::open_path(path, OFlag::empty(), IMAGE_SECTOR)
    }

    /// Opens a disk of which others use parts, for whoever knows which parts these are.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn open_in_use(path: &Path, sector: u32) -> io::Result<Self> {
        Self::open_path(path, OFlag::empty(), sector)
    }

    fn open_path(path: &Path, flags: OFlag, sector: u32) -> io::Result<Self> {
        let open = |flags: OFlag| OpenOptions::new().read(true).write(true).custom_flags(flags.bits()).open(path);
        let (file, cached) = match open(flags | OFlag::O_DIRECT) {
            Ok(file) => (file, false),
            // Not every file system can.
            Err(error) if error.raw_os_error() == Some(nix::errno::Errno::EINVAL as i32) => (open(flags)?, true),
            Err(error) => return Err(error),
        };
        let size = io::Seek::seek(&mut &file, io::SeekFrom::End(0))?;
        Ok(Self { file, path: path.to_owned(), size, sector, cached, only_writes: AtomicBool::new(false) })
    }
}

/// Whether the name still means the same disk.
fn is_still(target: &Target) -> bool {
    let now = Machine::here().disks().unwrap_or_default();
    now.iter().any(|disk| {
        let (old, new) = (target.disk(), disk);
        (&old.name, old.sequence, &old.serial) == (&new.name, new.sequence, &new.serial)
    })
}

impl Device for FileDevice {
    fn size(&self) -> u64 {
        self.size
    }

    fn sector(&self) -> u32 {
        self.sector
    }

    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(data, offset)
    }

    /// NVMe, eMMC and most drives with SCSI commands can; so can file systems. For others the kernel refuses at once: with
    /// this flag it does not write in their place (blkdev_fallocate in block/fops.c).
    fn write_zeros(&self, zeros: &[u8], offset: u64) -> io::Result<()> {
        if !self.only_writes.load(Ordering::Relaxed) {
            let hole = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
            let (start, length) = (i64::try_from(offset), i64::try_from(zeros.len()));
            let (Ok(start), Ok(length)) = (start, length) else { return Err(io::ErrorKind::InvalidInput.into()) };
            if fallocate(&self.file, hole, start, length).is_ok() {
                return Ok(());
            }
            self.only_writes.store(true, Ordering::Relaxed);
        }
        self.write_at(zeros, offset)
    }

    fn read_at(&self, data: &mut [u8], offset: u64) -> io::Result<()> {
        if self.cached {
            let (start, length) = (i64::try_from(offset), i64::try_from(data.len()));
            let (Ok(start), Ok(length)) = (start, length) else { return Err(io::ErrorKind::InvalidInput.into()) };
            posix_fadvise(&self.file, start, length, PosixFadviseAdvice::POSIX_FADV_DONTNEED)?;
        }
        self.file.read_exact_at(data, offset)
    }

    fn flush(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    fn is_gone(&self) -> bool {
        // Requests fail some moments before the kernel takes away the node.
        let end = Instant::now() + GOODBYE;
        while self.path.exists() {
            if Instant::now() > end {
                return false;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_are_made_in_a_file_of_another_content() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk");
        std::fs::write(&path, vec![0xa5; 3 << 20]).unwrap();
        let device = FileDevice::open_image(&path).unwrap();
        device.write_zeros(&vec![0; 1 << 20], 1 << 20).unwrap();
        let content = std::fs::read(&path).unwrap();
        let is = |range: std::ops::Range<usize>, byte| content[range].iter().all(|other| *other == byte);
        assert!(is(0..1 << 20, 0xa5) && is(1 << 20..2 << 20, 0) && is(2 << 20..3 << 20, 0xa5));
        assert_eq!(content.len(), 3 << 20);
    }
}
