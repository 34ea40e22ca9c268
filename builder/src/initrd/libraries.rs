//! Which shared libraries a program of the initrd needs, found in the image as its loader would.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use anyhow::Context as _;

use crate::elf::{Elf, Loader};

/// Finds libraries below a root; remembers what was visited.
#[derive(Debug)]
pub(super) struct LibrarySearch<'a> {
    root: &'a Path,
    loader: Loader,
    visited: BTreeSet<PathBuf>,
}

impl<'a> LibrarySearch<'a> {
    pub(super) fn new(root: &'a Path) -> anyhow::Result<Self> {
        Ok(Self { root, loader: Loader::of_root(root)?, visited: BTreeSet::new() })
    }

    /// The libraries that `path` needs, directly or not, that were not given out before.
    pub(super) fn closure(&mut self, path: &Path) -> anyhow::Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        // A library may rely on its program having loaded a further one from the program's own search path.
        let mut search_path = Vec::new();
        let mut queue = vec![resolve(self.root, path)?];
        while let Some(path) = queue.pop() {
            let Some(elf) = Elf::read(&self.root.join(&path))? else { continue };
            search_path.extend(elf.folders(path.parent().unwrap_or(Path::new(""))));
            for name in &elf.libraries {
                let library = self.find(name, &search_path).with_context(|| format!("/{} needs it", path.display()))?;
                if self.visited.insert(library.clone()) {
                    queue.push(resolve(self.root, &library)?);
                    found.push(library);
                }
            }
        }
        Ok(found)
    }

    fn find(&self, name: &str, search_path: &[PathBuf]) -> anyhow::Result<PathBuf> {
        self.loader
            .candidates(name, search_path)
            .into_iter()
            .find(|path| self.root.join(path).symlink_metadata().is_ok())
            .with_context(|| format!("the library {name} is not in the image"))
    }
}

/// Follows symlinks below `root`, as if `root` were `/`.
fn resolve(root: &Path, path: &Path) -> anyhow::Result<PathBuf> {
    let mut path = path.to_owned();
    // The kernel's own limit (path_resolution(7)).
    for _ in 0..40 {
        if !root.join(&path).symlink_metadata().with_context(|| format!("reading /{}", path.display()))?.is_symlink() {
            return Ok(path);
        }
        path = link_destination(&path, &fs_err::read_link(root.join(&path))?);
    }
    anyhow::bail!("/{}: too many levels of symbolic links", path.display())
}

/// Where a link at `path` (relative to the root) leads, relative to the root again.
pub(super) fn link_destination(path: &Path, target: &Path) -> PathBuf {
    let start = if target.is_absolute() { Path::new("") } else { path.parent().unwrap_or(Path::new("")) };
    let mut destination = PathBuf::new();
    for component in start.join(target.strip_prefix("/").unwrap_or(target)).components() {
        match component {
            Component::ParentDir => {
                destination.pop();
            }
            Component::Normal(name) => destination.push(name),
            _ => {}
        }
    }
    destination
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_followed_inside_the_root_only() {
        let destination =
            |path: &str, target: &str| link_destination(Path::new(path), Path::new(target)).display().to_string();
        assert_eq!(destination("usr/bin/udevd", "../lib/udevd"), "usr/lib/udevd");
        assert_eq!(destination("usr/bin/init", "/usr/lib/systemd/systemd"), "usr/lib/systemd/systemd");
        assert_eq!(destination("a/b", "../../../../etc/shadow"), "etc/shadow");
    }
}
