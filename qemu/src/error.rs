//! What can go wrong with a virtual machine. Whatever happens inside the guest comes with the end of its console.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a virtual machine did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A program could not be started at all.
    #[error("starting {program}")]
    Start {
        /// `qemu-system-x86_64`, `swtpm`, …
        program: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A helper program ended with an error.
    #[error("{program} failed ({status}): {stderr}")]
    Program {
        /// Its name.
        program: String,
        /// How it ended.
        status: ExitStatus,
        /// What it wrote to standard error.
        stderr: String,
    },
    /// The VM ended while something was still expected of it.
    #[error("the VM ended ({status}) while waiting for {what}{}{console}", said(.stderr))]
    Ended {
        /// What was expected.
        what: String,
        /// QEMU's exit status.
        status: ExitStatus,
        /// What QEMU complained about.
        stderr: String,
        /// The end of the guest's console.
        console: ConsoleTail,
    },
    /// The guest, or the accelerator under it, reported its own death.
    #[error("the guest failed while waiting for {what}: {line}{console}")]
    Died {
        /// What was expected.
        what: String,
        /// The line that says so.
        line: String,
        /// The end of the guest's console.
        console: ConsoleTail,
    },
    /// Nothing happened for too long.
    #[error("no {what} after {} s{console}", .after.as_secs())]
    Timeout {
        /// What was expected.
        what: String,
        /// How long it was waited for.
        after: Duration,
        /// The end of the guest's console.
        console: ConsoleTail,
    },
    /// A command in the guest failed.
    #[error("`{command}` failed in the guest with status {status}:\n{output}{console}")]
    Guest {
        /// The shell command.
        command: String,
        /// Its exit status.
        status: i32,
        /// Standard output and error together.
        output: String,
        /// The end of the guest's console.
        console: ConsoleTail,
    },
    /// The guest channel said something that is not our protocol.
    #[error("the guest agent sent a line that makes no sense: {0:?}")]
    Protocol(String),
    /// QEMU refused a QMP command.
    #[error("QEMU refused {command}: {class}: {desc}")]
    Qmp {
        /// The command.
        command: String,
        /// QMP's error class.
        class: String,
        /// QMP's explanation.
        desc: String,
    },
    /// The TPM refused to be set up.
    #[error("the TPM refused to be set up; its answer is {0:x?}")]
    Tpm(Vec<u8>),
    /// `LARDER_ACCEL` has a value that means nothing.
    #[error("LARDER_ACCEL is {0:?}; it may be kvm or tcg")]
    Acceleration(String),
    /// The firmware cannot read an MMC.
    #[error("a machine with an MMC needs the image's UKI as well: its firmware has no driver for MMC")]
    MmcWithoutKernel,
    /// The partition table of a virtual disk makes no sense.
    #[error("reading the partition table of {}", .path.display())]
    Gpt {
        /// The disk's file.
        path: PathBuf,
        /// Why.
        #[source]
        source: gptman::Error,
    },
    /// No partition has this label.
    #[error("{} has no partition labelled {label:?}; it has {present:?}", .path.display())]
    NoPartition {
        /// The disk's file.
        path: PathBuf,
        /// The label that was looked for.
        label: String,
        /// The labels it has.
        present: Vec<String>,
    },
    /// A file or a socket.
    #[error("{what}")]
    Io {
        /// What was being done, as a gerund, with the path if there is one.
        what: String,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
}

impl Error {
    /// Wraps an I/O error: `.map_err(Error::io("connecting to QMP"))`.
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }

    /// Wraps an I/O error whose own message already names the path (fs-err's do).
    pub(crate) fn file(source: std::io::Error) -> Self {
        Self::Io { what: "working on the files of the virtual machine".into(), source }
    }
}

fn said(stderr: &str) -> String {
    if stderr.is_empty() { String::new() } else { format!("; QEMU said: {stderr}") }
}

/// The last lines of a guest's console, as they go into an error.
#[derive(Debug, Clone, Default)]
pub struct ConsoleTail {
    /// Where all of it is.
    pub path: PathBuf,
    /// The last lines.
    pub lines: Vec<String>,
}

impl ConsoleTail {
    pub(crate) fn new(path: &Path, text: &str, count: usize) -> Self {
        let lines: Vec<String> = text.lines().map(readable).filter(|line| !line.trim().is_empty()).collect();
        let skip = lines.len().saturating_sub(count);
        Self { path: path.to_owned(), lines: lines[skip..].to_vec() }
    }
}

impl fmt::Display for ConsoleTail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\n  console, last {} lines of {}:", self.lines.len(), self.path.display())?;
        self.lines.iter().try_for_each(|line| write!(f, "\n  | {line}"))
    }
}

/// A console line without the terminal's control sequences: firmware and systemd colour and move a lot.
pub(crate) fn readable(line: &str) -> String {
    let mut plain = String::with_capacity(line.len());
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        if c == '\u{1b}' {
            // CSI: ESC [ parameters, ended by a byte in @…~ (ECMA-48, 5.4). Other sequences: ESC and one more.
            if chars.next_if_eq(&'[').is_some() {
                chars.by_ref().find(|c| ('@'..='~').contains(c));
            } else {
                chars.next();
            }
        } else if !c.is_control() || c == '\t' {
            plain.push(c);
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tail_shows_the_last_lines_without_colours_and_blank_lines() {
        let text = "first\r\n\n\u{1b}[2J\u{1b}[01;01H\n[\u{1b}[0;32m  OK  \u{1b}[0m] Reached \u{1b}[0;1;39mmulti-user\u{1b}[0m.\r\nlast";
        let tail = ConsoleTail::new(Path::new("/tmp/console.log"), text, 2);
        insta::assert_snapshot!(tail.to_string(), @r"

          console, last 2 lines of /tmp/console.log:
          | [  OK  ] Reached multi-user.
          | last
        ");
    }

    proptest::proptest! {
        #[test]
        fn any_console_output_can_be_shown(text in "\\PC*|[\\x00-\\x7f]*") {
            let shown = ConsoleTail::new(Path::new("x"), &text, 5);
            let escapes = shown.lines.iter().any(|line| line.contains('\u{1b}'));
            proptest::prop_assert!(!escapes);
        }
    }
}
