//! The programs for the image, `firstboot` and the initrd's `/init`: static binaries, compiled from the sources in the
//! project, or else from those that larder itself was compiled from.
//!
//! Their bytes depend on the sources and the toolchain (`rust-toolchain.toml`) alone: paths of this machine
//! are replaced by fixed ones, and the linker is the toolchain's own, as every host has another `ld`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;
use serde::Deserialize;

use crate::hash::Hash;
use crate::recipe::Recipe;
use crate::report::{self, Mistake};
use crate::sbom::crates::{self, Crate};
use crate::session::Session;
use crate::store::{Bucket, Store};

/// Static, so that the program depends on nothing in the image.
const TARGET: &str = "x86_64-unknown-linux-musl";
/// Raise when the same sources give another program.
const REVISION: u32 = 3;
/// Raise when the same sources give another list of crates.
const CRATES_REVISION: u32 = 1;
/// Name of the list within its entry.
const CRATES: &str = "crates.json";

/// The programs for the appliance.
#[derive(Debug)]
pub(super) struct Programs {
    sources: PathBuf,
    /// Layer of the root that holds `usr/bin/firstboot`.
    pub(super) layer: PathBuf,
    /// `/init` of the initrd.
    pub(super) init: PathBuf,
    /// Digest of what they are compiled from.
    pub(super) key: Hash,
}

/// Compiles the programs, when they are not in the store.
pub(super) fn programs(session: &Session) -> anyhow::Result<Programs> {
    let compiled_from = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the sources have no top folder")?;
    let has_sources = |folder: &Path| folder.join("firstboot/Cargo.toml").is_file();
    let sources = if has_sources(session.project.root()) { session.project.root() } else { compiled_from };
    if !has_sources(sources) {
        return Err(Mistake::new(format!("{}: the sources of `firstboot` are gone", sources.display()))
            .hint("run larder from a checkout of its repository: cargo run --release -- build ...")
            .into());
    }
    let sources = &fs_err::canonicalize(sources)?;
    let recipe = recipe(sources)?;
    let folder = session.store.entry(Bucket::Firstboot, &recipe, |into| {
        let compiled =
            session.progress.step("firstboot", || compile(sources, &session.store.until_restart("cargo")?))?;
        fs_err::create_dir_all(into.join("root/usr/bin"))?;
        fs_err::copy(compiled.join("firstboot"), into.join("root/usr/bin/firstboot"))?;
        fs_err::copy(compiled.join("firstboot-initrd"), into.join("init"))?;
        Ok(())
    })?;
    let (layer, init) = (folder.join("root"), folder.join("init"));
    Ok(Programs { sources: sources.to_owned(), layer, init, key: recipe.key() })
}

impl Programs {
    /// What they are linked from, their own crate first.
    pub(super) fn crates(&self, store: &Store) -> anyhow::Result<Vec<Crate>> {
        let mut recipe = Recipe::new("crates", CRATES_REVISION);
        recipe.hash("firstboot", &self.key);
        let folder = store.entry(Bucket::Firstboot, &recipe, |into| {
            Ok(fs_err::write(into.join(CRATES), serde_json::to_vec(&self.read_crates()?)?)?)
        })?;
        serde_json::from_slice(&fs_err::read(folder.join(CRATES))?).context("reading the list of crates")
    }

    fn read_crates(&self) -> anyhow::Result<Vec<Crate>> {
        let output = cargo(&self.sources)
            // Crates that run at compile time only (macros, build scripts) are not in a program.
            .args(["tree", "--locked", "--package", "firstboot", "--edges", "normal,no-proc-macro"])
            .args(["--target", TARGET, "--prefix", "depth", "--format", crates::TREE_FORMAT])
            .output()
            .context("starting cargo")?;
        let said = String::from_utf8_lossy(&output.stderr);
        anyhow::ensure!(output.status.success(), "`cargo tree` failed:\n{}", said.trim_end());
        let lock = fs_err::read_to_string(self.sources.join("Cargo.lock"))?;
        crates::read(&String::from_utf8_lossy(&output.stdout), &lock)
    }

    /// Version of the Rust that compiles them.
    pub(super) fn toolchain(&self) -> anyhow::Result<String> {
        let text = fs_err::read_to_string(self.sources.join("rust-toolchain.toml"))?;
        let file: toml::Table = text.parse().context("reading rust-toolchain.toml")?;
        let channel = file.get("toolchain").and_then(|toolchain| toolchain.get("channel")?.as_str());
        Ok(channel.context("rust-toolchain.toml names no channel")?.to_owned())
    }
}

/// All files that the programs are compiled from.
fn recipe(sources: &Path) -> anyhow::Result<Recipe> {
    let mut recipe = Recipe::new("firstboot", REVISION);
    for name in ["Cargo.toml", "Cargo.lock", "rust-toolchain.toml"] {
        recipe.field(name, fs_err::read(sources.join(name))?);
    }
    for entry in walkdir::WalkDir::new(sources.join("firstboot")).sort_by_file_name() {
        let entry = entry?;
        if entry.file_type().is_file() {
            let path = entry.path().strip_prefix(sources)?;
            recipe.field(&path.to_string_lossy(), fs_err::read(entry.path())?);
        }
    }
    Ok(recipe)
}

/// Gives the folder of the binaries.
fn compile(sources: &Path, target_folder: &Path) -> anyhow::Result<PathBuf> {
    ensure_target(sources)?;
    let flags = rust_flags(sources)?;
    let output = cargo(sources)
        .args(["build", "--locked", "--profile", "appliance", "--target", TARGET, "--package", "firstboot", "--bins"])
        .arg("--target-dir")
        .arg(target_folder)
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"))
        .output()
        .context("starting cargo")?;
    if !output.status.success() {
        let what = format!("compiling firstboot for {TARGET}");
        return Err(report::program_failed(&what, output.status, &output.stderr));
    }
    Ok(target_folder.join(TARGET).join("appliance"))
}

/// No path of this machine may reach the image, and none of its programs decide about it.
fn rust_flags(sources: &Path) -> anyhow::Result<Vec<String>> {
    let mut paths = vec![(sources.to_owned(), "/larder".to_owned()), (cargo_home()?, "/cargo".to_owned())];
    // Crates of a registry lie in a folder that is named after its address; later prefixes win (rustc's book).
    paths.extend(crate_folders(sources)?.into_iter().map(|folder| (folder, "/crates".to_owned())));
    // Where the component `rust-src` is installed, rustc names its files instead of those that it was built from.
    let says = |args: &[&str]| Ok::<_, anyhow::Error>(String::from_utf8(rustc(sources, args)?.stdout)?);
    let sysroot = PathBuf::from(says(&["--print", "sysroot"])?.trim());
    let version = says(&["--version", "--verbose"])?;
    let commit = version.lines().find_map(|line| line.strip_prefix("commit-hash: ")).unwrap_or_default();
    paths.push((sysroot.join("lib/rustlib/src/rust"), format!("/rustc/{commit}")));
    let remap = paths.into_iter().map(|(from, to)| format!("--remap-path-prefix={}={to}", from.display()));
    Ok(remap.chain(["-Clinker=rust-lld".to_owned()]).collect())
}

/// The folders in which the sources of other people's crates lie; cargo fetches what is not there.
fn crate_folders(sources: &Path) -> anyhow::Result<BTreeSet<PathBuf>> {
    let output = cargo(sources)
        .args(["metadata", "--locked", "--format-version", "1", "--filter-platform", TARGET])
        .output()
        .context("starting cargo")?;
    if !output.status.success() {
        return Err(report::program_failed("`cargo metadata`", output.status, &output.stderr));
    }
    let metadata: Metadata = serde_json::from_slice(&output.stdout).context("reading cargo's metadata")?;
    let others = metadata.packages.iter().filter(|package| package.source.is_some());
    Ok(others.filter_map(|package| package.manifest_path.ancestors().nth(2)).map(Path::to_owned).collect())
}

/// The part of `cargo metadata` that says where crates lie.
#[derive(Debug, Deserialize)]
struct Metadata {
    packages: Vec<MetadataPackage>,
}

#[derive(Debug, Deserialize)]
struct MetadataPackage {
    /// Absent for crates of the project.
    source: Option<String>,
    manifest_path: PathBuf,
}

/// Runs the project's rustc.
fn rustc(sources: &Path, args: &[&str]) -> anyhow::Result<std::process::Output> {
    let output = Command::new("rustc").args(args).current_dir(sources).output();
    output.map_err(|error| {
        Mistake::new("`rustc` cannot be run").because(error).hint("install Rust: https://rustup.rs").into()
    })
}

/// Adds Rust's standard library for the appliance's target when the toolchain of `sources` lacks it:
/// rustup brings what rust-toolchain.toml names only where it may install by itself.
///
/// # Errors
/// A [`Mistake`] that names the command to run.
pub fn ensure_target(sources: &Path) -> anyhow::Result<()> {
    let output = rustc(sources, &["--print", "target-libdir", "--target", TARGET])?;
    let folder = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    if output.status.success() && folder.is_dir() {
        return Ok(());
    }
    let added = Command::new("rustup").args(["target", "add", TARGET]).current_dir(sources).output();
    if added.is_ok_and(|output| output.status.success()) {
        return Ok(());
    }
    Err(Mistake::new(format!("Rust's standard library for {TARGET} is missing, and rustup could not add it"))
        .hint(format!("run `rustup target add {TARGET}`"))
        .into())
}

fn cargo(sources: &Path) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // What the outer cargo set for larder itself is not for this build.
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("CARGO_PKG_")
            || name.starts_with("CARGO_PROFILE_")
            || ["RUSTFLAGS", "CARGO_TARGET_DIR", "CARGO_BUILD_TARGET"].contains(&&*name)
        {
            command.env_remove(&*name);
        }
    }
    command.current_dir(sources);
    command
}

fn cargo_home() -> anyhow::Result<PathBuf> {
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo"));
    std::env::var_os("CARGO_HOME").map(PathBuf::from).or_else(home).context("neither CARGO_HOME nor HOME is set")
}
