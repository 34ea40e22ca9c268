//! One partition of a disk image as if it were a file of its own, for the FAT writer.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt as _;

/// How much is read at once for the many small reads of file allocation tables.
const PAGE: usize = 16 << 10;

/// A range of a file, with its own position. Writing zeros where zeros already are is skipped, so
/// that formatting a volume leaves the holes of a sparse image alone. Nothing else may write to the
/// range meanwhile: what was read last is kept.
#[derive(Debug)]
pub struct Window<'a> {
    file: &'a File,
    start: u64,
    size: u64,
    position: u64,
    page: Vec<u8>,
    page_start: u64,
}

impl<'a> Window<'a> {
    /// The `size` bytes of `file` from `start` on.
    pub fn new(file: &'a File, start: u64, size: u64) -> Self {
        Self { file, start, size, position: 0, page: Vec::new(), page_start: 0 }
    }

    /// How much of `length` bytes from the position on lies inside.
    fn clamp(&self, length: usize) -> usize {
        length.min(usize::try_from(self.size.saturating_sub(self.position)).unwrap_or(usize::MAX))
    }

    /// What the page holds from the position on; reads it first if need be.
    fn paged(&mut self) -> io::Result<&[u8]> {
        let page_end = self.page_start + self.page.len() as u64;
        if !(self.page_start..page_end).contains(&self.position) {
            self.page_start = self.position / PAGE as u64 * PAGE as u64;
            self.page.resize(PAGE, 0);
            let read = self.file.read_at(&mut self.page, self.start + self.page_start)?;
            self.page.truncate(read);
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
        let mut present = vec![0xff; data.len()];
        match self.file.read_exact_at(&mut present, self.start + self.position) {
            Ok(()) => Ok(present == data),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            Err(error) => Err(error),
        }
    }
}

impl Read for Window<'_> {
    fn read(&mut self, data: &mut [u8]) -> io::Result<usize> {
        let length = self.clamp(data.len());
        let read = match length {
            PAGE.. => self.file.read_at(&mut data[..length], self.start + self.position)?,
            _ => {
                let paged = self.paged()?;
                let length = length.min(paged.len());
                data[..length].copy_from_slice(&paged[..length]);
                length
            }
        };
        self.position += read as u64;
        Ok(read)
    }
}

impl Write for Window<'_> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let data = &data[..self.clamp(data.len())];
        let written = match self.is_zero_already(data)? {
            true => data.len(),
            false => self.file.write_at(data, self.start + self.position)?,
        };
        self.update_page(&data[..written]);
        self.position += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
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
            let file = tempfile::tempfile().unwrap();
            file.set_len(60_000).unwrap();
            let mut window = Window::new(&file, 1000, 50_000);
            let mut model = vec![0; 50_000];
            for (at, length, byte, write) in steps {
                let range = at as usize..(at as usize + length).min(50_000);
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
        }
    }

    #[test]
    fn zeros_replace_data_and_leave_holes_alone() {
        use std::os::unix::fs::MetadataExt as _;
        let file = tempfile::tempfile().unwrap();
        file.set_len(1 << 20).unwrap();
        let mut window = Window::new(&file, 0, 1 << 20);
        window.write_all(&[1; 4096]).unwrap();
        window.seek(SeekFrom::Start(0)).unwrap();
        window.write_all(&[0; 1 << 20]).unwrap();
        let mut first = [1; 4096];
        file.read_exact_at(&mut first, 0).unwrap();
        assert_eq!(first, [0; 4096]);
        window.seek(SeekFrom::Start(0)).unwrap();
        let blocks = file.metadata().unwrap().blocks();
        window.write_all(&[0; 1 << 20]).unwrap();
        assert_eq!(file.metadata().unwrap().blocks(), blocks);
    }
}
