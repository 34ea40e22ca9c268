//! larder's side: the store in the state that a row begins with, then one command.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use larder::lock::{self, Lock};
use larder::profile::Profile;
use larder::project::Project;
use larder::store::Bucket;

use crate::measure::{self, Usage};
use crate::place::{Place, run};

/// The profile that both build.
pub(crate) const PROFILE: &str = "qemu";

/// The package that comes in when "one package changed": a leaf, on which nothing depends.
pub(crate) const LEAF: &str = "less";

/// What stays when the store is taken back to packages, tools and ZFS.
#[derive(Debug)]
pub(crate) struct Larder<'a> {
    place: &'a Place,
    kept: BTreeSet<PathBuf>,
    plain: Variant,
    with_leaf: Variant,
}

/// A profile and its lock.
#[derive(Debug)]
struct Variant {
    profile: String,
    lock: String,
}

impl<'a> Larder<'a> {
    /// Locks the profile with and without the leaf, and fills the store: packages, tools trees, ZFS modules.
    pub(crate) fn prepare(place: &'a Place) -> Result<Self> {
        run(&mut place.larder(&["lock"]))?;
        let plain = Variant::read(place)?;
        let profile = with_package(&plain.profile, LEAF)?;
        fs_err::write(profile_path(place), profile)?;
        run(&mut place.larder(&["lock", "--profile", PROFILE]))?;
        let with_leaf = Variant::read(place)?;

        let aside = set_aside(place)?;
        for tree in ["image", "zfs", "vm", "bench"] {
            run(&mut place.tool(tree, &place.cache(), &["true"]))?;
        }
        place.remove(&place.cache(), &[aside])?;
        let larder = Self { place, kept: entries(place)?.into_iter().collect(), plain, with_leaf };
        larder.build("warm-up", &[])?;
        larder.plain.write(place)?;
        Ok(larder)
    }

    /// The profile without the leaf.
    pub(crate) fn profile(&self) -> Result<Profile> {
        Profile::load(&project(self.place)?, PROFILE)
    }

    /// The lock without the leaf, or with it.
    pub(crate) fn lock(&self, with_leaf: bool) -> Result<Lock> {
        let variant = if with_leaf { &self.with_leaf } else { &self.plain };
        Lock::parse(&variant.lock, &lock_path(self.place))
    }

    /// Packages, tools and ZFS are there, nothing else; then a build.
    pub(crate) fn full_build(&self) -> Result<(Usage, String)> {
        self.plain.write(self.place)?;
        self.forget_images()?;
        self.build("full", &["--offline"])
    }

    /// A build after `file` of an overlay has changed.
    pub(crate) fn overlay_changed(&self, file: &str, content: &str) -> Result<(Usage, String)> {
        fs_err::write(self.place.project().join("overlays").join(file), content)?;
        self.build("overlay", &["--offline"])
    }

    /// A build after the leaf has come into the lock.
    pub(crate) fn package_changed(&self) -> Result<(Usage, String)> {
        self.with_leaf.write(self.place)?;
        self.build("package", &["--offline"])
    }

    /// The same build once more.
    pub(crate) fn nothing_changed(&self) -> Result<(Usage, String)> {
        self.build("nothing", &["--offline"])
    }

    /// All profiles and tools trees resolved anew, with the indices in the store.
    pub(crate) fn lock_again(&self) -> Result<(Usage, String)> {
        nix::unistd::sync();
        let log = self.place.logs().join("larder-lock.log");
        let usage = measure::run(&self.place.larder(&["lock", "--profile", PROFILE]), &log)?;
        Ok((usage, fs_err::read_to_string(log)?))
    }

    /// The image that the last build made.
    pub(crate) fn image(&self) -> PathBuf {
        self.place.out().join(format!("larder-{PROFILE}-{VERSION}.img"))
    }

    /// The modules of ZFS that the last build put into the image.
    pub(crate) fn zfs_modules(&self) -> Result<PathBuf> {
        let folder = self.place.cache().join(STORE).join(Bucket::Zfs.folder());
        let states = fs_err::read_dir(&folder)?.flatten().map(|entry| entry.path());
        // The time of a state file is that of its entry's last use.
        let states = states.filter(|path| path.extension().is_some_and(|extension| extension == "state"));
        let last = states.max_by_key(|path| fs_err::metadata(path).and_then(|metadata| metadata.modified()).ok());
        Ok(last.context("the store has no modules of ZFS")?.with_extension(""))
    }

    fn build(&self, name: &str, options: &[&str]) -> Result<(Usage, String)> {
        let log = self.place.logs().join(format!("larder-{name}.log"));
        let mut build = self.place.larder(&["build", "--profile", PROFILE, "--version", VERSION]);
        build.arg("--locked").args(options).arg("--out").arg(self.place.out());
        nix::unistd::sync();
        let usage = measure::run(&build, &log)?;
        Ok((usage, fs_err::read_to_string(log)?))
    }

    fn forget_images(&self) -> Result<()> {
        let extra: Vec<PathBuf> = entries(self.place)?.into_iter().filter(|path| !self.kept.contains(path)).collect();
        self.place.remove(&self.place.cache(), &extra)
    }
}

/// All results of stages but those that both sides are given.
fn entries(place: &Place) -> Result<Vec<PathBuf>> {
    let mut entries = Vec::new();
    for folder in buckets(place).filter(|folder| folder.is_dir()) {
        entries.extend(fs_err::read_dir(folder)?.flatten().map(|entry| entry.path()));
    }
    Ok(entries)
}

/// Where the results of stages are, without those of the modules of ZFS and of larder's own program; and without the indices,
/// which no build reads, and which are at hand for whoever locks again.
fn buckets(place: &Place) -> impl Iterator<Item = PathBuf> {
    let folder = place.cache().join(STORE);
    let given = [Bucket::Zfs, Bucket::Firstboot, Bucket::Indices];
    Bucket::ALL
        .into_iter()
        .filter(move |bucket| !given.contains(bucket))
        .map(move |bucket| folder.join(bucket.folder()))
}

/// Moves what an earlier run left out of the store, so that it is known which results are those of the tools trees.
/// They go when there are tools again.
fn set_aside(place: &Place) -> Result<PathBuf> {
    let aside = place.cache().join("aside");
    let folder = aside.join(std::process::id().to_string());
    fs_err::create_dir_all(&folder)?;
    for bucket in buckets(place).filter(|bucket| bucket.is_dir()) {
        fs_err::rename(&bucket, folder.join(bucket.file_name().context("a bucket has no name")?))?;
    }
    Ok(aside)
}

/// The store's folder of this layout, in the cache.
const STORE: &str = "v1";

/// Fixed, so that the image's name is known; what is in it does not depend on it.
const VERSION: &str = "0.1.0";

impl Variant {
    fn read(place: &Place) -> Result<Self> {
        let (profile, lock) = (profile_path(place), lock_path(place));
        Ok(Self { profile: fs_err::read_to_string(profile)?, lock: fs_err::read_to_string(lock)? })
    }

    fn write(&self, place: &Place) -> Result<()> {
        fs_err::write(profile_path(place), &self.profile)?;
        fs_err::write(lock_path(place), &self.lock)?;
        Ok(())
    }
}

fn project(place: &Place) -> Result<Project> {
    let folder = place.project();
    Ok(Project::find(Some(&folder), &folder)?)
}

fn profile_path(place: &Place) -> PathBuf {
    place.project().join("profiles").join(format!("{PROFILE}.toml"))
}

fn lock_path(place: &Place) -> PathBuf {
    lock::path(&place.project().join("profiles"), PROFILE)
}

/// The profile with one more package.
fn with_package(profile: &str, name: &str) -> Result<String> {
    let mut table: toml::Table = profile.parse().context("parsing the profile")?;
    let packages = table.entry("packages").or_insert_with(|| toml::Table::new().into());
    let packages = packages.as_table_mut().context("`packages` is no table")?;
    let include = packages.entry("include").or_insert_with(|| toml::value::Array::new().into());
    include.as_array_mut().context("`packages.include` is no list")?.push(name.into());
    Ok(toml::to_string(&table)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_comes_into_a_profile_with_and_without_a_list() {
        let with = with_package("schema = 1\n[kernel]\nmodules = [\"x\"]\n", "less").expect("adds");
        insta::assert_snapshot!(with, @r#"
        schema = 1

        [kernel]
        modules = ["x"]

        [packages]
        include = ["less"]
        "#);
        let with = with_package("[packages]\ninclude = [\"bash\"]\n", "less").expect("adds");
        insta::assert_snapshot!(with, @r#"
        [packages]
        include = ["bash", "less"]
        "#);
        assert!(with_package("packages = 3\n", "less").is_err());
    }
}
