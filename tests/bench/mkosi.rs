//! mkosi's side: a configuration of the same packages, and its runs in the tools tree `bench`.
//!
//! The fixed part of the configuration lies in `mkosi/` beside this file. Its package manager is apt, bound to the
//! versions of larder's lock, the same archives and the same mirrors. What larder does itself and no package of Debian
//! brings, `packages.provided` of the profile, is entered into dpkg's status as installed, or apt would not be content.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use larder::archive::Archive;
use larder::lock::Lock;
use larder::profile::Profile;
use larder::session::mirror;
use larder_tests::workspace;
use serde::Deserialize;

use crate::measure::{self, Usage};
use crate::ours::LEAF;
use crate::place::Place;

/// Where systemd-stub comes from: mkosi looks for it in the image, larder in its tools.
const STUB: &str = "systemd-boot-efi";

/// The entry of dpkg's status that stands for what larder does itself.
const PROVIDED: &str = "larder-provided";

/// Where Debian keeps the keys of all of its archives; in the tools tree.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Takes the time inside the sandbox: entering it is larder's doing, not mkosi's.
pub(crate) const TIMED: &str =
    "start=$EPOCHREALTIME; \"${@:2}\"; status=$?; echo \"$start $EPOCHREALTIME\" >\"$1\"; exit $status";

/// mkosi and what it was told.
#[derive(Debug)]
pub(crate) struct Mkosi<'a> {
    place: &'a Place,
    packages: Vec<String>,
}

impl<'a> Mkosi<'a> {
    /// Writes the configuration, and fills apt's cache by a build of everything that will be asked for.
    pub(crate) fn prepare(
        place: &'a Place,
        profile: &Profile,
        [plain, with_leaf]: [&Lock; 2],
        zfs: &Path,
        content: Content,
    ) -> Result<Self> {
        let packages = plain.packages.iter().map(|package| package.name.clone()).chain([STUB.to_owned()]).collect();
        let mkosi = Self { place, packages };
        let config = mkosi.config();
        if config.exists() {
            let stale = fs_err::read_dir(&config)?.flatten().map(|entry| entry.path());
            // What apt has fetched stays.
            let stale: Vec<PathBuf> = stale.filter(|path| !path.ends_with("mkosi.pkgcache")).collect();
            place.remove(&place.mkosi(), &stale)?;
        }
        for (path, text) in files(profile, with_leaf, content)? {
            write(&config.join(path), &text)?;
        }
        for folder in ["mkosi.cache", "mkosi.pkgcache", "mkosi.output", "../workspace"] {
            fs_err::create_dir_all(config.join(folder))?;
        }
        // In the skeleton, so that depmod has seen them when mkosi asks modinfo about all modules.
        let modules = config.join("mkosi.skeleton/usr/lib/modules").join(kernel(plain)?).join("updates/dkms");
        fs_err::create_dir_all(&modules)?;
        for module in fs_err::read_dir(zfs)? {
            let module = module?;
            fs_err::copy(module.path(), modules.join(module.file_name()))?;
        }
        mkosi.overlay_file("warm-up")?;
        mkosi.ask_for(true)?;
        mkosi.run("warm-up", &["--cache-only=auto", "--force", "build"])?;
        Ok(mkosi)
    }

    /// Packages in apt's cache, nothing else; then a build.
    pub(crate) fn full_build(&self) -> Result<Usage> {
        self.ask_for(false)?;
        let config = self.config();
        self.place.remove(&self.place.mkosi(), &[config.join("mkosi.cache"), config.join("mkosi.output")])?;
        for folder in ["mkosi.cache", "mkosi.output"] {
            fs_err::create_dir_all(config.join(folder))?;
        }
        self.run("full", &["--force", "build"])
    }

    /// A build after a file of the extra tree has changed: packages come from the cached image.
    pub(crate) fn overlay_changed(&self, content: &str) -> Result<Usage> {
        self.overlay_file(content)?;
        self.run("overlay", &["--force", "build"])
    }

    /// A build after the leaf has come into the list of packages: the cached initrd is still good.
    pub(crate) fn package_changed(&self) -> Result<Usage> {
        self.ask_for(true)?;
        self.run("package", &["--force", "build"])
    }

    /// The image that the last build made.
    pub(crate) fn image(&self) -> PathBuf {
        self.config().join("mkosi.output/image.raw")
    }

    /// The packages of the last image that are not in the lock in that version.
    pub(crate) fn other_packages(&self, lock: &Lock) -> Result<Vec<String>> {
        let manifest = fs_err::read(self.config().join("mkosi.output/image.manifest"))?;
        let manifest: Manifest = serde_json::from_slice(&manifest).context("reading mkosi's manifest")?;
        let locked = |package: &Package| {
            lock.packages.iter().any(|locked| locked.name == package.name && locked.version == package.version)
        };
        let others = manifest.packages.into_iter().filter(|package| !locked(package) && package.name != PROVIDED);
        Ok(others.map(|package| format!("{} {}", package.name, package.version)).collect())
    }

    fn config(&self) -> PathBuf {
        self.place.mkosi().join("config")
    }

    fn overlay_file(&self, content: &str) -> Result<()> {
        write(&self.config().join("mkosi.extra/etc/motd"), content)
    }

    fn ask_for(&self, with_leaf: bool) -> Result<()> {
        let leaf = with_leaf.then(|| LEAF.to_owned());
        let packages: Vec<String> = self.packages.iter().cloned().chain(leaf).collect();
        let text = format!("[Content]\nPackages=\n    {}\n", packages.join("\n    "));
        write(&self.config().join("mkosi.conf.d/packages.conf"), &text)
    }

    fn run(&self, name: &str, args: &[&str]) -> Result<Usage> {
        let (folder, config) = (self.place.mkosi(), self.config());
        let times = folder.join("times");
        let mut command = self.place.tool("bench", &folder, &["bash", "-c", TIMED, "bash"]);
        command.arg(&times).args(["mkosi", "--directory"]).arg(&config).args(args);
        nix::unistd::sync();
        let usage = measure::run(&command, &self.place.logs().join(format!("mkosi-{name}.log")))?;
        Ok(Usage { seconds: duration(&fs_err::read_to_string(times)?)?, ..usage })
    }
}

/// From two times in seconds, as bash writes them.
pub(crate) fn duration(times: &str) -> Result<f64> {
    let (start, end) = times.trim().split_once(' ').context("two times were expected")?;
    Ok(end.parse::<f64>()? - start.parse::<f64>()?)
}

/// Of mkosi's manifest, what is compared.
#[derive(Deserialize)]
struct Manifest {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
}

/// What mkosi leaves out besides documentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Content {
    /// Files and kernel modules as larder does, so that both images hold the same.
    AsLarder,
    /// Nothing: all modules in the root and in the initrd, as mkosi does unless it is told otherwise.
    Stock,
}

/// Path below the configuration's folder and content.
fn files(profile: &Profile, lock: &Lock, content: Content) -> Result<Vec<(PathBuf, String)>> {
    let fixed = workspace().join("tests/bench/mkosi");
    let mut files = vec![
        ("mkosi.conf.d/kernel.conf".into(), format!("[Content]\nKernelCommandLine={}\n", command_line(profile))),
        ("mkosi.sandbox/etc/apt/sources.list.d/mkosi.sources".into(), sources(&profile.packages.archives)),
        ("mkosi.sandbox/etc/apt/preferences.d/larder".into(), preferences(lock)),
        ("mkosi.skeleton/var/lib/dpkg/status".into(), status(profile)),
        (format!("mkosi.skeleton/var/lib/dpkg/info/{PROVIDED}.list").into(), String::new()),
    ];
    if content == Content::AsLarder {
        files.push(("mkosi.conf.d/content.conf".into(), left_out(profile)));
    }
    for folder in ["", "mkosi.repart"] {
        for entry in fs_err::read_dir(fixed.join(folder))? {
            let path = entry?.path();
            if path.is_file() {
                files.push((path.strip_prefix(&fixed)?.to_owned(), fs_err::read_to_string(&path)?));
            }
        }
    }
    Ok(files)
}

/// What modules of the initrd ask the kernel for when they work. larder follows these requests (`softdep` in modinfo(8)),
/// mkosi only what must be there when a module is loaded.
const ASKED_FOR: &str = "crc32c*";

/// The profile's choice of files and modules, as patterns of mkosi. What modules depend on, it adds by itself.
fn left_out(profile: &Profile) -> String {
    // Of these, mkosi needs what it takes apart itself.
    let needed = |glob: &&String| !["boot/", "usr/lib/modules/"].iter().any(|folder| glob.starts_with(folder));
    let files = profile.exclude.iter().filter(needed).map(|glob| format!("/{}", glob.trim_end_matches("/**")));
    let [initrd, more] = [&profile.kernel.initrd_modules, &profile.kernel.modules].map(|names| modules(names));
    let initrd = [initrd, modules(&[ASKED_FOR.to_owned()])].concat();
    let zfs = modules(&["spl".to_owned(), "zfs".to_owned()]);
    let mut text = String::from("[Content]\n");
    for (setting, values) in [
        ("RemoveFiles", files.collect()),
        ("KernelModulesExclude", vec![".*".to_owned()]),
        ("KernelModulesInclude", [initrd.clone(), more, zfs].concat()),
        ("KernelModulesInitrdExclude", vec![".*".to_owned()]),
        ("KernelModulesInitrdInclude", initrd),
    ] {
        let _ = writeln!(text, "{setting}=\n    {}", values.join("\n    "));
    }
    text
}

/// Names, or globs of paths, as regular expressions over paths below `kernel/`.
fn modules(names: &[String]) -> Vec<String> {
    let pattern = |name: &String| {
        let escaped = name.replace('.', "\\.").replace("**", "\0").replace('*', "[^/]*").replace('\0', ".*");
        let start = if name.contains('/') { "^" } else { "/" };
        // A name has dashes where its file may have underscores, and the other way round.
        format!("{start}{}\\.ko", escaped.replace(['-', '_'], "[-_]"))
    };
    names.iter().map(pattern).collect()
}

/// larder's words (mkosi adds the root hash, and systemd finds the device), and those that larder's initrd needs not to
/// be told: what the root is, and that memory makes it usable.
fn command_line(profile: &Profile) -> String {
    let words = profile.kernel.command_line.iter().map(String::as_str);
    words.chain(["rootfstype=erofs", "ro", "systemd.volatile=overlay"]).collect::<Vec<_>>().join(" ")
}

/// In place of mkosi's own list, which has an archive of debug symbols and no choice of mirrors (sources.list(5)).
pub(crate) fn sources(archives: &[Archive]) -> String {
    let mut text = String::new();
    for archive in archives {
        let (suites, components) = (archive.suites.join(" "), archive.components.join(" "));
        let _ = writeln!(
            text,
            "Types: deb\nURIs: {}\nSuites: {suites}\nComponents: {components}\nSigned-By: {KEYRING}\n",
            mirror(archive)
        );
    }
    text
}

/// The lock for apt (apt_preferences(5)): 1001 takes a version even if it is older than another.
fn preferences(lock: &Lock) -> String {
    let mut text = String::new();
    for package in &lock.packages {
        let _ = writeln!(text, "Package: {}\nPin: version {}\nPin-Priority: 1001\n", package.name, package.version);
    }
    text
}

pub(crate) fn status(profile: &Profile) -> String {
    let provided: Vec<&str> = profile.packages.provided.iter().map(String::as_str).collect();
    format!(
        "Package: {PROVIDED}\nStatus: install ok installed\nPriority: optional\nSection: misc\n\
        Maintainer: larder\nArchitecture: all\nVersion: 1\nProvides: {}\nDescription: what larder does itself\n\n",
        provided.join(", ")
    )
}

/// The kernel's version, as its modules' folder is named: `linux-image-6.12.1+deb13-amd64` has it in its name.
fn kernel(lock: &Lock) -> Result<&str> {
    let versions = lock.packages.iter().filter_map(|package| package.name.strip_prefix("linux-image-"));
    versions
        .into_iter()
        .find(|version| version.starts_with(|c: char| c.is_ascii_digit()))
        .context("no kernel is locked")
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs_err::create_dir_all(path.parent().context("a file has no folder")?)?;
    Ok(fs_err::write(path, text)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_are_found_by_name_or_by_a_glob_of_paths() {
        let names = ["dm-mod".to_owned(), "drivers/net/*/r8169".to_owned(), "fs/nls/**".to_owned()];
        assert_eq!(modules(&names), [r"/dm[-_]mod\.ko", r"^drivers/net/[^/]*/r8169\.ko", r"^fs/nls/.*\.ko"]);
    }

    #[test]
    fn the_time_inside_is_the_difference_of_two() {
        assert_eq!(duration("1700000000.250000 1700000033.750000\n").expect("parses"), 33.5);
        assert!(duration("1700000000\n").is_err());
    }

    #[test]
    fn the_real_profile_gives_a_configuration_of_its_locked_packages() {
        let project = larder::project::Project::find(Some(workspace()), workspace()).expect("finds");
        let profile = Profile::load(&project, crate::ours::PROFILE).expect("loads");
        let lock = Lock::read(&profile.lockable(&project).path).expect("reads").expect("is locked");
        let files = files(&profile, &lock, Content::AsLarder).expect("writes");
        let text = |end: &str| &files.iter().find(|(path, _)| path.ends_with(end)).expect("is there").1;
        assert!(text("mkosi.conf").contains("Format=disk"));
        assert!(text("content.conf").contains("    /usr/share/locale\n"));
        assert!(text("content.conf").contains("    /virtio[-_]blk\\.ko\n"));
        assert!(text("10-root.conf").contains("Format=erofs"));
        assert!(text("kernel.conf").contains("panic=10") && text("kernel.conf").contains("rootfstype=erofs"));
        assert_eq!(text("preferences.d/larder").matches("Package: ").count(), lock.packages.len());
        assert!(text("mkosi.sources").contains("Suites: trixie-security\n"));
        assert!(text("status").contains("Provides: linux-initramfs-tool, zfs-modules\n"));
        assert!(kernel(&lock).expect("has a kernel").ends_with("-amd64"));
    }
}
