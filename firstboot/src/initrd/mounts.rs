//! What is mounted where, and the step from the initrd into the root.

use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::Path;

use anyhow::Context as _;
use nix::mount::{MsFlags, mount};

use crate::text;

/// Where the root is mounted before it becomes `/`.
const SYSROOT: &str = "/sysroot";
/// What is written below these is kept in memory and gone at the next boot; what must last is rendered again from the
/// settings.
const VOLATILE: [&str; 2] = ["etc", "var"];

const NOTHING_RUNS_HERE: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV).union(MsFlags::MS_NOEXEC);
const NO_PRIVILEGES_HERE: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV);
/// Places that begin empty at every boot. systemd has a unit for the first; it takes over what it finds mounted, and each
/// mount of its own costs a process.
const EMPTY: [(&str, MsFlags, &str); 3] = [
    ("tmp", NO_PRIVILEGES_HERE, "mode=1777,size=50%,nr_inodes=1m"),
    ("root", NO_PRIVILEGES_HERE, "mode=0700,size=16M"),
    // Where pools are mounted: ZFS makes its mount points here.
    ("mnt", NOTHING_RUNS_HERE, "mode=0755,size=1M"),
];
/// Where it is kept: below `/run`, which outlasts the initrd.
const UPPER: &str = "/run/larder/volatile";

/// File systems of the kernel, with the options that systemd gives them: it takes over what it finds mounted.
const API: [(&str, &str, MsFlags, &str); 4] = [
    ("/proc", "proc", NOTHING_RUNS_HERE, ""),
    ("/sys", "sysfs", NOTHING_RUNS_HERE, ""),
    ("/dev", "devtmpfs", MsFlags::MS_NOSUID, "mode=0755,size=4m,nr_inodes=1m"),
    ("/run", "tmpfs", NO_PRIVILEGES_HERE, "mode=0755,size=20%,nr_inodes=800k"),
];

/// Mounts the kernel's own file systems.
pub(crate) fn api() -> anyhow::Result<()> {
    API.iter().try_for_each(|&(path, kind, flags, options)| {
        mount(Some(kind), path, Some(kind), flags, Some(options)).with_context(|| format!("mounting {path}"))
    })
}

/// Mounts the root, and memory where it may be written to.
pub(crate) fn root(device: &Path) -> anyhow::Result<()> {
    mount(Some(device), SYSROOT, Some("erofs"), MsFlags::MS_RDONLY, None::<&str>)
        .with_context(|| format!("mounting {}", device.display()))?;
    for name in VOLATILE {
        let (upper, work) = (Path::new(UPPER).join(name).join("upper"), Path::new(UPPER).join(name).join("work"));
        for folder in [&upper, &work] {
            std::fs::DirBuilder::new().recursive(true).mode(0o755).create(folder)?;
        }
        let place = Path::new(SYSROOT).join(name);
        let options = format!("lowerdir={},upperdir={},workdir={}", text(&place)?, text(&upper)?, text(&work)?);
        mount(Some(name), &place, Some("overlay"), MsFlags::empty(), Some(options.as_str()))
            .with_context(|| format!("mounting memory over /{name}"))?;
    }
    EMPTY.iter().try_for_each(|&(name, flags, options)| {
        mount(Some("tmpfs"), &Path::new(SYSROOT).join(name), Some("tmpfs"), flags, Some(options))
            .with_context(|| format!("mounting memory at /{name}"))
    })
}

/// Makes the root `/`, as switch_root(8) does, and gives back the memory that the initrd takes.
pub(crate) fn enter() -> anyhow::Result<()> {
    const NO_OPTIONS: (Option<&str>, Option<&str>) = (None, None);
    let (kind, options) = NO_OPTIONS;
    for (path, ..) in API {
        let place = format!("{SYSROOT}{path}");
        mount(Some(path), place.as_str(), kind, MsFlags::MS_MOVE, options).with_context(|| format!("moving {path}"))?;
    }
    empty(Path::new("/"), std::fs::metadata("/")?.dev())?;
    std::env::set_current_dir(SYSROOT)?;
    mount(Some("."), "/", kind, MsFlags::MS_MOVE, options).context("moving the root")?;
    nix::unistd::chroot(".")?;
    Ok(std::env::set_current_dir("/")?)
}

/// Removes everything below `folder` that is on the file system `device`.
fn empty(folder: &Path, device: u64) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        if metadata.dev() != device {
            continue;
        }
        if metadata.is_dir() {
            empty(&entry.path(), device)?;
            // A folder with a mount point in it stays.
            let _ = std::fs::remove_dir(entry.path());
        } else {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}
