//! One side of a comparison: a build in an output folder, or a lock.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;
use jiff::Timestamp;
use serde::Deserialize;

use crate::deb::Source;
use crate::image::mtree::FileList;
use crate::image::output::{self, Artifact, Manifest, OutputFile};
use crate::lock::{Lock, LockedPackage};
use crate::report::Mistake;

/// What is compared.
#[derive(Debug)]
pub struct Side {
    /// What people call it.
    pub name: String,
    /// The profile, by which the archives are found that packages come from.
    pub profile: String,
    /// Date of the lock.
    pub snapshot: Timestamp,
    /// The packages.
    pub packages: Vec<LockedPackage>,
    /// The build, when it is one.
    pub build: Option<Build>,
}

/// A build.
#[derive(Debug)]
pub struct Build {
    folder: PathBuf,
    /// Its manifest.
    pub manifest: Manifest,
}

const HINT: &str = "name an output folder, a file of a build, a lock file, or REVISION:LOCK for one in git";

impl Side {
    /// Finds what a person named: a folder, a file of a build, a lock, or a lock in git's history.
    pub fn open(named: &str) -> anyhow::Result<Self> {
        let path = Path::new(named);
        if path.is_dir() {
            return Self::in_folder(path);
        }
        match (path.is_file(), named.split_once(':')) {
            (true, _) => Self::of_file(path),
            (false, Some((_, lock))) if is_lock(Path::new(lock)) => Self::of_lock(path, &from_git(named)?),
            _ => Err(Mistake::new(format!("{named}: no such file or folder")).hint(HINT).into()),
        }
    }

    fn in_folder(folder: &Path) -> anyhow::Result<Self> {
        let mut manifests = manifests(folder)?;
        match manifests.len() {
            0 => Err(Mistake::new(format!("{}: there is no build in this folder", folder.display())).hint(HINT).into()),
            1 => Self::of_manifest(&manifests.remove(0)),
            _ => {
                let names: Vec<_> = manifests.iter().map(|path| path.display().to_string()).collect();
                Err(Mistake::new(format!("{}: there are {} builds in this folder", folder.display(), names.len()))
                    .hint(format!("name one of {}", names.join(", ")))
                    .into())
            }
        }
    }

    fn of_file(path: &Path) -> anyhow::Result<Self> {
        if is_lock(path) {
            return Self::of_lock(path, &fs_err::read_to_string(path)?);
        }
        if is_manifest(path) {
            return Self::of_manifest(path);
        }
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        for manifest in manifests(folder)? {
            let side = Self::of_manifest(&manifest)?;
            let files = side.build.iter().flat_map(|build| &build.manifest.files);
            if files.into_iter().any(|file| file.name == name) {
                return Ok(side);
            }
        }
        Err(Mistake::new(format!("{}: no manifest in its folder tells of this file", path.display())).hint(HINT).into())
    }

    fn of_manifest(path: &Path) -> anyhow::Result<Self> {
        let manifest = read_manifest(path)?;
        let packages = manifest.packages.iter().map(|package| LockedPackage {
            name: package.name.clone(),
            version: package.version.clone(),
            architecture: package.architecture.clone(),
            sha256: package.sha256,
            size: package.size,
            source: package.location.clone(),
        });
        Ok(Self {
            name: format!("larder-{}-{}", manifest.profile, manifest.version),
            profile: manifest.profile.clone(),
            snapshot: manifest.snapshot.parse().with_context(|| format!("reading {}", path.display()))?,
            packages: packages.collect(),
            build: Some(Build { folder: path.parent().unwrap_or(Path::new("")).to_owned(), manifest }),
        })
    }

    fn of_lock(path: &Path, text: &str) -> anyhow::Result<Self> {
        let lock = Lock::parse(text, path)?;
        Ok(Self {
            name: path.display().to_string(),
            profile: path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
            snapshot: lock.snapshot,
            packages: lock.packages,
            build: None,
        })
    }

    /// What the build's manifest says of a package that [`Side::packages`] has at this place.
    pub fn facts(&self, place: usize) -> Option<&output::Package> {
        self.build.as_ref()?.manifest.packages.get(place)
    }

    /// The source of a package, where the manifest tells it.
    pub fn source(&self, place: usize) -> Option<&Source> {
        self.facts(place).map(|package| &package.source)
    }

    /// The manifest's word on a file of the build.
    pub fn artifact(&self, artifact: Artifact) -> Option<&OutputFile> {
        let ending = format!(".{artifact}");
        self.build.as_ref()?.manifest.files.iter().find(|file| file.name.ends_with(&ending))
    }

    /// Where a file of the build is; `None` when this is no build, or one without it.
    pub fn artifact_path(&self, artifact: Artifact) -> Option<PathBuf> {
        Some(self.build.as_ref()?.folder.join(&self.artifact(artifact)?.name))
    }

    /// The list of files in the image; `None` when the build has none, or is not here.
    pub fn file_list(&self) -> anyhow::Result<Option<FileList>> {
        let (Some(build), Some(file)) = (&self.build, self.artifact(Artifact::FileList)) else { return Ok(None) };
        let path = build.folder.join(&file.name);
        let text = match fs_err::read_to_string(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            read => read?,
        };
        let list = FileList::parse(&text);
        Ok(Some(list.map_err(|error| Mistake::new(format!("{}: not a list of files", path.display())).because(error))?))
    }
}

fn is_lock(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "lock")
}

fn is_manifest(path: &Path) -> bool {
    path.to_string_lossy().ends_with(output::MANIFEST)
}

/// The manifests in a folder, sorted by name.
fn manifests(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let paths = fs_err::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<anyhow::Result<Vec<_>>>()?;
    let mut manifests: Vec<_> = paths.into_iter().filter(|path| is_manifest(path)).collect();
    manifests.sort();
    Ok(manifests)
}

/// What every manifest has.
#[derive(Deserialize)]
struct AnyManifest {
    schema: u32,
}

fn read_manifest(path: &Path) -> anyhow::Result<Manifest> {
    let text = fs_err::read_to_string(path)?;
    let no_manifest = |error: serde_json::Error| {
        Mistake::new(format!("{}: not the manifest of a build", path.display())).hint(HINT).because(error)
    };
    let AnyManifest { schema } = serde_json::from_str(&text).map_err(no_manifest)?;
    if schema != output::SCHEMA {
        let what = format!("{}: a manifest of schema {schema}; this larder reads {}", path.display(), output::SCHEMA);
        return Err(Mistake::new(what).hint("build it again, or compare with the larder that made it").into());
    }
    Ok(serde_json::from_str(&text).map_err(no_manifest)?)
}

/// A lock of another time: `REVISION:PATH`, as git names it.
fn from_git(named: &str) -> anyhow::Result<String> {
    let output = Command::new("git").args(["show", "--end-of-options", named]).output().map_err(|error| {
        Mistake::new(format!("{named}: git cannot be run to look it up")).because(error).hint("install git")
    })?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(Mistake::new(format!("{named}: git does not find it"))
            .because(anyhow::anyhow!(said))
            .hint(HINT)
            .into());
    }
    String::from_utf8(output.stdout).with_context(|| format!("{named} is no text"))
}
