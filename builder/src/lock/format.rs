//! The lock's text: a strict reader, and a writer whose output only depends on the lock.

use std::fmt::Write as _;

use jiff::Timestamp;
use serde::Deserialize;

use super::{Lock, LockedPackage, LockedRelease};
use crate::archive::relation;
use crate::hash::Hash;
use crate::report::line_of;
use crate::toml_file::SchemaVersion;

/// The format's version; no other number can be read or written.
const VERSION: u32 = 1;

/// What is wrong with a lock's text, and on which line.
#[derive(Debug)]
pub(super) struct Problem {
    pub(super) line: usize,
    pub(super) what: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LockFile {
    #[serde(rename = "version")]
    _version: SchemaVersion<VERSION>,
    snapshot: toml::Spanned<String>,
    request: Hash,
    release: Vec<ReleaseTable>,
    #[serde(default)]
    package: Vec<toml::Spanned<LockedPackage>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReleaseTable {
    archive: String,
    suite: String,
    date: toml::Spanned<String>,
    sha256: Hash,
}

pub(super) fn parse(text: &str) -> Result<Lock, Problem> {
    let at = |position: usize, what: String| Problem { line: line_of(text, position), what };
    let file: LockFile = toml::from_str(text)
        .map_err(|error| at(error.span().map_or(0, |span| span.start), error.message().to_owned()))?;
    let time = |value: &toml::Spanned<String>| {
        value
            .get_ref()
            .parse::<Timestamp>()
            .map_err(|_| at(value.span().start, format!("`{}` is no RFC 3339 time", value.get_ref())))
    };
    let mut releases = Vec::with_capacity(file.release.len());
    for table in &file.release {
        releases.push(LockedRelease {
            archive: table.archive.clone(),
            suite: table.suite.clone(),
            date: time(&table.date)?,
            sha256: table.sha256,
        });
    }
    for package in &file.package {
        check(package.get_ref()).map_err(|what| at(package.span().start, what))?;
    }
    for pair in file.package.windows(2) {
        let key = |package: &toml::Spanned<LockedPackage>| {
            (package.get_ref().name.clone(), package.get_ref().architecture.clone())
        };
        let label = format!("`{}` ({})", pair[1].get_ref().name, pair[1].get_ref().architecture);
        match key(&pair[0]).cmp(&key(&pair[1])) {
            std::cmp::Ordering::Less => {}
            std::cmp::Ordering::Equal => {
                return Err(at(pair[1].span().start, format!("the package {label} is there twice")));
            }
            std::cmp::Ordering::Greater => {
                return Err(at(pair[1].span().start, format!("the package {label} is out of order")));
            }
        }
    }
    let snapshot = time(&file.snapshot)?;
    Ok(Lock {
        snapshot,
        request: file.request,
        releases,
        packages: file.package.into_iter().map(toml::Spanned::into_inner).collect(),
    })
}

/// Names and versions become file names and arguments of dpkg, and paths become addresses.
fn check(package: &LockedPackage) -> Result<(), String> {
    let LockedPackage { name, version, architecture, source, .. } = package;
    let valid_source = source.split_once(':').is_some_and(|(archive, path)| {
        !archive.is_empty() && !path.starts_with('/') && !path.split('/').any(|part| part == "..")
    });
    for (what, value, valid) in [
        ("package name", name, relation::is_package_name(name)),
        ("version", version, relation::is_version(version)),
        ("architecture", architecture, relation::is_architecture(architecture)),
        ("source (ARCHIVE:PATH)", source, valid_source),
    ] {
        if !valid {
            return Err(format!("`{value}` is not a valid {what}"));
        }
    }
    Ok(())
}

pub(super) fn render(lock: &Lock, command: &str) -> String {
    let mut text = format!("# Made by `{command}`; do not edit. Run it again to take in newer packages.\n");
    let _ = write!(text, "version = {VERSION}\nsnapshot = \"{}\"\nrequest = \"{}\"\n", lock.snapshot, lock.request);
    if lock.releases.is_empty() {
        text.push_str("release = []\n");
    }
    for release in &lock.releases {
        let LockedRelease { archive, suite, date, sha256 } = release;
        let _ = write!(
            text,
            "\n[[release]]\narchive = {}\nsuite = {}\ndate = \"{date}\"\nsha256 = \"{sha256}\"\n",
            quoted(archive),
            quoted(suite)
        );
    }
    for package in &lock.packages {
        let LockedPackage { name, version, architecture, sha256, size, source } = package;
        let (name, version, architecture, source) =
            (quoted(name), quoted(version), quoted(architecture), quoted(source));
        let _ = write!(
            text,
            "\n[[package]]\nname = {name}\nversion = {version}\narchitecture = {architecture}\nsha256 = \"{sha256}\"\nsize = {size}\nsource = {source}\n"
        );
    }
    text
}

/// A TOML basic string.
fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            control if control.is_control() => {
                let _ = write!(quoted, "\\u{:04X}", u32::from(control));
            }
            plain => quoted.push(plain),
        }
    }
    quoted.push('"');
    quoted
}
