//! `control.tar` and `data.tar` in whatever compression deb(5) allows, as one bounded stream.

use std::io::{self, BufReader, Read};

use anyhow::bail;

/// The largest preset of xz (-9e) needs 65 MiB to decompress; nobody honest needs more than this.
const XZ_MEMORY: u64 = 256 << 20;
/// zstd's limit for `--ultra -22 --long`: a window of 128 MiB.
const ZSTD_WINDOW_LOG: u32 = 27;

/// The decompressed content of the member `<base>.tar<suffix>`, at most `limit` bytes of it.
pub fn decompress<'a>(suffix: &str, source: impl Read + 'a, limit: u64) -> anyhow::Result<Bounded<Box<dyn Read + 'a>>> {
    let source = BufReader::with_capacity(64 * 1024, source);
    let stream: Box<dyn Read + 'a> = match suffix {
        "" => Box::new(source),
        ".gz" => Box::new(flate2::bufread::MultiGzDecoder::new(source)),
        ".xz" => {
            let stream = liblzma::stream::Stream::new_stream_decoder(XZ_MEMORY, liblzma::stream::CONCATENATED)?;
            Box::new(liblzma::bufread::XzDecoder::new_stream(source, stream))
        }
        ".zst" => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(source)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG)?;
            Box::new(decoder)
        }
        other => bail!("compressed as `{other}`, which is none of .xz, .zst, .gz"),
    };
    Ok(Bounded { stream, left: limit, limit })
}

/// A stream that fails, rather than ends, beyond its limit: a small file may decompress to petabytes.
#[derive(Debug)]
pub struct Bounded<R> {
    stream: R,
    left: u64,
    limit: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.stream.read(buffer)?;
        self.left = self.left.checked_sub(count as u64).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, format!("more than {} bytes when decompressed", self.limit))
        })?;
        Ok(count)
    }
}
