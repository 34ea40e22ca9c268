//! Settings become files: `/etc` is in memory, and made anew from the settings at every boot.
//!
//! ```text
//! overlays/*/root/usr/share/larder/templates/etc/hostname.tera      [`template`]
//!     settings, without secrets                                     [`values`]
//!         what /etc/hostname should be                              [`Wanted`]
//!             what differs from what it is                          [`Changes`]
//!                 all of it is written, or nothing                  [`write`]
//!                     units that read a changed file are told
//! ```
//!
//! A template renders to the file whose path it has; rendering to nothing means that the file is not there. No value can
//! break out of its line: control characters become blanks wherever a template puts a value. The builder
//! renders each template too, so that an image with one that does not work is not made.

mod template;
mod values;
mod write;

use std::collections::BTreeSet;
use std::fmt;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use similar::{ChangeTag, TextDiff};

pub use template::{Templates, check};
pub use values::Values;

use crate::command::Run;
use crate::finding::{Finding, Severity};

/// Where the image has its templates, relative to its root.
pub const TEMPLATES: &str = "usr/share/larder/templates";
/// Ends the name of a template.
pub const SUFFIX: &str = ".tera";
/// The kernel is told when this one changes.
const HOST_NAME: &str = "/etc/hostname";

/// What a file should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Its path.
    pub path: PathBuf,
    /// What is there; `None` when the settings need no such file.
    pub content: Option<Content>,
    /// Units that read it.
    pub reload: Vec<String>,
}

/// What is at a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Content {
    /// A file.
    File {
        /// What it holds.
        text: String,
        /// Permission bits.
        mode: u32,
    },
    /// A symbolic link.
    Link {
        /// Where it leads.
        target: PathBuf,
    },
}

/// What has to change before the settings are in force.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Changes {
    /// The files that change.
    pub files: Vec<Change>,
    /// Units that have to be told.
    pub reload: BTreeSet<String>,
}

/// A file that changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Its path.
    pub path: PathBuf,
    /// What is there.
    pub before: Option<Content>,
    /// What will be there.
    pub after: Option<Content>,
}

impl Changes {
    /// What has to change in the system below `root`.
    ///
    /// # Errors
    /// A file cannot be read, or something else is where one should be.
    pub fn between(root: &Path, wanted: Vec<Wanted>) -> anyhow::Result<Self> {
        let mut changes = Self::default();
        for Wanted { path, content: after, reload } in wanted {
            let before = Content::at(&below(root, &path))?;
            if before != after {
                changes.files.push(Change { path, before, after });
                changes.reload.extend(reload);
            }
        }
        Ok(changes)
    }

    /// Whether everything is as it should be.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Writes all files, or else leaves all as they were.
    ///
    /// # Errors
    /// One of them cannot be written.
    pub fn write(&self, root: &Path) -> anyhow::Result<()> {
        write::all(root, &self.files)?;
        let host_name = self.files.iter().find(|change| change.path == Path::new(HOST_NAME));
        match host_name.and_then(|change| change.after.as_ref()) {
            // Another root is no computer of its own.
            Some(Content::File { text, .. }) if root == Path::new("/") => {
                nix::unistd::sethostname(text.trim()).context("telling the kernel the host name")
            }
            _ => Ok(()),
        }
    }

    /// Tells the running units which read the files. What one does not take over is a finding, and keeps nothing else back.
    pub fn tell_units(&self) -> Vec<Finding> {
        let tell = |unit: &String| {
            let error = Run::new("systemctl").args(["try-reload-or-restart", unit]).done().err()?;
            Some(Finding {
                id: "unit-not-reloaded".into(),
                severity: Severity::Failure,
                message: format!("{unit} has not taken over the changed settings: {error:#}"),
                next: format!("read `journalctl -b -u {unit}`, then `systemctl restart {unit}`").into(),
            })
        };
        self.reload.iter().filter_map(tell).collect()
    }
}

impl Content {
    /// What is at a path.
    fn at(path: &Path) -> anyhow::Result<Option<Self>> {
        let metadata = match path.symlink_metadata() {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
        };
        if metadata.is_symlink() {
            return Ok(Some(Self::Link { target: fs_err::read_link(path)? }));
        }
        anyhow::ensure!(metadata.is_file(), "{} is neither file nor link", path.display());
        // What is no text differs from whatever a template gives.
        let text = String::from_utf8_lossy(&fs_err::read(path)?).into_owned();
        Ok(Some(Self::File { text, mode: metadata.permissions().mode() & 0o7777 }))
    }

    /// As a person reads it.
    fn shown(&self) -> String {
        match self {
            Self::File { text, .. } => text.clone(),
            Self::Link { target } => format!("link to {}\n", target.display()),
        }
    }
}

impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.files.iter().try_for_each(|change| change.fmt(f))?;
        let units: Vec<_> = self.reload.iter().map(String::as_str).collect();
        if units.is_empty() { Ok(()) } else { writeln!(f, "then told: {}", units.join(", ")) }
    }
}

impl fmt::Display for Change {
    /// The path, and the lines that go and come.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |content: &Option<Content>| content.as_ref().map(Content::shown).unwrap_or_default();
        let (before, after) = (text(&self.before), text(&self.after));
        let what = match (&self.before, &self.after) {
            (None, _) => " (new)",
            (_, None) => " (removed)",
            _ => "",
        };
        writeln!(f, "{}{what}", self.path.display())?;
        if let (Some(Content::File { mode: old, .. }), Some(Content::File { mode: new, .. })) =
            (&self.before, &self.after)
            && old != new
        {
            writeln!(f, "  mode {old:04o} becomes {new:04o}")?;
        }
        for change in TextDiff::from_lines(&before, &after).iter_all_changes() {
            let sign = match change.tag() {
                ChangeTag::Delete => '-',
                ChangeTag::Insert => '+',
                ChangeTag::Equal => continue,
            };
            writeln!(f, "  {sign}{}", change.value().trim_end_matches('\n'))?;
        }
        Ok(())
    }
}

/// An absolute path of the system below `root`.
fn below(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

#[cfg(test)]
mod tests;
