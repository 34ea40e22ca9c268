//! `newuidmap` and `newgidmap` for a host that has none: root, who runs the tests, does what they would.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use nix::sys::stat::Mode;
use nix::unistd::{Uid, mkfifo};

/// Both programs hand their arguments over and wait for an answer.
const PROGRAM: &str = r#"#!/bin/sh
echo "$@" > "${0%/*}/asked-${0##*/}"
read answer < "${0%/*}/answered-${0##*/}"
[ -z "$answer" ] || { echo "$answer" >&2; exit 1; }
"#;

/// Puts both programs into `bin`, for one user, for as long as this process lives.
pub(super) fn serve(bin: &Path, user: Uid) -> Result<()> {
    for (program, map) in [("newuidmap", "uid_map"), ("newgidmap", "gid_map")] {
        let path = bin.join(program);
        fs_err::write(&path, PROGRAM)?;
        fs_err::set_permissions(&path, PermissionsExt::from_mode(0o755))?;
        let pipes = ["asked", "answered"].map(|pipe| bin.join(format!("{pipe}-{program}")));
        for pipe in &pipes {
            mkfifo(pipe, Mode::from_bits_truncate(0o600))?;
        }
        std::thread::spawn(move || while answer(&pipes, map, user).is_ok() {});
    }
    Ok(())
}

fn answer([asked, answered]: &[PathBuf; 2], map: &str, user: Uid) -> Result<()> {
    let asked = fs_err::read_to_string(asked)?;
    let refused = write_map(&asked, map, user).err();
    Ok(fs_err::write(answered, refused.map_or_else(|| "\n".to_owned(), |error| format!("{error:#}\n")))?)
}

/// `PID`, then triples of first id inside, first id outside, count.
fn write_map(asked: &str, map: &str, user: Uid) -> Result<()> {
    let (pid, numbers) = asked.trim().split_once(' ').context("no process is named")?;
    let process = Path::new("/proc").join(pid.parse::<u32>()?.to_string());
    ensure!(fs_err::metadata(&process)?.uid() == user.as_raw(), "process {pid} is another user's");
    let numbers: Vec<&str> = numbers.split(' ').collect();
    let lines: Vec<String> = numbers.chunks(3).map(|triple| triple.join(" ")).collect();
    // The kernel takes a map in one write only.
    Ok(fs_err::write(process.join(map), lines.join("\n"))?)
}
