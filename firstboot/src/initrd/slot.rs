//! The two partitions that hold the root and its hash tree.
//!
//! Their UUIDs are the halves of the root hash. The kernel does not tell the UUIDs of partitions, so the partition tables
//! of all disks are read here.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use firstboot::verity::RootHash;
use gptman::GPT;
use uuid::Uuid;

/// Label of the last partition that is made at the first boot (overlays/base/…/repart.d/50-state.conf).
const STATE: &str = "state";

/// One partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Partition {
    /// `/dev/sda3`
    pub(crate) path: PathBuf,
    /// `8:3`
    pub(crate) number: String,
}

/// A root and its hash tree, on one disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Slot {
    /// The root file system.
    pub(crate) data: Partition,
    /// Its hash tree.
    pub(crate) tree: Partition,
    /// Whether the disk has all partitions that systemd-repart makes at the first boot: the last one is there.
    pub(crate) disk_is_complete: bool,
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.data.path.display().fmt(f)
    }
}

impl Slot {
    /// Looks at the disks that are there now; with `beside` only at one that has that partition too.
    pub(crate) fn find(root_hash: &RootHash, beside: Option<Uuid>) -> anyhow::Result<Option<Self>> {
        Ok(Self::find_below(Path::new("/sys"), Path::new("/dev"), root_hash, beside)?)
    }

    fn find_below(sys: &Path, dev: &Path, root_hash: &RootHash, beside: Option<Uuid>) -> io::Result<Option<Self>> {
        for disk in std::fs::read_dir(sys.join("block"))? {
            let disk = disk?;
            // What cannot be read (no medium, no table, a stick that is still getting ready) holds no slot.
            let Ok(table) = std::fs::File::open(dev.join(disk.file_name()))
                .map_err(gptman::Error::from)
                .and_then(|mut file| GPT::find_from(&mut file))
            else {
                continue;
            };
            let number = |id: Uuid| {
                let id = id.to_bytes_le();
                let mut entries = table.iter();
                entries
                    .find(|(_, entry)| entry.is_used() && entry.unique_partition_guid == id)
                    .map(|(number, _)| number)
            };
            if beside.is_some_and(|id| number(id).is_none()) {
                continue;
            }
            let partition = |id: Uuid| match number(id) {
                Some(number) => partition(&disk.path(), dev, number),
                None => Ok(None),
            };
            if let (Some(data), Some(tree)) =
                (partition(root_hash.root_partition_uuid())?, partition(root_hash.verity_partition_uuid())?)
            {
                let disk_is_complete =
                    table.iter().any(|(_, entry)| entry.is_used() && entry.partition_name.as_str() == STATE);
                return Ok(Some(Self { data, tree, disk_is_complete }));
            }
        }
        Ok(None)
    }
}

/// The partition with this number, once the kernel knows it: its folder lies in that of its disk (`disk`, below `/sys`).
fn partition(disk: &Path, dev: &Path, number: u32) -> io::Result<Option<Partition>> {
    for folder in std::fs::read_dir(disk)? {
        let folder = folder?;
        let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).map(|text| text.trim().to_owned());
        if read("partition").is_ok_and(|text| text == number.to_string()) {
            return Ok(Some(Partition { path: dev.join(folder.file_name()), number: read("dev")? }));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use gptman::{GPT, GPTPartitionEntry};

    use super::*;

    /// A computer's disks, as /sys and /dev show them.
    struct Disks(tempfile::TempDir);

    impl Disks {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            for name in ["sys/block", "dev"] {
                std::fs::create_dir_all(folder.path().join(name)).unwrap();
            }
            Self(folder)
        }

        /// Adds a disk whose partition table lists `partitions` (UUID, label), and of which the kernel knows the first `known`.
        fn add(&self, disk: &str, partitions: &[(Uuid, &str)], known: usize) {
            let mut file = Cursor::new(vec![0; 1 << 20]);
            let mut table = GPT::new_from(&mut file, 512, [7; 16]).unwrap();
            for (i, (id, label)) in partitions.iter().enumerate() {
                table[i as u32 + 1] = GPTPartitionEntry {
                    partition_type_guid: [1; 16],
                    unique_partition_guid: id.to_bytes_le(),
                    starting_lba: 64 + 8 * i as u64,
                    ending_lba: 64 + 8 * i as u64 + 7,
                    attribute_bits: 0,
                    partition_name: (*label).into(),
                };
            }
            table.write_into(&mut file).unwrap();
            std::fs::write(self.0.path().join("dev").join(disk), file.into_inner()).unwrap();
            for number in 1..=known {
                let folder = self.0.path().join("sys/block").join(disk).join(format!("{disk}{number}"));
                std::fs::create_dir_all(&folder).unwrap();
                std::fs::write(folder.join("partition"), format!("{number}\n")).unwrap();
                std::fs::write(folder.join("dev"), format!("8:{number}\n")).unwrap();
            }
            std::fs::create_dir_all(self.0.path().join("sys/block").join(disk)).unwrap();
        }

        fn find(&self) -> Option<Slot> {
            self.find_beside(None)
        }

        fn find_beside(&self, beside: Option<Uuid>) -> Option<Slot> {
            Slot::find_below(&self.0.path().join("sys"), &self.0.path().join("dev"), &hash(), beside).unwrap()
        }
    }

    fn hash() -> RootHash {
        RootHash::from(std::array::from_fn(|i| i as u8))
    }

    fn root() -> (Uuid, &'static str) {
        (hash().root_partition_uuid(), "larder_1")
    }

    fn tree() -> (Uuid, &'static str) {
        (hash().verity_partition_uuid(), "larder_1")
    }

    const ESP: (Uuid, &str) = (Uuid::from_u128(1), "esp");

    #[test]
    fn a_slot_is_found_by_its_root_hash_among_other_disks() {
        let disks = Disks::new();
        disks.add("loop", &[], 0);
        std::fs::write(disks.0.path().join("dev/loop"), "no partition table").unwrap();
        disks.add("sda", &[ESP, (Uuid::from_u128(2), "larder_1")], 2);
        disks.add("sdb", &[ESP, root(), tree()], 3);
        let slot = disks.find().unwrap();
        assert_eq!((slot.data.number.as_str(), slot.tree.number.as_str()), ("8:2", "8:3"));
        assert!(slot.to_string().ends_with("/dev/sdb2"), "{slot}");
    }

    #[test]
    fn a_root_without_its_tree_is_no_slot_and_neither_are_halves_on_two_disks() {
        let disks = Disks::new();
        disks.add("sda", &[root()], 1);
        disks.add("sdb", &[tree()], 1);
        assert_eq!(disks.find(), None);
    }

    #[test]
    fn of_two_disks_with_the_same_system_that_with_the_right_esp_counts() {
        let disks = Disks::new();
        let other_esp = (Uuid::from_u128(77), "esp");
        disks.add("nvme0n1", &[ESP, root(), tree()], 3);
        assert_eq!(disks.find_beside(Some(other_esp.0)), None, "its disk is waited for");
        disks.add("sda", &[other_esp, root(), tree()], 3);
        assert!(disks.find_beside(Some(other_esp.0)).unwrap().to_string().ends_with("/dev/sda2"));
        assert!(disks.find_beside(Some(ESP.0)).unwrap().to_string().ends_with("/dev/nvme0n12"));
    }

    #[test]
    fn a_partition_that_the_kernel_has_not_seen_yet_is_waited_for() {
        let disks = Disks::new();
        disks.add("sda", &[root(), tree()], 1);
        assert_eq!(disks.find(), None);
        disks.add("sda", &[root(), tree()], 2);
        assert!(disks.find().is_some());
    }

    #[test]
    fn a_disk_with_state_needs_no_partitioning() {
        let disks = Disks::new();
        disks.add("sda", &[root(), tree()], 2);
        assert!(!disks.find().unwrap().disk_is_complete);
        disks.add("sda", &[root(), tree(), (Uuid::from_u128(3), "state")], 2);
        assert!(disks.find().unwrap().disk_is_complete);
    }
}
