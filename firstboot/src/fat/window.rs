//! One partition of a disk image as if it were a file of its own, for the FAT writer.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt as _;

/// How much is read at once for the many small reads of directories.
const PAGE: usize = 16 << 10;
/// The start of a window is kept in memory until [`Window::flush`]: file allocation tables lie there, and
/// are written four bytes at a time. Those of the ESP take 1 MiB.
const HEAD: usize = 2 << 20;
/// What of the head is unchanged since it was read is not written back, in pieces of this size.
const PIECE: usize = 4096;

/// A range of a file, with its own position. Writing zeros where zeros already are is skipped, so
/// that formatting a volume leaves the holes of a sparse image alone. Nothing else may write to the
/// range meanwhile: what was read last is kept. What was written is in the file after a `flush`.
#[derive(Debug)]
pub struct Window<'a> {
    file: &'a File,
    start: u64,
    size: u64,
    position: u64,
    head: Option<Head>,
    page: Vec<u8>,
    page_start: u64,
}

/// The start of a window, as it is in the file and as it will be.
#[derive(Debug)]
struct Head {
    old: Vec<u8>,
    new: Vec<u8>,
}

impl<'a> Window<'a> {
    /// The `size` bytes of `file` from `start` on.
    pub fn new(file: &'a File, start: u64, size: u64) -> Self {
        Self { file, start, size, position: 0, head: None, page: Vec::new(), page_start: 0 }
    }

    /// How much of `length` bytes from the position on lies inside.
    fn clamp(&self, length: usize) -> usize {
        length.min(usize::try_from(self.size.saturating_sub(self.position)).unwrap_or(usize::MAX))
    }

    /// Fills a buffer from `offset` on; short where the file ends.
    fn load(&self, offset: u64, mut buffer: Vec<u8>) -> io::Result<Vec<u8>> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.file.read_at(&mut buffer[filled..], self.start + offset + filled as u64)? {
                0 => break,
                read => filled += read,
            }
        }
        buffer.truncate(filled);
        Ok(buffer)
    }

    /// What the head holds from the position on; nothing behind it.
    fn head(&mut self) -> io::Result<&mut [u8]> {
        if self.head.is_none() {
            let length = HEAD.min(usize::try_from(self.size).unwrap_or(HEAD));
            let old = self.load(0, vec![0; length])?;
            self.head = Some(Head { new: old.clone(), old });
        }
        let position = usize::try_from(self.position).unwrap_or(usize::MAX);
        Ok(self.head.as_mut().and_then(|head| head.new.get_mut(position..)).unwrap_or_default())
    }

    /// What the page holds from the position on; reads it first if need be.
    fn paged(&mut self) -> io::Result<&[u8]> {
        let page_end = self.page_start + self.page.len() as u64;
        if !(self.page_start..page_end).contains(&self.position) {
            self.page_start = self.position / PAGE as u64 * PAGE as u64;
            let mut page = std::mem::take(&mut self.page);
            page.resize(PAGE, 0);
            self.page = self.load(self.page_start, page)?;
        }
        let skip = (self.position - self.page_start) as usize;
        Ok(self.page.get(skip..).unwrap_or_default())
    }

    /// Keeps the page true to what was just written at the position.
    fn update_page(&mut self, data: &[u8]) {
        let page_end = self.page_start + self.page.len() as u64;
        let first = self.position.max(self.page_start);
        let end = (self.position + data.len() as u64).min(page_end);
        if first < end {
            let of_page = (first - self.page_start) as usize..(end - self.page_start) as usize;
            let of_data = (first - self.position) as usize..(end - self.position) as usize;
            self.page[of_page].copy_from_slice(&data[of_data]);
        }
    }

    fn is_zero_already(&self, data: &[u8]) -> io::Result<bool> {
        if data.len() < 512 || data.iter().any(|byte| *byte != 0) {
            return Ok(false);
        }
        Ok(self.load(self.position, vec![0xff; data.len()])? == data)
    }
}

impl Read for Window<'_> {
    fn read(&mut self, data: &mut [u8]) -> io::Result<usize> {
        let length = self.clamp(data.len());
        let data = &mut data[..length];
        let head = self.head()?;
        let read = if !head.is_empty() {
            let length = length.min(head.len());
            data[..length].copy_from_slice(&head[..length]);
            length
        } else if length >= PAGE {
            self.file.read_at(data, self.start + self.position)?
        } else {
            let paged = self.paged()?;
            let length = length.min(paged.len());
            data[..length].copy_from_slice(&paged[..length]);
            length
        };
        self.position += read as u64;
        Ok(read)
    }
}

impl Write for Window<'_> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let data = &data[..self.clamp(data.len())];
        let head = self.head()?;
        let written = if !head.is_empty() {
            let length = data.len().min(head.len());
            head[..length].copy_from_slice(&data[..length]);
            length
        } else if self.is_zero_already(data)? {
            data.len()
        } else {
            self.file.write_at(data, self.start + self.position)?
        };
        self.update_page(&data[..written]);
        self.position += written as u64;
        Ok(written)
    }

    /// Writes back what has changed in the head.
    fn flush(&mut self) -> io::Result<()> {
        let Some(head) = &mut self.head else { return Ok(()) };
        for (number, (old, new)) in head.old.chunks_mut(PIECE).zip(head.new.chunks(PIECE)).enumerate() {
            if old != new {
                self.file.write_all_at(new, self.start + (number * PIECE) as u64)?;
                old.copy_from_slice(new);
            }
        }
        Ok(())
    }
}

impl Seek for Window<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::End(offset) => self.size.checked_add_signed(offset),
            SeekFrom::Current(offset) => self.position.checked_add_signed(offset),
        };
        self.position = position.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "seek before the start"))?;
        Ok(self.position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn nothing_outside_the_window_is_read_or_written() {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&[7; 3000], 0).unwrap();
        let mut window = Window::new(&file, 1000, 1000);
        assert!(window.write_all(&[0; 1001]).is_err());
        window.flush().unwrap();
        let mut inside = Vec::new();
        window.seek(SeekFrom::Start(0)).unwrap();
        window.read_to_end(&mut inside).unwrap();
        assert_eq!(inside, [0; 1000]);
        let mut all = [0; 3000];
        file.read_exact_at(&mut all, 0).unwrap();
        assert!(all[..1000] == [7; 1000] && all[2000..] == [7; 1000]);
    }

    proptest! {
        #[test]
        fn reads_see_what_was_written_whatever_the_order(
            steps in prop::collection::vec((0u64..50_000, 1usize..20_000, any::<u8>(), any::<bool>()), 1..30),
        ) {
            // Half of it in the head.
            const SIZE: usize = HEAD + 25_000;
            let file = tempfile::tempfile().unwrap();
            file.set_len(SIZE as u64 + 10_000).unwrap();
            let mut window = Window::new(&file, 1000, SIZE as u64);
            let mut model = vec![0; SIZE];
            for (at, length, byte, write) in steps {
                let at = at + HEAD as u64 - 25_000;
                let range = at as usize..(at as usize + length).min(SIZE);
                window.seek(SeekFrom::Start(at)).unwrap();
                if write {
                    model[range.clone()].fill(byte);
                    window.write_all(&model[range]).unwrap();
                } else {
                    let mut seen = vec![0; range.len()];
                    window.read_exact(&mut seen).unwrap();
                    prop_assert!(seen == model[range]);
                }
            }
            window.flush().unwrap();
            let mut all = vec![1; SIZE + 10_000];
            file.read_exact_at(&mut all, 0).unwrap();
            prop_assert!(all[1000..][..SIZE] == model && all[..1000] == [0; 1000] && all[SIZE + 1000..] == [0; 9000]);
        }
    }

    #[test]
    fn zeros_replace_data_and_leave_holes_alone() {
        use std::os::unix::fs::MetadataExt as _;
        let file = tempfile::tempfile().unwrap();
        file.set_len(2 * HEAD as u64).unwrap();
        let mut window = Window::new(&file, 0, 2 * HEAD as u64);
        for at in [0, HEAD as u64] {
            window.seek(SeekFrom::Start(at)).unwrap();
            window.write_all(&[1; PIECE]).unwrap();
            window.flush().unwrap();
            window.seek(SeekFrom::Start(at)).unwrap();
            window.write_all(&[0; PIECE]).unwrap();
            window.write_all(&[0; HEAD - PIECE]).unwrap();
            window.flush().unwrap();
            let mut first = [1; PIECE];
            file.read_exact_at(&mut first, at).unwrap();
            assert_eq!(first, [0; PIECE]);
        }
        assert!(file.metadata().unwrap().blocks() * 512 <= 4 * PIECE as u64);
    }
}
