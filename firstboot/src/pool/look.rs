//! Looking at real disks.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use serde::Deserialize;

use super::plan::Look;
use crate::command::Run;
use crate::disk::Disk;
use crate::layout::MIB;

/// This machine's disks.
#[derive(Debug, Clone, Copy)]
pub struct Disks;

impl Look for Disks {
    fn is_blank(&self, disk: &Disk) -> std::io::Result<bool> {
        let file = File::open(Path::new("/dev").join(&disk.name))?;
        let mut piece = vec![0; MIB as usize];
        for at in [0, disk.size - MIB] {
            file.read_exact_at(&mut piece, at)?;
            // Flash that was erased reads as ones on some drives.
            if !piece.iter().all(|byte| *byte == 0) && !piece.iter().all(|byte| *byte == 0xff) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn complaint(&self, disk: &Disk) -> Option<String> {
        // Its exit status is made of bits that say a lot (smartctl(8)); what matters is in the text.
        let output =
            Run::new("smartctl").args(["--json", "--health"]).arg(format!("/dev/{}", disk.name)).output().ok()?;
        complaint(&output.stdout)
    }
}

#[derive(Deserialize)]
struct Smart {
    smart_status: Option<SmartStatus>,
}

#[derive(Deserialize)]
struct SmartStatus {
    passed: bool,
    nvme: Option<NvmeStatus>,
}

#[derive(Deserialize)]
struct NvmeStatus {
    #[serde(default)]
    spare_below_threshold: bool,
    #[serde(default)]
    temperature_above_or_below_threshold: bool,
    #[serde(default)]
    reliability_degraded: bool,
    #[serde(default)]
    media_read_only: bool,
}

/// `None` where all is well, and where the disk does not say.
fn complaint(json: &[u8]) -> Option<String> {
    let status = serde_json::from_slice::<Smart>(json).ok()?.smart_status?;
    if status.passed {
        return None;
    }
    let nvme = status.nvme.iter().flat_map(|nvme| {
        [
            (nvme.spare_below_threshold, "its spare blocks are used up"),
            (nvme.temperature_above_or_below_threshold, "it is too hot or too cold"),
            (nvme.reliability_degraded, "it has had too many errors"),
            (nvme.media_read_only, "it can only be read"),
        ]
    });
    let causes: Vec<_> = nvme.filter_map(|(is_so, why)| is_so.then_some(why)).collect();
    Some(if causes.is_empty() { "its SMART status is bad".to_owned() } else { causes.join(", ") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_is_well_or_says_nothing_has_no_complaint() {
        assert_eq!(complaint(br#"{"smart_status": {"passed": true, "nvme": {"value": 0}}}"#), None);
        assert_eq!(complaint(br#"{"smartctl": {"exit_status": 1}}"#), None);
        assert_eq!(complaint(b"smartctl: not found"), None);
    }

    #[test]
    fn a_failing_disk_says_why() {
        let nvme = br#"{"smart_status": {"passed": false, "nvme": {"value": 9, "spare_below_threshold": true, "media_read_only": true}}}"#;
        assert_eq!(complaint(nvme).unwrap(), "its spare blocks are used up, it can only be read");
        assert_eq!(complaint(br#"{"smart_status": {"passed": false}}"#).unwrap(), "its SMART status is bad");
    }
}
