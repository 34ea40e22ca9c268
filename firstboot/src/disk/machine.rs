//! Looking for disks.

use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::udev::Properties;
use super::uses::Uses;
use super::{Area, Bus, Disk};

/// sysfs counts in sectors of 512 bytes, whatever the disk's are.
const SYSFS_SECTOR: u64 = 512;
/// What the kernel shows as a disk and nobody could pull out: memory, parts of other disks, drives for disks that are read
/// only, and the boot areas of eMMC, which are too small for anything (truenas/truenas-installer#116).
const NO_DISKS: [&str; 9] = ["dm-", "fd", "loop", "md", "nbd", "ram", "sr", "zd", "zram"];

/// A computer: this one, or a folder that looks like one.
#[derive(Debug, Clone)]
pub struct Machine {
    root: PathBuf,
}

impl Machine {
    /// This computer.
    pub fn here() -> Self {
        Self::at("/")
    }

    /// The folder `root` as a computer, whose disks are plain files below its `dev`.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Whether it is this computer and its disks are real.
    pub fn is_real(&self) -> bool {
        self.root == Path::new("/")
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// One disk, by the name that the kernel gives it.
    ///
    /// # Errors
    /// There is none of that name, or `/sys` cannot be read.
    pub fn disk_named(&self, name: &str) -> anyhow::Result<Disk> {
        let disks = self.disks().context("looking for disks")?;
        disks.into_iter().find(|disk| disk.name == name).with_context(|| format!("/sys does not know {name}"))
    }

    /// All disks, sorted by their names.
    ///
    /// # Errors
    /// `/sys/block` cannot be read.
    pub fn disks(&self) -> io::Result<Vec<Disk>> {
        let uses = Uses::read(&self.root);
        let ids = self.ids();
        let mut disks = Vec::new();
        for entry in std::fs::read_dir(self.root.join("sys/block"))? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            // A link into the folder of the bus, by which the disk is connected.
            let folder = entry.path().canonicalize()?;
            if is_disk(&name)
                && let Some(disk) = self.disk(&name, &folder, &uses, &ids)
            {
                disks.push(disk);
            }
        }
        disks.sort_by_key(|disk| natural(&disk.name));
        Ok(disks)
    }

    /// `None` for a drive without a medium.
    fn disk(&self, name: &str, folder: &Path, uses: &Uses, ids: &[(String, String)]) -> Option<Disk> {
        let read = |path: &str| read(&folder.join(path));
        let size = read("size")?.parse::<u64>().ok()? * SYSFS_SECTOR;
        if size == 0 {
            return None;
        }
        let number = read("dev")?;
        let properties = Properties::read(&self.root, &number);
        let bus = bus(name, folder);
        let mut areas = vec![self.area(name, folder)?];
        let mut used = uses.of(name, folder);
        let mut partitions: Vec<_> =
            names(folder).into_iter().filter(|part| folder.join(part).join("partition").exists()).collect();
        partitions.sort_by_key(|name| natural(name));
        for partition in partitions {
            let folder = folder.join(&partition);
            // udev has a partition inherit what it knows of the disk, so this table is the one that it is listed in.
            areas.extend(self.area(&partition, &folder).map(|area| Area { table: None, ..area }));
            used.extend(uses.of(&partition, &folder));
        }
        Some(Disk {
            name: name.to_owned(),
            ids: ids.iter().filter(|(_, target)| target == name).map(|(id, _)| id.clone()).collect(),
            model: model(&read),
            serial: properties.get("ID_SERIAL_SHORT").or_else(|| serial(folder)),
            size,
            sector: read("queue/logical_block_size").and_then(|text| text.parse().ok()).unwrap_or(512),
            bus,
            way: properties.get("ID_PATH"),
            removable: matches!(bus, Bus::Usb | Bus::Card) || read("removable").as_deref() == Some("1"),
            read_only: read("ro").as_deref() == Some("1"),
            sequence: read("diskseq").and_then(|text| text.parse().ok()),
            areas,
            uses: used,
            number,
        })
    }

    fn area(&self, name: &str, folder: &Path) -> Option<Area> {
        let size = read(&folder.join("size"))?.parse::<u64>().ok()? * SYSFS_SECTOR;
        let properties = Properties::read(&self.root, &read(&folder.join("dev"))?);
        Some(Area {
            name: name.to_owned(),
            size,
            table: properties.get("ID_PART_TABLE_TYPE"),
            part_label: properties.decoded("ID_PART_ENTRY_NAME"),
            format: properties.get("ID_FS_TYPE"),
            label: properties.decoded("ID_FS_LABEL_ENC").or_else(|| properties.decoded("ID_FS_LABEL")),
            uuid: properties.get("ID_FS_UUID"),
        })
    }

    /// Names in `/dev/disk/by-id` with the kernel's names of what they stand for, sorted.
    fn ids(&self) -> Vec<(String, String)> {
        let folder = self.root.join("dev/disk/by-id");
        let mut ids: Vec<_> = names(&folder)
            .into_iter()
            .filter_map(|id| {
                let target = std::fs::read_link(folder.join(&id)).ok()?;
                Some((id, target.file_name()?.to_str()?.to_owned()))
            })
            .collect();
        ids.sort();
        ids
    }
}

/// Names of the entries of a folder; none when it is not there.
pub(super) fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

fn read(path: &Path) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}

fn is_disk(name: &str) -> bool {
    let is_emmc_area =
        name.starts_with("mmcblk") && (name.contains("boot") || name.contains("rpmb") || name.contains("gp"));
    !is_emmc_area && !NO_DISKS.iter().any(|prefix| name.starts_with(prefix))
}

/// `sda2` before `sda10`: runs of digits count as numbers.
fn natural(name: &str) -> Vec<(String, u64)> {
    let mut key = Vec::new();
    let mut rest = name;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let (text, after) = rest.split_at(digits);
        let end = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
        key.push((text.to_owned(), after[..end].parse().unwrap_or(0)));
        rest = &after[end..];
    }
    key
}

/// By the way through `/sys/devices`: `…/usb1/1-2/…/block/sda`.
fn bus(name: &str, folder: &Path) -> Bus {
    let way = folder.to_string_lossy();
    if way.contains("/usb") {
        return Bus::Usb;
    }
    if name.starts_with("mmcblk") {
        // An SD card has `SD` here.
        return if read(&folder.join("device/type")).as_deref() == Some("MMC") { Bus::Emmc } else { Bus::Card };
    }
    match () {
        () if name.starts_with("nvme") => Bus::Nvme,
        () if way.contains("/ata") => Bus::Sata,
        () if way.contains("/virtio") => Bus::Virtio,
        () if name.starts_with("sd") => Bus::Scsi,
        () => Bus::Other,
    }
}

fn model(read: &dyn Fn(&str) -> Option<String>) -> Option<String> {
    // SATA disks have `ATA` for a manufacturer, virtual ones a number.
    let vendor = read("device/vendor").filter(|vendor| vendor != "ATA" && !vendor.starts_with("0x"));
    // The name of an MMC.
    let model = read("device/model").or_else(|| read("device/name"));
    let words: Vec<_> = [vendor, model].into_iter().flatten().collect();
    (!words.is_empty()).then(|| words.join(" "))
}

/// For the case that udev does not know it. SATA disks do not tell sysfs.
fn serial(folder: &Path) -> Option<String> {
    let own = [folder.join("device/serial"), folder.join("serial")].iter().find_map(|path| read(path));
    // That of the USB device above.
    let above =
        || folder.ancestors().find(|above| above.join("idVendor").exists()).and_then(|usb| read(&usb.join("serial")));
    own.or_else(above)
}
