//! `overlay.toml`: what files cannot say by themselves.
//!
//! ```toml
//! schema = 1
//! description = "Shares by SMB"
//! requires = ["base"]            # overlays that come along
//! packages = ["samba"]           # packages that it needs
//! exclude = ["usr/share/icons/**"] # files of packages that it does not use, as in `files.exclude` of a profile
//! modules = ["nfsd"]             # kernel modules that it needs, as in `kernel.modules` of a profile
//!
//! [[path]]                       # a file of `root/` that is not 0644 (or 0755) and root's
//! path = "/etc/larder/secret"
//! mode = "0600"
//! owner = 100                    # `root` or a number, as names depend on the installed packages
//! group = 100
//!
//! [[directory]]                  # a folder: git keeps no empty ones, and no modes
//! path = "/var/lib/larder"
//! mode = "0700"
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::Result;
use serde::Deserialize;
use toml::Spanned;

use super::{Entry, Kind, Wants};
use crate::report::{Mistake, line_of};
use crate::suggest::nearest;
use crate::toml_file::{self, SchemaVersion};

/// A checked `overlay.toml`; an absent one is the same as an empty one.
#[derive(Debug, Default)]
pub(super) struct Manifest {
    file: ManifestFile,
    /// How the file is called in messages.
    shown: String,
    text: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct ManifestFile {
    #[serde(rename = "schema")]
    _schema: SchemaVersion<1>,
    #[serde(default, rename = "description")]
    _description: String,
    #[serde(default)]
    requires: Vec<Spanned<String>>,
    #[serde(default)]
    packages: BTreeSet<String>,
    #[serde(default)]
    exclude: Vec<String>,
    #[serde(default)]
    modules: Vec<String>,
    #[serde(default)]
    path: Vec<Spanned<Rule>>,
    #[serde(default)]
    directory: Vec<Spanned<Rule>>,
}

impl Default for ManifestFile {
    fn default() -> Self {
        Self {
            _schema: SchemaVersion,
            _description: String::new(),
            requires: Vec::new(),
            packages: BTreeSet::new(),
            exclude: Vec::new(),
            modules: Vec::new(),
            path: Vec::new(),
            directory: Vec::new(),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Rule {
    path: String,
    mode: Option<Mode>,
    #[serde(default)]
    owner: Id,
    #[serde(default)]
    group: Id,
}

/// Permission bits, written in octal.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "String")]
struct Mode(u32);

impl TryFrom<String> for Mode {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let digits = (3..=4).contains(&text.len()) && text.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
        let bits = u32::from_str_radix(&text, 8).ok().filter(|_| digits);
        bits.map(Self).ok_or_else(|| format!("`{text}` is not a mode, write it as \"0600\""))
    }
}

/// A user's or group's number; `root` is the one name that is the same everywhere.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(try_from = "toml::Value")]
struct Id(u32);

impl TryFrom<toml::Value> for Id {
    type Error = String;
    fn try_from(value: toml::Value) -> Result<Self, String> {
        // The build's user namespace maps this many (larder's `namespace`).
        const MAPPED: i64 = 65536;
        match &value {
            toml::Value::String(name) if name == "root" => Ok(Self(0)),
            toml::Value::Integer(id) if (0..MAPPED).contains(id) => Ok(Self(*id as u32)),
            _ => Err(format!("{value} is no owner: write \"root\" or a number below {MAPPED}")),
        }
    }
}

impl Manifest {
    /// Reads the file, if there is one.
    pub(super) fn read(path: &Path, shown: &str) -> Result<Self> {
        if !path.exists() {
            return Ok(Self::default());
        }
        let text = fs_err::read_to_string(path)?;
        let file = toml_file::parse(&text, shown)?;
        Ok(Self { file, shown: shown.to_owned(), text })
    }

    /// Names of required overlays, each with the place that asks for it.
    pub(super) fn requires(&self) -> impl Iterator<Item = (String, String)> {
        self.file.requires.iter().map(|name| (name.get_ref().clone(), self.place(name)))
    }

    /// What it needs of packages and kernel.
    pub(super) fn wants(&self, overlay: &str) -> Wants {
        let ManifestFile { packages, exclude, modules, .. } = &self.file;
        Wants {
            overlay: overlay.to_owned(),
            packages: packages.clone(),
            exclude: exclude.clone(),
            modules: modules.clone(),
        }
    }

    /// Applies modes and owners to the overlay's own entries and adds its folders.
    pub(super) fn apply(&self, entries: &mut BTreeMap<String, Entry>) -> Result<()> {
        for rule in &self.file.path {
            let place = self.place(rule);
            let rule = rule.get_ref();
            let Some(entry) = entries.get_mut(&rule.path) else {
                let mistake = Mistake::new(format!("{place}: the overlay has no file for `{}`", rule.path));
                let alike = nearest(&rule.path, entries.keys().map(String::as_str));
                let next = if alike.is_empty() {
                    "folders are listed as [[directory]]".to_owned()
                } else {
                    format!("did you mean {}?", alike.join(" or "))
                };
                return Err(mistake.hint(next).into());
            };
            match (&entry.kind, rule.mode) {
                (Kind::Symlink { .. }, Some(_)) => {
                    return Err(Mistake::new(format!("{place}: `{}` is a link, links have no mode", rule.path)).into());
                }
                (_, Some(Mode(mode))) => entry.mode = mode,
                (_, None) => {}
            }
            (entry.owner, entry.group) = (rule.owner.0, rule.group.0);
        }
        for rule in &self.file.directory {
            Self::add_directory(&self.place(rule), rule.get_ref(), entries)?;
        }
        Ok(())
    }

    fn add_directory(place: &str, rule: &Rule, entries: &mut BTreeMap<String, Entry>) -> Result<()> {
        let is_clean = rule
            .path
            .strip_prefix('/')
            .is_some_and(|path| path.split('/').all(|part| !matches!(part, "" | "." | "..")));
        if !is_clean {
            return Err(
                Mistake::new(format!("{place}: `{}` is not an absolute path without `.` and `..`", rule.path)).into()
            );
        }
        let mode = rule.mode.map_or(0o755, |Mode(mode)| mode);
        let entry =
            Entry { kind: Kind::Directory, mode, owner: rule.owner.0, group: rule.group.0, origin: place.to_owned() };
        match entries.insert(rule.path.clone(), entry) {
            Some(other) => Err(super::collision(&rule.path, &other.origin, place).into()),
            None => Ok(()),
        }
    }

    fn place<T>(&self, value: &Spanned<T>) -> String {
        format!("{}:{}", self.shown, line_of(&self.text, value.span().start))
    }
}
