//! What a person is told when something fails, and the exit status that goes with it.
//!
//! Errors travel as [`anyhow::Error`]. A [`Mistake`] anywhere in the chain means that the person can
//! mend it: exit status 1 and a hint of what to do next. Anything else is our fault: exit status 2.

use std::fmt;
use std::process::ExitCode;

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
    let hints = error.chain().filter_map(|cause| cause.downcast_ref::<Mistake>()?.next.as_deref());
    for hint in hints.chain(disk_full_hint(error)) {
        text.push_str(&format!("\nhint: {hint}\n"));
    }
    text
}

/// The line, from 1, of a byte of `text`: for messages that say where.
pub fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}

/// 1 when the person can mend it, 2 when it is our fault.
pub fn exit_code(error: &anyhow::Error) -> ExitCode {
    let mendable = disk_full_hint(error).is_some() || error.chain().any(|cause| cause.is::<Mistake>());
    ExitCode::from(if mendable { 1 } else { 2 })
}

fn disk_full_hint(error: &anyhow::Error) -> Option<&'static str> {
    let full = error.chain().any(|cause| {
        cause.downcast_ref::<std::io::Error>().is_some_and(|error| {
            matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)
        })
    });
    full.then_some("the disk is full: free some room (`larder cache size`, `larder cache prune`) or set LARDER_CACHE_DIR to another disk")
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
    fn a_full_disk_is_named_as_such() {
        let error = Err::<(), _>(std::io::Error::from(std::io::ErrorKind::StorageFull))
            .context("writing the image")
            .unwrap_err();
        assert!(render(&error).contains("LARDER_CACHE_DIR"));
        assert_eq!(exit_code(&error), ExitCode::from(1));
    }
}
