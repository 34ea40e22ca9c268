//! What a person is told when something fails, and the exit status that goes with it.
//!
//! Errors travel as [`anyhow::Error`]. A [`Mistake`] anywhere in the chain means that the person can
//! mend it: exit status 1 and a hint of what to do next. Anything else is our fault: exit status 2.

use std::io;
use std::path::Path;
use std::process::{ExitCode, ExitStatus};

use firstboot::report;
pub use firstboot::report::{Mistake, line_of};

/// The error with its causes, one a line, then the hints: what `larder` prints before it exits.
pub fn render(error: &anyhow::Error) -> String {
    let has_hint = report::hints(error).next().is_some();
    report::render(error, Some(DISK_FULL_HINT).filter(|_| !has_hint && is_disk_full(error)))
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

/// 1 when the person can mend it, 2 when it is our fault.
pub fn exit_code(error: &anyhow::Error) -> ExitCode {
    let mendable = is_disk_full(error) || report::is_mendable(error);
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
    fn a_mistake_ends_with_status_1_and_a_fault_of_ours_with_2() {
        let error = anyhow::Error::new(Mistake::new("profile `nas` does not exist")).context("resolving packages");
        assert_eq!(exit_code(&error), ExitCode::from(1));
        assert_eq!(exit_code(&anyhow::anyhow!("arithmetic went wrong")), ExitCode::from(2));
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
