//! Joining unpacked packages into one tree by hard links.

use std::collections::HashMap;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::database::{self, Control};
use super::filter::PathFilter;
use crate::hash::Hash;
use crate::report::Mistake;

/// A package whose `data/` and `control/` lie unpacked in the store.
#[derive(Debug, Clone)]
pub struct UnpackedPackage {
    /// Debian package name.
    pub name: String,
    /// Debian architecture.
    pub architecture: String,
    /// Digest of the .deb.
    pub sha256: Hash,
    /// The store's folder.
    pub folder: PathBuf,
}

/// Composes `packages` at `into`. With `provided`, dpkg's database is written too, in which those
/// names count as installed; without, the tree is for use as it is (a tools tree).
///
/// # Errors
/// A [`Mistake`] when two packages ship the same file and neither says that it replaces the other.
pub fn compose(
    packages: &[UnpackedPackage],
    filter: &PathFilter,
    provided: Option<&[String]>,
    into: &Path,
) -> anyhow::Result<()> {
    let controls = packages.iter().map(Control::read).collect::<anyhow::Result<Vec<_>>>()?;
    let mut composer = Composer { into, filter, packages, controls: &controls, owners: HashMap::new() };
    let mut lists = Vec::with_capacity(packages.len());
    for (index, package) in packages.iter().enumerate() {
        let added = composer.add(index).with_context(|| format!("adding package {}", package.name))?;
        lists.push(added);
    }
    if let Some(provided) = provided {
        let entries: Vec<_> = packages
            .iter()
            .zip(&controls)
            .zip(lists)
            .map(|((package, control), list)| (package, control, list))
            .collect();
        database::write(into, &entries, provided)?;
        base_tables(into)?;
    }
    Ok(())
}

/// base-passwd's preinst makes these on a fresh system (its postinst only updates them).
fn base_tables(root: &Path) -> anyhow::Result<()> {
    for table in ["passwd", "group"] {
        let master = root.join("usr/share/base-passwd").join(format!("{table}.master"));
        if master.exists() && !root.join("etc").join(table).exists() {
            fs_err::copy(master, root.join("etc").join(table))?;
        }
    }
    Ok(())
}

struct Composer<'a> {
    into: &'a Path,
    filter: &'a PathFilter,
    packages: &'a [UnpackedPackage],
    controls: &'a [Control],
    /// Which package each non-folder came from.
    owners: HashMap<PathBuf, usize>,
}

impl Composer<'_> {
    /// Adds one package; returns all its paths, those filtered out too, as dpkg would list them.
    fn add(&mut self, index: usize) -> anyhow::Result<Vec<PathBuf>> {
        let data = self.packages[index].folder.join("data");
        let mut paths = Vec::new();
        for entry in walkdir::WalkDir::new(&data).min_depth(1).sort_by_file_name() {
            let entry = entry?;
            let path = entry.path().strip_prefix(&data)?.to_owned();
            if self.filter.keeps(&path) {
                if entry.file_type().is_dir() {
                    self.add_folder(&path, entry.path())?;
                } else {
                    self.add_file(index, &path, entry.path())?;
                }
            }
            paths.push(path);
        }
        Ok(paths)
    }

    fn add_folder(&self, path: &Path, source: &Path) -> anyhow::Result<()> {
        let target = self.into.join(path);
        // A folder that another package made first keeps its mode, as with dpkg; a symlink to a folder stays one.
        if target.is_dir() {
            return Ok(());
        }
        fs_err::create_dir_all(&target)?;
        let metadata = fs_err::metadata(source)?;
        std::os::unix::fs::chown(&target, Some(metadata.uid()), Some(metadata.gid()))
            .with_context(|| format!("setting the owner of {}", target.display()))?;
        fs_err::set_permissions(&target, PermissionsExt::from_mode(metadata.mode() & 0o7777))?;
        Ok(())
    }

    fn add_file(&mut self, index: usize, path: &Path, source: &Path) -> anyhow::Result<()> {
        let target = self.into.join(path);
        if let Some(&other) = self.owners.get(path) {
            if self.replaces(other, index) {
                return Ok(());
            }
            if !self.replaces(index, other) {
                let (one, two) = (&self.packages[other].name, &self.packages[index].name);
                return Err(Mistake::new(format!(
                    "/{} is in {one} and in {two}, and neither replaces the other",
                    path.display()
                ))
                .hint("forbid one of the two packages, or exclude the path in the profile's `files.exclude`")
                .into());
            }
            fs_err::remove_file(&target)?;
        } else if let Some(parent) = target.parent() {
            fs_err::create_dir_all(parent)?;
        }
        // Symlinks are linked as themselves: linkat(2) without AT_SYMLINK_FOLLOW.
        fs_err::hard_link(source, &target)?;
        self.owners.insert(path.to_owned(), index);
        Ok(())
    }

    fn replaces(&self, newer: usize, older: usize) -> bool {
        self.controls[newer].replaces.contains(&self.packages[older].name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(store: &Path, name: &str, control: &str, files: &[(&str, &str)]) -> UnpackedPackage {
        let folder = store.join(name);
        fs_err::create_dir_all(folder.join("control")).unwrap();
        fs_err::write(folder.join("control/control"), format!("Package: {name}\nVersion: 1\n{control}")).unwrap();
        fs_err::write(folder.join("control/postinst"), "#!/bin/sh\n").unwrap();
        for (path, text) in files {
            let path = folder.join("data").join(path);
            fs_err::create_dir_all(path.parent().unwrap()).unwrap();
            fs_err::write(path, text).unwrap();
        }
        UnpackedPackage { name: name.to_owned(), architecture: "amd64".to_owned(), sha256: Hash::of(name), folder }
    }

    #[test]
    fn a_composed_tree_holds_every_file_and_a_database_of_unpacked_packages() {
        let store = tempfile::tempdir().unwrap();
        let root = tempfile::tempdir().unwrap();
        let packages = [
            package(store.path(), "liba", "Multi-Arch: same\n", &[("usr/lib/liba.so", "a")]),
            package(store.path(), "tool", "", &[("usr/bin/tool", "t"), ("usr/share/doc/tool/README", "r")]),
        ];
        let filter = PathFilter::new(&["usr/share/doc/**".to_owned()], &[]).unwrap();
        compose(&packages, &filter, Some(&["linux-initramfs-tool".to_owned()]), root.path()).unwrap();
        let read = |path: &str| fs_err::read_to_string(root.path().join(path)).unwrap();
        assert_eq!(read("usr/bin/tool"), "t");
        assert!(!root.path().join("usr/share/doc/tool/README").exists());
        assert!(read("var/lib/dpkg/info/tool.list").contains("/usr/share/doc/tool/README"));
        assert!(root.path().join("var/lib/dpkg/info/liba:amd64.postinst").exists());
        insta::assert_snapshot!(read("var/lib/dpkg/status"), @r"
        Package: liba
        Status: install ok unpacked
        Version: 1
        Multi-Arch: same

        Package: tool
        Status: install ok unpacked
        Version: 1

        Package: larder-provided
        Status: install ok installed
        Architecture: all
        Version: 1
        Maintainer: larder
        Provides: linux-initramfs-tool
        Description: what the image builder does itself
        ");
    }

    #[test]
    fn a_file_in_two_packages_needs_one_to_replace_the_other() {
        let store = tempfile::tempdir().unwrap();
        let root = tempfile::tempdir().unwrap();
        let old = package(store.path(), "old", "", &[("usr/bin/x", "old")]);
        let new = package(store.path(), "new", "Replaces: old (<< 2)\n", &[("usr/bin/x", "new")]);
        let rude = package(store.path(), "rude", "", &[("usr/bin/x", "rude")]);
        compose(&[new, old.clone()], &PathFilter::everything(), None, root.path()).unwrap();
        assert_eq!(fs_err::read_to_string(root.path().join("usr/bin/x")).unwrap(), "new");
        let other = tempfile::tempdir().unwrap();
        let error = compose(&[old, rude], &PathFilter::everything(), None, other.path()).unwrap_err();
        assert!(crate::report::render(&error).contains("/usr/bin/x is in old and in rude"));
    }
}
