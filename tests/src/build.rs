//! The larder program and the image under test, both fresh.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context as _, Result, bail, ensure};
use fs_err::File;

/// The version is fixed so that the image's name is known; what is in it does not depend on the name.
const VERSION: &str = "0.1.0";

/// The image of the profile `qemu`.
///
/// Every test binary asks `larder build` for it: the builder's own cache knows best whether anything has changed. A
/// lock keeps two from building at the same time.
pub fn image() -> Result<PathBuf> {
    static IMAGE: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let built = IMAGE.get_or_init(|| build_image().map_err(|error| format!("{error:#}")));
    built.clone().map_err(anyhow::Error::msg)
}

fn build_image() -> Result<PathBuf> {
    // An empty variable is as good as none.
    if let Some(image) = std::env::var_os("LARDER_TEST_IMAGE").filter(|image| !image.is_empty()) {
        return Ok(image.into());
    }
    let out = target_folder()?.join("vm-image");
    fs_err::create_dir_all(&out)?;
    let lock = File::create(out.join(".lock"))?;
    lock.file().lock().context("waiting for another build of the test image")?;
    let mut build = Command::new(larder()?);
    build.args(["build", "--profile", "qemu", "--version", VERSION, "--out"]).arg(&out).current_dir(workspace());
    run(&mut build)?;
    let image = out.join(format!("larder-qemu-{VERSION}.img"));
    ensure!(image.exists(), "`larder build` has left no {}", image.display());
    Ok(image)
}

/// The larder program, built with the profile of the running test.
///
/// Cargo gives tests the paths of the binaries of their own package only; so it is asked again. That costs a moment
/// when nothing has changed, and the build directory is not locked while tests run.
pub fn larder() -> Result<PathBuf> {
    static LARDER: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let built = LARDER.get_or_init(|| build_larder().map_err(|error| format!("{error:#}")));
    built.clone().map_err(anyhow::Error::msg)
}

fn build_larder() -> Result<PathBuf> {
    let folder = profile_folder()?;
    let profile = match folder.file_name().and_then(|name| name.to_str()) {
        Some("debug") => "dev",
        Some(profile) => profile,
        None => bail!("{} is no folder of a cargo profile", folder.display()),
    };
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    // Of the whole workspace: what a package is compiled with depends on which others are, and `cargo test --workspace` has
    // compiled everything like this already.
    build.args(["build", "--quiet", "--workspace", "--bin", "larder", "--profile", profile]);
    build.arg("--target-dir").arg(target_folder()?).current_dir(workspace());
    run(&mut build)?;
    Ok(folder.join("larder"))
}

pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("starting {command:?}"))?;
    ensure!(status.success(), "{command:?} failed ({status})");
    Ok(())
}

/// `target/debug` or `target/release`: test binaries are in its `deps`, others directly in it.
fn profile_folder() -> Result<PathBuf> {
    let program = std::env::current_exe().context("looking for the running program")?;
    let folder = program.parent().map(|folder| if folder.ends_with("deps") { folder.parent() } else { Some(folder) });
    folder
        .flatten()
        .map(Path::to_owned)
        .with_context(|| format!("{} is not where cargo puts programs", program.display()))
}

/// `target`.
pub fn target_folder() -> Result<PathBuf> {
    let folder = profile_folder()?;
    folder.parent().map(Path::to_owned).with_context(|| format!("{} has no parent", folder.display()))
}

/// The sources.
pub fn workspace() -> &'static Path {
    const TESTS: &str = env!("CARGO_MANIFEST_DIR");
    Path::new(TESTS).parent().unwrap_or(Path::new(TESTS))
}
