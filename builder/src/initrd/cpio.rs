//! The "newc" archive that the kernel unpacks (Documentation/driver-api/early-userspace/buffer-format.rst).
//!
//! Fourteen fields of eight hex digits, a name, the data, both padded to four bytes. Owner is root and
//! the time 0 for every entry, so the bytes depend on nothing but names, modes and contents.

use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

const FOLDER: u32 = 0o040_755;
const FILE: u32 = 0o100_644;
const PROGRAM: u32 = 0o100_755;

/// Writes entries in the order they are given; parents before children is the caller's duty.
#[derive(Debug)]
pub(crate) struct Writer<W> {
    out: W,
    inode: u32,
}

impl<W: Write> Writer<W> {
    pub(crate) fn new(out: W) -> Self {
        Self { out, inode: 0 }
    }

    pub(crate) fn folder(&mut self, path: &Path) -> io::Result<()> {
        self.entry(path.as_os_str().as_bytes(), FOLDER, &[])
    }

    pub(crate) fn file(&mut self, path: &Path, data: &[u8], executable: bool) -> io::Result<()> {
        self.entry(path.as_os_str().as_bytes(), if executable { PROGRAM } else { FILE }, data)
    }

    /// Writes the end mark and gives the writer back.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.inode = 0;
        self.entry(b"TRAILER!!!", 0, &[])?;
        Ok(self.out)
    }

    fn entry(&mut self, name: &[u8], mode: u32, data: &[u8]) -> io::Result<()> {
        let size = u32::try_from(data.len()).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
        let name_size = u32::try_from(name.len() + 1).map_err(|_| io::Error::from(io::ErrorKind::InvalidFilename))?;
        self.inode += 1;
        let links = if mode == FOLDER { 2 } else { 1 };
        // ino, mode, uid, gid, nlink, mtime, filesize, device and rdevice (major, minor), namesize, check
        let fields = [self.inode, mode, 0, 0, links, 0, size, 0, 0, 0, 0, name_size, 0];
        self.out.write_all(b"070701")?;
        for field in fields {
            write!(self.out, "{field:08x}")?;
        }
        self.out.write_all(name)?;
        self.out.write_all(b"\0")?;
        self.pad(110 + name.len() + 1)?;
        self.out.write_all(data)?;
        self.pad(data.len())
    }

    fn pad(&mut self, written: usize) -> io::Result<()> {
        self.out.write_all(&[0; 3][..written.next_multiple_of(4) - written])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_has_the_layout_that_the_kernel_documents() {
        let mut writer = Writer::new(Vec::new());
        writer.folder(Path::new("etc")).unwrap();
        writer.file(Path::new("etc/initrd-release"), b"ID=larder\n", false).unwrap();
        writer.file(Path::new("init"), b"program", true).unwrap();
        let bytes = writer.finish().unwrap();
        assert_eq!(bytes.len() % 4, 0);
        assert!(bytes.starts_with(b"07070100000001000041ed"));
        let text = String::from_utf8_lossy(&bytes);
        assert_eq!(text.matches("070701").count(), 4);
        assert!(text.contains("etc/initrd-release\0\0\0\0ID=larder\n"));
        assert!(text.contains("TRAILER!!!\0"));
    }
}
