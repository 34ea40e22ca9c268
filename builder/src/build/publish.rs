//! From the parts of an image to the output folder.

use std::path::Path;
use std::thread;
use std::time::Instant;

use anyhow::Context as _;
use indicatif::HumanBytes;

use super::{Built, Explanation, Stages, budget, join};
use crate::hash::HashingWriter;
use crate::image::gpt::Layout;
use crate::image::output::{Artifact, Manifest, Output, OutputFile, Package, SCHEMA, Staging};
use crate::image::{compress, disk, sparse};
use crate::recipe::Recipe;
use crate::report;
use crate::session::Session;
use crate::store::Outcome;

/// Raise when the same manifest comes with other files, for a reason that no other revision covers.
const REVISION: u32 = 1;

/// systemd-boot's own settings (loader.conf(5)).
const LOADER_CONF: &str = "# The newest system that still has tries left starts by itself; hold a key for the menu.\n\
    timeout 0\n\
    editor no\n";

/// Assembles the disk image at `path`; `None` as in [`publish`].
pub(super) fn build_disk(session: &Session, stages: &Stages, path: &Path) -> anyhow::Result<Option<()>> {
    if !stages.parts.are_sound(session)? {
        return Ok(None);
    }
    assemble(session, stages, path).map(Some)
}

fn assemble(session: &Session, stages: &Stages, path: &Path) -> anyhow::Result<()> {
    let parts = disk::Parts {
        version: &stages.version,
        root_erofs: &stages.parts.root,
        root_verity: &stages.parts.verity,
        root_hash: stages.parts.root_hash,
        uki: &stages.parts.uki,
        boot_loader: &stages.boot_loader,
        loader_conf: LOADER_CONF,
    };
    session.progress.step("Image", || disk::assemble(&parts, path))
}

/// Fills the output folder, unless it holds this very build. `None` when parts of the image were damaged in
/// the store since they were made: as they would become something that lasts, they are read before. They are
/// gone then, and the stages must run again.
pub(super) fn publish(session: &Session, stages: &Stages, out: &Path) -> anyhow::Result<Option<Built>> {
    fill(session, stages, out).map_err(|error| {
        let room = stages.parts.room_for_outputs().map(|size| format!("up to {}", HumanBytes(size)));
        let room = room.unwrap_or_else(|_| "some room".to_owned());
        let hint = format!("the output takes {room}; name a folder that has it and that you may write to: --out DIR");
        report::blame_disk(error, out, hint)
    })
}

fn fill(session: &Session, stages: &Stages, out: &Path) -> anyhow::Result<Option<Built>> {
    let output = Output::open(out, &stages.profile.name, &stages.version, &session.progress)?;
    let mut manifest = manifest(stages);
    let recipe = recipe(&manifest, stages)?;
    let image = out.join(output.file_name(Artifact::Image));
    if let Some(published) = output.published(&session.store, &recipe.key()) {
        session.progress.note(format!("{:>12} {}", "Unchanged", image.display()));
        session.store.used(&recipe, Outcome::Found);
        manifest = published;
        check_budget(stages, &output, &manifest)?;
    } else {
        if !stages.parts.are_sound(session)? {
            return Ok(None);
        }
        let start = Instant::now();
        let staging = output.stage()?;
        manifest.files = write(session, stages, &staging)?;
        check_budget(stages, &output, &manifest)?;
        staging.publish(&manifest, &session.store, &recipe.key())?;
        session.store.used(&recipe, Outcome::Made(start.elapsed()));
    }
    let explanation = Explanation::of_build(&session.store, &session.subject(&stages.profile.name));
    Ok(Some(Built { image, manifest, explanation }))
}

fn check_budget(stages: &Stages, output: &Output, manifest: &Manifest) -> anyhow::Result<()> {
    let name = output.file_name(Artifact::CompressedImage);
    let compressed = manifest.files.iter().find(|file| file.name == name);
    Ok(compressed.map_or(Ok(()), |file| budget::check_compressed(&stages.profile, file.size))?)
}

/// The manifest as it can be told before there are files.
fn manifest(stages: &Stages) -> Manifest {
    let packages = stages.lock.packages.iter().zip(&stages.parts.sbom.facts).map(|(package, facts)| Package {
        name: package.name.clone(),
        version: package.version.clone(),
        architecture: package.architecture.clone(),
        sha256: package.sha256,
        size: package.size,
        location: package.source.clone(),
        installed_size: facts.installed_size,
        source: facts.source.clone(),
    });
    Manifest {
        schema: SCHEMA,
        profile: stages.profile.name.clone(),
        version: stages.version.clone(),
        snapshot: stages.lock.snapshot.to_string(),
        root_hash: stages.parts.root_hash,
        kernel: stages.kernel.clone(),
        zfs: stages.zfs.clone(),
        packages: packages.collect(),
        files: Vec::new(),
        inputs: stages.parts.inputs.clone(),
    }
}

/// All that the files of a build follow from.
fn recipe(manifest: &Manifest, stages: &Stages) -> anyhow::Result<Recipe> {
    let mut recipe = Recipe::new("image", REVISION);
    for input in &manifest.inputs {
        recipe.hash(&input.name, &input.key);
    }
    let root_size = fs_err::metadata(&stages.parts.root)?.len();
    let layout = Layout::new(&stages.version, &stages.parts.root_hash, root_size);
    // The boot loader is a file of the tools tree.
    recipe
        .field("loader.conf", LOADER_CONF)
        .field("disk", disk::REVISION.to_string())
        .field("layout", format!("{layout:?}"))
        .field("compression", compress::parameters())
        .field("manifest", serde_json::to_vec(manifest).context("encoding the manifest")?);
    Ok(recipe)
}

/// Makes every artifact and returns what the manifest says of them.
///
/// Three things take time: to hash the image from its start to its end, which is one core's work; to
/// compress it, which is everyone's; and the disk. So they are done side by side, and whoever has written a
/// file waits for the disk by itself.
fn write(session: &Session, stages: &Stages, staging: &Staging<'_>) -> anyhow::Result<Vec<OutputFile>> {
    let parts = &stages.parts;
    let copies = [
        (Artifact::Uki, &parts.uki),
        (Artifact::Root, &parts.root),
        (Artifact::Verity, &parts.verity),
        (Artifact::Sbom, &parts.sbom.document),
        (Artifact::FileList, &parts.files),
    ];
    thread::scope(|threads| {
        let copied = threads.spawn(|| copies.map(|(artifact, source)| copy(staging, artifact, source)));
        assemble(session, stages, &staging.path(Artifact::Image))?;
        session.progress.step("Publishing", || {
            let synced = threads.spawn(|| staging.sync(Artifact::Image));
            let hashed = threads.spawn(|| staging.describe(Artifact::Image));
            let compressed = compress(session, staging)?;
            join(synced)?;
            let mut files = vec![join(hashed)?, compressed];
            for copy in join(copied) {
                files.push(copy?);
            }
            Ok(files)
        })
    })
}

fn copy(staging: &Staging<'_>, artifact: Artifact, source: &Path) -> anyhow::Result<OutputFile> {
    let target = fs_err::File::create(staging.path(artifact))?;
    sparse::copy(fs_err::File::open(source)?.file(), target.file(), 0)
        .with_context(|| format!("copying {} to the output", source.display()))?;
    let described = staging.describe(artifact)?;
    staging.sync(artifact)?;
    Ok(described)
}

fn compress(session: &Session, staging: &Staging<'_>) -> anyhow::Result<OutputFile> {
    let image = fs_err::File::open(staging.path(Artifact::Image))?;
    let mut target = HashingWriter::new(fs_err::File::create(staging.path(Artifact::CompressedImage))?);
    let bar = session.progress.bytes("compress", image.metadata()?.len());
    compress::compress(image.file(), &mut target, &bar)?;
    bar.finish_and_clear();
    let (_, sha256) = target.finish();
    staging.sync(Artifact::CompressedImage)?;
    staging.entry(Artifact::CompressedImage, sha256)
}
