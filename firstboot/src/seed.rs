//! The seed partition: a small FAT volume that every desktop shows, where the owner's `nas.toml` goes in.

use std::fs::File;
use std::ops::Range;

use anyhow::Context as _;

use crate::boot_disk;
use crate::disk::Choice;
use crate::fat::{self, Geometry, Window};
use crate::flash::{self, Device, FileDevice};
use crate::layout::{BASIC_DATA_TYPE, SEED_LABEL};
use crate::report::Mistake;
use crate::settings;

/// Says what belongs there.
const README: &str = "This is the settings partition of your home server.\r\n\
    \r\n\
    Put your settings file here, under the name nas.toml, before the first start.\r\n\
    nas-example.toml shows what can be in it: change it and save it as nas.toml.\r\n\
    The server reads it when it starts, applies it, and removes passwords and\r\n\
    other secrets from it.\r\n";

/// The files of a fresh seed partition: path and content.
pub const FILES: [(&str, &str); 2] = [("README.txt", README), ("nas-example.toml", settings::EXAMPLE)];

/// Puts the settings on the volume in `range` of `image`. Of an earlier settings file nothing is left.
///
/// # Errors
/// There is no FAT volume, it has no room, or it cannot be written.
pub fn put(image: &File, range: Range<u64>, text: &str) -> anyhow::Result<()> {
    // Before the new one comes: it may take part of a cluster that the old one has filled.
    remove(image, range.clone())?;
    fat::change(image, range, |volume| volume.add(settings::FILE_NAME, &mut text.as_bytes()))
}

/// Puts the settings on the seed partition of a larder disk, or of an image in a file. `name` is how people know it.
///
/// # Errors
/// It has no seed partition, or cannot be read or written.
pub fn put_on(device: &dyn Device, name: &str, text: &str) -> anyhow::Result<()> {
    let partitions = flash::table(device).map_err(Mistake::from)?.unwrap_or_default();
    let seed = partitions.iter().find(|entry| entry.kind == BASIC_DATA_TYPE && entry.label == SEED_LABEL);
    let seed = seed.ok_or_else(|| {
        Mistake::new(format!("{name} has no partition {SEED_LABEL}"))
            .hint("give an image that `larder build` has made, or a disk that such an image was written to")
    })?;
    flash::rewrite(device, seed.range.clone(), |copy| put(copy, 0..seed.range.end - seed.range.start, text))
        .with_context(|| format!("changing the partition {SEED_LABEL} of {name}"))
}

/// The same for a disk. Nothing but its seed partition is changed, so nobody has to prove that they mean it.
///
/// # Errors
/// As [`put_on`]; or the disk is in use.
pub fn put_on_disk(choice: Choice, text: &str) -> anyhow::Result<()> {
    let name = choice.id().display().to_string();
    let device = FileDevice::open(&choice.without_proof()).map_err(Mistake::from)?;
    put_on(&device, &name, text)
}

/// Removes the settings from the seed partition of the disk that the system was started from, and whatever is left of them
/// there: its other files stay.
///
/// # Errors
/// It has no seed partition, or cannot be written.
pub fn wipe() -> anyhow::Result<()> {
    let name = boot_disk::name().context("looking for the disk that the system was started from")?;
    let path = format!("/dev/{name}");
    // The disk is in use, by the root that lies on another partition of it.
    let disk = File::options().read(true).write(true).open(&path).with_context(|| format!("opening {path}"))?;
    let table = gptman::GPT::find_from(&mut &disk).with_context(|| format!("reading the partition table of {path}"))?;
    let is_seed = |entry: &gptman::GPTPartitionEntry| {
        entry.partition_type_guid == BASIC_DATA_TYPE.to_bytes_le() && entry.partition_name.as_str() == SEED_LABEL
    };
    let (_, entry) = table.iter().find(|(_, entry)| is_seed(entry)).context("there is no seed partition")?;
    let range = entry.starting_lba * table.sector_size..(entry.ending_lba + 1) * table.sector_size;
    remove(&disk, range)?;
    Ok(disk.sync_all()?)
}

/// Removes the settings from the volume in `range` of `image`, and whatever is left of them there.
fn remove(image: &File, range: Range<u64>) -> anyhow::Result<()> {
    fat::change(image, range.clone(), |volume| volume.remove(settings::FILE_NAME))?;
    wipe_unused(image, range).context("wiping what is not in use")
}

/// Overwrites what no file of the volume in `range` of `image` takes.
fn wipe_unused(image: &File, range: Range<u64>) -> anyhow::Result<()> {
    use std::os::unix::fs::FileExt as _;
    let mut window = Window::new(image, range.start, range.end - range.start);
    let in_use = Geometry::read(&mut window)?.in_use(&mut window)?;
    let ends = in_use.iter().map(|used| range.start + used.end);
    let starts = in_use.iter().skip(1).map(|used| range.start + used.start).chain([range.end]);
    for (start, end) in ends.zip(starts) {
        let zeros = vec![0; usize::try_from(end.saturating_sub(start))?];
        image.write_all_at(&zeros, start)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fat::{FatReader, Format, Purpose};
    use std::os::unix::fs::FileExt as _;

    const SIZE: u64 = 4 << 20;

    fn seed() -> File {
        let file = tempfile::tempfile().unwrap();
        file.set_len(SIZE).unwrap();
        let format = Format { purpose: Purpose::Data, label: "LARDER", id: 1, sector: 512, before: 0 };
        fat::write(&file, 0..SIZE, &format, |volume| {
            FILES.iter().try_for_each(|(path, content)| volume.add(path, &mut content.as_bytes()))
        })
        .unwrap();
        file
    }

    #[test]
    fn an_earlier_settings_file_leaves_no_trace() {
        let file = seed();
        put(&file, 0..SIZE, &format!("# {}\nschema = 1\n", "hunter2, ".repeat(1000))).unwrap();
        put(&file, 0..SIZE, "schema = 1\n").unwrap();
        let reader = FatReader::open(&file, 0, SIZE).unwrap();
        assert_eq!(reader.read("nas.toml").unwrap(), b"schema = 1\n");
        assert_eq!(reader.files().unwrap().len(), 3);
        let mut all = vec![0; SIZE as usize];
        file.read_exact_at(&mut all, 0).unwrap();
        assert!(!all.windows(8).any(|window| window == b"hunter2,"));
    }

    #[test]
    fn settings_that_were_removed_leave_no_trace() {
        let file = seed();
        put(&file, 0..SIZE, &format!("schema = 1\n# {}\n", "hunter2, ".repeat(1000))).unwrap();
        remove(&file, 0..SIZE).unwrap();
        assert_eq!(FatReader::open(&file, 0, SIZE).unwrap().files().unwrap().len(), 2);
        let mut all = vec![0; SIZE as usize];
        file.read_exact_at(&mut all, 0).unwrap();
        assert!(!all.windows(8).any(|window| window == b"hunter2,"));
        remove(&file, 0..SIZE).unwrap();
    }

    #[test]
    fn the_files_are_readable_where_lines_end_with_two_characters() {
        assert!(README.lines().all(|line| line.len() < 80) && README.is_ascii());
        assert_eq!(README.matches('\n').count(), README.matches("\r\n").count());
    }
}
