//! What the kernel has said since it started.
//!
//! `/dev/kmsg` gives one record for each read, `priority,sequence,microseconds,flags;text`, followed by lines of
//! `␣KEY=value` (Documentation/ABI/testing/dev-kmsg). A log that somebody saved with `dmesg` is understood too.

use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::Context as _;
use nix::fcntl::OFlag;

/// Longest record (`CONSOLE_EXT_LOG_MAX` in kernel/printk/printk.c).
const RECORD: usize = 8192;

/// The kernel's messages, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KernelLog {
    lines: Vec<String>,
}

impl KernelLog {
    /// Reads that of the system below `root`, as far as the kernel still has it.
    ///
    /// # Errors
    /// It cannot be read; only root may.
    pub fn of_system(root: &Path) -> anyhow::Result<Self> {
        let path = root.join("dev/kmsg");
        let open = std::fs::OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(&path);
        let mut file = open.with_context(|| format!("opening {}", path.display()))?;
        let (mut text, mut record) = (Vec::new(), [0; RECORD]);
        loop {
            match file.read(&mut record) {
                Ok(0) => break,
                Ok(length) => text.extend(&record[..length]),
                // Nothing more at the moment.
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                // The next record was overwritten; reading goes on with the oldest one that is left.
                Err(error) if error.raw_os_error() == Some(nix::libc::EPIPE) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
            }
        }
        Ok(Self::of_text(&String::from_utf8_lossy(&text)))
    }

    /// Reads a saved log.
    pub fn of_text(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with(' '));
        Self { lines: lines.map(|line| message(line).to_owned()).collect() }
    }

    /// The messages, without time and priority.
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().map(String::as_str)
    }

    /// The first message that has all of these in it.
    pub fn first(&self, parts: &[&str]) -> Option<&str> {
        self.lines().find(|line| parts.iter().all(|part| line.contains(part)))
    }
}

/// The text of a record, or of a line of dmesg.
fn message(line: &str) -> &str {
    let is_prefix = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b',' | b'-' | b'c'));
    if let Some((_, message)) = line.split_once(';').filter(|(prefix, _)| is_prefix(prefix)) {
        return message;
    }
    match line.strip_prefix('[').and_then(|rest| rest.split_once("] ")) {
        Some((time, message)) if time.trim().bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') => message,
        _ => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_and_saved_logs_give_the_same_messages() {
        let records =
            "6,339,5140900,-;igc 0000:01:00.0: added\n SUBSYSTEM=pci\n DEVICE=+pci:0000:01:00.0\n4,340,1,c;a;b\n";
        let saved = "[    5.140900] igc 0000:01:00.0: added\n[    6.000000] a;b\n";
        let log = KernelLog::of_text(records);
        assert_eq!(log, KernelLog::of_text(saved));
        assert_eq!(log.lines().collect::<Vec<_>>(), ["igc 0000:01:00.0: added", "a;b"]);
        assert_eq!(log.first(&["igc", "added"]), Some("igc 0000:01:00.0: added"));
        assert_eq!(log.first(&["igc", "removed"]), None);
    }

    #[test]
    fn a_file_in_place_of_the_device_is_read_to_its_end() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("dev")).unwrap();
        std::fs::write(root.path().join("dev/kmsg"), "6,1,2,-;line\n".repeat(2000)).unwrap();
        assert_eq!(KernelLog::of_system(root.path()).unwrap().lines().count(), 2000);
        std::fs::remove_file(root.path().join("dev/kmsg")).unwrap();
        assert!(KernelLog::of_system(root.path()).is_err());
    }
}
