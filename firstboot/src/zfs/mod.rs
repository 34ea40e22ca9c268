//! ZFS, by its own programs: their JSON is a promise (`zpool status -j`, since 2.3), the libraries behind them are none.
//!
//! Pools are known by their GUID, which no other pool has; a name is anybody's.

mod status;

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::command::Run;

pub use status::{Device, PoolState, PoolStatus, Scan, ScanKind};

/// What no two pools have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Guid(pub u64);

impl fmt::Display for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Options of every pool, as zpool-create(8) takes them.
///
/// | | |
/// |---|---|
/// | `ashift=12` | sectors of 4 KiB, which cannot be changed later; disks that say 512 lie |
/// | `compatibility` | the older system slot, and another Linux, can still import it |
/// | `cachefile=none` | `/etc` does not last; larder knows its pool by the GUID |
/// | `org.debian:periodic-*` | Debian's cron jobs leave it alone: timers do that |
const POOL_OPTIONS: [&str; 24] = [
    "-o",
    "ashift=12",
    "-o",
    "autotrim=on",
    "-o",
    "autoexpand=on",
    "-o",
    "compatibility=openzfs-2.3-linux",
    "-o",
    "cachefile=none",
    "-O",
    "mountpoint=none",
    "-O",
    "canmount=off",
    "-O",
    "compression=lz4",
    "-O",
    "atime=off",
    "-O",
    "xattr=sa",
    "-O",
    "acltype=posixacl",
    "-O",
    "dnodesize=auto",
];
const QUIET_CRON: [&str; 4] = ["-O", "org.debian:periodic-scrub=disable", "-O", "org.debian:periodic-trim=disable"];

/// Makes a pool of partitions that hold nothing; `groups` are those of the layout, each with its keyword.
///
/// # Errors
/// ZFS refuses.
pub fn create_pool(
    name: &str,
    property: (&str, &str),
    groups: &[(Option<&str>, Vec<PathBuf>)],
    spares: &[PathBuf],
) -> anyhow::Result<()> {
    let mut run = Run::new("zpool").arg("create").args(POOL_OPTIONS).args(QUIET_CRON);
    run = run.arg("-O").arg(format!("{}={}", property.0, property.1)).arg(name);
    for (keyword, disks) in groups {
        run = run.args(keyword.iter()).args(disks);
    }
    if !spares.is_empty() {
        run = run.arg("spare").args(spares);
    }
    run.done()
}

/// GUIDs and names of the pools that are imported.
///
/// # Errors
/// The module is not loaded.
pub fn imported() -> anyhow::Result<Vec<(Guid, String)>> {
    let text = Run::new("zpool").args(["list", "-H", "-o", "guid,name"]).text()?;
    let lines = text.lines().filter_map(|line| line.split_once('\t'));
    Ok(lines.filter_map(|(guid, name)| Some((Guid(guid.parse().ok()?), name.to_owned()))).collect())
}

/// Name of an imported pool.
///
/// # Errors
/// ZFS does not answer.
pub fn name_of(guid: Guid) -> anyhow::Result<Option<String>> {
    Ok(imported()?.into_iter().find_map(|(other, name)| (other == guid).then_some(name)))
}

/// Imports a pool without mounting anything, looking at these devices or folders only. `by_force`: although another system
/// had it last.
///
/// # Errors
/// It is not there, or too few of its disks are.
pub fn import(guid: Guid, devices: &[PathBuf], by_force: bool) -> anyhow::Result<()> {
    let mut run = Run::new("zpool").args(["import", "-N", "-o", "cachefile=none"]);
    for device in devices {
        run = run.arg("-d").arg(device);
    }
    run.args(by_force.then_some("-f")).arg(guid.to_string()).done()
}

/// Gives an imported pool back.
///
/// # Errors
/// It is in use.
pub fn export(name: &str) -> anyhow::Result<()> {
    Run::new("zpool").args(["export", name]).done()
}

/// Makes a dataset that is encrypted with a raw key of 32 bytes, and its children with it.
///
/// # Errors
/// ZFS refuses.
pub fn create_encrypted(name: &str, mountpoint: &Path, key: &[u8; 32]) -> anyhow::Result<()> {
    Run::new("zfs")
        .args(["create", "-o", "encryption=aes-256-gcm", "-o", "keyformat=raw", "-o", "keylocation=prompt", "-o"])
        .arg(format!("mountpoint={}", mountpoint.display()))
        .arg(name)
        .secret(key)
        .done()
}

/// Makes a dataset.
///
/// # Errors
/// ZFS refuses.
pub fn create(name: &str, mountpoint: &Path) -> anyhow::Result<()> {
    Run::new("zfs").args(["create", "-o"]).arg(format!("mountpoint={}", mountpoint.display())).arg(name).done()
}

/// Whether there is such a dataset.
///
/// # Errors
/// ZFS does not answer.
pub fn exists(name: &str) -> anyhow::Result<bool> {
    // Of names that are not there, `zfs list` says so with a failure like any other.
    let pool = name.split('/').next().unwrap_or(name);
    let text = Run::new("zfs").args(["list", "-H", "-o", "name", "-r", pool]).text()?;
    Ok(text.lines().any(|line| line == name))
}

/// Destroys a dataset with all that is in it.
///
/// # Errors
/// It is in use.
pub fn destroy(name: &str) -> anyhow::Result<()> {
    Run::new("zfs").args(["destroy", "-r", name]).done()
}

/// Whether `key` is the key of a dataset, whether or not it is open.
///
/// # Errors
/// It is not.
pub fn check_key(name: &str, key: &[u8; 32]) -> anyhow::Result<()> {
    Run::new("zfs").args(["load-key", "-n", name]).secret(key).done()
}

/// A property, `None` where nobody has set it.
///
/// # Errors
/// There is no such dataset.
pub fn property(dataset: &str, property: &str) -> anyhow::Result<Option<String>> {
    let value = Run::new("zfs").args(["get", "-H", "-o", "value", property, dataset]).text()?;
    Ok(Some(value).filter(|value| value != "-"))
}

/// Sets a property.
///
/// # Errors
/// ZFS refuses.
pub fn set_property(dataset: &str, property: &str, value: &str) -> anyhow::Result<()> {
    Run::new("zfs").arg("set").arg(format!("{property}={value}")).arg(dataset).done()
}
