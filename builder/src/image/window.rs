//! One partition of a disk image as if it were a file of its own, for the FAT writer.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt as _;

/// A range of a file, with its own position. Writing zeros where zeros already are is skipped, so
/// that formatting a volume leaves the holes of a sparse image alone.
#[derive(Debug)]
pub struct Window<'a> {
    file: &'a File,
    start: u64,
    size: u64,
    position: u64,
}

impl<'a> Window<'a> {
    /// The `size` bytes of `file` from `start` on.
    pub fn new(file: &'a File, start: u64, size: u64) -> Self {
        Self { file, start, size, position: 0 }
    }

    /// How much of `length` bytes from the position on lies inside.
    fn clamp(&self, length: usize) -> usize {
        length.min(usize::try_from(self.size.saturating_sub(self.position)).unwrap_or(usize::MAX))
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
        let read = self.file.read_at(&mut data[..length], self.start + self.position)?;
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
