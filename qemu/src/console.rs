//! The guest's serial console: always a log file, read while the guest runs.

use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use crate::error::{ConsoleTail, readable};

/// How much of the console goes into an error.
const TAIL_LINES: usize = 60;

/// Lines after which waiting is pointless.
///
/// A machine without a way to boot, a dead kernel, and systemd's emergency mode, which waits for somebody to log in.
const FATAL: &[&str] = &[
    "Kernel panic - not syncing",
    "KVM internal error",
    "No bootable option or device was found",
    "emergency.target - Emergency Mode",
    "You are in emergency mode",
];

/// The console of one boot. The file holds those of earlier boots too; `start` is where this one begins.
#[derive(Debug, Clone)]
pub struct Console {
    path: PathBuf,
    start: u64,
}

impl Console {
    pub(crate) fn new(path: &Path) -> Self {
        let start = fs_err::metadata(path).map_or(0, |meta| meta.len());
        Self { path: path.to_owned(), start }
    }

    /// Another start begins: what the guest wrote until now is the past.
    pub(crate) fn begin_anew(&mut self) {
        *self = Self::new(&self.path);
    }

    /// Where the log is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All that the guest wrote since this boot, as it came; empty while there is no file yet.
    pub fn text(&self) -> String {
        let mut bytes = Vec::new();
        if let Ok(mut file) = fs_err::File::open(&self.path)
            && file.seek(SeekFrom::Start(self.start)).is_ok()
        {
            let _ = file.read_to_end(&mut bytes);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The first line of this boot that contains `needle`, without control sequences.
    pub fn line_with(&self, needle: &str) -> Option<String> {
        find_line(&self.text(), &[needle])
    }

    /// The line that says that this guest is dead, if there is one.
    pub(crate) fn fatal_line(&self) -> Option<String> {
        find_line(&self.text(), FATAL)
    }

    pub(crate) fn tail(&self) -> ConsoleTail {
        ConsoleTail::new(&self.path, &self.text(), TAIL_LINES)
    }
}

fn find_line(text: &str, needles: &[&str]) -> Option<String> {
    text.lines().map(readable).find(|line| needles.iter().any(|needle| line.contains(needle)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_panic_is_found_between_escape_sequences() {
        let text =
            "boot\r\n[    1.2] \u{1b}[31mKernel panic - not\u{1b}[0m syncing: VFS: Unable to mount root fs\r\nrest";
        let line = find_line(text, FATAL).expect("is fatal");
        assert_eq!(line, "[    1.2] Kernel panic - not syncing: VFS: Unable to mount root fs");
    }

    #[test]
    fn only_this_boot_is_searched() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("console.log");
        fs_err::write(&path, "Kernel panic - not syncing: first boot\n").expect("writes");
        let console = Console::new(&path);
        assert_eq!(console.fatal_line(), None);
    }
}
