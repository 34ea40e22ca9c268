//! Which shared libraries a program needs, found in the image as its loader would (ld.so(8)).

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use anyhow::Context as _;
use object::read::elf::{Dyn as _, FileHeader as _, SectionHeader as _};
use object::{Endianness, elf};

/// Debian's library folder for amd64, which its loader searches by default.
const LIBRARY_FOLDERS: [&str; 2] = ["usr/lib/x86_64-linux-gnu", "usr/lib"];

/// Finds libraries below a root; remembers what was visited.
#[derive(Debug)]
pub(super) struct LibrarySearch<'a> {
    root: &'a Path,
    visited: BTreeSet<PathBuf>,
}

impl<'a> LibrarySearch<'a> {
    pub(super) fn new(root: &'a Path) -> Self {
        Self { root, visited: BTreeSet::new() }
    }

    /// The libraries that `path` needs, directly or not, that were not given out before.
    pub(super) fn closure(&mut self, path: &Path) -> anyhow::Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        // A library may rely on its program having loaded a further one from the program's own search path.
        let mut search_path = Vec::new();
        let mut queue = vec![resolve(self.root, path)?];
        while let Some(path) = queue.pop() {
            let data = fs_err::read(self.root.join(&path))?;
            let Some(needs) = needs(&data).with_context(|| format!("reading the ELF file /{}", path.display()))? else {
                continue;
            };
            search_path.extend(needs.search_path);
            for name in &needs.libraries {
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
        let folders = search_path.iter().map(PathBuf::as_path).chain(LIBRARY_FOLDERS.map(Path::new));
        folders
            .map(|folder| folder.join(name))
            .find(|path| self.root.join(path).symlink_metadata().is_ok())
            .with_context(|| format!("the library {name} is not in the image"))
    }
}

/// What the dynamic section asks for.
struct Needs {
    libraries: Vec<String>,
    search_path: Vec<PathBuf>,
}

/// `None` for what is no dynamic ELF file (a script, a static program).
fn needs(data: &[u8]) -> anyhow::Result<Option<Needs>> {
    if !data.starts_with(&elf::ELFMAG) {
        return Ok(None);
    }
    let header = elf::FileHeader64::<Endianness>::parse(data)?;
    let endian = header.endian()?;
    let sections = header.sections(endian, data)?;
    let mut needs = Needs { libraries: Vec::new(), search_path: Vec::new() };
    for section in sections.iter() {
        let Some((entries, strings)) = section.dynamic(endian, data)? else { continue };
        let strings = sections.strings(endian, data, strings)?;
        for entry in entries {
            let text = || -> anyhow::Result<String> { Ok(String::from_utf8(entry.string(endian, strings)?.to_vec())?) };
            match entry.tag(endian) {
                elf::DT_NEEDED => needs.libraries.push(text()?),
                elf::DT_RUNPATH | elf::DT_RPATH => needs.search_path = search_path(&text()?),
                _ => {}
            }
        }
    }
    Ok(Some(needs))
}

fn search_path(text: &str) -> Vec<PathBuf> {
    text.split(':').map(|folder| PathBuf::from(folder.trim_start_matches('/'))).collect()
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

    #[test]
    fn a_script_needs_no_libraries() {
        assert!(needs(b"#!/bin/sh\n").unwrap().is_none());
        assert!(needs(b"\x7fELF garbage").is_err());
    }
}
