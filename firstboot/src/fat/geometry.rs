//! Where things lie on a FAT volume (Microsoft's FAT specification, 3 and 4), and which of it is in use.
//!
//! ```text
//! 11  bytes of a sector     u16      22  sectors of a FAT   u16 (0: FAT32)
//! 13  sectors of a cluster  u8       28  sectors before     u32
//! 14  reserved sectors      u16      32  sectors            u32, when the other one is 0
//! 16  FATs                  u8       36  sectors of a FAT   u32, FAT32 only
//! 17  entries of the root   u16      44  cluster of root    u32, FAT32 only
//! 19  sectors               u16      50  backup boot sector u16, FAT32 only
//! ```

use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;

use super::window::Window;

/// Bytes of a boot sector that count, whatever the size of a sector.
const BOOT_SECTOR: usize = 512;
/// A volume with fewer clusters is FAT12, with fewer than the second number FAT16.
const FAT16_CLUSTERS: u64 = 4085;
const FAT32_CLUSTERS: u64 = 65525;
/// Clusters are counted from 2.
const FIRST_CLUSTER: u64 = 2;
/// Bytes of a directory entry.
const ENTRY: u64 = 32;

/// The boot sector is not that of a FAT volume.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("there is no FAT file system")]
pub struct NotFat;

/// The numbers of the boot sector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    /// Bytes of a sector.
    pub sector: u64,
    /// Bytes of a cluster.
    pub cluster: u64,
    /// Where the first FAT begins.
    fat: u64,
    /// Bytes of a FAT.
    fat_size: u64,
    /// Where the first cluster begins.
    pub data: u64,
    /// Number of clusters.
    clusters: u64,
    /// First cluster of the root of FAT32.
    pub root: u32,
    /// Where FAT32 keeps a copy of the boot sector.
    backup: Option<u64>,
}

impl Geometry {
    /// Reads the boot sector of a volume.
    ///
    /// # Errors
    /// The volume cannot be read, or is no FAT volume ([`NotFat`] inside).
    pub fn read(volume: &mut Window<'_>) -> io::Result<Self> {
        let mut boot = [0; BOOT_SECTOR];
        let size = volume.seek(SeekFrom::End(0))?;
        volume.seek(SeekFrom::Start(0))?;
        volume.read_exact(&mut boot)?;
        Self::parse(&boot, size).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, NotFat))
    }

    /// `size` is that of the partition: nothing may lie behind its end.
    fn parse(boot: &[u8; BOOT_SECTOR], size: u64) -> Option<Self> {
        let u16_at = |at: usize| u64::from(u16::from_le_bytes([boot[at], boot[at + 1]]));
        let u32_at = |at: usize| u64::from(u32::from_le_bytes(std::array::from_fn(|i| boot[at + i])));
        let or = |small: u64, large: u64| if small == 0 { large } else { small };
        let (sector, per_cluster) = (u16_at(11), u64::from(boot[13]));
        let is_fat = boot[510..] == [0x55, 0xaa]
            && (512..=4096).contains(&sector)
            && sector.is_power_of_two()
            && per_cluster.is_power_of_two();
        if !is_fat {
            return None;
        }
        let (reserved, fats, fat_sectors) = (u16_at(14), u64::from(boot[16]), or(u16_at(22), u32_at(36)));
        // Without a FAT the size of one would have no bounds.
        if fats == 0 {
            return None;
        }
        let root_sectors = (u16_at(17) * ENTRY).div_ceil(sector);
        let before_data = reserved + fats * fat_sectors + root_sectors;
        let sectors = or(u16_at(19), u32_at(32));
        let clusters = sectors.checked_sub(before_data)? / per_cluster;
        let is_fat32 = u16_at(22) == 0;
        let bits = match clusters {
            ..FAT16_CLUSTERS => 12,
            FAT16_CLUSTERS..FAT32_CLUSTERS => 16,
            _ => 32,
        };
        if sectors * sector > size || (clusters + FIRST_CLUSTER) * bits > fat_sectors * sector * 8 {
            return None;
        }
        Some(Self {
            sector,
            cluster: sector * per_cluster,
            fat: reserved * sector,
            fat_size: fat_sectors * sector,
            data: before_data * sector,
            clusters,
            root: if is_fat32 { u32_at(44) as u32 } else { 0 },
            backup: is_fat32.then(|| u16_at(50) * sector).filter(|backup| *backup != 0),
        })
    }

    /// Where a cluster begins.
    pub fn offset(&self, cluster: u32) -> u64 {
        self.data + u64::from(cluster).saturating_sub(FIRST_CLUSTER) * self.cluster
    }

    /// What of the volume is in use, in order: everything before the clusters, and each cluster that belongs to a file or a
    /// folder. The rest may hold anything.
    pub fn in_use(&self, volume: &mut Window<'_>) -> io::Result<Vec<Range<u64>>> {
        let mut table = vec![0; usize::try_from(self.fat_size).map_err(io::Error::other)?];
        volume.seek(SeekFrom::Start(self.fat))?;
        volume.read_exact(&mut table)?;
        let mut ranges: Vec<_> = std::iter::once(0..self.data).collect();
        for number in 0..self.clusters {
            if !self.is_used(&table, number + FIRST_CLUSTER) {
                continue;
            }
            let start = self.data + number * self.cluster;
            match ranges.last_mut() {
                Some(last) if last.end == start => last.end += self.cluster,
                _ => ranges.push(start..start + self.cluster),
            }
        }
        Ok(ranges)
    }

    /// Whether the entry of a cluster is anything but "free". One that the table has no room for is taken as used.
    fn is_used(&self, table: &[u8], cluster: u64) -> bool {
        let cluster = cluster as usize;
        let entry = match self.clusters {
            ..FAT16_CLUSTERS => {
                let at = cluster + cluster / 2;
                table.get(at..at + 2).map(|pair| {
                    let pair = u32::from(u16::from_le_bytes([pair[0], pair[1]]));
                    if cluster.is_multiple_of(2) { pair & 0xfff } else { pair >> 4 }
                })
            }
            FAT16_CLUSTERS..FAT32_CLUSTERS => {
                table.get(2 * cluster..2 * cluster + 2).map(|entry| u32::from(u16::from_le_bytes([entry[0], entry[1]])))
            }
            // The upper four bits are reserved.
            _ => table
                .get(4 * cluster..4 * cluster + 4)
                .map(|entry| u32::from_le_bytes([entry[0], entry[1], entry[2], entry[3]]) & 0x0fff_ffff),
        };
        entry != Some(0)
    }
}

/// Says in the boot sector how many sectors lie before the volume, as mkfs.fat(8) does.
pub(super) fn set_sectors_before(volume: &mut Window<'_>, sectors: u32) -> io::Result<()> {
    let geometry = Geometry::read(volume)?;
    for start in [Some(0), geometry.backup].into_iter().flatten() {
        volume.seek(SeekFrom::Start(start + 28))?;
        volume.write_all(&sectors.to_le_bytes())?;
    }
    Ok(())
}
