//! `larder profiles`

use std::path::Path;
use std::process::ExitCode;

use firstboot::hardware::detect::{self, Ranking};
use firstboot::hardware::{Machine, Size};

use super::Common;
use super::args::ProfilesVerb;
use crate::lock::Lock;
use crate::profile::file::Medium;
use crate::profile::{Profile, origin, schema};
use crate::project::Project;
use crate::report::Mistake;

pub(super) fn run(common: &Common, verb: Option<&ProfilesVerb>) -> anyhow::Result<ExitCode> {
    let project = || common.project();
    match verb {
        None => print!("{}", table(&project()?)?),
        Some(ProfilesVerb::Show { profile }) => print!("{}", origin::resolved(&project()?, profile)?),
        Some(ProfilesVerb::Detect { from }) => print!("{}", ranking(&project()?, from.as_deref())?),
        Some(ProfilesVerb::Schema) => print!("{}", schema::text()?),
    }
    Ok(ExitCode::SUCCESS)
}

/// One line for each profile.
fn table(project: &Project) -> anyhow::Result<String> {
    let mut rows = vec![["PROFILE", "PACKAGES", "MEMORY", "MEDIUM", "GPU", "DESCRIPTION"].map(str::to_owned)];
    for name in Profile::names(project)? {
        rows.push(row(project, &Profile::load(project, &name)?)?);
    }
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths: Vec<_> = (0..rows[0].len()).map(width).collect();
    let line = |row: &[String; 6]| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        format!("{}\n", cells.collect::<Vec<_>>().join("  ").trim_end())
    };
    Ok(rows.iter().map(line).collect())
}

fn row(project: &Project, profile: &Profile) -> anyhow::Result<[String; 6]> {
    let lockable = profile.lockable(project);
    let packages = match Lock::read(&lockable.path)? {
        Some(lock) if lock.matches(lockable.request)? => lock.packages.len().to_string(),
        Some(_) => "outdated".to_owned(),
        None => "no lock".to_owned(),
    };
    let or_dash = |size: Option<Size>| size.map_or_else(|| "-".to_owned(), |size| size.to_string());
    let medium = match profile.boot.medium {
        Some(Medium::Emmc) => "eMMC ",
        Some(Medium::Usb) => "USB ",
        Some(Medium::Nvme) => "NVMe ",
        Some(Medium::Any) | None => "",
    };
    Ok([
        profile.name.clone(),
        packages,
        or_dash(profile.hardware.memory.minimum),
        format!("{medium}{}", or_dash(profile.boot.minimum_size)),
        profile.hardware.graphics.as_ref().map_or("-", |graphics| &graphics.module).to_owned(),
        profile.description.clone(),
    ])
}

/// How to make a dump.
const DUMP: &str =
    "on the machine: lspci -nn > dump; grep . /sys/class/dmi/id/{sys_vendor,product_name,board_name} >> dump";

/// Which profile a machine wants: this one, or that of a dump.
fn ranking(project: &Project, from: Option<&Path>) -> anyhow::Result<Ranking> {
    let machine =
        match from {
            Some(path) => Machine::of_dump(&std::fs::read_to_string(path).map_err(|error| {
                Mistake::new(format!("{}: cannot be read", path.display())).because(error).hint(DUMP)
            })?),
            None => Machine::of_system(Path::new("/")),
        };
    if machine.pci.is_empty() {
        let place = from.map_or_else(|| "/sys".to_owned(), |path| path.display().to_string());
        return Err(Mistake::new(format!("{place}: lists no PCI devices")).hint(DUMP).into());
    }
    Ok(Ranking(detect::rank(&Profile::matches(project)?, &machine)))
}
