//! Giving a disk its partition.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use gptman::{GPT, GPTPartitionEntry};
use nix::fcntl::OFlag;
use uuid::{Uuid, uuid};

use crate::command::Run;
use crate::disk::{Disk, Machine};
use crate::layout::MIB;
use crate::pool::plan::{PlannedDisk, UNKNOWN};
use crate::report::Mistake;

/// Type of partitions that hold ZFS: Solaris' own, which zpool-create(8) gives them too (`DK_USR`, ZFS_FREEBSD is another).
const ZFS_TYPE: Uuid = uuid!("6a898cc3-1dd2-11b2-99a6-080020736631");
/// GPT name.
const LABEL: &str = "larder-pool";
/// ZFS keeps two labels of 256 KiB at each end.
const LABELS: u64 = 512 << 10;
/// How long udev may take to show a partition.
const PATIENCE: Duration = Duration::from_secs(20);

/// The node of the partition that a disk of the pool has, by the disk's stable name.
pub(super) fn node(disk: &PlannedDisk) -> PathBuf {
    Path::new("/dev/disk/by-id").join(format!("{}-part1", disk.id))
}

/// Gives the disk a partition with this id, and nothing else, unless it has it already.
pub(super) fn partition(machine: &Machine, planned: &PlannedDisk, id: Uuid) -> anyhow::Result<()> {
    let disks = machine.disks().context("looking for disks")?;
    let disk = disks.iter().find(|disk| disk.ids.iter().any(|name| name == planned.id.as_str()));
    let disk = disk.filter(|disk| is_same(disk, planned)).ok_or_else(|| changed("it is not there any more"))?;
    let path = Path::new("/dev").join(&disk.name);
    if has_partition(&path, disk.sector, id)? {
        return wait_for(&node(planned), id);
    }
    check(disk, planned)?;
    erase(disk)?;
    write_table(&path, planned, id).with_context(|| format!("writing the partition table of {}", disk.name))?;
    Run::new("blockdev").arg("--rereadpt").arg(&path).done()?;
    wait_for(&node(planned), id)
}

fn changed(why: &str) -> Mistake {
    Mistake::new(format!("the disk is not what it was when the plan was made: {why}"))
        .hint("put the disks back as they were and start again; or make another plan: firstboot plan --again")
}

fn is_same(disk: &Disk, planned: &PlannedDisk) -> bool {
    (&disk.model, &disk.serial, disk.size, disk.sector)
        == (&planned.model, &planned.serial, planned.size, planned.sector)
}

/// A last look: it may have been somewhere else since the plan was made.
///
/// What is half erased, or half a partition table, is no longer what anybody knows.
fn check(disk: &Disk, planned: &PlannedDisk) -> anyhow::Result<()> {
    ensure!(!disk.is_system() && disk.uses.is_empty(), changed("it is in use"));
    let is_known = disk.areas.len() > 1 || disk.areas.iter().any(|area| area.format.is_some());
    let holds = if is_known { disk.contents() } else { Vec::new() };
    // Of an erasure that was cut short, some of it may be left.
    let is_expected = holds.iter().all(|content| planned.erased.contains(content) || content == UNKNOWN);
    ensure!(is_expected, changed(&format!("it holds {}", holds.join("; "))));
    Ok(())
}

/// Whether it has one partition, which is this one.
fn has_partition(path: &Path, sector: u32, id: Uuid) -> anyhow::Result<bool> {
    let mut file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
    let Ok(table) = GPT::read_from(&mut file, u64::from(sector)) else { return Ok(false) };
    let used: Vec<_> = table.iter().filter(|(_, entry)| entry.is_used()).collect();
    Ok(matches!(used.as_slice(), [(_, entry)] if entry.unique_partition_guid == id.to_bytes_le()))
}

/// Removes whatever marks it and its partitions as something.
fn erase(disk: &Disk) -> anyhow::Result<()> {
    for area in disk.areas.iter().rev() {
        Run::new("wipefs").args(["--all", "--force"]).arg(format!("/dev/{}", area.name)).done()?;
    }
    Ok(())
}

fn write_table(path: &Path, planned: &PlannedDisk, id: Uuid) -> anyhow::Result<()> {
    // Nobody else may have it.
    let mut file =
        OpenOptions::new().read(true).write(true).custom_flags(OFlag::O_EXCL.bits()).open(path).map_err(|error| {
            Mistake::new(format!("{} cannot be opened", path.display())).hint("close whatever uses it").because(error)
        })?;
    let sector = u64::from(planned.sector);
    let mut table = GPT::new_from(&mut file, sector, Uuid::new_v4().to_bytes_le())?;
    let (start, end) = (MIB, MIB + planned.partition);
    // An old pool may have begun at the same place.
    let zeros = vec![0; usize::try_from(LABELS)?];
    file.write_all_at(&zeros, start)?;
    file.write_all_at(&zeros, end - LABELS)?;
    table[1] = GPTPartitionEntry {
        partition_type_guid: ZFS_TYPE.to_bytes_le(),
        unique_partition_guid: id.to_bytes_le(),
        starting_lba: start / sector,
        ending_lba: end / sector - 1,
        attribute_bits: 0,
        partition_name: LABEL.into(),
    };
    GPT::write_protective_mbr_into(&mut file, sector)?;
    table.write_into(&mut file)?;
    file.sync_all()?;
    Ok(())
}

/// Empties the label places of a partition whose pool was not finished.
pub(super) fn forget_pool(planned: &PlannedDisk) -> anyhow::Result<()> {
    let path = node(planned);
    let file = OpenOptions::new().write(true).custom_flags(OFlag::O_EXCL.bits()).open(&path);
    let file = file.with_context(|| format!("opening {}", path.display()))?;
    let zeros = vec![0; usize::try_from(LABELS)?];
    file.write_all_at(&zeros, 0)?;
    file.write_all_at(&zeros, planned.partition - LABELS)?;
    Ok(file.sync_all()?)
}

/// Waits until udev shows the partition with this id under this name.
fn wait_for(node: &Path, id: Uuid) -> anyhow::Result<()> {
    let by_id = Path::new("/dev/disk/by-partuuid").join(id.to_string());
    let deadline = Instant::now() + PATIENCE;
    let is_there = || {
        let (node, by_id) = (node.canonicalize(), by_id.canonicalize());
        matches!((node, by_id), (Ok(node), Ok(by_id)) if node == by_id)
    };
    while !is_there() {
        ensure!(Instant::now() < deadline, "{} does not appear", node.display());
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}
