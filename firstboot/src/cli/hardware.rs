//! `firstboot hardware …`

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Subcommand;
use firstboot::hardware::{Description, Machine, check, detect, media, memory};
use firstboot::status;

use super::print;

/// The running system.
const ROOT: &str = "/";
/// What the check's findings are filed under.
pub(crate) const TOPIC: &str = "hardware";
/// Where the media test writes: in memory.
const MEDIA_FOLDER: &str = "/run/larder/media";

#[derive(Debug, Subcommand)]
pub(crate) enum HardwareVerb {
    /// Looks for what is wrong with the hardware; exit status 1 when there is something.
    Check {
        /// Prints the findings as JSON.
        #[arg(long)]
        json: bool,
        /// Writes them down for `firstboot status` instead of printing them; exit status 0.
        #[arg(long, conflicts_with = "json")]
        record: bool,
    },
    /// Encodes and decodes a clip on the GPU; exit status 1 when the GPU cannot, or there is none.
    Media {
        /// Prints the report as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Says which profile this machine wants, the best one first, and why.
    Detect {
        /// Asks a dump of another machine: `lspci -nn`, then `grep . /sys/class/dmi/id/*_{vendor,name}`.
        #[arg(long, value_name = "FILE")]
        from: Option<PathBuf>,
    },
    /// Limits the memory that ZFS takes for its cache, as the profile says; before the module is loaded.
    Memory,
}

/// Runs the verb.
pub(crate) fn run(verb: &HardwareVerb) -> anyhow::Result<ExitCode> {
    match verb {
        HardwareVerb::Check { json, record } => run_check(*json, *record),
        HardwareVerb::Media { json } => run_media(*json),
        HardwareVerb::Detect { from } => run_detect(from.as_deref()),
        HardwareVerb::Memory => {
            let description = Description::read(Path::new(ROOT))?;
            if let Some(limit) = memory::limit_arc(Path::new(ROOT), &description)? {
                writeln!(std::io::stdout(), "ZFS may take {} MiB for its cache", limit >> 20)?;
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn run_check(json: bool, record: bool) -> anyhow::Result<ExitCode> {
    let findings = check::System::at(ROOT)?.findings();
    if record {
        status::record(Path::new(ROOT), TOPIC, &findings)?;
        return Ok(ExitCode::SUCCESS);
    }
    print(&findings, json)
}

fn run_media(json: bool) -> anyhow::Result<ExitCode> {
    let root = Path::new(ROOT);
    let test = match media::Test::of_system(root, &Description::read(root)?) {
        Ok(test) => test,
        Err(why) => {
            writeln!(std::io::stderr(), "{why}")?;
            return Ok(ExitCode::FAILURE);
        }
    };
    let report = test.run(Path::new(MEDIA_FOLDER))?;
    let mut out = std::io::stdout().lock();
    if json {
        serde_json::to_writer_pretty(&mut out, &report)?;
        writeln!(out)?;
    } else {
        write!(out, "{report}")?;
    }
    Ok(if report.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn run_detect(from: Option<&Path>) -> anyhow::Result<ExitCode> {
    let known = Description::read(Path::new(ROOT))?.known;
    let machine = match from {
        Some(path) => {
            let dump = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
            Machine::of_dump(&dump)
        }
        None => Machine::of_system(Path::new(ROOT)),
    };
    write!(std::io::stdout(), "{}", detect::Ranking(detect::rank(&known, &machine)))?;
    Ok(ExitCode::SUCCESS)
}
