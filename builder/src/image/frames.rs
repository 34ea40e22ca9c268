//! An `.img.zst` as a file that can be read from any place: see [`super::compress`] for what its frames are.
//!
//! A frame is a header, which tells how long its content is, and blocks, each with its length before it (RFC 8878, 3.1.1);
//! so all frames are found by reading some bytes of each block, and a place needs no more than its own frame.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::sync::{Arc, Mutex, PoisonError};

use firstboot::flash::Source;

/// First bytes of a frame (RFC 8878, 3.1.1).
pub const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// Longest content of a frame that is worth to be decompressed for a part of it.
const MAX_CONTENT: u64 = 32 << 20;
/// Longest header: magic number, descriptor, window, dictionary, length of the content.
const MAX_HEADER: usize = 4 + 1 + 1 + 4 + 8;
/// Length of a checksum.
const CHECKSUM: u64 = 4;

/// A compressed image.
#[derive(Debug)]
pub struct Frames {
    file: File,
    frames: Vec<Frame>,
    /// The frame that was decompressed last, with its number: directories are read in small pieces.
    recent: Mutex<Option<(usize, Arc<Vec<u8>>)>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Frame {
    /// Where in the compressed file.
    compressed: Range<u64>,
    /// Where in the image.
    content: Range<u64>,
}

impl Frames {
    /// Finds the frames. `None` when they are not short, or do not tell how long they are: another program has made them.
    ///
    /// # Errors
    /// The file cannot be read, or ends within a frame.
    pub fn open(file: File) -> io::Result<Option<Self>> {
        let size = file.metadata()?.len();
        let (mut frames, mut content) = (Vec::new(), 0);
        let mut reader = io::BufReader::with_capacity(64, &file);
        let mut start = 0;
        while start < size {
            let Some((end, length)) = frame(&mut reader, start)? else { return Ok(None) };
            if end > size {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            frames.push(Frame { compressed: start..end, content: content..content + length });
            (start, content) = (end, content + length);
        }
        Ok(Some(Self { file, frames, recent: Mutex::new(None) }))
    }

    fn decompressed(&self, number: usize) -> io::Result<Arc<Vec<u8>>> {
        let recent = || self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, content)) = recent().as_ref().filter(|(which, _)| *which == number) {
            return Ok(Arc::clone(content));
        }
        let frame = &self.frames[number];
        let mut compressed = vec![0; (frame.compressed.end - frame.compressed.start) as usize];
        self.file.read_exact_at(&mut compressed, frame.compressed.start)?;
        let length = (frame.content.end - frame.content.start) as usize;
        let content = zstd::bulk::decompress(&compressed, length)?;
        if content.len() != length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let content = Arc::new(content);
        *recent() = Some((number, Arc::clone(&content)));
        Ok(content)
    }
}

impl Source for Frames {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let mut done = 0;
        while done < buffer.len() {
            let at = offset + done as u64;
            let number = self.frames.partition_point(|frame| frame.content.end <= at);
            let frame = self.frames.get(number).ok_or(io::ErrorKind::UnexpectedEof)?;
            let content = self.decompressed(number)?;
            let rest = &content[(at - frame.content.start) as usize..];
            let length = rest.len().min(buffer.len() - done);
            buffer[done..done + length].copy_from_slice(&rest[..length]);
            done += length;
        }
        Ok(())
    }
}

/// Where the frame that begins at `start` ends, and how long its content is.
fn frame(reader: &mut io::BufReader<&File>, start: u64) -> io::Result<Option<(u64, u64)>> {
    let mut header = [0; MAX_HEADER];
    seek(reader, start)?;
    // The header of a short last frame may be all that is left.
    let mut filled = 0;
    while let read @ 1.. = reader.read(&mut header[filled..])? {
        filled += read;
    }
    if !header[..filled].starts_with(&MAGIC) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is no zstd file"));
    }
    let descriptor = header[4];
    let is_single = descriptor >> 5 & 1 == 1;
    let dictionary = [0, 1, 2, 4][usize::from(descriptor & 3)];
    let at = 5 + usize::from(!is_single) + dictionary;
    let length_size = [usize::from(is_single), 2, 4, 8][usize::from(descriptor >> 6)];
    let mut length = [0; 8];
    length[..length_size].copy_from_slice(&header[at..at + length_size]);
    // Two bytes count from 256 on.
    let length = u64::from_le_bytes(length) + if length_size == 2 { 256 } else { 0 };
    if length_size == 0 || length == 0 || length > MAX_CONTENT {
        return Ok(None);
    }
    let mut end = start + (at + length_size) as u64;
    loop {
        let mut block = [0; 4];
        seek(reader, end)?;
        reader.read_exact(&mut block[..3])?;
        let block = u32::from_le_bytes(block);
        // A block of one repeated byte has that byte only, whatever its length.
        let size = if block >> 1 & 3 == 1 { 1 } else { u64::from(block >> 3) };
        end += 3 + size;
        if block & 1 == 1 {
            break;
        }
    }
    Ok(Some((end + if descriptor >> 2 & 1 == 1 { CHECKSUM } else { 0 }, length)))
}

fn seek(reader: &mut io::BufReader<&File>, to: u64) -> io::Result<()> {
    reader.seek(SeekFrom::Start(to)).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::compress;
    use indicatif::ProgressBar;
    use proptest::prelude::*;
    use std::io::Write as _;

    const MIB: usize = 1 << 20;

    /// An image of 13 MiB with text, zeros and a short last frame, and its bytes.
    fn image() -> (File, Vec<u8>) {
        let mut bytes = vec![0; 13 * MIB + 512];
        for (i, byte) in bytes[..5 * MIB].iter_mut().enumerate() {
            *byte = (i.wrapping_mul(i) >> 7) as u8;
        }
        bytes[13 * MIB + 5] = 7;
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&bytes).unwrap();
        (file, bytes)
    }

    fn compressed(content: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        file
    }

    fn ours() -> Vec<u8> {
        let mut bytes = Vec::new();
        compress::compress(&image().0, &mut bytes, &ProgressBar::hidden()).unwrap();
        bytes
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn every_place_reads_as_in_the_image(places in prop::collection::vec((0..13 * MIB, 1..5 * MIB), 1..8)) {
            let (expected, frames) = (image().1, Frames::open(compressed(&ours())).unwrap().unwrap());
            for (start, length) in places {
                let end = (start + length).min(expected.len());
                let mut buffer = vec![1; end - start];
                frames.read_at(&mut buffer, start as u64).unwrap();
                prop_assert!(buffer == expected[start..end]);
            }
        }

        #[test]
        fn noise_is_no_reason_to_panic(mut noise in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = Frames::open(compressed(&noise));
            noise.splice(0..0, MAGIC);
            let _ = Frames::open(compressed(&noise));
        }
    }

    #[test]
    fn nothing_is_read_behind_the_end() {
        let frames = Frames::open(compressed(&ours())).unwrap().unwrap();
        let error = frames.read_at(&mut [0; 1024], 13 * MIB as u64).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_cut_file_is_an_error_and_so_is_a_flipped_bit() {
        let bytes = ours();
        assert!(Frames::open(compressed(&bytes[..bytes.len() - 5])).is_err());
        let mut flipped = bytes;
        let middle = flipped.len() / 2;
        flipped[middle] ^= 1;
        let frames = Frames::open(compressed(&flipped));
        let damaged = frames.is_err() || frames.unwrap().unwrap().read_at(&mut vec![0; 13 * MIB], 0).is_err();
        assert!(damaged);
    }

    #[test]
    fn a_stream_that_does_not_tell_its_length_is_somebody_elses() {
        let stream = zstd::stream::encode_all(image().1.as_slice(), 1).unwrap();
        assert!(Frames::open(compressed(&stream)).unwrap().is_none());
    }
}
