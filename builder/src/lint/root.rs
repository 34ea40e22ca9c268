//! The finished root, walked once: everything that lints ask about without opening files again.

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsStr;
use std::io::{self, Read as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Component, Path, PathBuf};

use anyhow::Context as _;
use rayon::iter::{IntoParallelIterator as _, ParallelIterator as _};

use super::Machine;
use crate::namespace::Sandbox;

/// As many links as the kernel follows (path_resolution(7)).
const MAX_LINKS: usize = 40;

/// Of programs and libraries this much is read: an ELF magic, or the kernel's limit of a `#!` line (binfmt_script).
const HEAD: u64 = 256;

/// Folders that lie over each other in a root.
#[derive(Debug, Clone, Copy)]
pub struct Layers<'a> {
    /// All of them, topmost first.
    pub folders: &'a [PathBuf],
    /// Those of them in which programs wrote while the image was made; the others hold what packages and overlays ship.
    pub written: &'a [PathBuf],
}

/// The finished root.
#[derive(Debug)]
pub struct Root {
    path: PathBuf,
    nodes: BTreeMap<PathBuf, Node>,
    /// What of this machine must not be in it.
    pub(super) machine: Machine,
    /// Where its own programs run, when they can.
    pub(super) sandbox: Option<Sandbox>,
}

/// What is at a path of the root.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) kind: Kind,
    /// Permission bits.
    pub(super) mode: u32,
    pub(super) owner: u32,
    pub(super) group: u32,
    /// When it came to be what it is on this machine (ctime, seconds).
    pub(super) changed: i64,
    /// Written while the image was made: neither shipped by a package nor by an overlay.
    pub(super) written: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    Folder,
    File {
        /// The first bytes of what may be a program or a library.
        head: Vec<u8>,
        /// Whether it has file capabilities (capabilities(7)).
        capable: bool,
    },
    Link(PathBuf),
    /// A device, a pipe or a socket.
    Special(&'static str),
}

impl Root {
    /// Walks the merged tree at `path`.
    pub fn walk(path: &Path, layers: Layers<'_>, machine: Machine, sandbox: Option<Sandbox>) -> anyhow::Result<Self> {
        let written = written(layers)?;
        let mut nodes: BTreeMap<_, _> = walk_folder(path, Path::new(""))?.into_iter().collect();
        for (path, node) in &mut nodes {
            node.written = written.contains(path);
        }
        Ok(Self { path: path.to_owned(), nodes, machine, sandbox })
    }

    /// Number of paths.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there is nothing at all.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Where it is mounted now.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Everything, sorted by path; paths are relative.
    pub(super) fn nodes(&self) -> impl Iterator<Item = (&PathBuf, &Node)> {
        self.nodes.iter()
    }

    /// Files, sorted by path.
    pub(super) fn files(&self) -> impl Iterator<Item = (&PathBuf, &Node)> {
        self.nodes().filter(|(_, node)| matches!(node.kind, Kind::File { .. }))
    }

    /// Everything below a folder, which must be given without links.
    pub(super) fn below<'a>(&'a self, folder: &'a str) -> impl Iterator<Item = (&'a PathBuf, &'a Node)> {
        let folder = Path::new(folder);
        let from = self.nodes.range(folder.to_owned()..).skip_while(move |(path, _)| *path == folder);
        from.take_while(move |(path, _)| path.starts_with(folder))
    }

    /// What is directly in a folder: name and what it is.
    pub(super) fn entries<'a>(&'a self, folder: &'a str) -> impl Iterator<Item = (&'a str, &'a Node)> {
        self.below(folder).filter_map(move |(path, node)| {
            let name = path.strip_prefix(folder).ok()?;
            (name.components().count() == 1).then_some(())?;
            Some((name.to_str()?, node))
        })
    }

    /// What is at this path, itself.
    pub(super) fn get(&self, path: impl AsRef<Path>) -> Option<&Node> {
        self.nodes.get(path.as_ref())
    }

    /// Follows links: where the path leads inside the root.
    ///
    /// # Errors
    /// The path at which the way ends, because there is nothing, or because links lead round and round.
    pub(super) fn resolve(&self, path: impl AsRef<Path>) -> Result<PathBuf, PathBuf> {
        let mut at = PathBuf::new();
        let mut rest: Vec<Component<'_>> = path.as_ref().components().rev().collect();
        let mut links = 0;
        while let Some(component) = rest.pop() {
            let name: &OsStr = match component {
                Component::RootDir | Component::Prefix(_) => {
                    at = PathBuf::new();
                    continue;
                }
                Component::CurDir => continue,
                Component::ParentDir => {
                    at.pop();
                    continue;
                }
                Component::Normal(name) => name,
            };
            at.push(name);
            match self.nodes.get(&at).map(|node| &node.kind) {
                Some(Kind::Link(target)) => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(at);
                    }
                    at.pop();
                    rest.extend(target.components().rev());
                }
                Some(_) => {}
                None => {
                    at.extend(rest.iter().rev());
                    return Err(at);
                }
            }
        }
        Ok(at)
    }

    /// What is at the end of the path's links.
    pub(super) fn follow(&self, path: impl AsRef<Path>) -> Option<(PathBuf, &Node)> {
        let path = self.resolve(path).ok()?;
        let node = self.nodes.get(&path)?;
        Some((path, node))
    }

    /// Whether a program can be started by this path.
    pub(super) fn is_executable(&self, path: impl AsRef<Path>) -> bool {
        self.follow(path).is_some_and(|(_, node)| matches!(node.kind, Kind::File { .. }) && node.mode & 0o111 != 0)
    }

    /// Content of a file, links followed; nothing when there is no file.
    pub(super) fn read(&self, path: impl AsRef<Path>) -> anyhow::Result<Option<Vec<u8>>> {
        match self.follow(path) {
            Some((path, Node { kind: Kind::File { .. }, .. })) => Ok(Some(fs_err::read(self.path.join(path))?)),
            _ => Ok(None),
        }
    }

    /// The same as text; empty when there is no file.
    pub(super) fn text(&self, path: impl AsRef<Path>) -> anyhow::Result<String> {
        let content = self.read(path)?.unwrap_or_default();
        Ok(String::from_utf8_lossy(&content).into_owned())
    }

    #[cfg(test)]
    pub(super) fn node_mut(&mut self, path: &str) -> &mut Node {
        self.nodes.get_mut(Path::new(path)).unwrap()
    }
}

/// Paths whose topmost layer is one of those that programs wrote.
fn written(layers: Layers<'_>) -> anyhow::Result<HashSet<PathBuf>> {
    let (mut seen, mut written) = (HashSet::new(), HashSet::new());
    // What is below the last written layer is shipped: no need to look.
    let last = layers.folders.iter().rposition(|folder| layers.written.contains(folder));
    for folder in layers.folders.iter().take(last.map_or(0, |last| last + 1)) {
        for entry in walkdir::WalkDir::new(folder).min_depth(1) {
            let entry = entry.with_context(|| format!("listing {}", folder.display()))?;
            let path = entry.path().strip_prefix(folder)?;
            if !entry.file_type().is_dir() && seen.insert(path.to_owned()) && layers.written.contains(folder) {
                written.insert(path.to_owned());
            }
        }
    }
    Ok(written)
}

fn walk_folder(root: &Path, below: &Path) -> anyhow::Result<Vec<(PathBuf, Node)>> {
    let entries = fs_err::read_dir(root.join(below))?.collect::<Result<Vec<_>, _>>()?;
    let walked: anyhow::Result<Vec<_>> = entries
        .into_par_iter()
        .map(|entry| {
            let path = below.join(entry.file_name());
            let node = look(&entry.path())?;
            let mut found = if node.kind == Kind::Folder { walk_folder(root, &path)? } else { Vec::new() };
            found.push((path, node));
            Ok(found)
        })
        .collect();
    Ok(walked?.into_iter().flatten().collect())
}

fn look(path: &Path) -> anyhow::Result<Node> {
    let metadata = fs_err::symlink_metadata(path)?;
    let (kind, mode) = (metadata.file_type(), metadata.mode() & 0o7777);
    let kind = if kind.is_dir() {
        Kind::Folder
    } else if kind.is_symlink() {
        Kind::Link(fs_err::read_link(path)?)
    } else if kind.is_file() {
        let head = if may_be_program(path, mode) { head(path)? } else { Vec::new() };
        Kind::File { head, capable: has_capabilities(path)? }
    } else if kind.is_block_device() {
        Kind::Special("a block device")
    } else if kind.is_char_device() {
        Kind::Special("a character device")
    } else if kind.is_fifo() {
        Kind::Special("a named pipe")
    } else {
        Kind::Special("a socket")
    };
    let (owner, group) = (metadata.uid(), metadata.gid());
    Ok(Node { kind, mode, owner, group, changed: metadata.ctime(), written: false })
}

fn has_capabilities(path: &Path) -> anyhow::Result<bool> {
    match xattr::get(path, "security.capability") {
        Ok(capabilities) => Ok(capabilities.is_some()),
        // The store's file system has no extended attributes at all.
        Err(error) if error.kind() == io::ErrorKind::Unsupported => Ok(false),
        Err(error) => Err(error).with_context(|| format!("reading the attributes of {}", path.display())),
    }
}

/// Programs are executable; Debian's libraries are not, but have `.so` in their names.
fn may_be_program(path: &Path, mode: u32) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    mode & 0o111 != 0 || name.ends_with(".so") || name.contains(".so.")
}

fn head(path: &Path) -> anyhow::Result<Vec<u8>> {
    let mut head = Vec::new();
    fs_err::File::open(path)?
        .take(HEAD)
        .read_to_end(&mut head)
        .with_context(|| format!("reading {}", path.display()))?;
    Ok(head)
}

#[cfg(test)]
mod tests {
    use super::super::testing::Tree;
    use super::*;

    #[test]
    fn links_are_followed_inside_the_root() {
        let root = Tree::new()
            .file("usr/bin/sh", "")
            .link("bin", "usr/bin")
            .link("etc/loop", "loop")
            .link("etc/up", "../../../bin/sh")
            .link("etc/x", "/bin/no/thing")
            .root();
        assert_eq!(root.resolve("/bin/sh"), Ok("usr/bin/sh".into()));
        assert_eq!(root.resolve("etc/up"), Ok("usr/bin/sh".into()));
        assert_eq!(root.resolve("etc/x"), Err("usr/bin/no/thing".into()));
        assert!(root.resolve("etc/loop").is_err());
    }

    #[test]
    fn the_topmost_layer_says_whether_a_file_was_written() {
        let layers = tempfile::tempdir().unwrap();
        let put = |path: &str| {
            let path = layers.path().join(path);
            fs_err::create_dir_all(path.parent().unwrap()).unwrap();
            fs_err::write(path, "").unwrap();
        };
        for path in [
            "overlay/etc/both",
            "overlay/etc/given",
            "made/etc/both",
            "made/etc/made",
            "packages/etc/made",
            "packages/etc/shipped",
        ] {
            put(path);
        }
        let folders = ["overlay", "made", "packages"].map(|name| layers.path().join(name));
        let written = written(Layers { folders: &folders, written: &folders[1..2] }).unwrap();
        assert_eq!(written, HashSet::from(["etc/made".into()]));
    }

    #[test]
    fn what_is_below_a_folder_does_not_hold_its_neighbours() {
        let root = Tree::new().file("etc/a/b/c", "").file("etc/a-b", "").file("etc/a/d", "").root();
        let below: Vec<_> = root.below("etc/a").map(|(path, _)| path.display().to_string()).collect();
        assert_eq!(below, ["etc/a/b", "etc/a/b/c", "etc/a/d"]);
        assert_eq!(root.entries("etc/a").map(|(name, _)| name).collect::<Vec<_>>(), ["b", "d"]);
    }
}
