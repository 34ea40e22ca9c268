//! The output folder of a build.
//!
//! ```text
//! larder-PROFILE-VERSION.img           disk image, sparse
//! larder-PROFILE-VERSION.img.zst       the same, to download
//! larder-PROFILE-VERSION.uki.efi       kernel, initrd and command line: what an update puts on the ESP
//! larder-PROFILE-VERSION.root.erofs    root file system, for updates
//! larder-PROFILE-VERSION.root.verity   its hash tree, the index of updates
//! manifest.json                        what is inside and where it came from
//! SHA256SUMS                           written last: a folder with it is complete
//! ```
//!
//! Files are made in a hidden staging folder beside their place and renamed once all are complete;
//! whatever fails before leaves the folder as it was.

use std::fmt;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use firstboot::verity::RootHash;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use super::sparse;
use super::version::Version;
use crate::hash::Hash;

/// Version of the manifest's format; raised when a reader of the old one would be misled.
pub const SCHEMA: u32 = 1;
/// File name of the manifest.
pub const MANIFEST: &str = "manifest.json";
/// Prefix of the folders in which outputs are made.
const STAGING: &str = ".larder-staging-";
/// File name of the checksums, in the format of sha256sum(1).
pub const CHECKSUMS: &str = "SHA256SUMS";

/// The files of a build, by what they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Artifact {
    /// Disk image.
    Image,
    /// Compressed disk image.
    CompressedImage,
    /// Unified kernel image.
    Uki,
    /// Root file system.
    Root,
    /// Hash tree of the root file system.
    Verity,
}

impl Artifact {
    /// All of them, in the order of the manifest.
    pub const ALL: [Self; 5] = [Self::Image, Self::CompressedImage, Self::Uki, Self::Root, Self::Verity];
}

impl fmt::Display for Artifact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Image => "img",
            Self::CompressedImage => "img.zst",
            Self::Uki => "uki.efi",
            Self::Root => "root.erofs",
            Self::Verity => "root.verity",
        })
    }
}

/// `manifest.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Name of the profile.
    pub profile: String,
    /// Version of the image.
    pub version: Version,
    /// Root hash of the root file system.
    pub root_hash: RootHash,
    /// Packages inside, in the order of the lock.
    pub packages: Vec<Package>,
    /// Files of the output folder; filled in by [`Output::publish`].
    pub files: Vec<OutputFile>,
    /// What the build was made from.
    pub inputs: Vec<Input>,
}

/// A package inside the image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Package {
    /// Name.
    pub name: String,
    /// Debian version.
    pub version: String,
    /// Architecture.
    pub architecture: String,
    /// Digest of the .deb.
    pub sha256: Hash,
}

/// A file of the output folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputFile {
    /// File name.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// Digest of the content.
    pub sha256: Hash,
}

/// A stage's key: equal keys mean equal content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Input {
    /// Name of the stage.
    pub name: String,
    /// Its key.
    pub key: Hash,
}

/// An output folder in the making. Dropping it without [`Output::publish`] leaves nothing behind.
#[derive(Debug)]
pub struct Output {
    folder: PathBuf,
    staging: TempDir,
    /// Locked for as long as this process lives: see [`sweep`].
    _in_use: fs_err::File,
    stem: String,
}

/// Removes what a killed build has left behind: staging folders that nobody holds a lock on.
fn sweep(folder: &Path) -> Result<()> {
    for entry in fs_err::read_dir(folder)? {
        let entry = entry?;
        let abandoned = entry.file_name().to_string_lossy().starts_with(STAGING)
            && fs_err::File::open(entry.path()).is_ok_and(|staging| staging.file().try_lock().is_ok());
        if abandoned {
            fs_err::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

impl Output {
    /// Starts an output of `profile` in `folder`, which is created if need be.
    pub fn begin(folder: &Path, profile: &str, version: &Version) -> Result<Self> {
        fs_err::create_dir_all(folder)?;
        sweep(folder)?;
        let staging = tempfile::Builder::new()
            .prefix(STAGING)
            .tempdir_in(folder)
            .with_context(|| format!("creating a staging folder in {}", folder.display()))?;
        let in_use = fs_err::File::open(staging.path())?;
        in_use.file().lock().context("marking the staging folder as in use")?;
        Ok(Self { folder: folder.to_owned(), staging, _in_use: in_use, stem: format!("larder-{profile}-{version}") })
    }

    /// Where to write an artifact.
    pub fn path(&self, artifact: Artifact) -> PathBuf {
        self.staging.path().join(self.file_name(artifact))
    }

    /// Name under which an artifact will be published.
    pub fn file_name(&self, artifact: Artifact) -> String {
        format!("{}.{artifact}", self.stem)
    }

    /// Copies a file from elsewhere, holes and all.
    pub fn copy(&self, artifact: Artifact, source: &Path) -> Result<()> {
        let target = fs_err::File::create(self.path(artifact))?;
        sparse::copy(fs_err::File::open(source)?.file(), target.file(), 0)
            .with_context(|| format!("copying {} to the output", source.display()))?;
        Ok(())
    }

    /// Hashes whatever artifacts are there, moves them into the folder, and adds the manifest and, last,
    /// the checksums. Returns the manifest as it was written.
    pub fn publish(self, mut manifest: Manifest) -> Result<Manifest> {
        manifest.files = self.hash_artifacts()?;
        let mut json = serde_json::to_string_pretty(&manifest).context("encoding the manifest")?;
        json.push('\n');
        let sums = manifest.files.iter().map(|file| format!("{}  {}\n", file.sha256, file.name)).collect::<String>()
            + &format!("{}  {MANIFEST}\n", Hash::of(&json));
        for (name, content) in [(MANIFEST, &json), (CHECKSUMS, &sums)] {
            let mut file = fs_err::File::create(self.staging.path().join(name))?;
            file.write_all(content.as_bytes())?;
            file.sync_all()?;
        }
        self.move_into_place(&manifest.files)?;
        Ok(manifest)
    }

    fn hash_artifacts(&self) -> Result<Vec<OutputFile>> {
        let present = |artifact: &Artifact| self.path(*artifact).exists();
        let artifacts: Vec<_> = Artifact::ALL.into_iter().filter(present).collect();
        artifacts
            .into_par_iter()
            .map(|artifact| {
                let mut file = fs_err::File::open(self.path(artifact))?;
                file.sync_all()?;
                let size = file.metadata()?.len();
                Ok(OutputFile { name: self.file_name(artifact), size, sha256: Hash::of_reader(&mut file)? })
            })
            .collect()
    }

    /// The checksums of an earlier build go first: a crash in between must not leave a folder that
    /// claims to be complete.
    fn move_into_place(&self, files: &[OutputFile]) -> Result<()> {
        match fs_err::remove_file(self.folder.join(CHECKSUMS)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        let folder = fs_err::File::open(&self.folder)?;
        for name in files.iter().map(|file| file.name.as_str()).chain([MANIFEST, CHECKSUMS]) {
            if name == CHECKSUMS {
                folder.sync_all()?;
            }
            fs_err::rename(self.staging.path().join(name), self.folder.join(name))?;
        }
        Ok(folder.sync_all()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        Manifest {
            schema: SCHEMA,
            profile: "qemu".into(),
            version: "1.0".parse().unwrap(),
            root_hash: RootHash::from([0xab; 32]),
            packages: vec![Package {
                name: "bash".into(),
                version: "5.2-1".into(),
                architecture: "amd64".into(),
                sha256: Hash::of("bash"),
            }],
            files: Vec::new(),
            inputs: vec![Input { name: "tree".into(), key: Hash::of("tree") }],
        }
    }

    fn output(folder: &Path) -> Output {
        Output::begin(folder, "qemu", &"1.0".parse().unwrap()).unwrap()
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs_err::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_published_folder_has_files_manifest_and_checksums() {
        let folder = tempfile::tempdir().unwrap();
        let output = output(folder.path());
        fs_err::write(output.path(Artifact::Image), "image").unwrap();
        fs_err::write(output.path(Artifact::Verity), "tree").unwrap();
        let written = output.publish(manifest()).unwrap();
        assert_eq!(
            names(folder.path()),
            ["SHA256SUMS", "larder-qemu-1.0.img", "larder-qemu-1.0.root.verity", "manifest.json"]
        );
        let json = fs_err::read_to_string(folder.path().join(MANIFEST)).unwrap();
        assert_eq!(serde_json::from_str::<Manifest>(&json).unwrap(), written);
        insta::assert_snapshot!(json, @r#"
        {
          "schema": 1,
          "profile": "qemu",
          "version": "1.0",
          "root_hash": "abababababababababababababababababababababababababababababababab",
          "packages": [
            {
              "name": "bash",
              "version": "5.2-1",
              "architecture": "amd64",
              "sha256": "37d2b12d5d9abc2a364ef9448767ee03938e383c0284193477dc7618f4b7c6c2"
            }
          ],
          "files": [
            {
              "name": "larder-qemu-1.0.img",
              "size": 5,
              "sha256": "6105d6cc76af400325e94d588ce511be5bfdbb73b437dc51eca43917d7a43e3d"
            },
            {
              "name": "larder-qemu-1.0.root.verity",
              "size": 4,
              "sha256": "dc9c5edb8b2d479e697b4b0b8ab874f32b325138598ce9e7b759eb8292110622"
            }
          ],
          "inputs": [
            {
              "name": "tree",
              "key": "dc9c5edb8b2d479e697b4b0b8ab874f32b325138598ce9e7b759eb8292110622"
            }
          ]
        }
        "#);
        let sums = fs_err::read_to_string(folder.path().join(CHECKSUMS)).unwrap();
        assert!(sums.contains(&format!("{}  larder-qemu-1.0.img\n", Hash::of("image"))));
        assert!(sums.ends_with(&format!("{}  manifest.json\n", Hash::of(&json))));
    }

    #[test]
    fn an_abandoned_output_leaves_nothing_behind_and_the_earlier_one_untouched() {
        let folder = tempfile::tempdir().unwrap();
        let first = output(folder.path());
        fs_err::write(first.path(Artifact::Image), "image").unwrap();
        first.publish(manifest()).unwrap();
        let before = names(folder.path());
        let second = output(folder.path());
        fs_err::write(second.path(Artifact::Image), "other").unwrap();
        drop(second);
        assert_eq!(names(folder.path()), before);
        assert_eq!(fs_err::read_to_string(folder.path().join("larder-qemu-1.0.img")).unwrap(), "image");
    }

    #[test]
    fn what_a_killed_build_left_is_swept_and_what_a_running_one_makes_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let running = output(folder.path());
        fs_err::write(running.path(Artifact::Root), "root").unwrap();
        fs_err::create_dir(folder.path().join(".larder-staging-killed")).unwrap();
        fs_err::write(folder.path().join(".larder-staging-killed/larder-qemu-1.0.img"), "half").unwrap();
        drop(output(folder.path()));
        assert!(!folder.path().join(".larder-staging-killed").exists());
        assert!(running.path(Artifact::Root).exists());
    }

    #[test]
    fn publishing_again_replaces_files_and_checksums() {
        let folder = tempfile::tempdir().unwrap();
        for content in ["one", "two"] {
            let source = folder.path().join("elsewhere");
            fs_err::write(&source, content).unwrap();
            let output = output(folder.path());
            output.copy(Artifact::Root, &source).unwrap();
            output.publish(manifest()).unwrap();
        }
        assert_eq!(fs_err::read_to_string(folder.path().join("larder-qemu-1.0.root.erofs")).unwrap(), "two");
        let sums = fs_err::read_to_string(folder.path().join(CHECKSUMS)).unwrap();
        assert!(sums.starts_with(&Hash::of("two").to_string()));
    }
}
