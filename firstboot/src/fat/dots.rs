//! Mends the directories that fatfs 0.3 writes.
//!
//! It gives `.` and `..` long names as if they were ordinary files (rafalh/rust-fatfs#117). FAT wants
//! them to be the first two entries, without long names (Microsoft's FAT specification, 6.5), and
//! fsck.vfat calls each directory damaged otherwise. In a directory right below the root, `..` must
//! name cluster 0 instead of the root's own (rafalh/rust-fatfs#99). No release has either change.

use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};

use super::geometry::Geometry;
use super::window::Window;

const ENTRY: usize = 32;
const ATTRIBUTES: usize = 11;
const DIRECTORY: u8 = 0x10;
const LONG_NAME: u8 = 0x0f;

/// Goes through all directories of a FAT32 volume that has just been written, each of them no
/// longer than one cluster.
pub(super) fn drop_long_names_of_dots(volume: &mut Window<'_>) -> io::Result<()> {
    let geometry = Geometry::read(volume)?;
    let mut pending = vec![geometry.root];
    while let Some(directory) = pending.pop() {
        mend(volume, geometry.offset(directory), &geometry, &mut pending)?;
    }
    Ok(())
}

fn mend(volume: &mut Window<'_>, offset: u64, geometry: &Geometry, pending: &mut Vec<u32>) -> io::Result<()> {
    let size = geometry.cluster as usize;
    let mut old = vec![0; size];
    volume.seek(SeekFrom::Start(offset))?;
    volume.read_exact(&mut old)?;
    let entries: Vec<&[u8; ENTRY]> = old.as_chunks().0.iter().take_while(|entry| entry[0] != 0).collect();
    let mut new = Vec::with_capacity(size);
    for (i, entry) in entries.iter().enumerate() {
        let of_dot = entries.get(i + 1).is_some_and(|next| is_dot(next));
        if entry[ATTRIBUTES] == LONG_NAME && of_dot {
            continue;
        }
        let mut entry = **entry;
        let is_directory = entry[ATTRIBUTES] != LONG_NAME && entry[ATTRIBUTES] & DIRECTORY != 0;
        if is_directory && !is_dot(&entry) {
            pending.push(first_cluster(&entry));
        } else if is_directory && entry.starts_with(b"..") && first_cluster(&entry) == geometry.root {
            entry[20..22].fill(0);
            entry[26..28].fill(0);
        }
        new.extend_from_slice(&entry);
    }
    new.resize(size, 0);
    volume.seek(SeekFrom::Start(offset))?;
    volume.write_all(&new)
}

fn first_cluster(entry: &[u8; ENTRY]) -> u32 {
    u32::from_le_bytes([entry[26], entry[27], entry[20], entry[21]])
}

/// No other short name can start with a dot.
fn is_dot(entry: &[u8; ENTRY]) -> bool {
    entry[0] == b'.' && entry[ATTRIBUTES] != LONG_NAME
}
