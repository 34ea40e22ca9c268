//! Where the comparison takes place: `target/bench`, apart from the person's own store and sources.
//!
//! ```text
//! target/bench/project/    copy of profiles and overlays, in which things are changed
//!              cache/      larder's store
//!              out/        larder's images
//!              mkosi/      configuration, caches and images of mkosi
//!              logs/       what each run said
//!              results.json
//! ```

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use larder::copy_tree::copy_tree;
use larder_tests::workspace;

/// The folder and the program.
#[derive(Debug)]
pub(crate) struct Place {
    folder: PathBuf,
    program: PathBuf,
}

impl Place {
    /// Makes the folders, and a fresh copy of the data.
    pub(crate) fn prepare() -> Result<Self> {
        let place = Self { folder: larder_tests::target_folder()?.join("bench"), program: larder_tests::larder()? };
        let project = place.project();
        for stale in [&project, &place.out(), &place.logs()] {
            if stale.exists() {
                fs_err::remove_dir_all(stale)?;
            }
        }
        for folder in [place.cache(), place.out(), place.logs()] {
            fs_err::create_dir_all(folder)?;
        }
        for name in ["profiles", "overlays"] {
            copy_tree(&workspace().join(name), &project.join(name))?;
        }
        Ok(place)
    }

    /// The program that is measured.
    pub(crate) fn program(&self) -> &Path {
        &self.program
    }

    /// Copy of profiles and overlays.
    pub(crate) fn project(&self) -> PathBuf {
        self.folder.join("project")
    }

    /// larder's store.
    pub(crate) fn cache(&self) -> PathBuf {
        self.folder.join("cache")
    }

    /// larder's output folder.
    pub(crate) fn out(&self) -> PathBuf {
        self.folder.join("out")
    }

    /// All that is mkosi's.
    pub(crate) fn mkosi(&self) -> PathBuf {
        self.folder.join("mkosi")
    }

    /// What the runs said.
    pub(crate) fn logs(&self) -> PathBuf {
        self.folder.join("logs")
    }

    /// All figures.
    pub(crate) fn results(&self) -> PathBuf {
        self.folder.join("results.json")
    }

    /// larder at work on the copy, with the bench's store.
    pub(crate) fn larder(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--project").arg(self.project()).args(args).env("LARDER_CACHE_DIR", self.cache());
        command
    }

    /// A program of a tools tree, which sees `folder`.
    pub(crate) fn tool(&self, tree: &str, folder: &Path, argv: &[&str]) -> Command {
        let mut command = self.larder(&["tools", "run", tree, "--network", "--bind"]);
        command.arg(folder).arg("--").args(argv);
        command
    }

    /// Removes trees whose files may belong to ids that only the namespace can touch.
    pub(crate) fn remove(&self, folder: &Path, paths: &[PathBuf]) -> Result<()> {
        // An argument list may have 2 MiB (execve(2)); a path has some hundred bytes.
        for paths in paths.chunks(2000) {
            let mut remove = self.tool("bench", folder, &["rm", "-rf", "--"]);
            run(remove.args(paths))?;
        }
        Ok(())
    }
}

/// Runs a command that is not measured; quiet unless it fails.
pub(crate) fn run(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("starting {command:?}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?} failed ({}):\n{said}", output.status);
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
