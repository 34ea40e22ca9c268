//! apt's way to what `larder lock` does: a look at the mirror, then a choice of versions, with the indices there.

use std::path::PathBuf;

use anyhow::Result;
use larder::profile::Profile;

use crate::measure::{self, Usage};
use crate::mkosi;
use crate::place::Place;

/// apt-get with its own state and the profile's archives.
#[derive(Debug)]
pub(crate) struct Apt<'a> {
    place: &'a Place,
    packages: Vec<String>,
}

impl<'a> Apt<'a> {
    /// Fetches the indices.
    pub(crate) fn prepare(place: &'a Place, profile: &Profile) -> Result<Self> {
        let apt = Self { place, packages: profile.packages.include.iter().cloned().collect() };
        for folder in ["state/lists/partial", "cache/archives/partial"] {
            fs_err::create_dir_all(apt.folder().join(folder))?;
        }
        fs_err::write(apt.folder().join("sources.list.sources"), mkosi::sources(&profile.packages.archives))?;
        fs_err::write(apt.folder().join("status"), mkosi::status(profile))?;
        apt.resolve()?;
        Ok(apt)
    }

    /// `apt-get update`, then a simulated installation of the profile's packages.
    pub(crate) fn resolve(&self) -> Result<Usage> {
        let folder = self.folder();
        let path = |name: &str| folder.join(name).display().to_string();
        let options = [
            format!("-oDir::State={}", path("state")),
            format!("-oDir::Cache={}", path("cache")),
            format!("-oDir::State::status={}", path("status")),
            format!("-oDir::Etc::sourcelist={}", path("sources.list.sources")),
            "-oDir::Etc::sourceparts=-".to_owned(),
            "-oAPT::Sandbox::User=root".to_owned(),
            "-oAPT::Install-Recommends=false".to_owned(),
        ];
        let script = "packages=\"$1\"; shift; apt-get \"$@\" update && \
            apt-get \"$@\" --simulate install $packages '?essential'";
        let times = folder.join("times");
        let mut command = self.place.tool("bench", &folder, &["bash", "-c", mkosi::TIMED, "bash"]);
        command.arg(&times).args(["bash", "-ec", script, "bash", &self.packages.join(" ")]).args(options);
        nix::unistd::sync();
        let usage = measure::run(&command, &self.place.logs().join("apt.log"))?;
        Ok(Usage { seconds: mkosi::duration(&fs_err::read_to_string(times)?)?, ..usage })
    }

    fn folder(&self) -> PathBuf {
        self.place.mkosi().join("apt")
    }
}
