//! Disks as sparse files, and what may be done to them while the machine is off.

use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use fs_err::{File, OpenOptions};
use nix::unistd::{Whence, lseek};
use uuid::Uuid;

use crate::{Error, Result};

/// A disk of a machine that is off.
#[derive(Debug, Clone)]
pub struct Disk {
    path: PathBuf,
    serial: String,
}

/// One entry of a disk's GUID partition table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// Its number, from 1.
    pub number: u32,
    /// GPT name.
    pub label: String,
    /// Partition type.
    pub type_id: Uuid,
    /// The partition's own id.
    pub id: Uuid,
    /// Where it lies, in bytes from the start of the disk.
    pub bytes: Range<u64>,
}

impl Disk {
    /// An empty disk.
    pub(crate) fn create(path: PathBuf, serial: String, size: u64) -> Result<Self> {
        File::create(&path).and_then(|file| file.set_len(size)).map_err(Error::file)?;
        Ok(Self { path, serial })
    }

    /// A disk that begins with a copy of `image` and has `size` bytes (or the image's, if that is more).
    pub(crate) fn copy_of(image: &Path, path: PathBuf, serial: String, size: u64) -> Result<Self> {
        copy_sparse(image, &path, size).map_err(Error::file)?;
        Ok(Self { path, serial })
    }

    /// The file behind it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its serial number; the same at every boot.
    pub fn serial(&self) -> &str {
        &self.serial
    }

    /// The path under which udev shows an NVMe disk in the guest.
    pub fn by_id(&self) -> String {
        format!("/dev/disk/by-id/nvme-QEMU_NVMe_Ctrl_{}", self.serial)
    }

    /// Flips the lowest bit of the byte at `offset`: what a worn-out flash cell does.
    pub fn flip_bit(&self, offset: u64) -> Result<()> {
        let [byte] = self.read_at::<1>(offset)?;
        self.write_at(offset, &[byte ^ 1])
    }

    /// Overwrites a range with noise that no checksum takes for data.
    pub fn corrupt(&self, range: Range<u64>) -> Result<()> {
        const CHUNK: u64 = 1 << 20;
        let noise: Vec<u8> = (0..CHUNK).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        let mut offset = range.start;
        while offset < range.end {
            let length = CHUNK.min(range.end - offset);
            self.write_at(offset, &noise[..length as usize])?;
            offset += length;
        }
        Ok(())
    }

    /// Reads `N` bytes.
    pub fn read_at<const N: usize>(&self, offset: u64) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        File::open(&self.path).and_then(|file| file.file().read_exact_at(&mut bytes, offset)).map_err(Error::file)?;
        Ok(bytes)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        OpenOptions::new()
            .write(true)
            .open(&self.path)
            .and_then(|file| file.file().write_all_at(bytes, offset))
            .map_err(Error::file)
    }

    /// The stretches of the file that hold data, in bytes; the rest are holes that read as zeros.
    pub fn data(&self) -> Result<Vec<Range<u64>>> {
        File::open(&self.path).and_then(|file| data_ranges(&file)).map_err(Error::file)
    }

    /// Its partitions, by number.
    pub fn partitions(&self) -> Result<Vec<Partition>> {
        let gpt = |source| Error::Gpt { path: self.path.clone(), source };
        let mut file = File::open(&self.path).map_err(Error::file)?;
        let table = gptman::GPT::find_from(&mut file).map_err(gpt)?;
        let sector = table.sector_size;
        Ok(table
            .iter()
            .filter(|(_, entry)| entry.is_used())
            .map(|(number, entry)| Partition {
                number,
                label: entry.partition_name.as_str().to_owned(),
                type_id: Uuid::from_bytes_le(entry.partition_type_guid),
                id: Uuid::from_bytes_le(entry.unique_partition_guid),
                bytes: entry.starting_lba * sector..(entry.ending_lba + 1) * sector,
            })
            .collect())
    }

    /// The first partition with this label.
    pub fn partition(&self, label: &str) -> Result<Partition> {
        let partitions = self.partitions()?;
        let present = partitions.iter().map(|partition| partition.label.clone()).collect();
        partitions.into_iter().find(|partition| partition.label == label).ok_or_else(|| Error::NoPartition {
            path: self.path.clone(),
            label: label.to_owned(),
            present,
        })
    }
}

/// Copies only what is not a hole; `io::copy` uses copy_file_range(2), which shares blocks where the file system can.
fn copy_sparse(from: &Path, to: &Path, size: u64) -> std::io::Result<()> {
    let mut source = File::open(from)?;
    let mut target = File::create(to)?;
    target.set_len(size.max(source.metadata()?.len()))?;
    for range in data_ranges(&source)? {
        source.seek(SeekFrom::Start(range.start))?;
        target.seek(SeekFrom::Start(range.start))?;
        std::io::copy(&mut source.file().take(range.end - range.start), &mut target.file())?;
    }
    target.flush()
}

/// Finds data between holes with SEEK_DATA and SEEK_HOLE (lseek(2)).
fn data_ranges(file: &File) -> std::io::Result<Vec<Range<u64>>> {
    let end = file.metadata()?.len();
    let mut ranges = Vec::new();
    let mut offset = 0;
    while offset < end {
        let start = match lseek(file, offset as i64, Whence::SeekData) {
            Ok(start) => start as u64,
            // Only a hole is left.
            Err(nix::errno::Errno::ENXIO) => break,
            Err(errno) => return Err(errno.into()),
        };
        offset = lseek(file, start as i64, Whence::SeekHole)? as u64;
        ranges.push(start..offset);
    }
    Ok(ranges)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn empty(folder: &tempfile::TempDir) -> Disk {
        Disk::create(folder.path().join("disk.img"), "s".into(), 8 << 20).expect("creates")
    }

    #[test]
    fn a_flipped_bit_is_one_bit() {
        let folder = tempfile::tempdir().expect("folder");
        let disk = empty(&folder);
        disk.flip_bit(4097).expect("flips");
        assert_eq!(disk.read_at::<3>(4096).expect("reads"), [0, 1, 0]);
        disk.flip_bit(4097).expect("flips back");
        assert_eq!(disk.read_at::<3>(4096).expect("reads"), [0, 0, 0]);
    }

    #[test]
    fn a_copy_is_grown_keeps_its_holes_and_leaves_the_image_alone() {
        let folder = tempfile::tempdir().expect("folder");
        let image = empty(&folder);
        image.corrupt(1 << 20..2 << 20).expect("writes");
        let copy = Disk::copy_of(image.path(), folder.path().join("copy"), "c".into(), 64 << 20).expect("copies");
        copy.flip_bit(0).expect("flips");
        let length = |disk: &Disk| fs_err::metadata(disk.path()).expect("is there").len();
        assert_eq!((length(&image), length(&copy)), (8 << 20, 64 << 20));
        assert_eq!(copy.read_at::<4096>(1 << 20).expect("reads"), image.read_at::<4096>(1 << 20).expect("reads"));
        assert_eq!(image.read_at::<1>(0).expect("reads"), [0]);
        assert_eq!(image.data().expect("ranges"), vec![1 << 20..2 << 20]);
    }

    #[test]
    fn partitions_are_found_by_label() {
        let folder = tempfile::tempdir().expect("folder");
        let disk = empty(&folder);
        let mut file = std::fs::OpenOptions::new().read(true).write(true).open(disk.path()).expect("opens");
        let mut gpt = gptman::GPT::new_from(&mut file, 512, [7; 16]).expect("makes");
        gpt[1] = gptman::GPTPartitionEntry {
            partition_name: "larder_1".into(),
            partition_type_guid: [1; 16],
            unique_partition_guid: [2; 16],
            starting_lba: 2048,
            ending_lba: 4095,
            attribute_bits: 0,
        };
        gpt.write_into(&mut file).expect("writes");
        assert_eq!(disk.partition("larder_1").expect("finds").bytes, 1 << 20..2 << 20);
        let error = disk.partition("state").expect_err("is not there").to_string();
        assert!(error.ends_with(r#"has no partition labelled "state"; it has ["larder_1"]"#), "{error}");
    }
}
