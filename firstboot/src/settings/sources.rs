//! Where the settings come from.
//!
//! | | place | |
//! |---|---|---|
//! | 1 | `/state/larder/nas.toml` | what was applied before, without secrets |
//! | 2 | `nas.toml` on the partition LARDER of the disk that the system was started from | where its owner puts it |
//! | 3 | the credential `larder.nas-toml` | virtual machines (SMBIOS type 11, systemd.system-credentials(7)) |
//! | 4 | `nas.toml` on a USB stick labelled LARDER | for an appliance without a seed that can be reached |
//!
//! The first of 2 to 4 counts, right or wrong: a file that its owner has put there is not passed over. The seed is read
//! without being mounted.

use std::borrow::Cow;
use std::fmt;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::PathBuf;

use anyhow::Context as _;
use gptman::GPT;
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{FILE_NAME, MAX_SIZE, Settings, text_of, understood};
use crate::boot_disk;
use crate::fat::FatReader;
use crate::layout::{BASIC_DATA_TYPE, SEED_LABEL};
use crate::report::Mistake;
use crate::state::State;

/// Name of the credential.
const CREDENTIAL: &str = "larder.nas-toml";
/// Where systemd keeps what the machine was given from outside (systemd.system-credentials(7)); only root can read it.
const CREDENTIALS: &str = "run/credentials/@system";
/// What Windows makes of the name, while it hides the end of it.
const HIDDEN_END: &str = "nas.toml.txt";

/// Where settings were found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "from", rename_all = "kebab-case")]
pub enum Source {
    /// The copy of what was applied.
    State,
    /// The partition of the boot disk.
    Seed,
    /// A credential.
    Credential,
    /// A stick.
    Stick {
        /// As the kernel calls it: `sdb1`.
        device: String,
    },
}

/// Settings, as their owner wrote them.
#[derive(Clone)]
pub struct Found {
    /// Where they were.
    pub source: Source,
    /// The file's text; it may hold secrets.
    pub text: Zeroizing<String>,
}

/// The places of a computer.
#[derive(Debug, Clone)]
pub struct Places {
    root: PathBuf,
    /// The disk that the system was started from, as the kernel calls it.
    boot_disk: Option<String>,
}

impl Found {
    /// Parses them. Of what was applied, by a newer version perhaps, what is not known here is left aside.
    ///
    /// # Errors
    /// They are wrong.
    pub fn settings(&self) -> Result<Settings, Mistake> {
        Settings::parse(&self.understood(), &self.source.to_string())
    }

    /// The text; of what was applied, without what is not known here.
    pub fn understood(&self) -> Cow<'_, str> {
        match self.source {
            Source::State => understood(&self.text, &self.source.to_string()).map_or((&**self.text).into(), Cow::Owned),
            _ => (&**self.text).into(),
        }
    }
}

impl fmt::Debug for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Found").field("source", &self.source).finish_non_exhaustive()
    }
}

impl fmt::Display for Source {
    /// As people know the file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::State => write!(f, "/state/larder/{FILE_NAME}"),
            Self::Seed => write!(f, "{FILE_NAME} on the partition {SEED_LABEL}"),
            Self::Credential => write!(f, "the credential {CREDENTIAL}"),
            Self::Stick { device } => write!(f, "{FILE_NAME} on the stick {device}"),
        }
    }
}

impl Places {
    /// Those of this computer.
    pub fn here() -> Self {
        Self { root: "/".into(), boot_disk: boot_disk::name().ok() }
    }

    /// Those of the computer whose folders lie below `root`, started from the disk `boot_disk`.
    pub fn at(root: impl Into<PathBuf>, boot_disk: Option<&str>) -> Self {
        Self { root: root.into(), boot_disk: boot_disk.map(str::to_owned) }
    }

    /// What was applied before. The state partition must be mounted.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn applied(&self) -> anyhow::Result<Option<Found>> {
        State::at(&self.root).read(FILE_NAME)?.map(|bytes| found(Source::State, bytes)).transpose()
    }

    /// What somebody has put there for us, secrets included.
    ///
    /// # Errors
    /// It cannot be read, or is no text.
    pub fn offered(&self) -> anyhow::Result<Option<Found>> {
        if let Some(seed) = self.seed()? {
            return Ok(Some(seed));
        }
        match self.credential()? {
            Some(credential) => Ok(Some(credential)),
            None => self.stick(),
        }
    }

    fn seed(&self) -> anyhow::Result<Option<Found>> {
        let Some(disk) = &self.boot_disk else { return Ok(None) };
        let device = self.root.join("dev").join(disk);
        let read = || -> anyhow::Result<_> {
            let mut file = File::open(&device)?;
            let Some(range) = seed_of(&mut file)? else { return Ok(None) };
            let reader = FatReader::open(&file, range.start, range.end - range.start)?;
            file_of(&reader, &Source::Seed)
        };
        let bytes = read().with_context(|| format!("reading the partition {SEED_LABEL}"))?;
        bytes.map(|bytes| found(Source::Seed, bytes)).transpose()
    }

    fn credential(&self) -> anyhow::Result<Option<Found>> {
        match std::fs::read(self.root.join(CREDENTIALS).join(CREDENTIAL)) {
            Ok(bytes) => found(Source::Credential, bytes).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("reading {}", Source::Credential)),
        }
    }

    /// What is connected now counts; nobody waits for more.
    fn stick(&self) -> anyhow::Result<Option<Found>> {
        let Ok(devices) = std::fs::read_dir(self.root.join("sys/class/block")) else { return Ok(None) };
        let mut names: Vec<_> = devices.flatten().map(|device| device.file_name()).collect();
        names.sort();
        for name in names {
            let Some(name) = name.to_str().filter(|name| self.is_on_usb(name)) else { continue };
            let source = Source::Stick { device: name.to_owned() };
            // What cannot be read (no medium, no file system, another one) is not meant for us.
            if let Some(file) = self.open_labelled(name) {
                let size = self.size(name);
                let reader = FatReader::open(&file, 0, size).with_context(|| format!("reading the stick {name}"))?;
                if let Some(bytes) = file_of(&reader, &source)? {
                    return found(source, bytes).map(Some);
                }
            }
        }
        Ok(None)
    }

    /// The device, if it holds a FAT volume of the right name.
    fn open_labelled(&self, name: &str) -> Option<File> {
        let file = File::open(self.root.join("dev").join(name)).ok()?;
        let reader = FatReader::open(&file, 0, self.size(name)).ok()?;
        let label = reader.label_among_files().ok().flatten().unwrap_or_else(|| reader.label());
        let is_ours = label.trim().eq_ignore_ascii_case(SEED_LABEL);
        drop(reader);
        is_ours.then_some(file)
    }

    /// Bytes of a disk or partition.
    fn size(&self, name: &str) -> u64 {
        const SECTOR: u64 = 512; // whatever the device's own are
        let text = std::fs::read_to_string(self.root.join("sys/class/block").join(name).join("size"));
        text.ok().and_then(|text| text.trim().parse::<u64>().ok()).unwrap_or(0) * SECTOR
    }

    /// Whether it is on USB, and not on the disk that the system was started from.
    fn is_on_usb(&self, name: &str) -> bool {
        let Ok(path) = self.root.join("sys/class/block").join(name).canonicalize() else { return false };
        let part =
            |wanted: &dyn Fn(&str) -> bool| path.components().any(|part| part.as_os_str().to_str().is_some_and(wanted));
        let is_bus = |part: &str| part.strip_prefix("usb").is_some_and(|number| number.parse::<u32>().is_ok());
        part(&is_bus) && !self.boot_disk.as_deref().is_some_and(|disk| part(&|name| name == disk))
    }
}

/// The seed partition of a disk: its bytes.
fn seed_of(disk: &mut File) -> anyhow::Result<Option<Range<u64>>> {
    let table = GPT::find_from(disk).context("reading the partition table")?;
    let is_seed = |entry: &gptman::GPTPartitionEntry| {
        Uuid::from_bytes_le(entry.partition_type_guid) == BASIC_DATA_TYPE && entry.partition_name.as_str() == SEED_LABEL
    };
    let seed = table.iter().map(|(_, entry)| entry).find(|entry| entry.is_used() && is_seed(entry));
    Ok(seed.map(|entry| entry.starting_lba * table.sector_size..(entry.ending_lba + 1) * table.sector_size))
}

/// The settings file of a volume.
fn file_of(reader: &FatReader<'_>, source: &Source) -> anyhow::Result<Option<Vec<u8>>> {
    match reader.read_start(FILE_NAME, MAX_SIZE + 1) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
        Err(_) if reader.read_start(HIDDEN_END, 1).is_ok() => {
            Err(Mistake::new(format!("{source}: the file is called {HIDDEN_END}"))
                .hint(format!("rename it to {FILE_NAME}; Windows hides the end of names unless told otherwise"))
                .into())
        }
        Err(_) => Ok(None),
    }
}

fn found(source: Source, bytes: Vec<u8>) -> anyhow::Result<Found> {
    let text = Zeroizing::new(text_of(bytes, &source.to_string())?);
    Ok(Found { source, text })
}

/// A folder that looks like a computer, for tests.
#[cfg(test)]
pub(crate) mod testing {
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use gptman::GPTPartitionEntry;

    use super::*;
    use crate::fat::{self, Format, Purpose};

    const SIZE: u64 = 8 << 20;

    /// A computer with a boot disk `sda` that has an empty seed partition.
    pub(crate) struct Computer(pub(crate) tempfile::TempDir);

    impl Computer {
        pub(crate) fn new() -> Self {
            let this = Self(tempfile::tempdir().unwrap());
            let mut disk = File::options().create_new(true).read(true).write(true).open(this.path("dev/sda")).unwrap();
            disk.set_len(SIZE).unwrap();
            let mut table = GPT::new_from(&mut disk, 512, [7; 16]).unwrap();
            table[2] = GPTPartitionEntry {
                partition_type_guid: BASIC_DATA_TYPE.to_bytes_le(),
                unique_partition_guid: [8; 16],
                starting_lba: 2048,
                ending_lba: 2048 + 8191,
                attribute_bits: 0,
                partition_name: SEED_LABEL.into(),
            };
            table.write_into(&mut disk).unwrap();
            let format = Format { purpose: Purpose::Data, label: SEED_LABEL, id: 1, sector: 512, before: 2048 };
            fat::write(&disk, Self::seed(), &format, |_| Ok(())).unwrap();
            this
        }

        fn seed() -> Range<u64> {
            1 << 20..5 << 20
        }

        pub(crate) fn root(&self) -> &Path {
            self.0.path()
        }

        pub(crate) fn path(&self, path: &str) -> PathBuf {
            let path = self.0.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            path
        }

        pub(crate) fn places(&self) -> Places {
            Places::at(self.0.path(), Some("sda"))
        }

        pub(crate) fn put(&self, path: &str, text: &str) {
            std::fs::write(self.path(path), text).unwrap();
        }

        /// Puts a file on the seed partition.
        pub(crate) fn put_on_seed(&self, name: &str, text: &str) {
            let disk = File::options().read(true).write(true).open(self.path("dev/sda")).unwrap();
            fat::change(&disk, Self::seed(), |volume| volume.add(name, &mut text.as_bytes())).unwrap();
        }

        /// Connects a disk without partitions, with a file.
        pub(super) fn connect(&self, name: &str, bus: &str, label: &str, text: &str) {
            let disk = File::options().create_new(true).read(true).write(true).open(self.path(&format!("dev/{name}")));
            let disk = disk.unwrap();
            disk.set_len(SIZE).unwrap();
            let format = Format { purpose: Purpose::Data, label, id: 1, sector: 512, before: 0 };
            fat::write(&disk, 0..SIZE, &format, |volume| volume.add(FILE_NAME, &mut text.as_bytes())).unwrap();
            let device = format!("sys/devices/{bus}/block/{name}");
            self.put(&format!("{device}/size"), &(SIZE / 512).to_string());
            symlink(self.path(&device), self.path(&format!("sys/class/block/{name}"))).unwrap();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::testing::Computer;
    use super::*;

    fn named(name: &str) -> String {
        format!("schema = 1\n[system]\nhostname = \"{name}\"\n")
    }

    fn offered(computer: &Computer) -> Option<(Source, String)> {
        let found = computer.places().offered().unwrap()?;
        let name = found.settings().unwrap().system.hostname.to_string();
        Some((found.source, name))
    }

    #[test]
    fn the_seed_comes_before_the_credential_and_that_before_a_stick() {
        let computer = Computer::new();
        assert_eq!(offered(&computer), None);
        computer.connect("sdb", "pci0/usb2/2-1", "OTHER", &named("other"));
        computer.connect("sdc", "pci0/ata1", "LARDER", &named("inside"));
        assert_eq!(offered(&computer), None);
        computer.connect("sdd", "pci0/usb2/2-2", "LARDER", &named("stick"));
        assert_eq!(offered(&computer), Some((Source::Stick { device: "sdd".into() }, "stick".into())));
        computer.put("run/credentials/@system/larder.nas-toml", &named("machine"));
        assert_eq!(offered(&computer), Some((Source::Credential, "machine".into())));
        computer.put_on_seed(FILE_NAME, &named("seed"));
        assert_eq!(offered(&computer), Some((Source::Seed, "seed".into())));
    }

    #[test]
    fn what_was_applied_is_a_place_of_its_own() {
        let computer = Computer::new();
        assert!(computer.places().applied().unwrap().is_none());
        computer.put("state/larder/nas.toml", &named("applied"));
        let found = computer.places().applied().unwrap().unwrap();
        assert_eq!(found.settings().unwrap().system.hostname.as_str(), "applied");
    }

    #[test]
    fn a_wrong_file_is_not_passed_over() {
        let computer = Computer::new();
        computer.put("run/credentials/@system/larder.nas-toml", &named("machine"));
        computer.put_on_seed(FILE_NAME, "schema = 1\n[sytem]\n");
        let error = computer.places().offered().unwrap().unwrap().settings().unwrap_err();
        insta::assert_snapshot!(error, @"nas.toml on the partition LARDER:2:2: unknown field `sytem`, expected one of `schema`, `system`, `network`, `ssh`, `pool`, `keys`, `updates`");
    }

    #[test]
    fn a_file_whose_name_windows_has_made_longer_is_explained() {
        let computer = Computer::new();
        computer.put_on_seed("nas.toml.txt", &named("seed"));
        let error = computer.places().offered().unwrap_err();
        insta::assert_snapshot!(crate::report::render(&error, None), @r"
        error: reading the partition LARDER
          caused by: nas.toml on the partition LARDER: the file is called nas.toml.txt

        hint: rename it to nas.toml; Windows hides the end of names unless told otherwise
        ");
    }

    #[test]
    fn the_text_does_not_show_itself() {
        let computer = Computer::new();
        computer.put_on_seed(FILE_NAME, "schema = 1\nkeys.passphrase = \"several words\"\n");
        assert!(!format!("{:?}", computer.places().offered().unwrap()).contains("words"));
    }
}
