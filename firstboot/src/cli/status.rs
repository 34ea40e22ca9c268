//! `firstboot status`

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use firstboot::finding::Finding;
use firstboot::health::System;
use firstboot::key::{Overview, Vault};
use firstboot::pool::{at_boot, status::Report};
use firstboot::status;
use serde::Serialize;

/// The running system.
const ROOT: &str = "/";

/// All that is known.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Status {
    /// The pool, if there is one.
    pool: Option<Report>,
    /// What opens its data.
    keys: Option<Overview>,
    /// What is not as it should be.
    findings: Vec<Finding>,
}

/// Shows how the appliance is; the exit status says whether something is wrong.
pub(crate) fn show(json: bool) -> anyhow::Result<ExitCode> {
    let root = Path::new(ROOT);
    // Without the module there is no pool to ask about, which is a finding of its own.
    let pool = if root.join("dev/zfs").exists() { Report::new(root)? } else { None };
    if let Some(pool) = &pool {
        status::record(root, at_boot::TOPIC, &pool.findings)?;
    }
    let keys = pool.as_ref().and_then(|report| report.pool.as_ref()).map(|pool| Overview::of(&Vault::of(&pool.name)));
    let findings = [System::at(ROOT).faults(), status::all(root)?].concat();
    let status = Status { pool, keys: keys.transpose()?, findings };
    if json {
        println!("{}", serde_json::to_string_pretty(&status)?);
    } else {
        print(&status)?;
    }
    Ok(if status.findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print(status: &Status) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    if let Some(pool) = &status.pool {
        write!(out, "{pool}")?;
    }
    if let Some(keys) = &status.keys {
        write!(out, "{keys}")?;
    }
    if status::recorded(Path::new(ROOT), super::hardware::TOPIC)?.is_none() {
        writeln!(out, "the hardware has not been looked at yet")?;
    }
    Ok(status.findings.iter().try_for_each(|finding| writeln!(out, "{finding}"))?)
}
