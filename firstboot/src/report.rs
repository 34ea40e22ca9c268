//! What a person is told when something fails that they can mend.
//!
//! Errors travel as [`anyhow::Error`]. A [`Mistake`] anywhere in the chain means that the person can mend it, and says how;
//! anything else is a fault of the program.

use std::fmt;

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

/// Whether the person can mend it.
pub fn is_mendable(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| cause.is::<Mistake>())
}

/// The error with its causes, one a line, then the hints, with `more` as the last of them.
pub fn render(error: &anyhow::Error, more: Option<&str>) -> String {
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
    for hint in hints(error).chain(more) {
        text.push_str(&format!("\nhint: {hint}\n"));
    }
    text
}

/// What the mistakes among its causes say to do next.
pub fn hints(error: &anyhow::Error) -> impl Iterator<Item = &str> {
    error.chain().filter_map(|cause| cause.downcast_ref::<Mistake>()?.next.as_deref())
}

/// The line, from 1, of a byte of `text`: for messages that say where.
pub fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_what_why_and_what_to_do_next() {
        let error = anyhow::Error::new(Mistake::new("profile `nas` does not exist").hint("run `larder profiles`"))
            .context("resolving packages");
        insta::assert_snapshot!(render(&error, Some("look twice")), @r"
        error: resolving packages
          caused by: profile `nas` does not exist

        hint: run `larder profiles`

        hint: look twice
        ");
        assert!(is_mendable(&error) && !is_mendable(&anyhow::anyhow!("arithmetic went wrong")));
    }
}
