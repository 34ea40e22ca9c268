//! Which packaged paths stay out of a tree.

use std::path::Path;

use globset::GlobSet;

use crate::path_glob;
use crate::report::Mistake;

/// `exclude` globs with exceptions; paths are relative to the root.
#[derive(Debug, Clone)]
pub struct PathFilter {
    exclude: GlobSet,
    keep: GlobSet,
}

impl PathFilter {
    /// Compiles the globs (see [`path_glob`]).
    pub fn new(exclude: &[String], keep: &[String]) -> Result<Self, Mistake> {
        Ok(Self { exclude: path_glob::set(exclude)?, keep: path_glob::set(keep)? })
    }

    /// A filter that lets everything pass.
    pub fn everything() -> Self {
        Self { exclude: GlobSet::empty(), keep: GlobSet::empty() }
    }

    /// Whether the path goes into the tree.
    pub fn keeps(&self, path: &Path) -> bool {
        !self.exclude.is_match(path) || self.keep.is_match(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kept_paths_win_over_excluded_ones() {
        let owned = |globs: &[&str]| globs.iter().map(|&glob| glob.to_owned()).collect::<Vec<_>>();
        let filter =
            PathFilter::new(&owned(&["usr/share/doc/**", "usr/lib/*.a"]), &owned(&["usr/share/doc/*/copyright"]))
                .unwrap();
        let keeps = |path: &str| filter.keeps(Path::new(path));
        assert!(!keeps("usr/share/doc/adduser/README"));
        assert!(keeps("usr/share/doc/adduser/copyright"));
        assert!(!keeps("usr/lib/libc.a"));
        assert!(keeps("usr/lib/deep/libc.a"));
        assert!(keeps("usr/bin/ls"));
    }

    #[test]
    fn a_broken_glob_is_named() {
        assert_eq!(PathFilter::new(&["usr/[".to_owned()], &[]).unwrap_err().to_string(), "`usr/[` is not a valid glob");
    }
}
