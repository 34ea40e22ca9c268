//! The root tree: composed, configured, finished with overlays.

use std::path::Path;

use anyhow::Context as _;

use super::kernel::KernelStage;
use super::{EPOCH, Layered};
use crate::hash::KeyBuilder;
use crate::lock::Lock;
use crate::namespace::{OverlayMount, RootTree, Sandbox};
use crate::overlay;
use crate::profile::Profile;
use crate::session::Session;
use crate::store::Bucket;
use crate::tree::{self, PathFilter, UnpackedPackage};

/// Raise one of these when its stage gives another result from the same inputs.
const COMPOSE_REVISION: u32 = 2;
const CONFIGURE_REVISION: u32 = 1;
const OVERLAY_REVISION: u32 = 1;
const FINISH_REVISION: u32 = 1;

/// The packages, joined and configured by dpkg, without what the profile removes.
pub(super) fn configured(
    session: &Session,
    profile: &Profile,
    lock: &Lock,
    packages: &[UnpackedPackage],
) -> anyhow::Result<Layered> {
    let store = &session.store;
    let provided: Vec<_> = profile.packages.provided.iter().cloned().collect();
    let mut key = KeyBuilder::new("compose", COMPOSE_REVISION);
    for package in &lock.packages {
        key.hash(&package.name, &package.sha256);
    }
    for (name, list) in [("exclude", &profile.exclude), ("keep", &profile.keep), ("provided", &provided)] {
        key.field(name, list.join("\n"));
    }
    let tree_key = key.finish();
    let tree = store.entry(Bucket::Trees, &tree_key, |into| {
        let filter = PathFilter::new(&profile.exclude, &profile.keep)?;
        session.progress.step("Composing", || tree::compose(packages, &filter, Some(&provided), into))
    })?;

    let key = KeyBuilder::new("configure", CONFIGURE_REVISION)
        .hash("tree", &tree_key)
        .field("remove", profile.remove.join("\n"))
        .finish();
    let configured = store.entry(Bucket::Configured, &key, |into| {
        let scratch = store.scratch("configure")?;
        let upper = into.join("upper");
        session.progress.step("Configuring", || tree::configure(&tree, EPOCH, scratch.path(), &upper))?;
        remove(&tree, &upper, &profile.remove, scratch.path())
    })?;
    Ok(Layered { folders: vec![configured.join("upper"), tree], key })
}

/// Removes paths from the merged tree; the removal is recorded in `upper`.
fn remove(tree: &Path, upper: &Path, paths: &[String], scratch: &Path) -> anyhow::Result<()> {
    let merged = scratch.join("merged");
    fs_err::create_dir(&merged)?;
    let work = scratch.join("remove");
    fs_err::create_dir(&work)?;
    let mount = OverlayMount::new(&[tree.to_owned()], Some((upper, &work)), &merged)?;
    for path in paths {
        let path = mount.path().join(path.trim_start_matches('/'));
        match path.symlink_metadata() {
            Err(_) => {}
            Ok(metadata) if metadata.is_dir() => fs_err::remove_dir_all(&path)?,
            Ok(_) => fs_err::remove_file(&path)?,
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
    program: &Path,
) -> anyhow::Result<Layered> {
    let store = &session.store;
    let overlay_key = KeyBuilder::new("overlay", OVERLAY_REVISION).hash("plan", &plan.key()).finish();
    let overlays = store.entry(Bucket::Layers, &overlay_key, |into| plan.write(into))?;
    let program_key = program.file_name().context("a stage has no name")?.as_encoded_bytes();
    let key = KeyBuilder::new("finish", FINISH_REVISION)
        .hash("configured", &configured.key)
        .hash("overlay", &overlay_key)
        .hash("kernel", &kernel.key)
        .field("firstboot", program_key)
        .finish();
    let below = [overlays, program.to_owned(), kernel.root.clone()];
    let lowers: Vec<_> = below.into_iter().chain(configured.folders.iter().cloned()).collect();
    let finished = store.entry(Bucket::Layers, &key, |into| {
        let scratch = store.scratch("finish")?;
        session.progress.step("Finishing", || apply_presets(&lowers, into, scratch.path()))
    })?;
    Ok(Layered { folders: [finished].into_iter().chain(lowers).collect(), key })
}

/// Enables and disables units as the presets of the overlays say, whatever Debian's scripts did.
fn apply_presets(lowers: &[std::path::PathBuf], into: &Path, scratch: &Path) -> anyhow::Result<()> {
    let root = RootTree { lowers: lowers.to_vec(), upper: Some((into.to_owned(), scratch.join("work"))) };
    let sandbox = Sandbox::new(root).env("SYSTEMD_OFFLINE", "1").env("SOURCE_DATE_EPOCH", EPOCH.to_string());
    sandbox.command("/usr/bin/systemctl").args(["--root=/", "preset-all"]).run().context("applying the presets")?;
    Ok(())
}
