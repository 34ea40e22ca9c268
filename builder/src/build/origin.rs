//! Where a path of the finished root comes from (`larder why /PATH`): the layers are asked from the
//! top, as the image shows the topmost.

use std::fmt;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use rayon::prelude::*;

use super::RootStages;
use crate::deb::{Contents, Kind, merged_path};
use crate::kernel::modinfo;
use crate::kernel::zfs;
use crate::path_glob;
use crate::profile::Profile;
use crate::report::Mistake;
use crate::session::Session;
use crate::suggest::nearest;
use crate::tree::UnpackedPackage;
use crate::why::{self, Chain};

/// That many packages that share a folder are named.
const NAMED: usize = 8;

/// Where a path comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    path: PathBuf,
    source: Source,
    /// Why the one package that ships it is there.
    chain: Option<Chain>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Source {
    /// A file of the overlays.
    Overlay(String),
    /// A folder that overlays need.
    OverlayFolder,
    /// The packages that ship it; more than one have a folder in common, or one replaces the other's file.
    Packages(Vec<String>),
    /// dpkg's scripts made it, or changed what these packages ship.
    Configured(Vec<String>),
    /// These packages ship it, and dpkg's scripts have removed it.
    Deleted(Vec<String>),
    /// `systemctl preset-all` made it, as the presets of the overlays say.
    Presets,
    /// Chosen from these packages by the profile's `[kernel]`.
    Kernel(Vec<String>),
    /// Made by depmod for the chosen modules.
    ModuleIndex,
    /// Compiled in the tools tree `zfs`.
    Zfs,
    /// larder's own program.
    Firstboot,
    /// Packages ship it, and `files.exclude` leaves it out.
    Excluded { packages: Vec<String>, glob: String },
    /// `files.remove` takes it away after the packages were configured.
    Removed(String),
}

impl Origin {
    /// Finds where `path` comes from; stages that the store does not have run first.
    ///
    /// # Errors
    /// A [`Mistake`] when nothing has such a path.
    pub fn find(session: &Session, profile: &Profile, path: &Path) -> anyhow::Result<Self> {
        let stages = RootStages::of(session, profile)?;
        let inside = merged_path(path)?;
        let shipped = shipping(&stages.packages, &inside)?;
        let source = match topmost(&stages, &inside) {
            Some(layer) => layer.source(&stages, &inside, &shipped)?,
            None => absent(profile, &inside, &shipped)?.ok_or_else(|| nothing_has(profile, &stages, &inside))?,
        };
        let owner = match &source {
            Source::Packages(names) | Source::Kernel(names) => names.as_slice(),
            _ => &[],
        };
        let chain = match owner {
            [name] => {
                let locked = &stages.lock.packages;
                Some(why::package(&profile.name, &profile.packages, locked, &stages.packages, name)?)
            }
            _ => None,
        };
        Ok(Self { path: Path::new("/").join(inside), source, chain })
    }
}

/// The layers of the finished root, topmost first: the order of [`super::Layered`]'s folders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layer {
    Finish,
    Overlays,
    Firstboot,
    Kernel,
    Configured,
    Tree,
}

const LAYERS: [Layer; 6] =
    [Layer::Finish, Layer::Overlays, Layer::Firstboot, Layer::Kernel, Layer::Configured, Layer::Tree];

/// The topmost layer that has the path; none where a whiteout hides what is below.
fn topmost(stages: &RootStages, path: &Path) -> Option<Layer> {
    let layers = LAYERS.into_iter().zip(&stages.root.folders);
    for (layer, folder) in layers {
        if path.ancestors().any(|part| is_removed(&folder.join(part))) {
            return None;
        }
        match folder.join(path).symlink_metadata() {
            // Folders are merged: an upper layer has those in which it changed something.
            Ok(found) if found.is_dir() && layer != Layer::Tree => {}
            Ok(_) => return Some(layer),
            Err(_) => {}
        }
    }
    let folders = LAYERS.into_iter().zip(&stages.root.folders);
    folders.filter(|(_, folder)| folder.join(path).is_dir()).map(|(layer, _)| layer).next_back()
}

/// overlayfs: a character device 0:0 stands for a file or folder of a lower layer that was removed (kernel,
/// filesystems/overlayfs).
fn is_removed(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|found| found.file_type().is_char_device() && found.rdev() == 0)
}

impl Layer {
    fn source(self, stages: &RootStages, path: &Path, shipped: &[String]) -> anyhow::Result<Source> {
        Ok(match self {
            Self::Finish => Source::Presets,
            Self::Overlays => {
                let entry = stages.overlays.entries().get(&format!("/{}", path.display()));
                entry.map_or(Source::OverlayFolder, |entry| Source::Overlay(entry.origin.clone()))
            }
            Self::Firstboot => Source::Firstboot,
            Self::Kernel => kernel_source(stages, path)?,
            Self::Configured => Source::Configured(shipped.to_vec()),
            Self::Tree => Source::Packages(shipped.to_vec()),
        })
    }
}

/// Modules lie uncompressed in the image, whatever the package has.
fn kernel_source(stages: &RootStages, path: &Path) -> anyhow::Result<Source> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let module = modinfo::name_of_file(&name);
    if module.as_deref().is_some_and(|module| zfs::MODULES.contains(&module)) {
        return Ok(Source::Zfs);
    }
    let compressed = ["", ".xz", ".zst", ".gz"].map(|suffix| PathBuf::from(format!("{}{suffix}", path.display())));
    for path in compressed {
        let shipped = shipping(&stages.packages, &path)?;
        if !shipped.is_empty() {
            return Ok(Source::Kernel(shipped));
        }
    }
    Ok(Source::ModuleIndex)
}

/// Names of the packages that ship the path.
fn shipping(packages: &[UnpackedPackage], path: &Path) -> anyhow::Result<Vec<String>> {
    let ships = |package: &UnpackedPackage| -> anyhow::Result<Option<String>> {
        let contents = Contents::read(&package.folder)?;
        let found = contents.files.iter().any(|file| Path::new(&file.path) == path);
        Ok(found.then(|| package.name.clone()))
    };
    packages.par_iter().filter_map(|package| ships(package).transpose()).collect()
}

fn absent(profile: &Profile, path: &Path, shipped: &[String]) -> anyhow::Result<Option<Source>> {
    let below = |folder: &&String| path.starts_with(folder.trim_start_matches('/'));
    if let Some(removed) = profile.remove.iter().find(below) {
        return Ok(Some(Source::Removed(removed.clone())));
    }
    if shipped.is_empty() {
        return Ok(None);
    }
    for glob in &profile.exclude {
        let matcher = path_glob::parse(glob).context("a glob of the profile")?.compile_matcher();
        if path.ancestors().any(|folder| matcher.is_match(folder)) {
            return Ok(Some(Source::Excluded { packages: shipped.to_vec(), glob: glob.clone() }));
        }
    }
    Ok(Some(Source::Deleted(shipped.to_vec())))
}

fn nothing_has(profile: &Profile, stages: &RootStages, path: &Path) -> anyhow::Error {
    let mistake = Mistake::new(format!(
        "/{}: no package, overlay or stage of profile `{}` has such a path",
        path.display(),
        profile.name
    ));
    let files = stages
        .packages
        .par_iter()
        .flat_map_iter(|package| Contents::read(&package.folder).map(|contents| contents.files).unwrap_or_default());
    let files: Vec<PathBuf> =
        files.filter(|file| file.kind != Kind::Folder).map(|file| PathBuf::from(file.path)).collect();
    let same_name: Vec<String> = files
        .iter()
        .filter(|file| file.file_name() == path.file_name())
        .map(|file| format!("/{}", file.display()))
        .collect();
    let beside = files.iter().filter(|file| file.parent() == path.parent()).filter_map(|file| file.to_str());
    let alike = match same_name.as_slice() {
        [] => nearest(&path.to_string_lossy(), beside).into_iter().map(|file| format!("/{file}")).collect(),
        _ => same_name,
    };
    match alike.as_slice() {
        [] => mistake.hint("name a path as it is in the image, such as /usr/bin/zfs").into(),
        alike => mistake.hint(format!("did you mean {}?", alike[..alike.len().min(3)].join(" or "))).into(),
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.path.display())?;
        match &self.source {
            Source::Overlay(file) => writeln!(f, "{file}"),
            Source::OverlayFolder => writeln!(f, "a folder for files of the overlays"),
            Source::Packages(names) => writeln!(f, "{}", packages(names)),
            Source::Configured(names) if names.is_empty() => writeln!(f, "made by the packages' scripts"),
            Source::Configured(names) => writeln!(f, "{}, changed by the packages' scripts", packages(names)),
            Source::Deleted(names) => {
                writeln!(f, "not in the image: the packages' scripts remove what {} ships", packages(names))
            }
            Source::Presets => writeln!(f, "made by `systemctl preset-all`, as the presets of the overlays say"),
            Source::Kernel(names) => writeln!(f, "{}, chosen by [kernel] of the profile", packages(names)),
            Source::ModuleIndex => writeln!(f, "made by depmod for the kept modules"),
            Source::Zfs => writeln!(f, "compiled from zfs-dkms of the tools tree `zfs`"),
            Source::Firstboot => writeln!(f, "larder's own program, compiled from firstboot/"),
            Source::Excluded { packages: names, glob } => {
                writeln!(f, "not in the image: `{glob}` of files.exclude leaves out what {} ships", packages(names))
            }
            Source::Removed(path) => writeln!(f, "not in the image: `{path}` of files.remove takes it away"),
        }?;
        self.chain.as_ref().map_or(Ok(()), |chain| write!(f, "{chain}"))
    }
}

fn packages(names: &[String]) -> String {
    match names {
        [name] => format!("package {name}"),
        names if names.len() <= NAMED => format!("packages {}", names.join(", ")),
        names => format!("packages {} and {} more", names[..NAMED].join(", "), names.len() - NAMED),
    }
}
