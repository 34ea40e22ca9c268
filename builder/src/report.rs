//! What a person is told when something fails, and the exit status that goes with it.
//!
//! Errors travel as [`anyhow::Error`]. A [`Mistake`] anywhere in the chain means that the person can
//! mend it: exit status 1 and a hint of what to do next. Anything else is our fault: exit status 2.

use std::fmt;
use std::io;
use std::path::Path;
use std::process::{ExitCode, ExitStatus};

/// An error which the person at the keyboard can mend (bad input, no network, full disk).
#[derive(Debug)]
pub struct Mistake {
    what: String,
    next: Option<String>,
    source: Option<anyhow::Error>,
}

impl Mistake {
    /// Says what is wrong and where: `profiles/nas.toml:7: unknown key …`.
    pub fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), next: None, source: None }
    }

    /// Adds what to do next, as an instruction.
    #[must_use]
    pub fn hint(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }

    /// Adds the error that led here.
    #[must_use]
    pub fn because(mut self, source: impl Into<anyhow::Error>) -> Self {
        self.source = Some(source.into());
        self
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for Mistake {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|error| &**error as _)
    }
}

/// The error with its causes, one a line, then the hints: what `larder` prints before it exits.
pub fn render(error: &anyhow::Error) -> String {
    let mut text = format!("error: {error}\n");
    let mut last = error.to_string();
    for cause in error.chain().skip(1) {
        let line = cause.to_string();
        // Some crates repeat their source in their own text; once is enough.
        if !last.contains(&line) {
            text.push_str(&format!("  caused by: {line}\n"));
        }
        last = line;
    }
    let mut hints: Vec<_> =
        error.chain().filter_map(|cause| cause.downcast_ref::<Mistake>()?.next.as_deref()).collect();
    if hints.is_empty() && is_disk_full(error) {
        hints.push(DISK_FULL_HINT);
    }
    for hint in hints {
        text.push_str(&format!("\nhint: {hint}\n"));
    }
    text
}

/// Turns an error of the disk below `place` that a person can mend (no room, no permission, a read-only
/// file system) into a [`Mistake`] that names the place; `hint` says where else to go. Others pass.
pub fn blame_disk(error: anyhow::Error, place: &Path, hint: impl Into<String>) -> anyhow::Error {
    use io::ErrorKind::{IsADirectory, NotADirectory, PermissionDenied, ReadOnlyFilesystem};
    let what = io_errors(&error).find_map(|kind| match kind {
        full if is_full(full) => Some("the disk is full"),
        ReadOnlyFilesystem => Some("the file system is read-only"),
        PermissionDenied | NotADirectory | IsADirectory => Some("cannot be written"),
        _ => None,
    });
    let Some(what) = what else { return error };
    Mistake::new(format!("{}: {what}", place.display())).hint(hint).because(error).into()
}

/// A program of a tools tree or of the image failed. It tells of a full disk by text alone.
pub fn program_failed(shown: &str, status: ExitStatus, said: &[u8]) -> anyhow::Error {
    let said = tail(said);
    let failed = format!("{shown} failed ({status}):\n{said}");
    // strerror(ENOSPC) in the locale C, which sandboxes set.
    if said.contains("No space left on device") {
        return anyhow::Error::from(io::Error::from(io::ErrorKind::StorageFull)).context(failed);
    }
    anyhow::anyhow!(failed)
}

/// The last 4 KiB, enough for a compiler's or maintainer script's complaint.
fn tail(said: &[u8]) -> String {
    let start = said.len().saturating_sub(4096);
    String::from_utf8_lossy(&said[start..]).trim_end().to_owned()
}

/// The line, from 1, of a byte of `text`: for messages that say where.
pub fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}

/// 1 when the person can mend it, 2 when it is our fault.
pub fn exit_code(error: &anyhow::Error) -> ExitCode {
    let mendable = is_disk_full(error) || error.chain().any(|cause| cause.is::<Mistake>());
    ExitCode::from(if mendable { 1 } else { 2 })
}

/// For the store, where nearly everything is written; other places have their own words ([`blame_disk`]).
pub const DISK_FULL_HINT: &str = "the disk is full: free some room (`larder cache size`, `larder cache prune`) or set LARDER_CACHE_DIR to another disk; all that one profile needs takes about 4 GB there";

fn is_disk_full(error: &anyhow::Error) -> bool {
    io_errors(error).any(is_full)
}

fn is_full(kind: io::ErrorKind) -> bool {
    matches!(kind, io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn io_errors(error: &anyhow::Error) -> impl Iterator<Item = io::ErrorKind> {
    error.chain().filter_map(|cause| {
        let errno = cause.downcast_ref::<nix::errno::Errno>().map(|errno| io::Error::from(*errno).kind());
        errno.or_else(|| cause.downcast_ref::<io::Error>().map(io::Error::kind))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context as _;

    #[test]
    fn an_error_says_what_why_and_what_to_do_next() {
        let error = anyhow::Error::new(Mistake::new("profile `nas` does not exist").hint("run `larder profiles`"))
            .context("resolving packages");
        insta::assert_snapshot!(render(&error), @r"
        error: resolving packages
          caused by: profile `nas` does not exist

        hint: run `larder profiles`
        ");
        assert_eq!(exit_code(&error), ExitCode::from(1));
    }

    #[test]
    fn an_unexpected_error_is_our_fault() {
        let error = anyhow::anyhow!("arithmetic went wrong");
        assert_eq!(exit_code(&error), ExitCode::from(2));
    }

    #[test]
    fn a_program_that_ran_out_of_room_is_blamed_on_the_disk() {
        use std::os::unix::process::ExitStatusExt as _;
        let failed = |said: &str| program_failed("`mkfs.erofs`", ExitStatus::from_raw(256), said.as_bytes());
        assert_eq!(exit_code(&failed("write: No space left on device")), ExitCode::from(1));
        assert_eq!(exit_code(&failed("write: Input/output error")), ExitCode::from(2));
    }

    #[test]
    fn a_place_that_cannot_be_written_is_named_and_the_cache_is_not() {
        let blamed = |kind| render(&blame_disk(io::Error::from(kind).into(), Path::new("/out"), "choose another"));
        insta::assert_snapshot!(blamed(io::ErrorKind::StorageFull), @r"
        error: /out: the disk is full
          caused by: no storage space

        hint: choose another
        ");
        insta::assert_snapshot!(blamed(io::ErrorKind::PermissionDenied), @r"
        error: /out: cannot be written
          caused by: permission denied

        hint: choose another
        ");
        insta::assert_snapshot!(blamed(io::ErrorKind::InvalidData), @"error: invalid data");
    }

    #[test]
    fn a_full_disk_is_named_as_such() {
        let error = Err::<(), _>(std::io::Error::from(std::io::ErrorKind::StorageFull))
            .context("writing the image")
            .unwrap_err();
        assert!(render(&error).contains("LARDER_CACHE_DIR"));
        assert_eq!(exit_code(&error), ExitCode::from(1));
    }
}
