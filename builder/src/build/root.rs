//! The root tree: composed, configured, finished with overlays.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::appliance::Programs;
use super::kernel::KernelStage;
use super::{EPOCH, Layered};
use crate::namespace::{OverlayMount, RootTree, Sandbox};
use crate::overlay;
use crate::path_glob;
use crate::profile::Profile;
use crate::recipe::Recipe;
use crate::session::Session;
use crate::store::Bucket;
use crate::tree::{self, PathFilter, UnpackedPackage};

/// Raise one of these when its stage gives another result from the same inputs.
const COMPOSE_REVISION: u32 = 3;
const CONFIGURE_REVISION: u32 = 2;
const OVERLAY_REVISION: u32 = 1;
const FINISH_REVISION: u32 = 1;

/// The packages, joined, without what the profile excludes. Those of the hardware have no part in it: no
/// script of another package looks at them, so nobody has to wait until they are unpacked.
pub(super) fn composed(session: &Session, profile: &Profile, packages: &[UnpackedPackage]) -> anyhow::Result<Layered> {
    let provided: Vec<_> = profile.packages.provided.iter().cloned().collect();
    let mut compose = Recipe::new("compose", COMPOSE_REVISION);
    for package in packages {
        compose.hash(&package.name, &package.sha256);
    }
    for (name, list) in [("exclude", &profile.exclude), ("keep", &profile.keep), ("provided", &provided)] {
        compose.field(name, list.join("\n"));
    }
    let tree = session.store.entry(Bucket::Trees, &compose, |into| {
        let filter = PathFilter::new(&profile.exclude, &profile.keep)?;
        session.progress.step("Composing", || tree::compose(packages, &filter, Some(&provided), into))
    })?;
    Ok(Layered { folders: vec![tree], written: Vec::new(), key: compose.key() })
}

/// The composed packages, configured by dpkg, without what the profile removes.
pub(super) fn configured(session: &Session, profile: &Profile, composed: &Layered) -> anyhow::Result<Layered> {
    let store = &session.store;
    let mut configure = Recipe::new("configure", CONFIGURE_REVISION);
    configure.hash("tree", &composed.key).field("remove", profile.remove.join("\n"));
    configure.field("drop-setuid", profile.drop_setuid.join("\n"));
    let configured = store.entry(Bucket::Configured, &configure, |into| {
        let scratch = store.scratch("configure")?;
        let upper = into.join("upper");
        let configure = || tree::configure(&composed.folders, EPOCH, scratch.path(), &upper);
        session.progress.step("Configuring", configure)?;
        finish_packages(&composed.folders, &upper, profile, scratch.path())
    })?;
    let upper = configured.join("upper");
    let folders = [upper.clone()].into_iter().chain(composed.folders.iter().cloned());
    Ok(Layered { folders: folders.collect(), written: vec![upper], key: configure.key() })
}

/// Takes from the configured packages what the profile does not want; the changes are recorded in `upper`.
fn finish_packages(lowers: &[PathBuf], upper: &Path, profile: &Profile, scratch: &Path) -> anyhow::Result<()> {
    let merged = scratch.join("merged");
    fs_err::create_dir(&merged)?;
    let work = scratch.join("remove");
    fs_err::create_dir(&work)?;
    let mount = OverlayMount::new(lowers, Some((upper, &work)), &merged)?;
    remove(mount.path(), &profile.remove)?;
    drop_setuid(mount.path(), &profile.drop_setuid)
}

fn remove(root: &Path, paths: &[String]) -> anyhow::Result<()> {
    for path in paths {
        let path = root.join(path.trim_start_matches('/'));
        match path.symlink_metadata() {
            Err(_) => {}
            Ok(metadata) if metadata.is_dir() => fs_err::remove_dir_all(&path)?,
            Ok(_) => fs_err::remove_file(&path)?,
        }
    }
    Ok(())
}

/// Takes the set-user-id and set-group-id bits from the files that the globs match.
fn drop_setuid(root: &Path, globs: &[String]) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let globs = path_glob::set(globs)?;
    for entry in walkdir::WalkDir::new(root) {
        let entry = entry?;
        if entry.file_type().is_file() && globs.is_match(entry.path().strip_prefix(root)?) {
            let mode = entry.metadata()?.permissions().mode() & 0o7777;
            if mode & 0o6000 != 0 {
                fs_err::set_permissions(entry.path(), std::fs::Permissions::from_mode(mode & !0o6000))?;
            }
        }
    }
    Ok(())
}

/// The configured tree with modules, firmware, `firstboot` and overlays, and with units enabled as
/// the presets say.
pub(super) fn finished(
    session: &Session,
    configured: &Layered,
    plan: &overlay::Plan,
    kernel: &KernelStage,
    programs: &Programs,
) -> anyhow::Result<Layered> {
    let store = &session.store;
    let mut overlay = Recipe::new("overlay", OVERLAY_REVISION);
    plan.cover(&mut overlay);
    let overlays = store.entry(Bucket::Layers, &overlay, |into| plan.write(into))?;
    let mut finish = Recipe::new("finish", FINISH_REVISION);
    finish
        .hash("configured", &configured.key)
        .hash("overlay", &overlay.key())
        .hash("kernel", &kernel.key)
        .hash("firstboot", &programs.key);
    let below = [overlays, programs.layer.clone(), kernel.root.clone()];
    let lowers: Vec<_> = below.into_iter().chain(configured.folders.iter().cloned()).collect();
    let finished = store.entry(Bucket::Layers, &finish, |into| {
        let scratch = store.scratch("finish")?;
        session.progress.step("Finishing", || apply_presets(&lowers, into, scratch.path()))
    })?;
    let written = [finished.clone(), programs.layer.clone(), kernel.root.clone()];
    Ok(Layered {
        folders: [finished].into_iter().chain(lowers).collect(),
        written: written.into_iter().chain(configured.written.iter().cloned()).collect(),
        key: finish.key(),
    })
}

/// Enables and disables units as the presets of the overlays say, whatever Debian's scripts did.
fn apply_presets(lowers: &[PathBuf], into: &Path, scratch: &Path) -> anyhow::Result<()> {
    let root = RootTree { lowers: lowers.to_vec(), upper: Some((into.to_owned(), scratch.join("work"))) };
    let sandbox = Sandbox::new(root).env("SYSTEMD_OFFLINE", "1").env("SOURCE_DATE_EPOCH", EPOCH.to_string());
    sandbox.command("/usr/bin/systemctl").args(["--root=/", "preset-all"]).run().context("applying the presets")?;
    Ok(())
}
