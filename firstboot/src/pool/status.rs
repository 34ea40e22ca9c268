//! How the pool is, and what its owner has to know about it.

use std::fmt;
use std::path::Path;

use jiff::Timestamp;
use serde::Serialize;

use super::Known;
use super::setup::Journal;
use crate::command::Run;
use crate::disk::Size;
use crate::finding::{Finding, Severity};
use crate::zfs::{self, PoolState, PoolStatus, ScanKind};

/// The pool, as `firstboot status` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Report {
    /// What ZFS says; nothing when it is not imported.
    pub pool: Option<PoolStatus>,
    /// Bytes that files take, and may still take.
    pub room: Option<[u64; 2]>,
    /// Whether the data can be read.
    pub unlocked: bool,
    /// When the next scrub is due, in seconds since 1970.
    pub next_scrub: Option<u64>,
    /// What is not as it should be.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Asks about the pool of this appliance; `None` where it has none.
    ///
    /// # Errors
    /// ZFS does not answer.
    pub fn new(root: &Path) -> anyhow::Result<Option<Self>> {
        if let Some(journal) = Journal::read(root)? {
            return Ok(Some(Self::empty(under_way(&journal))));
        }
        let Some(known) = Known::read(root)? else { return Ok(None) };
        let Some(name) = zfs::name_of(known.guid)? else { return Ok(Some(Self::empty(missing(&known)))) };
        let status = PoolStatus::of(&name)?;
        let data = format!("{name}/{}", super::DATA);
        let sizes = Run::new("zfs").args(["list", "-H", "-p", "-o", "used,avail", &data]).text()?;
        let room = sizes.split_once('\t').and_then(|(used, free)| Some([used.parse().ok()?, free.parse().ok()?]));
        let unlocked = zfs::property(&data, "keystatus")?.as_deref() == Some("available");
        let findings = findings(&status);
        Ok(Some(Self { next_scrub: next_scrub(&name), pool: Some(status), room, unlocked, findings }))
    }

    fn empty(finding: Finding) -> Self {
        Self { pool: None, room: None, unlocked: false, next_scrub: None, findings: vec![finding] }
    }
}

impl fmt::Display for Report {
    /// Without the findings.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(pool) = &self.pool else { return Ok(()) };
        write!(f, "Pool `{}`: {}", pool.name, pool.state.as_str())?;
        if let Some([used, free]) = self.room {
            write!(f, ", {} used, {} free", Size(used), Size(free))?;
        }
        writeln!(f, ", {}", if self.unlocked { "open" } else { "locked: firstboot unlock" })?;
        match &pool.scan {
            Some(scan) if scan.kind == ScanKind::Scrub => {
                writeln!(
                    f,
                    "  last scrub: {}, {} errors",
                    Self::when(scan.end_time.max(scan.start_time)),
                    scan.errors
                )?;
            }
            Some(_) => writeln!(f, "  last scrub: not since a disk was replaced")?,
            None => writeln!(f, "  last scrub: none yet")?,
        }
        match self.next_scrub {
            Some(next) => writeln!(f, "  next scrub: {}", Self::when(next)),
            None => writeln!(f, "  next scrub: not planned"),
        }
    }
}

impl Report {
    fn when(seconds: u64) -> String {
        let time = i64::try_from(seconds).ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
        time.map_or_else(|| "unknown".to_owned(), |time| time.strftime("%Y-%m-%d %H:%M UTC").to_string())
    }
}

fn next_scrub(pool: &str) -> Option<u64> {
    let timer = format!("zfs-scrub-weekly@{pool}.timer");
    let show = ["show", "--value", "--timestamp=unix", "-p", "NextElapseUSecRealtime", &timer];
    let text = Run::new("systemctl").args(show).text().ok()?;
    text.strip_prefix('@')?.parse().ok()
}

fn under_way(journal: &Journal) -> Finding {
    Finding {
        id: "pool-setup-under-way".into(),
        severity: Severity::Failure,
        message: format!(
            "the pool `{}` is not set up to its end ({:?} was the last step)",
            journal.plan.name, journal.step
        ),
        next: "read `journalctl -b -u larder-pool`; the next start goes on with it".into(),
    }
}

fn missing(known: &Known) -> Finding {
    Finding {
        id: "pool-missing".into(),
        severity: Severity::Failure,
        message: format!("the pool `{}` ({}) is not there, or too few of its disks are", known.name, known.guid),
        next:
            "are all disks plugged in? `zpool import` says which are missing; `journalctl -b -u larder-pool` says why"
                .into(),
    }
}

/// What speaks against a pool that is imported.
pub fn findings(status: &PoolStatus) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut add = |id: &'static str, severity, message: String, next: &'static str| {
        findings.push(Finding { id: id.into(), severity, message, next: next.into() });
    };
    for disk in &status.disks {
        let name = &disk.name;
        match disk.state {
            PoolState::Online | PoolState::Avail | PoolState::Inuse | PoolState::Unknown => {}
            PoolState::Unavail | PoolState::Removed => add(
                "disk-missing",
                Severity::Warning,
                format!("the disk {name} of the pool `{}` is not there", status.name),
                "plug it in again; if it is broken, replace it: zpool replace",
            ),
            PoolState::Degraded | PoolState::Faulted | PoolState::Offline | PoolState::Suspended => add(
                "disk-failing",
                Severity::Warning,
                format!("the disk {name} of the pool `{}` is not in use any more: it had errors", status.name),
                "replace it: zpool replace",
            ),
        }
        if disk.errors != [0; 3] {
            let [read, write, checksum] = disk.errors;
            add(
                "disk-errors",
                Severity::Warning,
                format!("the disk {name} has made mistakes: reading {read}, writing {write}, wrong data {checksum}"),
                "look at its cable and its SMART values; `zpool clear` once the cause is gone",
            );
        }
    }
    if status.lost > 0 {
        add(
            "data-lost",
            Severity::Failure,
            format!(
                "{} files or blocks of the pool `{}` are damaged and could not be mended",
                status.lost, status.name
            ),
            "`zpool status -v` names the files: bring them back from a backup",
        );
    }
    let is_bad = matches!(status.state, PoolState::Faulted | PoolState::Suspended | PoolState::Unavail);
    if is_bad {
        add(
            "pool-stopped",
            Severity::Failure,
            format!("the pool `{}` has stopped: too few of its disks answer", status.name),
            "look at power and cables, then restart",
        );
    }
    if let Some(scan) = &status.scan
        && scan.kind == ScanKind::Scrub
        && scan.state == "CANCELED"
    {
        add(
            "scrub-canceled",
            Severity::Notice,
            format!("the last scrub of the pool `{}` was not finished", status.name),
            "the next one starts by itself; or: zpool scrub",
        );
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zfs::{Device, Guid, Scan};

    fn status(disks: &[(PoolState, [u64; 3])], lost: u64) -> PoolStatus {
        let disks =
            disks.iter().zip(1..).map(|(&(state, errors), i)| Device { name: format!("disk{i}"), state, errors });
        PoolStatus {
            name: "tank".to_owned(),
            guid: Guid(7),
            state: PoolState::Degraded,
            status: None,
            scan: None,
            disks: disks.collect(),
            lost,
        }
    }

    #[test]
    fn a_healthy_pool_has_no_findings() {
        assert_eq!(findings(&status(&[(PoolState::Online, [0; 3]), (PoolState::Avail, [0; 3])], 0)), []);
    }

    #[test]
    fn a_report_says_how_the_pool_is_and_when_it_was_looked_through() {
        let scan = Scan {
            kind: ScanKind::Scrub,
            state: "FINISHED".to_owned(),
            start_time: 1_795_411_385,
            end_time: 1_795_411_385,
            errors: 0,
        };
        let pool = PoolStatus { scan: Some(scan), state: PoolState::Online, ..status(&[], 0) };
        let report = Report {
            pool: Some(pool),
            room: Some([1_000_000_000, 900_000_000_000]),
            unlocked: true,
            next_scrub: Some(1_795_996_800),
            findings: Vec::new(),
        };
        insta::assert_snapshot!(report, @r"
        Pool `tank`: online, 1.0 GB used, 900.0 GB free, open
          last scrub: 2026-11-23 05:23 UTC, 0 errors
          next scrub: 2026-11-30 00:00 UTC
        ");
        insta::assert_snapshot!(Report { room: None, unlocked: false, next_scrub: None, ..report }, @r"
        Pool `tank`: online, locked: firstboot unlock
          last scrub: 2026-11-23 05:23 UTC, 0 errors
          next scrub: not planned
        ");
    }

    #[test]
    fn each_disk_that_is_missing_or_errs_is_named() {
        let status =
            status(&[(PoolState::Unavail, [0; 3]), (PoolState::Faulted, [0, 3, 1]), (PoolState::Online, [0; 3])], 2);
        let text = findings(&status).iter().map(|finding| format!("{finding}\n")).collect::<String>();
        insta::assert_snapshot!(text, @r"
        disk-missing: the disk disk1 of the pool `tank` is not there
          next: plug it in again; if it is broken, replace it: zpool replace
        disk-failing: the disk disk2 of the pool `tank` is not in use any more: it had errors
          next: replace it: zpool replace
        disk-errors: the disk disk2 has made mistakes: reading 0, writing 3, wrong data 1
          next: look at its cable and its SMART values; `zpool clear` once the cause is gone
        data-lost: 2 files or blocks of the pool `tank` are damaged and could not be mended
          next: `zpool status -v` names the files: bring them back from a backup
        ");
    }
}
