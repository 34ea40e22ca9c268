//! Tools trees: `profiles/tools/NAME.toml`, locked Debian packages that larder runs and never installs.
//!
//! Packages are unpacked and joined, not configured: what a maintainer script would have linked
//! (alternatives such as `awk`) is named in `links`. Nothing is implied, so essential packages that
//! the tools rely on are listed like all others.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::Deserialize;

use crate::deb::Ownership;
use crate::hash::Hash;
use crate::lock::{self, Lockable};
use crate::namespace::{RootTree, Sandbox};
use crate::profile::Profile;
use crate::project::Project;
use crate::recipe::Recipe;
use crate::report::Mistake;
use crate::session::{FetchedPackage, Session};
use crate::solve::PackageRequest;
use crate::store::Bucket;
use crate::suggest;
use crate::toml_file::{self, SchemaVersion};
use crate::tree::{self, PathFilter};

/// Raise when composing a tools tree gives another result.
const REVISION: u32 = 2;

/// `profiles/tools/NAME.toml`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct ToolsFile {
    #[serde(rename = "schema")]
    _schema: SchemaVersion<1>,
    description: String,
    packages: BTreeSet<String>,
    #[serde(default)]
    links: BTreeMap<PathBuf, PathBuf>,
}

/// A tools tree as its file describes it.
#[derive(Debug)]
pub struct Tools {
    /// The file's stem.
    pub name: String,
    /// One line for people.
    pub description: String,
    links: BTreeMap<PathBuf, PathBuf>,
    request: PackageRequest,
}

/// A tools tree whose packages are known and fetched, whether anybody needed the tree yet or not.
#[derive(Debug)]
pub struct LockedTools {
    /// Its packages.
    pub packages: Vec<FetchedPackage>,
    name: String,
    links: BTreeMap<PathBuf, PathBuf>,
    recipe: Recipe,
}

/// A tools tree, ready to run.
#[derive(Debug, Clone)]
pub struct ToolsTree {
    /// The composed tree.
    pub root: PathBuf,
    /// Digest of everything in it.
    pub key: Hash,
}

impl Tools {
    /// Reads the file. Packages come from the archives of `profiles/base.toml`.
    pub fn load(project: &Project, name: &str) -> anyhow::Result<Self> {
        let path = folder(project).join(format!("{name}.toml"));
        if !path.is_file() {
            let hint = suggest::nearest_or_all(name, &Self::names(project)?, "tools trees");
            return Err(Mistake::new(format!("tools tree `{name}` does not exist ({})", path.display()))
                .hint(hint)
                .into());
        }
        let file: ToolsFile = toml_file::read(&path)?;
        let base = Profile::load(project, "base")?.packages;
        Ok(Self {
            name: name.to_owned(),
            description: file.description,
            links: file.links,
            request: PackageRequest {
                include: file.packages,
                forbid: BTreeSet::new(),
                provided: BTreeSet::new(),
                pins: BTreeMap::new(),
                essential: false,
                ..base
            },
        })
    }

    /// All tools trees.
    pub fn names(project: &Project) -> anyhow::Result<Vec<String>> {
        let mut names = Vec::new();
        if !folder(project).is_dir() {
            return Ok(names);
        }
        for entry in fs_err::read_dir(folder(project))? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "toml") {
                names.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
            }
        }
        names.sort();
        Ok(names)
    }

    /// What is to be locked.
    pub fn lockable(&self, project: &Project) -> Lockable<'_> {
        Lockable {
            path: lock::path(&folder(project), &self.name),
            command: format!("larder lock --tools {}", self.name),
            request: &self.request,
        }
    }

    /// The tree as its lock has it, with its packages fetched.
    pub fn locked(&self, session: &Session) -> anyhow::Result<LockedTools> {
        let (lock, packages) = session.locked_packages(&self.lockable(&session.project))?;
        let mut recipe = Recipe::new("tools", REVISION);
        recipe.about(&self.name);
        for package in &lock.packages {
            recipe.hash(&package.name, &package.sha256);
        }
        for (link, target) in &self.links {
            recipe.field(&link.to_string_lossy(), target.as_os_str().as_encoded_bytes());
        }
        Ok(LockedTools { packages, name: self.name.clone(), links: self.links.clone(), recipe })
    }

    /// Fetches, unpacks and composes the tree, or finds it in the store.
    pub fn prepare(&self, session: &Session) -> anyhow::Result<ToolsTree> {
        self.locked(session)?.prepare(session)
    }
}

impl LockedTools {
    /// Digest of everything in the tree.
    pub fn key(&self) -> Hash {
        self.recipe.key()
    }

    /// Unpacks and composes the tree, or finds it in the store; a tree that is there needs no packages.
    pub fn prepare(&self, session: &Session) -> anyhow::Result<ToolsTree> {
        let root = session.store.entry(Bucket::Trees, &self.recipe, |into| {
            let packages = session.unpack(&self.packages, Ownership::Ignore)?;
            tree::compose(&packages, &PathFilter::everything(), None, into)?;
            let merged = tree::USR_MERGE.map(|(link, target)| (PathBuf::from(link), PathBuf::from(target)));
            let merged = merged.into_iter().filter(|(link, _)| into.join(link).symlink_metadata().is_err());
            merged.chain(self.links.clone()).try_for_each(|(link, target)| {
                let link = into.join(link);
                fs_err::os::unix::fs::symlink(target, &link).with_context(|| format!("linking {}", link.display()))
            })
        });
        let root = root.with_context(|| format!("composing the tools tree `{}`", self.name))?;
        Ok(ToolsTree { root, key: self.key() })
    }
}

impl ToolsTree {
    /// A sandbox whose `/` is this tree; what is written to it is forgotten.
    pub fn sandbox(&self) -> Sandbox {
        Sandbox::new(RootTree { lowers: vec![self.root.clone()], upper: None })
    }

    /// The same for tools that look at `folder`, writable at its own path.
    pub fn sandbox_with(&self, folder: &Path) -> Sandbox {
        self.sandbox().bind_writable(folder, folder)
    }
}

fn folder(project: &Project) -> PathBuf {
    project.profiles().join("tools")
}
