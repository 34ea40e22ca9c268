//! A medium of known speed: the disk of a folder, slowed down by a control group.
//!
//! What is flashed is mostly sticks and cards, at some ten megabytes a second; the disk of a machine that builds takes what
//! it is given at once, and then the time is the processor's. The kernel holds back whoever is in the group, the writing
//! out of its page cache by fsync(2) included
//! (<https://docs.kernel.org/admin-guide/cgroup-v1/blkio-controller.html>, `io.max` in cgroup-v2.html).

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

const NAME: &str = "larder-bench";

/// How fast a medium is.
#[derive(Debug)]
pub(crate) enum Medium {
    /// As fast as the disk of this machine.
    Disk,
    /// Slowed down.
    Slow(Group),
}

/// A control group whose members read and write the disk at a fixed rate; gone when dropped.
#[derive(Debug)]
pub(crate) struct Group(PathBuf);

impl Medium {
    /// The disk that `folder` is on, at `rate` bytes a second each way.
    pub(crate) fn slow(folder: &Path, rate: u64) -> Result<Self> {
        let device = disk_of(folder)?;
        let cgroups = Path::new("/sys/fs/cgroup");
        let (parent, limits) = if cgroups.join("blkio").is_dir() {
            let limit = |way: &str| (format!("blkio.throttle.{way}_bps_device"), format!("{device} {rate}"));
            (cgroups.join("blkio"), vec![limit("read"), limit("write")])
        } else if has_controller(cgroups, "cgroup.controllers")? {
            if !has_controller(cgroups, "cgroup.subtree_control")? {
                fs_err::write(cgroups.join("cgroup.subtree_control"), "+io")?;
            }
            (cgroups.to_owned(), vec![("io.max".to_owned(), format!("{device} rbps={rate} wbps={rate}"))])
        } else {
            bail!("this machine has no control groups for disks");
        };
        let group = Group(parent.join(NAME));
        fs_err::create_dir_all(&group.0)?;
        for (file, limit) in limits {
            fs_err::write(group.0.join(file), limit)?;
        }
        Ok(Self::Slow(group))
    }

    /// The command, run as a member of the group.
    pub(crate) fn on(&self, command: Command) -> Command {
        let Self::Slow(group) = self else { return command };
        let mut member = Command::new("sh");
        member.args(["-c", "echo $$ > \"$0\"; exec \"$@\""]).arg(group.0.join("cgroup.procs"));
        member.arg(command.get_program()).args(command.get_args());
        member.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        if let Some(folder) = command.get_current_dir() {
            member.current_dir(folder);
        }
        member
    }
}

fn has_controller(cgroups: &Path, file: &str) -> Result<bool> {
    let text = fs_err::read_to_string(cgroups.join(file)).unwrap_or_default();
    Ok(text.split_whitespace().any(|name| name == "io"))
}

/// `MAJOR:MINOR` of the whole disk, which is what is slowed down.
fn disk_of(folder: &Path) -> Result<String> {
    let number = fs_err::metadata(folder)?.dev();
    let number = format!("{}:{}", nix::sys::stat::major(number), nix::sys::stat::minor(number));
    let device = fs_err::canonicalize(Path::new("/sys/dev/block").join(&number))
        .with_context(|| format!("{} is on no disk", folder.display()))?;
    let disk = if device.join("partition").exists() { device.parent().unwrap_or(&device) } else { &device };
    Ok(fs_err::read_to_string(disk.join("dev"))?.trim().to_owned())
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_on_a_slow_medium_joins_the_group_first_and_stays_the_same_otherwise() {
        let mut dd = Command::new("dd");
        dd.args(["if=a", "of=b"]).env("X", "1").current_dir("/tmp");
        let medium = Medium::Slow(Group("/nowhere/group".into()));
        let member = medium.on(dd);
        let arguments: Vec<_> = member.get_args().map(|argument| argument.to_string_lossy()).collect();
        assert_eq!(arguments[2..], ["/nowhere/group/cgroup.procs", "dd", "if=a", "of=b"]);
        assert_eq!(member.get_current_dir(), Some(Path::new("/tmp")));
        assert_eq!(member.get_envs().count(), 1);
    }
}
