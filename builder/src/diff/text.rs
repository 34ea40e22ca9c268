//! A [`Difference`] for people: what matters most comes first.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use indicatif::HumanBytes;

use super::{Difference, FileChange, Files, Moved, PackageChange};
use crate::diff::fixes::{Fix, Unread};
use crate::image::mtree::Entry;

/// Identifiers that are named of one source; the kernel may have hundreds.
const SHOWN_IDS: usize = 12;
/// Widest column of names.
const MAX_COLUMN: usize = 40;

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} → {}", self.sides.old, self.sides.new)?;
        if self.is_empty() {
            return writeln!(f, "no difference");
        }
        let moved = [("kernel", &self.kernel), ("ZFS", &self.zfs)];
        for (what, moved) in moved {
            match moved {
                Some(moved) if !moved.is_same() => writeln!(f, "{what:<7} {} → {}", moved.old, moved.new)?,
                _ => {}
            }
        }
        fixes(f, &self.fixes)?;
        unread(f, &self.unread)?;
        packages(f, &self.packages)?;
        self.sizes(f)?;
        self.files.as_ref().map_or(Ok(()), |list| files(f, list))
    }
}

impl Difference {
    fn sizes(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.artifacts.is_empty() {
            return Ok(());
        }
        writeln!(f, "\nartifacts")?;
        let rows: Vec<_> = self
            .artifacts
            .iter()
            .map(|artifact| {
                let note = match artifact {
                    same if same.same => "the same".to_owned(),
                    resized if !resized.size.is_same() => growth(&resized.size),
                    _ => "changed".to_owned(),
                };
                [artifact.artifact.clone(), human(artifact.size.old), human(artifact.size.new), note]
            })
            .collect();
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let (name, old, new) = (width(0), width(1), width(2));
        rows.iter()
            .try_for_each(|row| writeln!(f, "  {:<name$}  {:>old$} → {:>new$}  {}", row[0], row[1], row[2], row[3]))
    }
}

fn fixes(f: &mut fmt::Formatter<'_>, fixes: &[Fix]) -> fmt::Result {
    if fixes.is_empty() {
        return Ok(());
    }
    writeln!(f, "\nsecurity fixes named in changelogs")?;
    let width = column(fixes.iter().map(|fix| fix.source.as_str()));
    for fix in fixes {
        let urgency = fix.urgent.then(|| "urgent".to_owned());
        let remarks: Vec<_> = fix.suites.iter().cloned().chain(urgency).collect();
        let remarks = if remarks.is_empty() { String::new() } else { format!("  ({})", remarks.join(", ")) };
        writeln!(f, "  {:<width$}  {} → {}{remarks}", fix.source, fix.old, fix.new)?;
        let (shown, more) = fix.ids.split_at(fix.ids.len().min(SHOWN_IDS));
        for line in shown.chunks(4) {
            writeln!(f, "      {}", line.join("  "))?;
        }
        if !more.is_empty() {
            writeln!(f, "      and {} more (--json lists them)", more.len())?;
        }
    }
    Ok(())
}

/// Many have the same reason: no network, say.
fn unread(f: &mut fmt::Formatter<'_>, unread: &[Unread]) -> fmt::Result {
    if unread.is_empty() {
        return Ok(());
    }
    let mut by_reason: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for Unread { source, why } in unread {
        by_reason.entry(why).or_default().push(source);
    }
    writeln!(f, "\nchangelogs that could not be read; fixes in them are missing here")?;
    by_reason.iter().try_for_each(|(why, sources)| writeln!(f, "  {}\n      {why}", sources.join(", ")))
}

fn packages(f: &mut fmt::Formatter<'_>, packages: &[PackageChange]) -> fmt::Result {
    let count = |wanted: fn(&PackageChange) -> bool| packages.iter().filter(|change| wanted(change)).count();
    let (added, removed) = (count(|change| change.old.is_none()), count(|change| change.new.is_none()));
    let changed = packages.len() - added - removed;
    writeln!(f, "\npackages: {changed} changed, {added} added, {removed} removed")?;
    let width = column(packages.iter().map(|change| change.name.as_str()));
    for change in packages {
        let PackageChange { name, old, new } = change;
        let (sign, versions) = match (old, new) {
            (Some(old), Some(new)) => ('~', format!("{} → {}", old.version, new.version)),
            (None, Some(new)) => ('+', new.version.clone()),
            (Some(old), None) => ('-', old.version.clone()),
            (None, None) => continue,
        };
        let size = |state: &Option<super::PackageState>| state.as_ref().map_or(Some(0), |state| state.installed_size);
        let growth = match (size(old), size(new)) {
            (Some(old), Some(new)) if old != new => format!("  {}", growth(&Moved { old, new })),
            _ => String::new(),
        };
        writeln!(f, "  {sign} {name:<width$}  {versions}{growth}")?;
    }
    Ok(())
}

fn files(f: &mut fmt::Formatter<'_>, files: &Files) -> fmt::Result {
    let Files { added, removed, changed, list } = files;
    let hint = if list.is_none() && added + removed + changed > 0 { "; --files lists them" } else { "" };
    writeln!(f, "\nfiles: {changed} changed, {added} added, {removed} removed{hint}")?;
    for FileChange { path, old, new } in list.iter().flatten() {
        let path = Path::new("/").join(path);
        let (sign, what) = match (old, new) {
            (Some(old), Some(new)) => ('~', changes(old, new)),
            (None, Some(new)) => ('+', new.size.map(human).unwrap_or_default()),
            (old, None) => ('-', old.as_ref().and_then(|old| old.size).map(human).unwrap_or_default()),
        };
        writeln!(f, "{}", format!("  {sign} {}  {what}", path.display()).trim_end())?;
    }
    Ok(())
}

/// What about a file is different.
fn changes(old: &Entry, new: &Entry) -> String {
    let mut what = Vec::new();
    if old.kind != new.kind {
        what.push("type".to_owned());
    }
    if old.mode != new.mode {
        what.push(format!("mode {:o} → {:o}", old.mode, new.mode));
    }
    if (old.uid, old.gid) != (new.uid, new.gid) {
        what.push(format!("owner {}:{} → {}:{}", old.uid, old.gid, new.uid, new.gid));
    }
    if let (Some(old), Some(new)) = (&old.target, &new.target)
        && old != new
    {
        what.push(format!("link {} → {}", old.display(), new.display()));
    }
    if let (Some(old), Some(new)) = (old.size, new.size)
        && old != new
    {
        what.push(growth(&Moved { old, new }));
    } else if old.sha256 != new.sha256 {
        what.push("content".to_owned());
    }
    what.join(", ")
}

/// Width of a column of names; a very long one stands out instead of pushing all others.
fn column<'a>(names: impl Iterator<Item = &'a str>) -> usize {
    names.map(|name| name.chars().count()).filter(|width| *width <= MAX_COLUMN).max().unwrap_or(0)
}

fn growth(size: &Moved<u64>) -> String {
    let sign = if size.new < size.old { '-' } else { '+' };
    format!("{sign}{}", human(size.new.abs_diff(size.old)))
}

fn human(bytes: u64) -> String {
    HumanBytes(bytes).to_string()
}
