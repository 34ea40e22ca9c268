//! What no builder can do without, measured alone on this machine: decoding the packages, writing the image.

use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use larder::lock::Lock;
use serde::Serialize;

use crate::place::{Place, run};

/// Bounds of a build.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Limits {
    /// dpkg-deb decodes the data of all packages, one process for each core.
    pub(crate) decoding: f64,
    /// As many bytes as larder's output folder holds are written and synced.
    pub(crate) writing: f64,
    /// How many MiB that are.
    pub(crate) mebibytes: f64,
}

/// Measures them.
pub(crate) fn measure(place: &Place, lock: &Lock) -> Result<Limits> {
    let bytes = allocated(&place.out())?;
    Ok(Limits { decoding: decoding(place, lock)?, writing: writing(place, bytes)?, mebibytes: bytes as f64 / MEBIBYTE })
}

const MEBIBYTE: f64 = (1_u64 << 20) as f64;

fn decoding(place: &Place, lock: &Lock) -> Result<f64> {
    let store = larder::store::Store::open(Some(place.cache()))?;
    let list = place.out().with_file_name("packages.list");
    let packages: Vec<String> =
        lock.packages.iter().map(|package| store.blob_path(&package.sha256).display().to_string()).collect();
    fs_err::write(&list, packages.join("\n"))?;
    drop(store);
    let cores = std::thread::available_parallelism()?;
    let script = format!(
        "start=$EPOCHREALTIME; xargs --arg-file={} --max-procs={cores} --max-args=1 \
        sh -c 'dpkg-deb --fsys-tarfile \"$0\" >/dev/null' && echo \"$start $EPOCHREALTIME\"",
        list.display()
    );
    let folder = list.parent().context("a file has no folder")?;
    let times = run(&mut place.tool("bench", folder, &["bash", "-c", &script]))?;
    crate::mkosi::duration(&times)
}

fn writing(place: &Place, bytes: u64) -> Result<f64> {
    // Neither zeros nor a repetition that a file system could leave out.
    let mut noise = 1_u64;
    let block: Vec<u8> = (0..1 << 17)
        .flat_map(|_| {
            noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            noise.to_le_bytes()
        })
        .collect();
    let mut file = tempfile::tempfile_in(place.out())?;
    nix::unistd::sync();
    let start = Instant::now();
    let mut left = bytes;
    while left > 0 {
        let part = block.len().min(usize::try_from(left)?);
        file.write_all(&block[..part])?;
        left -= part as u64;
    }
    file.sync_all()?;
    Ok(start.elapsed().as_secs_f64())
}

/// Bytes that the files of a folder take on the disk: holes do not count.
fn allocated(folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in fs_err::read_dir(folder)? {
        // In units of 512 bytes, whatever the file system's blocks are (stat(2)).
        bytes += entry?.metadata()?.blocks() * 512;
    }
    ensure!(bytes > 0, "{} is empty", folder.display());
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_take_no_space() {
        let folder = tempfile::tempdir().expect("folder");
        assert!(allocated(folder.path()).is_err());
        let file = fs_err::File::create(folder.path().join("sparse")).expect("creates");
        file.set_len(1 << 30).expect("grows");
        fs_err::write(folder.path().join("full"), vec![1; 1 << 20]).expect("writes");
        file.sync_all().expect("syncs");
        let bytes = allocated(folder.path()).expect("counts");
        assert!((1 << 20..2 << 20).contains(&bytes), "{bytes}");
    }
}
