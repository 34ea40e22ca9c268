//! Disks as people read about them.

use std::fmt;

use super::{Area, Bus, Disk, Use};

/// A number of bytes as manufacturers count: `62.1 GB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size(pub u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(u64, &str); 4] =
            [(1_000_000_000_000, "TB"), (1_000_000_000, "GB"), (1_000_000, "MB"), (1_000, "kB")];
        match UNITS.iter().find(|(unit, _)| self.0 >= *unit) {
            Some((unit, name)) => {
                let tenths = u128::from(self.0) * 10 / u128::from(*unit);
                write!(f, "{}.{} {name}", tenths / 10, tenths % 10)
            }
            None => write!(f, "{} bytes", self.0),
        }
    }
}

impl fmt::Display for Bus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Usb => "USB",
            Self::Nvme => "NVMe",
            Self::Sata => "SATA",
            Self::Emmc => "eMMC",
            Self::Card => "memory card",
            Self::Virtio => "virtual disk",
            Self::Scsi => "SCSI",
            Self::Other => "unknown bus",
        })
    }
}

/// Model, serial number, size and bus, in one line.
impl fmt::Display for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let model = self.model.as_deref().unwrap_or("unknown model");
        write!(f, "{model}, ")?;
        match &self.serial {
            Some(serial) => write!(f, "serial number {serial}, ")?,
            None => f.write_str("no serial number, ")?,
        }
        write!(f, "{}, {}", Size(self.size), self.bus)?;
        if self.sector != 512 {
            write!(f, ", sectors of {}", self.sector)?;
        }
        let expected = matches!(self.bus, Bus::Usb | Bus::Card);
        if self.removable && !expected { f.write_str(", removable") } else { Ok(()) }
    }
}

impl fmt::Display for Area {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let format = match (self.format.as_deref(), self.table.as_deref()) {
            (Some("zfs_member"), _) => "ZFS pool",
            (Some("crypto_LUKS"), _) => "encrypted",
            (Some("linux_raid_member"), _) => "RAID",
            (Some(other), _) => other,
            (None, Some("gpt")) => "GPT partition table",
            (None, Some("dos")) => "MBR partition table",
            (None, Some(other)) => other,
            (None, None) => "unknown content",
        };
        write!(f, "{}: {format}", self.name)?;
        if let Some(label) = self.label.as_ref().or(self.part_label.as_ref()) {
            write!(f, " \"{label}\"")?;
        }
        write!(f, ", {}", Size(self.size))
    }
}

impl fmt::Display for Use {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mount { area, at } => write!(f, "{area} is mounted at {at}"),
            Self::Swap { area } => write!(f, "{area} is swap space"),
            Self::Held { area, by } => write!(f, "{area} is part of {by}"),
        }
    }
}

impl Disk {
    /// What is on it, a line for each: its partitions, or itself when it has none and something is there.
    pub fn contents(&self) -> Vec<String> {
        let (whole, partitions) =
            self.areas.split_first().map_or((None, [].as_slice()), |(whole, rest)| (Some(whole), rest));
        let of_whole = whole.filter(|area| area.format.is_some() || (partitions.is_empty() && area.table.is_some()));
        let lines: Vec<_> = of_whole.into_iter().chain(partitions).map(Area::to_string).collect();
        if lines.is_empty() { vec!["nothing that anybody knows".to_owned()] } else { lines }
    }
}

/// Disks with what is on them and how to name them, for a person who is to choose. `refusal` says why one cannot be chosen.
pub fn list(disks: &[Disk], refusal: impl Fn(&Disk) -> Option<String>) -> String {
    let (mut usable, mut others) = (String::new(), String::new());
    for disk in disks {
        let why_not = refusal(disk);
        let text = if why_not.is_none() { &mut usable } else { &mut others };
        let name = disk.id().map_or_else(|| format!("/dev/{}", disk.name), |id| format!("/dev/disk/by-id/{id}"));
        text.push_str(&format!("  {name}\n      {disk}\n"));
        disk.contents().iter().chain(&disk.uses.iter().map(Use::to_string).collect::<Vec<_>>()).for_each(|line| {
            text.push_str(&format!("      {line}\n"));
        });
        why_not.iter().for_each(|why| text.push_str(&format!("      not possible: {why}\n")));
    }
    let usable = if usable.is_empty() {
        "No disk can be written to.\n".to_owned()
    } else {
        format!("Can be written to:\n{usable}")
    };
    if others.is_empty() { usable } else { format!("{usable}\nCannot:\n{others}") }
}
