//! `firstboot install`: the running system goes from the stick to a disk inside.
//!
//! What is copied is the system that runs, not the stick: its root and hash tree, which are verified first; its UKI, with a
//! fresh set of tries; the boot loader; and the files of the seed partition. A second system on the stick, what firmware has
//! left on its ESP and its state stay behind.
//!
//! The disk gets identifiers of its own; only the two partitions of the root have those that follow from the root hash. So
//! which system runs is well-defined while both are connected: the initrd takes the disk whose ESP the boot loader has come
//! from, and that is the firmware's choice.

use std::fs::File;
use std::path::Path;

use anyhow::Context as _;
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};

use crate::boot_disk;
use crate::command_line;
use crate::disk::{Internal, Machine, Rules};
use crate::flash::{Content, Part, files, partitions_of};
use crate::layout::{DISK_MIN_SIZE, ESP_TYPE, SEED_LABEL, SYSTEM_PREFIX, TRIES, UKI_FOLDER};
use crate::report::Mistake;
use crate::settings;
use crate::verity::{self, BLOCK_SIZE, Region, RootHash, Tree, VerityError};

/// What a disk to install to must be like: the same as for a stick, but that it may be built in, which is the purpose.
pub const RULES: Rules = Rules { internal: Internal::Allowed, needed: DISK_MIN_SIZE };

/// Files of the ESP besides the UKI.
const BOOT_FILES: [&str; 3] = ["EFI/BOOT/BOOTX64.EFI", "EFI/systemd/systemd-bootx64.efi", "loader/loader.conf"];

/// The disk that the running system was started from.
#[derive(Debug)]
pub struct Running {
    disk: File,
    sector: u32,
    name: String,
    root_hash: RootHash,
}

impl Running {
    /// Finds it.
    ///
    /// # Errors
    /// This is no larder system, or its disk cannot be read.
    pub fn find() -> anyhow::Result<Self> {
        let foreign = || Mistake::new("this computer does not run larder").hint("start it from a larder stick first");
        let root_hash = command_line::root_hash().map_err(|error| foreign().because(error))?;
        let name = boot_disk::name().map_err(|error| foreign().because(error))?;
        let disk = Machine::here().disk_named(&name)?;
        let file = fs_err::File::open(Path::new("/dev").join(&name))?.into_file();
        // What is mounted from its partitions is cached apart from the disk itself.
        nix::unistd::sync();
        posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED).context("emptying the page cache")?;
        Ok(Self { disk: file, sector: disk.sector, name, root_hash })
    }

    /// What another disk is to hold. All of the root is read, and checked.
    ///
    /// # Errors
    /// Something is missing or damaged.
    pub fn content(&self) -> anyhow::Result<Content<'_>> {
        let missing = |what: &str| {
            Mistake::new(format!("{} has no {what}", self.name)).hint("write the stick anew and start from it")
        };
        let partitions = partitions_of(&self.disk, self.sector)?.ok_or_else(|| missing("partition table"))?;
        let find = |id| partitions.iter().find(|entry| entry.id == id);
        let root =
            find(self.root_hash.root_partition_uuid()).ok_or_else(|| missing("partition of the running root"))?;
        let tree =
            find(self.root_hash.verity_partition_uuid()).ok_or_else(|| missing("hash tree of the running root"))?;
        let region = |start| Region { file: &self.disk, start };
        let superblock = match verity::verify(region(root.range.start), region(tree.range.start), &self.root_hash) {
            Ok(superblock) => superblock,
            Err(error @ VerityError::Io(..)) => return Err(error).context("reading the running root"),
            Err(error) => {
                return Err(Mistake::new(format!("{} is damaged, so it is not copied", self.name))
                    .because(error)
                    .hint("write another stick and start from it")
                    .into());
            }
        };
        let esp =
            partitions.iter().find(|entry| entry.kind == ESP_TYPE).ok_or_else(|| missing("EFI system partition"))?;
        let esp = files(&self.disk, &esp.range).context("reading the EFI system partition")?;
        let seed = partitions.iter().find(|entry| entry.label == SEED_LABEL);
        let seed = seed.map(|seed| files(&self.disk, &seed.range)).transpose().context("reading the seed partition")?;
        let part = |start, size| Part { source: &self.disk, start, size };
        Ok(Content {
            esp: boot_files(esp, &root.label, &self.root_hash).map_err(|what| missing(&what))?,
            seed: seed_files(seed.unwrap_or_default()),
            root: part(root.range.start, superblock.data_blocks * BLOCK_SIZE as u64),
            tree: part(tree.range.start, Tree::over(superblock.data_blocks).size()),
            label: root.label.clone(),
            root_hash: self.root_hash,
        })
    }
}

type Files = Vec<(String, Vec<u8>)>;

/// The boot loader, and the UKI that starts the root with this hash, under the name that it had at first.
fn boot_files(esp: Files, label: &str, root_hash: &RootHash) -> Result<Files, String> {
    let (mut files, mut uki) = (Files::new(), None);
    let argument = format!("roothash={root_hash}");
    for (path, content) in esp {
        if let Some(name) = BOOT_FILES.iter().find(|name| path.eq_ignore_ascii_case(name)) {
            files.push(((*name).to_owned(), content));
        } else if is_below(&path, UKI_FOLDER) && has(&content, argument.as_bytes()) {
            uki = Some(content);
        }
    }
    if let Some(name) = BOOT_FILES.iter().find(|name| files.iter().all(|(path, _)| path != *name)) {
        return Err(format!("file {name}"));
    }
    let version = label.strip_prefix(SYSTEM_PREFIX).unwrap_or(label);
    let uki = uki.ok_or_else(|| format!("kernel for the running root in {UKI_FOLDER}"))?;
    files.push((format!("{UKI_FOLDER}{SYSTEM_PREFIX}{version}+{TRIES}.efi"), uki));
    Ok(files)
}

/// What was made for the owner and by the owner. Desktops leave folders of their own on every stick.
fn seed_files(seed: Files) -> Files {
    let ours = crate::seed::FILES.map(|(name, _)| name);
    let is_ours = |path: &str| ours.iter().chain(&[settings::FILE_NAME]).any(|name| path.eq_ignore_ascii_case(name));
    seed.into_iter().filter(|(path, _)| is_ours(path)).collect()
}

fn is_below(path: &str, folder: &str) -> bool {
    path.get(..folder.len()).is_some_and(|start| start.eq_ignore_ascii_case(folder))
}

fn has(content: &[u8], needle: &[u8]) -> bool {
    memchr::memmem::find(content, needle).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(byte: u8) -> RootHash {
        RootHash::from([byte; 32])
    }

    fn uki(byte: u8) -> Vec<u8> {
        format!("MZ roothash={} console=ttyS0", hash(byte)).into_bytes()
    }

    fn esp() -> Files {
        [
            ("EFI/BOOT/BOOTX64.EFI", b"loader".to_vec()),
            ("EFI/systemd/systemd-bootx64.efi", b"loader".to_vec()),
            ("EFI/Linux/larder_1.0.efi", uki(1)),
            ("EFI/Linux/larder_1.1+2-1.efi", uki(2)),
            ("EFI/Microsoft/Boot/bootmgfw.efi", b"other".to_vec()),
            ("LOADER/LOADER.CONF", b"timeout 0".to_vec()),
            ("loader/random-seed", b"the same for nobody".to_vec()),
        ]
        .map(|(path, content)| (path.to_owned(), content))
        .to_vec()
    }

    #[test]
    fn the_running_system_goes_along_with_all_its_tries_and_nothing_else_does() {
        let files = boot_files(esp(), "larder_1.1", &hash(2)).unwrap();
        let names: Vec<_> = files.iter().map(|(path, _)| path.as_str()).collect();
        assert_eq!(
            names,
            [
                "EFI/BOOT/BOOTX64.EFI",
                "EFI/systemd/systemd-bootx64.efi",
                "loader/loader.conf",
                "EFI/Linux/larder_1.1+3.efi"
            ]
        );
        assert_eq!(files[3].1, uki(2));
    }

    #[test]
    fn a_stick_that_lacks_something_is_not_copied() {
        assert_eq!(boot_files(esp(), "larder_1.1", &hash(3)).unwrap_err(), "kernel for the running root in EFI/Linux/");
        let without_loader = esp().into_iter().filter(|(path, _)| !path.contains("BOOTX64.EFI")).collect();
        assert_eq!(boot_files(without_loader, "larder_1.1", &hash(2)).unwrap_err(), "file EFI/BOOT/BOOTX64.EFI");
    }

    #[test]
    fn of_the_seed_partition_only_what_is_known_goes_along() {
        let seed = ["NAS.TOML", "README.txt", ".Spotlight-V100/store.db", "photo.jpg"];
        let kept = seed_files(seed.map(|path| (path.to_owned(), Vec::new())).to_vec());
        assert_eq!(kept.iter().map(|(path, _)| path.as_str()).collect::<Vec<_>>(), ["NAS.TOML", "README.txt"]);
    }
}
