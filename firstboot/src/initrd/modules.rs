//! Loads every kernel module that the initrd brings: the profile's `kernel.initrd-modules` and what they need.
//!
//! There are few, so that a driver without a device costs less than finding out that there is none. `modules.dep` has
//! `PATH: PATH…`, and what stands last is to be loaded first (modules.dep(5)).

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Context as _;
use nix::errno::Errno;
use nix::kmod::{ModuleInitFlags, finit_module};

/// In which order modules are loaded, apart from what they need.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    /// Drivers: disks take their time to appear.
    Driver,
    /// Algorithms: others ask the kernel for them by name, which `modules.dep` knows nothing of.
    Algorithm,
    /// File systems and the device mapper.
    Other,
}

impl Rank {
    fn of(path: &str) -> Self {
        match path {
            path if path.contains("/crypto/") => Self::Algorithm,
            path if path.starts_with("kernel/drivers/md/") => Self::Other,
            path if path.starts_with("kernel/drivers/") => Self::Driver,
            _ => Self::Other,
        }
    }
}

/// Loads the modules of the running kernel. One that its hardware lacks (a CPU without the instructions, say) refuses
/// to be loaded, and that is no error; whether one was indispensable shows soon enough.
pub(crate) fn load_all() -> anyhow::Result<()> {
    let release = nix::sys::utsname::uname()?.release().to_owned();
    let folder = Path::new("/usr/lib/modules").join(release);
    let index = fs_err::read_to_string(folder.join("modules.dep"))?;
    for path in order(&index) {
        if let Err(error) = load(&folder.join(path)) {
            eprintln!("larder: {error:#}");
        }
    }
    Ok(())
}

fn load(path: &Path) -> anyhow::Result<()> {
    let file = fs_err::File::open(path)?;
    match finit_module(file.file(), c"", ModuleInitFlags::empty()) {
        Ok(()) | Err(Errno::EEXIST | Errno::ENODEV) => Ok(()),
        Err(error) => Err(error).with_context(|| format!("loading {}", path.display())),
    }
}

/// Every module once, each after those that it needs.
fn order(index: &str) -> Vec<&str> {
    let mut lines: Vec<_> = index.lines().filter_map(|line| line.split_once(':')).collect();
    lines.sort_by_key(|(module, _)| Rank::of(module));
    let mut seen = BTreeSet::new();
    lines
        .into_iter()
        .flat_map(|(module, needed)| needed.split_ascii_whitespace().rev().chain([module]))
        .filter(|module| seen.insert(*module))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_comes_after_those_it_needs_and_disks_come_first() {
        let index = "kernel/fs/erofs/erofs.ko: kernel/lib/libcrc32c.ko\n\
                     kernel/drivers/md/dm-verity.ko: kernel/drivers/md/dm-bufio.ko kernel/drivers/md/dm-mod.ko\n\
                     kernel/drivers/md/dm-bufio.ko: kernel/drivers/md/dm-mod.ko\n\
                     kernel/drivers/md/dm-mod.ko:\n\
                     kernel/lib/libcrc32c.ko:\n\
                     kernel/arch/x86/crypto/crc32c-intel.ko:\n\
                     kernel/drivers/nvme/host/nvme.ko: kernel/drivers/nvme/host/nvme-core.ko\n\
                     kernel/drivers/nvme/host/nvme-core.ko:\n";
        let names: Vec<_> = order(index).into_iter().map(|path| path.rsplit_once('/').unwrap().1).collect();
        assert_eq!(
            names,
            [
                "nvme-core.ko",
                "nvme.ko",
                "crc32c-intel.ko",
                "libcrc32c.ko",
                "erofs.ko",
                "dm-mod.ko",
                "dm-bufio.ko",
                "dm-verity.ko"
            ]
        );
    }
}
