//! Files with holes: where their data is, copies that keep the holes, digests that do not read them.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::ops::Range;

use nix::errno::Errno;
use nix::unistd::{Whence, lseek};

use crate::hash::{Hash, Hasher};

/// What holes read as, in pieces of this size.
pub(super) static ZEROS: [u8; 1 << 20] = [0; 1 << 20];

/// The parts of `file` that are not holes, in order. A file system that knows no holes says that
/// everything is data (lseek(2), `SEEK_DATA`). Moves the file's offset.
pub fn data_ranges(file: &File) -> io::Result<Vec<Range<u64>>> {
    let mut ranges = Vec::new();
    let mut end = 0;
    loop {
        let start = match lseek(file, end, Whence::SeekData) {
            Ok(start) => start,
            // No data from here to the end of the file.
            Err(Errno::ENXIO) => return Ok(ranges),
            Err(error) => return Err(error.into()),
        };
        end = lseek(file, start, Whence::SeekHole)?;
        ranges.push(start as u64..end as u64);
    }
}

/// Copies `source` to offset `start` of `target`, without writing its holes: the target must read
/// as zeros there. Returns the size of `source`. Moves the offsets of both.
pub fn copy(source: &File, target: &File, start: u64) -> io::Result<u64> {
    let (mut from, mut to) = (source, target);
    for range in data_ranges(source)? {
        from.seek(SeekFrom::Start(range.start))?;
        to.seek(SeekFrom::Start(start + range.start))?;
        let size = range.end - range.start;
        // copy_file_range(2) where the file systems can, which shares blocks on btrfs and XFS.
        if io::copy(&mut from.take(size), &mut to)? != size {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file became shorter while it was copied"));
        }
    }
    let size = source.metadata()?.len();
    if target.metadata()?.len() < start + size {
        target.set_len(start + size)?;
    }
    Ok(size)
}

/// Digest of a whole file, holes and all, which are not read. Moves the file's offset.
pub fn hash(file: &File) -> io::Result<Hash> {
    let mut hasher = Hasher::default();
    let (mut reader, mut done, mut buffer) = (file, 0, vec![0; ZEROS.len()]);
    for range in data_ranges(file)? {
        hash_zeros(&mut hasher, range.start - done);
        reader.seek(SeekFrom::Start(range.start))?;
        let mut left = range.end - range.start;
        while left > 0 {
            let wanted = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            reader.read_exact(&mut buffer[..wanted])?;
            hasher.update(&buffer[..wanted]);
            left -= wanted as u64;
        }
        done = range.end;
    }
    hash_zeros(&mut hasher, file.metadata()?.len() - done);
    Ok(hasher.finish())
}

fn hash_zeros(hasher: &mut Hasher, mut count: u64) {
    while count > 0 {
        let step = count.min(ZEROS.len() as u64);
        hasher.update(&ZEROS[..step as usize]);
        count -= step;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{FileExt as _, MetadataExt as _};

    const MIB: u64 = 1 << 20;

    fn with_holes() -> File {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&[1; 4096], MIB).unwrap();
        file.write_all_at(&[2; 4096], 3 * MIB).unwrap();
        file.set_len(8 * MIB).unwrap();
        file
    }

    fn content(file: &File, range: Range<u64>) -> Vec<u8> {
        let mut bytes = vec![0; (range.end - range.start) as usize];
        file.read_exact_at(&mut bytes, range.start).unwrap();
        bytes
    }

    #[test]
    fn holes_lie_between_the_ranges() {
        let ranges = data_ranges(&with_holes()).unwrap();
        assert!(ranges.iter().any(|range| range.contains(&MIB)));
        assert!(ranges.iter().any(|range| range.contains(&(3 * MIB))));
        assert_eq!(data_ranges(&tempfile::tempfile().unwrap()).unwrap(), []);
    }

    #[test]
    fn the_digest_is_that_of_what_reading_gives() {
        let file = with_holes();
        assert_eq!(hash(&file).unwrap(), Hash::of(content(&file, 0..8 * MIB)));
        let all_hole = tempfile::tempfile().unwrap();
        all_hole.set_len(3 * MIB + 1).unwrap();
        assert_eq!(hash(&all_hole).unwrap(), Hash::of(vec![0; 3 * MIB as usize + 1]));
        assert_eq!(hash(&tempfile::tempfile().unwrap()).unwrap(), Hash::of(""));
    }

    #[test]
    fn a_copy_has_the_same_bytes_and_takes_no_more_room() {
        let (source, target) = (with_holes(), tempfile::tempfile().unwrap());
        assert_eq!(copy(&source, &target, 2 * MIB).unwrap(), 8 * MIB);
        assert!(content(&target, 2 * MIB..10 * MIB) == content(&source, 0..8 * MIB));
        assert_eq!(target.metadata().unwrap().len(), 10 * MIB);
        assert!(target.metadata().unwrap().blocks() <= source.metadata().unwrap().blocks() + 8);
    }
}
