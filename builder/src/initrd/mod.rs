//! The initrd: a program that finds, verifies and mounts the root, and the kernel modules that it needs for that.
//!
//! ```text
//! /init                     `firstboot-initrd`, a static program (firstboot/src/initrd)
//! /usr/lib/modules/VERSION  the profile's `initrd-modules`, what they need, and depmod's modules.dep
//! /dev /proc /run /sys      mount points
//! /sysroot                  where the root is mounted before it becomes /
//! ```
//!
//! It is read by the firmware, hashed by it up to three times for a TPM, and unpacked by the kernel before anything else
//! happens: what does not help to mount the root does not belong here.

pub(crate) mod cpio;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::report::Mistake;

/// The size that an initrd may have, compressed.
pub const MAXIMUM_SIZE: u64 = 8 * 1024 * 1024;

/// Folders that something is mounted on.
const MOUNT_POINTS: &[&str] = &["dev", "proc", "run", "sys", "sysroot"];

/// The one of depmod's files that the program reads.
const MODULE_INDEX: &str = "modules.dep";

/// What a path of the initrd is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Entry {
    Folder,
    File { source: PathBuf, executable: bool },
}

/// An initrd being assembled: path (relative) to entry, in the order of the archive.
#[derive(Debug, Default)]
struct Assembly {
    entries: BTreeMap<PathBuf, Entry>,
}

/// Assembles the initrd from the program `init` and a tree of kernel `modules`, compressed with zstd.
///
/// # Errors
/// The result exceeds [`MAXIMUM_SIZE`].
pub fn assemble(init: &Path, modules: &Path, out: &Path) -> anyhow::Result<()> {
    let mut assembly = Assembly::default();
    for folder in MOUNT_POINTS {
        assembly.add_folder(Path::new(folder));
    }
    assembly.add_file(Path::new("init"), init.to_owned(), true);
    assembly.add_modules(modules)?;
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

    fn add_file(&mut self, path: &Path, source: PathBuf, executable: bool) {
        if let Some(parent) = path.parent() {
            self.add_folder(parent);
        }
        self.entries.insert(path.to_owned(), Entry::File { source, executable });
    }

    fn add_modules(&mut self, tree: &Path) -> anyhow::Result<()> {
        for entry in walkdir::WalkDir::new(tree) {
            let entry = entry?;
            let is_module = entry.path().extension().is_some_and(|extension| extension == "ko");
            if entry.file_type().is_file() && (is_module || entry.file_name() == MODULE_INDEX) {
                self.add_file(entry.path().strip_prefix(tree)?, entry.path().to_owned(), false);
            }
        }
        Ok(())
    }
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
    fn the_initrd_holds_the_program_its_modules_and_nothing_else() {
        let modules = tempfile::tempdir().unwrap();
        let folder = modules.path().join("usr/lib/modules/6.12.1/kernel/drivers");
        fs_err::create_dir_all(&folder).unwrap();
        for file in ["../../modules.dep", "../../modules.alias.bin", "nvme.ko"] {
            fs_err::write(folder.join(file), "content").unwrap();
        }
        let out = modules.path().join("initrd");
        let init = modules.path().join("init");
        fs_err::write(&init, "program").unwrap();
        assemble(&init, modules.path(), &out).unwrap();
        let archive = zstd::decode_all(&*fs_err::read(&out).unwrap()).unwrap();
        let archive = String::from_utf8_lossy(&archive);
        for present in ["init\0", "sysroot\0", "6.12.1/modules.dep\0", "kernel/drivers/nvme.ko\0"] {
            assert!(archive.contains(present), "{present} is missing");
        }
        assert!(!archive.contains("modules.alias.bin\0"));
    }
}
