//! `.img.zst`: the image as it is downloaded and flashed.
//!
//! One zstd frame for each [`FRAME`] bytes of the image, one after the other, which every decoder reads as
//! one file (RFC 8878, section 3). A frame depends on nothing but its own bytes: so frames are made in
//! parallel, and neither the number of cores nor where the file has holes changes the result. A frame of
//! zeros is made once; an image is mostly such.

use std::fs::File;
use std::io::{Read, Seek as _, SeekFrom, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;

use anyhow::{Context as _, Result};
use indicatif::ProgressBar;
use rayon::prelude::*;
use zstd::bulk::Compressor;

use super::sparse::{self, ZEROS};

/// zstd level. Measured on a root of 193 MB, one core: level 1 gives 66.4 MB in 0.8 s, 2 gives 61.8 in 0.8,
/// 3 gives 58.6 in 1.0, 4 gives 58.0 in 1.2, 5 gives 56.1 in 3.0, 6 gives 54.4 in 3.8, 9 gives 52.3 in 5.6,
/// 12 gives 51.9 in 12.6. Beyond 3 each percent costs as much time as the first twelve together; an image is
/// downloaded once and updates are deltas.
const LEVEL: i32 = 3;

/// Bytes of the image in a frame.
const FRAME: u64 = 4 << 20;

/// Frames that are made between two writes; with what is compressed of them this bounds the memory.
const BATCH: usize = 16;

/// Data moves in pieces of this size when it is decompressed.
const BUFFER: usize = 1 << 20;

/// What the result follows from besides the image, as text: another version of zstd may well give other
/// bytes.
pub fn parameters() -> String {
    format!("zstd {} level {LEVEL}, frames of {FRAME}", zstd::zstd_safe::version_string())
}

/// Compresses the sparse file `image` into `target`, with as many workers as there are cores.
pub fn compress(image: &File, mut target: impl Write + Send, bar: &ProgressBar) -> Result<()> {
    let size = image.metadata()?.len();
    let frames = Frames { image, data: sparse::data_ranges(image)?, zeros: frame(&vec![0; FRAME as usize])? };
    let starts: Vec<u64> = (0..size).step_by(FRAME as usize).collect();
    let mut made = Vec::new();
    for batch in starts.chunks(BATCH).chain([[].as_slice()]) {
        let (written, next) = rayon::join(
            || made.iter().try_for_each(|frame: &Vec<u8>| target.write_all(frame)),
            || batch.par_iter().map(|start| frames.make(*start..size.min(start + FRAME), bar)).collect::<Result<_>>(),
        );
        written.context("writing the compressed image")?;
        made = next?;
    }
    Ok(())
}

/// Makes the frames of an image.
struct Frames<'a> {
    image: &'a File,
    data: Vec<Range<u64>>,
    /// The frame of [`FRAME`] zeros.
    zeros: Vec<u8>,
}

impl Frames<'_> {
    fn make(&self, range: Range<u64>, bar: &ProgressBar) -> Result<Vec<u8>> {
        let size = range.end - range.start;
        let made = if size == FRAME && self.is_hole(&range) {
            self.zeros.clone()
        } else {
            let mut content = vec![0; size as usize];
            self.image.read_exact_at(&mut content, range.start).context("reading the image")?;
            if size == FRAME && is_zero(&content) { self.zeros.clone() } else { frame(&content)? }
        };
        bar.inc(size);
        Ok(made)
    }

    fn is_hole(&self, range: &Range<u64>) -> bool {
        let after = self.data.partition_point(|data| data.end <= range.start);
        self.data.get(after).is_none_or(|data| data.start >= range.end)
    }
}

/// A fresh compressor for each: nothing of one frame can leak into the next.
fn frame(content: &[u8]) -> Result<Vec<u8>> {
    let mut compressor = Compressor::new(LEVEL)?;
    compressor.include_checksum(true)?;
    compressor.compress(content).context("compressing a part of the image")
}

fn is_zero(content: &[u8]) -> bool {
    content.chunks(ZEROS.len()).all(|piece| piece == &ZEROS[..piece.len()])
}

/// Decompresses `source` into `target`, an empty file, leaving holes where there are zeros.
pub fn decompress(source: &mut impl Read, target: &File) -> Result<()> {
    let mut decoder = zstd::stream::read::Decoder::new(source)?;
    let mut buffer = vec![0; BUFFER];
    let (mut end, mut target) = (0, target);
    loop {
        let filled = fill(&mut decoder, &mut buffer)?;
        if filled == 0 {
            return target.set_len(end).context("setting the size of the decompressed image");
        }
        for piece in buffer[..filled].chunks(64 << 10) {
            if piece != &ZEROS[..piece.len()] {
                target.seek(SeekFrom::Start(end))?;
                target.write_all(piece)?;
            }
            end += piece.len() as u64;
        }
    }
}

/// Reads until `buffer` is full or the source ends; pieces of zeros are then recognised as such.
fn fill(source: &mut impl Read, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match source.read(&mut buffer[filled..])? {
            0 => break,
            read => filled += read,
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt as _;

    const MIB: usize = 1 << 20;

    /// 40 MiB, many frames long: half text, half holes; the last frame is a short one.
    fn image(sparse: bool) -> File {
        let file = tempfile::tempfile().unwrap();
        for i in 0..40 {
            if i / 6 % 2 == 0 {
                let text: Vec<u8> =
                    (0u64..).flat_map(|n| (n * n * (i + 3)).to_string().into_bytes()).take(MIB).collect();
                file.write_all_at(&text, i * MIB as u64).unwrap();
            } else if !sparse {
                file.write_all_at(&vec![0; MIB], i * MIB as u64).unwrap();
            }
        }
        file.set_len(40 * MIB as u64 + 512).unwrap();
        file
    }

    fn compressed(image: &File, workers: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        let pool = rayon::ThreadPoolBuilder::new().num_threads(workers).build().unwrap();
        pool.install(|| compress(image, &mut bytes, &ProgressBar::hidden())).unwrap();
        bytes
    }

    #[test]
    fn the_number_of_cores_does_not_change_the_bytes() {
        let image = image(true);
        let one = compressed(&image, 1);
        assert!(one == compressed(&image, 2) && one == compressed(&image, 7));
    }

    #[test]
    fn holes_and_written_zeros_give_the_same_bytes() {
        assert!(compressed(&image(true), 2) == compressed(&image(false), 2));
    }

    #[test]
    fn decompressing_restores_the_bytes_and_the_holes() {
        let (image, copy) = (image(true), tempfile::tempfile().unwrap());
        decompress(&mut compressed(&image, 2).as_slice(), &copy).unwrap();
        let read = |file: &File| {
            let mut bytes = vec![0; 40 * MIB + 512];
            file.read_exact_at(&mut bytes, 0).unwrap();
            bytes
        };
        assert!(read(&image) == read(&copy));
        assert_eq!(copy.metadata().unwrap().len(), image.metadata().unwrap().len());
        assert!(copy.metadata().unwrap().blocks() * 512 < 24 * MIB as u64);
    }

    #[test]
    fn a_truncated_or_altered_download_is_an_error() {
        let bytes = compressed(&image(true), 1);
        let target = tempfile::tempfile().unwrap();
        assert!(decompress(&mut &bytes[..bytes.len() - 5], &target).is_err());
        let mut altered = bytes.clone();
        altered[bytes.len() / 2] ^= 1;
        assert!(decompress(&mut altered.as_slice(), &tempfile::tempfile().unwrap()).is_err());
    }
}
