//! Two real releases of the profile `qemu`: version 1.0 as Debian's archive was without security updates, with an older kernel;
//! version 2.0 with them. And version 3.0, in which ZFS does not load. All are signed with keys of their own.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context as _, Result, ensure};
use fs_err::File;
use larder::copy_tree::copy_tree;

use crate::build::{larder, run, target_folder, workspace};

/// What was published.
#[derive(Debug, Clone)]
pub struct Releases {
    /// Image of version 1.0.
    pub image: PathBuf,
    /// What a web server serves: channel `stable` has 2.0 and 1.0, channel `broken` has 3.0 alone.
    pub site: PathBuf,
}

const PASSPHRASE: &str = "a key for tests, and for nothing else\n";

/// Builds and publishes them, or takes what is there already and still right.
pub fn releases() -> Result<Releases> {
    static RELEASES: OnceLock<Result<Releases, String>> = OnceLock::new();
    let made = RELEASES.get_or_init(|| make().map_err(|error| format!("{error:#}")));
    made.clone().map_err(anyhow::Error::msg)
}

fn make() -> Result<Releases> {
    // An empty variable is as good as none.
    if let Some(folder) = std::env::var_os("LARDER_TEST_RELEASES").filter(|folder| !folder.is_empty()) {
        let folder = PathBuf::from(folder);
        return Ok(Releases { image: folder.join("1.0/larder-qemu-1.0.img"), site: folder.join("site") });
    }
    let folder = target_folder()?.join("releases");
    fs_err::create_dir_all(&folder)?;
    let lock = File::create(folder.join(".lock"))?;
    lock.file().lock().context("waiting for another build of the releases")?;
    let maker = Maker { larder: larder()?, folder };
    let [old, new, broken] = ["old", "new", "broken"].map(|name| maker.project(name));
    let (old, new, broken) = (old?, new?, broken?);
    without_security(&old)?;
    let load = broken.join("overlays/base/root/usr/lib/modprobe.d");
    fs_err::create_dir_all(&load)?;
    fs_err::write(load.join("zfs.conf"), "install zfs /bin/false\n")?;
    maker.keys(&[&old, &new, &broken])?;
    let images =
        [(&old, "1.0"), (&new, "2.0"), (&broken, "3.0")].map(|(project, version)| maker.build(project, version));
    let [image, _, _] = images;
    let image = image?;
    let site = maker.folder.join("site");
    let _ = fs_err::remove_dir_all(&site);
    for (project, version, channel) in [(&old, "1.0", "stable"), (&new, "2.0", "stable"), (&broken, "3.0", "broken")] {
        maker.publish(project, version, &site, channel)?;
    }
    Ok(Releases { image, site })
}

struct Maker {
    larder: PathBuf,
    folder: PathBuf,
}

impl Maker {
    /// A project of its own. Its locks are kept: a lock that was made anew is not made anew every time.
    fn project(&self, name: &str) -> Result<PathBuf> {
        let project = self.folder.join(name);
        let locks = locks(&project.join("profiles"))?;
        for part in ["overlays", "profiles"] {
            let _ = fs_err::remove_dir_all(project.join(part));
            copy_tree(&workspace().join(part), &project.join(part))?;
        }
        locks.into_iter().try_for_each(|(path, content)| fs_err::write(path, content))?;
        Ok(project)
    }

    /// One pair of keys for all of them, made once.
    fn keys(&self, projects: &[&PathBuf]) -> Result<()> {
        let (key, passphrase, public) = (self.key(), self.passphrase(), self.folder.join("release-keys.json"));
        let in_project = |project: &Path| project.join("profiles/release-keys/1.json");
        for project in projects {
            let _ = fs_err::remove_dir_all(project.join("profiles/release-keys"));
        }
        if !public.exists() {
            let _ = fs_err::remove_file(&key);
            fs_err::write(&passphrase, PASSPHRASE)?;
            let mut new = self.command(projects[0]);
            run(new.args(["keys", "new"]).arg(&key).arg("--passphrase-file").arg(&passphrase))?;
            fs_err::copy(in_project(projects[0]), &public)?;
        }
        projects.iter().try_for_each(|project| {
            let to = in_project(project);
            fs_err::create_dir_all(to.parent().context("it lies in a folder")?)?;
            fs_err::copy(&public, to).map(drop).map_err(Into::into)
        })
    }

    fn build(&self, project: &Path, version: &str) -> Result<PathBuf> {
        let out = self.folder.join(version);
        let mut build = self.command(project);
        run(build.args(["build", "--profile", "qemu", "--version", version, "--out"]).arg(&out))?;
        let image = out.join(format!("larder-qemu-{version}.img"));
        ensure!(image.exists(), "`larder build` has left no {}", image.display());
        Ok(image)
    }

    fn publish(&self, project: &Path, version: &str, site: &Path, channel: &str) -> Result<()> {
        let mut publish = self.command(project);
        publish.arg("publish").arg(self.folder.join(version)).arg("--to").arg(site).args(["--channel", channel]);
        run(publish.arg("--key").arg(self.key()).arg("--passphrase-file").arg(self.passphrase()))
    }

    fn key(&self) -> PathBuf {
        self.folder.join("release.key")
    }

    fn passphrase(&self) -> PathBuf {
        self.folder.join("passphrase")
    }

    fn command(&self, project: &Path) -> Command {
        let mut command = Command::new(&self.larder);
        command.env("LARDER_PROJECT", project).current_dir(project);
        command
    }
}

/// Takes the archive of security updates out of a project: the kernel is an older one, too.
pub fn without_security(project: &Path) -> Result<()> {
    let path = project.join("profiles/base.toml");
    let mut profile: toml::Table = fs_err::read_to_string(&path)?.parse()?;
    let archives =
        profile.get_mut("archive").and_then(toml::Value::as_array_mut).context("base.toml has no archives")?;
    archives.retain(|archive| archive.get("name").and_then(toml::Value::as_str) != Some("debian-security"));
    Ok(fs_err::write(path, profile.to_string())?)
}

/// The locks of profiles and tools trees, as they are now; none when there is no such folder.
fn locks(profiles: &Path) -> Result<Vec<(PathBuf, Vec<u8>)>> {
    let mut locks = Vec::new();
    for folder in [profiles.to_owned(), profiles.join("tools")] {
        for entry in std::fs::read_dir(folder).into_iter().flatten() {
            let path = entry?.path();
            if path.extension().is_some_and(|ending| ending == "lock") {
                let content = fs_err::read(&path)?;
                locks.push((path, content));
            }
        }
    }
    Ok(locks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_older_system_knows_no_security_updates_and_is_otherwise_the_same() -> Result<()> {
        let project = tempfile::tempdir()?;
        let path = project.path().join("profiles/base.toml");
        fs_err::create_dir(project.path().join("profiles"))?;
        fs_err::copy(workspace().join("profiles/base.toml"), &path)?;
        without_security(project.path())?;
        let profile: toml::Table = fs_err::read_to_string(&path)?.parse()?;
        assert_eq!(profile["archive"].as_array().map(Vec::len), Some(1));
        assert!(profile["packages"]["include"].as_array().is_some_and(|packages| packages.len() > 10));
        Ok(())
    }
}
