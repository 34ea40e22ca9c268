//! `larder sizes`: what the root file system of an image is made of.

use std::collections::HashSet;
use std::fmt;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use serde::Serialize;

use super::RootStages;
use crate::kernel::is_hardware;
use crate::namespace::OverlayMount;
use crate::profile::Profile;
use crate::session::Session;
use crate::tree::UnpackedPackage;

/// Folders in which files lie that no single package stands for.
const MODULES: &str = "usr/lib/modules";
const FIRMWARE: &str = "usr/lib/firmware";

/// Bytes of files, by where they come from. File systems round each file up; that is not counted.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Sizes {
    /// The profile.
    pub profile: String,
    /// All files.
    pub total: u64,
    /// Kernel modules, ZFS included.
    pub modules: u64,
    /// Firmware.
    pub firmware: u64,
    /// Microcode in front of the initrd.
    pub microcode: u64,
    /// What scripts, overlays and larder itself have made or changed.
    pub made: u64,
    /// Packages by name, the largest first.
    pub packages: Vec<(String, u64)>,
    /// Largest modules and firmware files.
    pub largest: Vec<(String, u64)>,
}

impl Sizes {
    /// Makes the root of a profile, as far as it is not in the store, and measures it.
    pub fn of(session: &Session, profile: &Profile) -> anyhow::Result<Self> {
        let stages = RootStages::of(session, profile)?;
        let scratch = session.store.scratch("sizes")?;
        let mount = OverlayMount::new(&stages.root.folders, None, scratch.path())?;
        let root = mount.path();
        let (total, _) = measure(root)?;
        let (modules, mut largest) = measure(&root.join(MODULES))?;
        let (firmware, files) = measure(&root.join(FIRMWARE))?;
        largest.extend(files);
        largest.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        let system = stages.packages.iter().filter(|package| !is_hardware(&package.name));
        let packages = system.map(|package| Ok((package.name.clone(), kept(package, root)?)));
        let mut packages = packages.collect::<anyhow::Result<Vec<_>>>()?;
        packages.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        let shipped: u64 = packages.iter().map(|(_, bytes)| bytes).sum();
        let microcode = stages.kernel.microcode.as_ref().map(fs_err::metadata).transpose()?;
        Ok(Self {
            profile: profile.name.clone(),
            total,
            modules,
            firmware,
            microcode: microcode.map_or(0, |metadata| metadata.len()),
            made: total.saturating_sub(modules + firmware + shipped),
            packages,
            largest,
        })
    }
}

/// Bytes of a package's files that are in the root as they were shipped.
fn kept(package: &UnpackedPackage, root: &Path) -> anyhow::Result<u64> {
    let data = package.folder.join("data");
    let mut bytes = 0;
    let mut seen = HashSet::new();
    for entry in walkdir::WalkDir::new(&data) {
        let entry = entry?;
        let path = entry.path().strip_prefix(&data)?;
        if !entry.file_type().is_file() || path.starts_with(MODULES) || path.starts_with(FIRMWARE) {
            continue;
        }
        let shipped = entry.metadata()?;
        let there = root.join(path).symlink_metadata();
        if seen.insert(shipped.ino()) && there.is_ok_and(|there| there.is_file() && there.len() == shipped.len()) {
            bytes += shipped.len();
        }
    }
    Ok(bytes)
}

/// Bytes of all files below a folder, hard links once, and of each.
fn measure(folder: &Path) -> anyhow::Result<(u64, Vec<(String, u64)>)> {
    let (mut seen, mut files) = (HashSet::new(), Vec::new());
    let entries = folder.is_dir().then(|| walkdir::WalkDir::new(folder).sort_by_file_name());
    for entry in entries.into_iter().flatten() {
        let entry = entry?;
        let metadata = entry.metadata()?;
        if metadata.is_file() && seen.insert((metadata.dev(), metadata.ino())) {
            files.push((entry.path().strip_prefix(folder)?.display().to_string(), metadata.len()));
        }
    }
    Ok((files.iter().map(|(_, bytes)| bytes).sum(), files))
}

/// That many lines of each list are printed.
const LISTED: usize = 15;

impl fmt::Display for Sizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { profile, total, modules, firmware, microcode, made, packages, largest } = self;
        writeln!(f, "{:>9}  {profile}", megabytes(*total))?;
        let shipped = packages.iter().map(|(_, bytes)| bytes).sum();
        let parts = [("packages", shipped), ("modules", *modules), ("firmware", *firmware), ("made", *made)];
        parts.into_iter().try_for_each(|(name, bytes)| writeln!(f, "{:>9}  {name}", megabytes(bytes)))?;
        writeln!(f, "{:>9}  microcode, outside the root", megabytes(*microcode))?;
        for (title, list) in [("packages", packages), ("modules and firmware", largest)] {
            writeln!(f, "\nlargest {title}")?;
            let lines = list.iter().take(LISTED);
            lines.into_iter().try_for_each(|(name, bytes)| writeln!(f, "{:>9}  {name}", megabytes(*bytes)))?;
        }
        Ok(())
    }
}

/// Decimal, as in budgets.
fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}
