//! Where the data lives: profiles, overlays, locks and archive keys.

use std::path::{Path, PathBuf};

use crate::report::Mistake;

/// The folder that holds `profiles/` and `overlays/`.
#[derive(Debug, Clone)]
pub struct Project {
    root: PathBuf,
}

impl Project {
    /// `explicit` when given, else the nearest folder upwards from `start` that has both data
    /// folders, else the source tree that this program was built from.
    pub fn find(explicit: Option<&Path>, start: &Path) -> Result<Self, Mistake> {
        let is_project = |folder: &Path| folder.join("profiles").is_dir() && folder.join("overlays").is_dir();
        if let Some(root) = explicit {
            return is_project(root).then(|| Self { root: root.to_owned() }).ok_or_else(|| {
                Mistake::new(format!("{}: has no `profiles` and `overlays` folders", root.display()))
                    .hint("point --project at a checkout of larder")
            });
        }
        let built_from = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
        start
            .ancestors()
            .chain(built_from)
            .find(|folder| is_project(folder))
            .map(|root| Self { root: root.to_owned() })
            .ok_or_else(|| {
                Mistake::new(format!("no larder project at or above {}", start.display()))
                    .hint("run larder inside a checkout of its repository, or pass --project DIR")
            })
    }

    /// The project's top folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A path below the project as messages name it.
    pub fn relative(&self, path: &Path) -> String {
        path.strip_prefix(&self.root).unwrap_or(path).display().to_string()
    }

    /// Profiles, locks, archives and their keys.
    pub fn profiles(&self) -> PathBuf {
        self.root.join("profiles")
    }

    /// One folder per feature.
    pub fn overlays(&self) -> PathBuf {
        self.root.join("overlays")
    }
}
