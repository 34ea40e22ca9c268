//! `.img.zst`: the image as it is downloaded and flashed.
//!
//! The bytes do not depend on the machine. With at least one worker, zstd cuts its input into jobs
//! whose size and overlap follow from the level alone (lib/compress/zstdmt_compress.c): neither the
//! number of workers nor the size of the pieces that arrive moves a boundary. Only zero workers take
//! another path with another result; so there is always one. Holes are handed over as
//! zeros, which is what reading them would give. The tests below hold this down.

use std::fs::File;
use std::io::{BufWriter, Read as _, Seek as _, SeekFrom, Write};
use std::num::NonZeroU32;
use std::path::Path;
use std::thread::available_parallelism;

use anyhow::{Context as _, Result};
use indicatif::ProgressBar;
use zstd::stream::write::Encoder;

use super::sparse;
use crate::progress::Progress;

/// zstd level. Measured with zstd -T2 on an erofs of 672 MiB of Debian libraries, on a busy machine
/// with 2 cores: 3 gives 31.1 % in 5 s, 6 gives 28.9 % in 17 s, 9 gives 27.5 % in 28 s, 15 gives 27.1 %
/// in 300 s. The image is flashed once and updates are deltas, so the builder's time counts for more.
const LEVEL: i32 = 3;

/// Data moves in pieces of this size.
const BUFFER: usize = 1 << 20;

static ZEROS: [u8; BUFFER] = [0; BUFFER];

/// Compresses the sparse file `image` into `out`, with as many workers as there are cores.
pub fn compress(image: &Path, out: &Path, progress: &Progress) -> Result<()> {
    let cores = available_parallelism().map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(1));
    let workers = NonZeroU32::new(cores).unwrap_or(NonZeroU32::MIN);
    let source = fs_err::File::open(image)?;
    let target = BufWriter::new(fs_err::File::create(out)?);
    let bar = progress.bytes("compress", source.metadata()?.len());
    let target = compress_with(source.file(), target, workers, &bar)
        .with_context(|| format!("compressing {}", image.display()))?;
    target.into_inner().map_err(|error| error.into_error())?.sync_all()?;
    bar.finish_and_clear();
    Ok(())
}

fn compress_with<W: Write>(source: &File, target: W, workers: NonZeroU32, bar: &ProgressBar) -> Result<W> {
    let size = source.metadata()?.len();
    let mut encoder = Encoder::new(target, LEVEL)?;
    encoder.multithread(workers.get())?;
    encoder.include_checksum(true)?;
    encoder.set_pledged_src_size(Some(size))?;
    let mut done = 0;
    for range in sparse::data_ranges(source)? {
        write_zeros(&mut encoder, range.start - done, bar)?;
        write_data(&mut encoder, source, &range, bar)?;
        done = range.end;
    }
    write_zeros(&mut encoder, size - done, bar)?;
    Ok(encoder.finish()?)
}

fn write_zeros(target: &mut impl Write, mut count: u64, bar: &ProgressBar) -> Result<()> {
    while count > 0 {
        let step = count.min(BUFFER as u64);
        target.write_all(&ZEROS[..step as usize])?;
        bar.inc(step);
        count -= step;
    }
    Ok(())
}

fn write_data(
    target: &mut impl Write,
    mut source: &File,
    range: &std::ops::Range<u64>,
    bar: &ProgressBar,
) -> Result<()> {
    source.seek(SeekFrom::Start(range.start))?;
    let mut data = source.take(range.end - range.start);
    let mut buffer = vec![0; BUFFER];
    loop {
        let read = data.read(&mut buffer)?;
        if read == 0 {
            return Ok(());
        }
        target.write_all(&buffer[..read])?;
        bar.inc(read as u64);
    }
}

/// Decompresses `source` into `target`, an empty file, leaving holes where there are zeros.
pub fn decompress(source: &mut impl std::io::Read, target: &File) -> Result<()> {
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
fn fill(source: &mut impl std::io::Read, buffer: &mut [u8]) -> std::io::Result<usize> {
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
    use std::os::unix::fs::{FileExt as _, MetadataExt as _};

    const MIB: usize = 1 << 20;

    /// 40 MiB, several zstd jobs long: half text, half holes.
    fn image(sparse: bool) -> File {
        let file = tempfile::tempfile().unwrap();
        for i in 0..40 {
            if i % 4 < 2 {
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

    fn compressed(image: &File, workers: u32) -> Vec<u8> {
        let workers = NonZeroU32::new(workers).unwrap();
        compress_with(image, Vec::new(), workers, &ProgressBar::hidden()).unwrap()
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
        assert!(copy.metadata().unwrap().blocks() * 512 < 22 * MIB as u64);
    }

    #[test]
    fn a_truncated_download_is_an_error() {
        let bytes = compressed(&image(true), 1);
        let target = tempfile::tempfile().unwrap();
        assert!(decompress(&mut &bytes[..bytes.len() - 5], &target).is_err());
    }
}
