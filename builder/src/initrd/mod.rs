//! The initrd: just enough of the image's own systemd to find, verify and mount the root.
//!
//! It is assembled file by file from the configured root (no dracut, no initramfs-tools): the
//! programs and units of [`content`], the libraries that these need, the kernel modules of the
//! profile's `initrd-modules`, and the files of `overlays/initrd`.

mod content;
mod cpio;
mod libraries;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::report::Mistake;
use crate::tree::USR_MERGE;
use libraries::LibrarySearch;

/// The size that an initrd may have, compressed: what does not help to mount the root does not belong here.
pub const MAXIMUM_SIZE: u64 = 14 * 1024 * 1024;

/// What a path of the initrd is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Entry {
    Folder,
    File { source: PathBuf, executable: bool },
    Symlink { target: PathBuf },
}

/// An initrd being assembled: path (relative) to entry, in the order of the archive.
#[derive(Debug, Default)]
struct Assembly {
    entries: BTreeMap<PathBuf, Entry>,
}

/// Assembles the initrd from the merged `root` and `additions` (trees that are copied whole: modules,
/// overlay files), compressed with zstd.
///
/// # Errors
/// A file of [`content`] or a library is missing in the root, or the result exceeds [`MAXIMUM_SIZE`].
pub fn assemble(root: &Path, additions: &[&Path], out: &Path) -> anyhow::Result<()> {
    let mut assembly = Assembly::default();
    for folder in content::MOUNT_POINTS {
        assembly.add_folder(Path::new(folder));
    }
    for &(link, target) in USR_MERGE.iter().chain(content::LINKS) {
        assembly.add_link(Path::new(link), Path::new(target));
    }
    let mut libraries = LibrarySearch::new(root)?;
    for path in content::programs().chain(content::libraries()) {
        assembly.add_with_libraries(root, path, &mut libraries)?;
    }
    for path in content::data() {
        assembly.add_from(root, Path::new(&path))?;
    }
    for (wanting, unit) in content::WANTS {
        let link = Path::new(content::UNITS).join(format!("{wanting}.wants")).join(unit);
        assembly.add_link(&link, &Path::new("..").join(unit));
    }
    for tree in additions {
        assembly.add_tree(tree)?;
    }
    write_compressed(&assembly, out)?;
    let size = fs_err::metadata(out)?.len();
    if size > MAXIMUM_SIZE {
        return Err(Mistake::new(format!("the initrd has {size} bytes, more than {MAXIMUM_SIZE}"))
            .hint("remove modules from `kernel.initrd-modules` in the profile")
            .into());
    }
    Ok(())
}

impl Assembly {
    fn add_folder(&mut self, path: &Path) {
        for folder in path.ancestors().filter(|folder| *folder != Path::new("")) {
            self.entries.entry(folder.to_owned()).or_insert(Entry::Folder);
        }
    }

    fn add_link(&mut self, path: &Path, target: &Path) {
        self.insert(path, Entry::Symlink { target: target.to_owned() });
    }

    fn insert(&mut self, path: &Path, entry: Entry) {
        if let Some(parent) = path.parent() {
            self.add_folder(parent);
        }
        self.entries.insert(path.to_owned(), entry);
    }

    /// Adds a file of the root; a symlink with everything that it leads to.
    fn add_from(&mut self, root: &Path, path: &Path) -> anyhow::Result<()> {
        let source = root.join(path);
        let metadata = source
            .symlink_metadata()
            .with_context(|| format!("the initrd needs /{}, which the image lacks", path.display()))?;
        if metadata.is_symlink() {
            let target = fs_err::read_link(&source)?;
            let next = libraries::link_destination(path, &target);
            self.insert(path, Entry::Symlink { target });
            return self.add_from(root, &next);
        }
        self.insert(path, file_entry(source, &metadata));
        Ok(())
    }

    fn add_with_libraries(&mut self, root: &Path, path: &str, libraries: &mut LibrarySearch<'_>) -> anyhow::Result<()> {
        self.add_from(root, Path::new(path))?;
        for library in libraries.closure(Path::new(path))? {
            self.add_from(root, &library)?;
        }
        Ok(())
    }

    fn add_tree(&mut self, tree: &Path) -> anyhow::Result<()> {
        for entry in walkdir::WalkDir::new(tree).min_depth(1) {
            let entry = entry?;
            let path = entry.path().strip_prefix(tree)?;
            let metadata = entry.metadata()?;
            if metadata.is_dir() {
                self.add_folder(path);
            } else if metadata.is_symlink() {
                self.add_link(path, &fs_err::read_link(entry.path())?);
            } else {
                self.insert(path, file_entry(entry.path().to_owned(), &metadata));
            }
        }
        Ok(())
    }
}

fn file_entry(source: PathBuf, metadata: &std::fs::Metadata) -> Entry {
    use std::os::unix::fs::PermissionsExt as _;
    Entry::File { source, executable: metadata.permissions().mode() & 0o111 != 0 }
}

fn write_compressed(assembly: &Assembly, out: &Path) -> anyhow::Result<()> {
    // Level 15: within 2 % of level 19 on this content at a sixth of its time. The kernel decodes all levels alike.
    let file = std::io::BufWriter::new(fs_err::File::create(out)?);
    let mut encoder = zstd::Encoder::new(file, 15)?;
    // One worker or eight give the same bytes; none would give others (zstd.h, ZSTD_c_nbWorkers).
    encoder.multithread(2)?;
    encoder.include_checksum(true)?;
    let mut archive = cpio::Writer::new(encoder);
    for (path, entry) in &assembly.entries {
        match entry {
            Entry::Folder => archive.folder(path)?,
            Entry::Symlink { target } => archive.symlink(path, target)?,
            Entry::File { source, executable } => archive.file(path, &fs_err::read(source)?, *executable)?,
        }
    }
    let file = archive.finish()?.finish()?;
    file.into_inner().map_err(|error| error.into_error())?.sync_all()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_symlink_brings_what_it_leads_to_and_all_parent_folders() {
        let root = tempfile::tempdir().unwrap();
        fs_err::create_dir_all(root.path().join("usr/bin")).unwrap();
        fs_err::write(root.path().join("usr/bin/kmod"), "program").unwrap();
        fs_err::os::unix::fs::symlink("kmod", root.path().join("usr/bin/modprobe")).unwrap();
        let mut assembly = Assembly::default();
        assembly.add_from(root.path(), Path::new("usr/bin/modprobe")).unwrap();
        let paths: Vec<_> = assembly.entries.keys().map(|path| path.display().to_string()).collect();
        assert_eq!(paths, ["usr", "usr/bin", "usr/bin/kmod", "usr/bin/modprobe"]);
    }

    #[test]
    fn a_file_that_the_image_lacks_is_named() {
        let root = tempfile::tempdir().unwrap();
        let error = Assembly::default().add_from(root.path(), Path::new("usr/bin/absent")).unwrap_err();
        assert_eq!(error.to_string(), "the initrd needs /usr/bin/absent, which the image lacks");
    }
}
