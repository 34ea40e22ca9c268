//! larder against Debian's mkosi: one command that measures both on this machine, in turns, prints the table and writes
//! it into README.md.
//!
//! ```text
//! cargo run --release -p larder-tests --bin bench
//! ```
//!
//! A repetition takes larder and mkosi through the same changes: nothing but packages, tools and ZFS modules → a full
//! build → one file of an overlay changed → one package more → (larder only) nothing changed, a new lock → boot.
//! What is fair and what is not is in README.md.

mod apt;
mod boot;
mod flash;
mod limits;
mod measure;
mod medium;
mod mkosi;
mod ours;
mod place;
mod readme;
mod report;
mod statistics;
mod steps;
mod table;
mod update;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};
use larder_tests::workspace;

use crate::apt::Apt;
use crate::measure::Usage;
use crate::mkosi::{Content, Mkosi};
use crate::ours::Larder;
use crate::place::Place;
use crate::readme::Marks;
use crate::report::{Machine, Measurements, Run};

/// Measures larder and mkosi in turns and writes the table into README.md.
#[derive(Debug, Parser)]
struct Args {
    /// How often everything is done; medians are shown
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    repetitions: u32,
    /// Once only
    #[arg(long, conflicts_with = "repetitions")]
    quick: bool,
    /// Let mkosi keep all files and kernel modules, as it does unless it is told otherwise
    #[arg(long)]
    stock: bool,
    /// Leave README.md as it is
    #[arg(long)]
    print_only: bool,
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Measure larder flash, dd and bmaptool in turns, on a plain file, and write their table into README.md
    Flash,
    /// Compare larder's delta of a real security update with other ways to send it, and write their table into README.md
    Update {
        /// Hardware profile
        #[arg(long, default_value = "generic-n150")]
        profile: String,
    },
    /// Run a program and write what it used.
    #[command(hide = true)]
    Measure {
        report: PathBuf,
        #[arg(last = true, required = true)]
        argv: Vec<OsString>,
    },
}

fn main() -> Result<ExitCode> {
    let args = Args::parse();
    let repetitions = if args.quick { 1 } else { args.repetitions };
    match args.verb {
        Some(Verb::Measure { report, argv }) => {
            let (program, args) = argv.split_first().context("no program to run")?;
            let status = measure::measure(&report, program.as_ref(), args)?;
            return Ok(larder::namespace::exit_code(status));
        }
        Some(Verb::Flash) => write_table(readme::FLASHING, &flash::bench(repetitions)?, !args.print_only)?,
        Some(Verb::Update { profile }) => write_table(readme::UPDATES, &update::bench(&profile)?, !args.print_only)?,
        None => {
            let content = if args.stock { Content::Stock } else { Content::AsLarder };
            bench(repetitions, content, !args.print_only)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn bench(repetitions: u32, content: Content, write: bool) -> Result<()> {
    let start = Instant::now();
    let say = |what: &str| eprintln!("{:>6.0} s  {what}", start.elapsed().as_secs_f64());
    say("larder: locks, packages, tools, ZFS modules (the first time, some minutes)");
    let place = Place::prepare()?;
    let larder = Larder::prepare(&place)?;
    let (lock, with_leaf) = (larder.lock(false)?, larder.lock(true)?);
    say("mkosi: packages");
    let profile = larder.profile()?;
    let mkosi = Mkosi::prepare(&place, &profile, [&lock, &with_leaf], &larder.zfs_modules()?, content)?;
    let apt = Apt::prepare(&place, &profile)?;
    let sides = Sides { place: &place, larder, mkosi, apt };
    let mut measurements = Measurements::default();
    for repetition in 1..=repetitions {
        say(&format!("repetition {repetition} of {repetitions}"));
        let say = |run: Run, usage: Usage| say(&format!("  {run}: {:.1} s", usage.seconds));
        sides.measure(repetition, &mut measurements, &say)?;
        fs_err::write(place.results(), serde_json::to_vec_pretty(&measurements)?)?;
    }
    say("limits of this machine");
    measurements.limits = Some(limits::measure(&place, &lock)?);
    measurements.other_packages = sides.mkosi.other_packages(&with_leaf)?;
    fs_err::write(place.results(), serde_json::to_vec_pretty(&measurements)?)?;
    let machine = Machine::here(place.program())?;
    let text = report::text(&measurements, &machine, lock.packages.len())?;
    write_table(readme::SPEED, &text, write)?;
    say("done");
    Ok(())
}

/// Prints a table and puts it into README.md, if that is wanted.
fn write_table(marks: Marks, text: &str, write: bool) -> Result<()> {
    println!("{text}");
    if write {
        let path = workspace().join("README.md");
        fs_err::write(&path, readme::splice(&fs_err::read_to_string(&path)?, marks, text)?)?;
    }
    Ok(())
}

/// Those who are compared.
struct Sides<'a> {
    place: &'a Place,
    larder: Larder<'a>,
    mkosi: Mkosi<'a>,
    apt: Apt<'a>,
}

impl Sides<'_> {
    /// Everything once, in turns.
    fn measure(&self, repetition: u32, measurements: &mut Measurements, say: &dyn Fn(Run, Usage)) -> Result<()> {
        let Self { larder, mkosi, apt, .. } = self;
        let content = format!("This is repetition {repetition}.\n");
        let mut keep = |run, (usage, said): (Usage, String)| {
            say(run, usage);
            measurements.add(run, usage, said);
        };
        let silent = |usage: Usage| (usage, String::new());
        keep(Run::FullByLarder, larder.full_build()?);
        keep(Run::FullByMkosi, silent(mkosi.full_build()?));
        keep(Run::OverlayByLarder, larder.overlay_changed("base/root/etc/motd", &content)?);
        keep(Run::OverlayByMkosi, silent(mkosi.overlay_changed(&content)?));
        keep(Run::PackageByLarder, larder.package_changed()?);
        keep(Run::PackageByMkosi, silent(mkosi.package_changed()?));
        keep(Run::NothingByLarder, larder.nothing_changed()?);
        keep(Run::LockByLarder, larder.lock_again()?);
        keep(Run::LockByApt, silent(apt.resolve()?));
        keep(Run::BootOfLarder, self.boot(&larder.image(), "larder-boot.log")?);
        keep(Run::BootOfMkosi, self.boot(&mkosi.image(), "mkosi-boot.log")?);
        Ok(())
    }

    fn boot(&self, image: &Path, log: &str) -> Result<(Usage, String)> {
        let boot = boot::boot(self.place.program(), image, &self.place.logs().join(log))?;
        let usage = Usage { seconds: boot.seconds, cpu_seconds: 0.0, peak_memory: 0 };
        Ok((usage, format!("{}\nfailed units: {}\n", boot.phases, boot.failed.join(" "))))
    }
}
