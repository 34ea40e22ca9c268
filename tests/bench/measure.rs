//! How long a command takes and how much memory its processes need.
//!
//! The command is run by a process of its own (the hidden verb `measure`): the kernel adds up what the children of a
//! process used (getrusage(2)), and only a fresh process has had no other children before.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use fs_err::File;
use nix::sys::resource::{UsageWho, getrusage};
use serde::{Deserialize, Serialize};

/// How often the memory of all processes is added up. More often would cost the measured program time.
const SAMPLING: Duration = Duration::from_millis(200);

/// What a command used.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Usage {
    /// From its start to its end, in seconds.
    pub(crate) seconds: f64,
    /// Of all its processes, in the kernel and outside, in seconds.
    pub(crate) cpu_seconds: f64,
    /// The larger of two figures, in bytes: the largest process (exact), and the largest sum over all processes that
    /// was seen at once. File pages that programs have mapped count each time.
    pub(crate) peak_memory: u64,
}

/// Runs the command; its output goes to `log`, which also is what an error quotes.
pub(crate) fn run(command: &Command, log: &Path) -> Result<Usage> {
    let report = log.with_extension("usage.json");
    let mut measurer = Command::new(std::env::current_exe().context("looking for the running program")?);
    measurer.arg("measure").arg(&report).arg("--").arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => measurer.env(name, value),
            None => measurer.env_remove(name),
        };
    }
    let output = File::create(log)?;
    let status = measurer
        .current_dir(command.get_current_dir().unwrap_or(Path::new(".")))
        .stdin(std::process::Stdio::null())
        .stdout(output.file().try_clone()?)
        .stderr(output.into_file())
        .status()
        .with_context(|| format!("starting {command:?}"))?;
    ensure!(status.success(), "{command:?} failed ({status}); the end of {}:\n{}", log.display(), tail(log)?);
    let usage = serde_json::from_slice(&fs_err::read(&report)?)?;
    fs_err::remove_file(&report)?;
    Ok(usage)
}

fn tail(log: &Path) -> Result<String> {
    let text = String::from_utf8_lossy(&fs_err::read(log)?).into_owned();
    // mkosi quotes whole command lines, with thousands of modules.
    let lines: Vec<String> = text.lines().map(|line| line.chars().take(200).collect()).collect();
    Ok(lines[lines.len().saturating_sub(20)..].join("\n"))
}

/// The hidden verb: runs the program and writes its [`Usage`] to `report`.
pub(crate) fn measure(report: &Path, program: &Path, args: &[std::ffi::OsString]) -> Result<ExitStatus> {
    let start = Instant::now();
    let mut child = Command::new(program).args(args).spawn().with_context(|| format!("starting {program:?}"))?;
    let ended = AtomicBool::new(false);
    let (status, seconds, seen) = std::thread::scope(|scope| {
        let (root, ended) = (child.id(), &ended);
        let sampler = scope.spawn(move || largest_sum(root, ended));
        let status = child.wait();
        let seconds = start.elapsed().as_secs_f64();
        ended.store(true, Ordering::Relaxed);
        sampler.thread().unpark();
        (status, seconds, sampler.join().unwrap_or_default())
    });
    let used = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let cpu = |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    let largest = u64::try_from(used.max_rss())? * 1024;
    let usage =
        Usage { seconds, cpu_seconds: cpu(used.user_time()) + cpu(used.system_time()), peak_memory: largest.max(seen) };
    fs_err::write(report, serde_json::to_vec(&usage)?)?;
    Ok(status?)
}

/// The largest sum of the resident memory of `root` and its descendants, until `ended`.
fn largest_sum(root: u32, ended: &AtomicBool) -> u64 {
    let mut largest = 0;
    while !ended.load(Ordering::Relaxed) {
        largest = largest.max(resident(root));
        std::thread::park_timeout(SAMPLING);
    }
    largest
}

fn resident(root: u32) -> u64 {
    let processes = processes();
    let of_root = |pid: &u32| {
        let parents = std::iter::successors(Some(*pid), |pid| processes.get(pid).map(|process| process.parent));
        // A process that was reused as its own ancestor meanwhile would make a circle.
        let mut seen = BTreeSet::new();
        parents.take_while(|pid| seen.insert(*pid)).any(|pid| pid == root)
    };
    processes.iter().filter(|(pid, _)| of_root(pid)).map(|(_, process)| process.resident).sum()
}

struct Process {
    parent: u32,
    resident: u64,
}

/// All processes; one that ends while it is looked at is left out.
fn processes() -> BTreeMap<u32, Process> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid| Some((pid, parse(&std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?)?))).collect()
}

/// Of proc_pid_status(5); a process without memory (a zombie, a kernel thread) has no `VmRSS`.
fn parse(status: &str) -> Option<Process> {
    let field = |name: &str| {
        let value = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        value.split_whitespace().next()?.parse::<u64>().ok()
    };
    Some(Process { parent: field("PPid")?.try_into().ok()?, resident: field("VmRSS").unwrap_or(0) * 1024 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parent_and_memory_are_read_from_the_status_of_a_process() {
        let process = parse("Name:\tcargo\nPPid:\t17\nVmRSS:\t    2048 kB\n").expect("parses");
        assert_eq!((process.parent, process.resident), (17, 2 << 20));
        assert_eq!(parse("Name:\tkthreadd\nPPid:\t0\n").expect("parses").resident, 0);
        assert!(parse("Name:\tx\n").is_none());
    }

    #[test]
    fn own_memory_is_part_of_the_sum() {
        let own = resident(std::process::id());
        assert!(own > 100 << 10, "{own} bytes");
    }

    #[test]
    fn a_measured_command_has_a_duration_and_memory() {
        let folder = tempfile::tempdir().expect("folder");
        let report = folder.path().join("report");
        let status = measure(&report, Path::new("sh"), &["-c".into(), "sleep 0.3; exit 3".into()]).expect("runs");
        assert_eq!(status.code(), Some(3));
        let usage: Usage = serde_json::from_slice(&fs_err::read(report).expect("reads")).expect("parses");
        assert!(usage.seconds >= 0.3 && usage.peak_memory > 0, "{usage:?}");
    }
}
