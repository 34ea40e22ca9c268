//! Globs of paths, as profiles write them.

use globset::{Glob, GlobBuilder, GlobSet, GlobSetBuilder};

use crate::report::Mistake;

/// Parses a glob: `*` stays within a folder name, `**` crosses folders.
pub fn parse(text: &str) -> Result<Glob, globset::Error> {
    GlobBuilder::new(text).literal_separator(true).build()
}

/// Compiles globs that are asked together.
///
/// # Errors
/// A [`Mistake`] that names the one which is none.
pub fn set<G: AsRef<str>>(globs: impl IntoIterator<Item = G>) -> Result<GlobSet, Mistake> {
    let mut set = GlobSetBuilder::new();
    for text in globs {
        let glob = parse(text.as_ref());
        set.add(glob.map_err(|error| Mistake::new(format!("`{}` is not a valid glob", text.as_ref())).because(error))?);
    }
    set.build().map_err(|error| Mistake::new("the globs cannot be compiled together").because(error))
}
