//! Globs of paths, as profiles write them.

use globset::{Glob, GlobBuilder};

/// Parses a glob: `*` stays within a folder name, `**` crosses folders.
pub fn parse(text: &str) -> Result<Glob, globset::Error> {
    GlobBuilder::new(text).literal_separator(true).build()
}
