//! Overlays: files that larder itself puts into an image, one folder per feature.
//!
//! ```text
//! overlays/NAME/
//!   overlay.toml     optional: modes, owners, empty folders, packages, other overlays   [`manifest`]
//!   README.md        optional
//!   root/            copied to `/`: files and symlinks
//!     etc/motd.tera  rendered with the profile's variables, without the suffix    [`template`]
//!     usr/share/larder/templates/etc/hostname.tera    checked, and copied: the appliance renders it with its owner's settings
//! ```
//!
//! The chosen overlays become one [`Plan`]: sorted, printable, with a hash of each content. Nothing is
//! overridden: a path that two overlays write is an error. Files get mode 0644, or 0755 when they are
//! executable in the checkout (git keeps no other bits, and the umask must not matter), and belong to root.

mod manifest;
mod template;
mod write;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::Serialize;

use crate::hash::Hash;
use crate::recipe::Recipe;
use crate::report::Mistake;
use crate::suggest::nearest;
use manifest::Manifest;

#[cfg(test)]
mod tests;

/// Values for templates, by name.
pub type Variables = BTreeMap<String, toml::Value>;

/// All that the chosen overlays put into the image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// The overlays, required ones included.
    overlays: BTreeSet<String>,
    /// Absolute path in the image -> what is there.
    entries: BTreeMap<String, Entry>,
}

/// One path of the image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// File, link or folder.
    #[serde(flatten)]
    pub kind: Kind,
    /// Permission bits.
    pub mode: u32,
    /// Owner's number.
    pub owner: u32,
    /// Group's number.
    pub group: u32,
    /// The file that it comes from (`overlays/base/root/etc/motd.tera`).
    pub origin: String,
}

/// What is at a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Kind {
    /// A file.
    File {
        /// Digest of the content.
        hash: Hash,
        /// The content, rendered.
        #[serde(skip)]
        content: Vec<u8>,
    },
    /// A symbolic link.
    Symlink {
        /// Where it leads, as written.
        target: String,
    },
    /// A folder that `overlay.toml` asks for; folders above files are made without being listed.
    Directory,
}

/// What an overlay needs besides its files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wants {
    /// The overlay.
    pub overlay: String,
    /// Names of packages, as in `packages.include` of a profile.
    pub packages: BTreeSet<String>,
    /// Globs of packaged files that stay out, as in `files.exclude` of a profile.
    pub exclude: Vec<String>,
    /// Kernel modules, as in `kernel.modules` of a profile.
    pub modules: Vec<String>,
}

/// Reads the overlays `names` and those they require, and renders their templates with `variables`.
pub fn plan(overlays: &Path, names: &BTreeSet<String>, variables: &Variables) -> Result<Plan> {
    let mut plan = Plan { overlays: BTreeSet::new(), entries: BTreeMap::new() };
    for (name, overlay) in open_all(overlays, names)? {
        for (path, entry) in overlay.entries(variables)? {
            plan.add(path, entry)?;
        }
        plan.overlays.insert(name);
    }
    plan.check_folders()?;
    Ok(plan)
}

/// What the overlays `names` and those they require need besides their files, by name.
pub fn wants(overlays: &Path, names: &BTreeSet<String>) -> Result<Vec<Wants>> {
    Ok(open_all(overlays, names)?.iter().map(|(name, overlay)| overlay.manifest.wants(name)).collect())
}

/// The overlays `names` and those they require.
fn open_all(overlays: &Path, names: &BTreeSet<String>) -> Result<BTreeMap<String, Overlay>> {
    let mut all = BTreeMap::new();
    let mut wanted: Vec<(String, Option<String>)> = names.iter().rev().map(|name| (name.clone(), None)).collect();
    while let Some((name, asked_by)) = wanted.pop() {
        if all.contains_key(&name) {
            continue;
        }
        let overlay = Overlay::open(overlays, &name, asked_by.as_deref())?;
        wanted.extend(overlay.manifest.requires().map(|(name, place)| (name, Some(place))));
        all.insert(name, overlay);
    }
    Ok(all)
}

impl Plan {
    /// The overlays, required ones included.
    pub fn overlays(&self) -> &BTreeSet<String> {
        &self.overlays
    }

    /// Absolute path in the image -> what is there.
    pub fn entries(&self) -> &BTreeMap<String, Entry> {
        &self.entries
    }

    /// Adds all that [`Plan::write`] writes to a recipe, one input for each path: equal for plans that
    /// write the same, wherever it comes from.
    pub fn cover(&self, recipe: &mut Recipe) {
        for (path, Entry { kind, mode, owner, group, .. }) in &self.entries {
            let content = match kind {
                Kind::File { hash, .. } => format!("file {hash}"),
                Kind::Symlink { target } => format!("symlink {target}"),
                Kind::Directory => "directory".to_owned(),
            };
            recipe.field(path, format!("{mode:o} {owner}:{group} {content}"));
        }
    }

    fn add(&mut self, path: String, entry: Entry) -> Result<()> {
        if let Some(other) = self.entries.get(&path) {
            let same_folder = matches!((&entry.kind, &other.kind), (Kind::Directory, Kind::Directory));
            if same_folder && (entry.mode, entry.owner, entry.group) == (other.mode, other.owner, other.group) {
                return Ok(());
            }
            return Err(collision(&path, &other.origin, &entry.origin).into());
        }
        self.entries.insert(path, entry);
        Ok(())
    }

    /// Refuses files and links where another entry needs a folder.
    fn check_folders(&self) -> Result<()> {
        for (path, entry) in &self.entries {
            for folder in Path::new(path).ancestors().skip(1).filter_map(Path::to_str) {
                if let Some(above) = self.entries.get(folder).filter(|above| above.kind != Kind::Directory) {
                    let what = format!("{folder} is a folder for {}, but no folder in {}", entry.origin, above.origin);
                    return Err(Mistake::new(what).hint("give one of them another path").into());
                }
            }
        }
        Ok(())
    }
}

fn collision(path: &str, one: &str, other: &str) -> Mistake {
    Mistake::new(format!("{path} is written twice: by {one} and by {other}"))
        .hint("keep it in one overlay and let the other one require that")
}

impl fmt::Display for Plan {
    /// One line per path: kind and mode, owner, path, origin.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (path, Entry { kind, mode, owner, group, origin }) in &self.entries {
            let (letter, detail) = match kind {
                Kind::File { hash, .. } => ('f', hash.short()),
                Kind::Symlink { target } => ('l', format!("-> {target}")),
                Kind::Directory => ('d', String::new()),
            };
            writeln!(
                f,
                "{letter} {mode:04o} {owner}:{group} {path} {detail}{}({origin})",
                if detail.is_empty() { "" } else { " " }
            )?;
        }
        Ok(())
    }
}

/// One folder of `overlays/`.
struct Overlay {
    folder: PathBuf,
    /// How the folder is called in messages: `overlays/NAME`.
    shown: String,
    manifest: Manifest,
}

impl Overlay {
    fn open(overlays: &Path, name: &str, asked_by: Option<&str>) -> Result<Self> {
        let folder = overlays.join(name);
        let is_plain_name = !name.is_empty() && !name.starts_with('.') && !name.contains('/');
        if !is_plain_name || !folder.is_dir() {
            return Err(unknown(overlays, name, asked_by)?.into());
        }
        let shown = format!("{}/{name}", overlays.file_name().unwrap_or_default().to_string_lossy());
        for entry in fs_err::read_dir(&folder)? {
            let file = entry?.file_name().to_string_lossy().into_owned();
            if !matches!(&*file, "root" | "overlay.toml" | "README.md") {
                let what = format!("{shown}/{file}: an overlay holds `root`, `overlay.toml` and `README.md` only");
                return Err(Mistake::new(what).hint("what goes into the image belongs below `root`").into());
            }
        }
        let manifest = Manifest::read(&folder.join("overlay.toml"), &format!("{shown}/overlay.toml"))?;
        Ok(Self { folder, shown, manifest })
    }

    fn entries(&self, variables: &Variables) -> Result<BTreeMap<String, Entry>> {
        let mut entries = BTreeMap::new();
        let root = self.folder.join("root");
        if root.is_dir() {
            for found in walkdir::WalkDir::new(&root).sort_by_file_name() {
                let found = found.with_context(|| format!("listing {}", root.display()))?;
                if !found.file_type().is_dir() {
                    let (path, entry) = self.entry(found.path(), found.path().strip_prefix(&root)?, variables)?;
                    if let Some(other) = entries.insert(path.clone(), entry.clone()) {
                        return Err(collision(&path, &other.origin, &entry.origin).into());
                    }
                }
            }
        }
        self.manifest.apply(&mut entries)?;
        Ok(entries)
    }

    /// The entry of the file or link `from`, which is at `below` in `root/`.
    fn entry(&self, from: &Path, below: &Path, variables: &Variables) -> Result<(String, Entry)> {
        let not_utf8 = || Mistake::new(format!("{}: names in overlays must be UTF-8", from.display()));
        let below = below.to_str().ok_or_else(not_utf8)?;
        let origin = format!("{}/root/{below}", self.shown);
        let metadata = fs_err::symlink_metadata(from)?;
        let entry = |kind, mode| Entry { kind, mode, owner: 0, group: 0, origin: origin.clone() };
        if metadata.is_symlink() {
            let target = fs_err::read_link(from)?.into_os_string().into_string().map_err(|_| not_utf8())?;
            return Ok((format!("/{below}"), entry(Kind::Symlink { target }, 0o777)));
        }
        if !metadata.is_file() {
            return Err(Mistake::new(format!("{origin}: neither file, link nor folder")).into());
        }
        let mode = if metadata.permissions().mode() & 0o100 == 0 { 0o644 } else { 0o755 };
        let content = fs_err::read(from)?;
        let (below, content) = match below.strip_suffix(firstboot::render::SUFFIX) {
            // The appliance renders these itself.
            Some(_) if below.starts_with(firstboot::render::TEMPLATES) => {
                template::check(&content, below, &origin)?;
                (below, content)
            }
            Some(below) => (below, template::render(content, &origin, variables)?.into_bytes()),
            None => (below, content),
        };
        Ok((format!("/{below}"), entry(Kind::File { hash: Hash::of(&content), content }, mode)))
    }
}

fn unknown(overlays: &Path, name: &str, asked_by: Option<&str>) -> Result<Mistake> {
    let mut known = Vec::new();
    for entry in fs_err::read_dir(overlays)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            known.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    known.sort();
    let place = asked_by.map(|place| format!("{place}: ")).unwrap_or_default();
    let mistake = Mistake::new(format!("{place}there is no overlay `{name}` in {}", overlays.display()));
    let alike = nearest(name, known.iter().map(String::as_str));
    Ok(match alike.as_slice() {
        [] => mistake.hint(format!("the overlays are {}", known.join(", "))),
        alike => mistake.hint(format!("did you mean {}?", alike.join(" or "))),
    })
}
