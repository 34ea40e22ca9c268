//! A [`Report`] for people.

use std::fmt;

use super::{PartitionReport, Report, Table, UkiReport, Verdict};
use crate::image::gpt;
use firstboot::fat::FatFile;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}  {}  disk {}", self.image.display(), size(self.size), self.disk)?;
        match self.table {
            Table::Ok => {}
            Table::PrimaryDamaged => writeln!(f, "partition table: DAMAGED at the start, read from the backup")?,
            Table::BackupDamaged => writeln!(f, "partition table: the backup at the end is DAMAGED")?,
        }
        for partition in &self.partitions {
            write!(f, "{partition}")?;
        }
        files(f, "ESP", &self.esp)?;
        files(f, "seed", &self.seed)?;
        for uki in &self.ukis {
            write!(f, "{uki}")?;
        }
        if self.ukis.is_empty() {
            writeln!(f, "\nno kernel image: nothing here can boot")?;
        }
        Ok(())
    }
}

impl fmt::Display for PartitionReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            gpt::ESP_TYPE => "ESP",
            gpt::BASIC_DATA_TYPE => "data",
            gpt::ROOT_TYPE => "root",
            gpt::VERITY_TYPE => "verity",
            _ => "other",
        };
        writeln!(f, "{:>4}  {kind:6}  {:>9}  {}  {}", self.number, size(self.size), self.id, self.label)?;
        if let Some(erofs) = &self.erofs {
            writeln!(f, "      erofs   {:>9}  {}  {}", size(erofs.size), erofs.uuid, erofs.volume)?;
        }
        Ok(())
    }
}

fn files(f: &mut fmt::Formatter<'_>, title: &str, files: &[FatFile]) -> fmt::Result {
    if files.is_empty() {
        return Ok(());
    }
    writeln!(f, "\n{title}")?;
    files.iter().try_for_each(|file| writeln!(f, "{:>11}  {}", size(file.size), file.path))
}

impl fmt::Display for UkiReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n{}", self.path)?;
        if let Some(uki) = &self.uki {
            let facts = [
                ("name", &uki.name),
                ("version", &uki.version),
                ("kernel", &uki.kernel),
                ("options", &uki.command_line),
            ];
            for (label, value) in facts {
                if let Some(value) = value {
                    writeln!(f, "  {label:9} {value}")?;
                }
            }
            let sections: Vec<_> =
                uki.sections.iter().map(|section| format!("{} {}", section.name, size(section.size))).collect();
            writeln!(f, "  {:9} {}", "sections", sections.join(", "))?;
        }
        writeln!(f, "  {:9} {}", "verity", self.verdict)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ok => f.write_str("ok: every block of the root matches the root hash"),
            Self::Mismatch { block } => write!(f, "MISMATCH: {block} does not match the root hash"),
            Self::NoPartition { role, id } => {
                write!(f, "MISMATCH: no {role} partition has the UUID {id} that follows from the root hash")
            }
            Self::NoTree { reason } => write!(f, "MISMATCH: the hash tree is not usable: {reason}"),
            Self::NoRootHash => f.write_str("MISSING: no root hash on the command line"),
        }
    }
}

/// Binary units, as partition sizes are round in them.
fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}
