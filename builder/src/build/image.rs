//! From the finished root tree to the parts of an image.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread;

use anyhow::Context as _;
use firstboot::verity::{RootHash, Tree};
use uuid::Uuid;

use super::describe::{self, Sbom};
use super::{EPOCH, RootStages, join};
use crate::image::output::Input;
use crate::initrd;
use crate::namespace::OverlayMount;
use crate::profile::Profile;
use crate::recipe::Recipe;
use crate::session::Session;
use crate::store::{Bucket, Scratch};

/// Raise one of these when its stage gives another result from the same inputs.
const ROOT_REVISION: u32 = 1;
const INITRD_REVISION: u32 = 2;
const UKI_REVISION: u32 = 2;

/// systemd-boot in the tools tree `image`.
pub(super) const BOOT_LOADER: &str = "usr/lib/systemd/boot/efi/systemd-bootx64.efi";
/// Where ukify finds the microcode.
const MICROCODE: &str = "/input/microcode";
const STUB: &str = "/usr/lib/systemd/boot/efi/linuxx64.efi.stub";

/// What an image is made from.
#[derive(Debug)]
pub(super) struct Inputs<'a> {
    pub(super) session: &'a Session,
    pub(super) profile: &'a Profile,
    pub(super) stages: &'a RootStages,
}

/// Files in the store from which the image is put together.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) root: PathBuf,
    pub(super) verity: PathBuf,
    pub(super) root_hash: RootHash,
    pub(super) uki: PathBuf,
    pub(super) files: PathBuf,
    pub(super) sbom: Sbom,
    pub(super) inputs: Vec<Input>,
}

impl Parts {
    /// The parts are in the output by themselves, in the image, and compressed at worst by nothing.
    pub(super) fn room_for_outputs(&self) -> std::io::Result<u64> {
        let sizes = [&self.root, &self.verity, &self.uki].map(|path| fs_err::metadata(path).map(|file| file.len()));
        Ok(3 * sizes.into_iter().sum::<std::io::Result<u64>>()?)
    }

    /// Whether the parts are still what was made; what is not is removed from the store.
    pub(super) fn are_sound(&self, session: &Session) -> anyhow::Result<bool> {
        let sound = self.inputs.iter().filter(|input| ["root", "uki"].contains(&&*input.name));
        let sound = sound.map(|input| session.store.is_sound(Bucket::Images, &input.key));
        Ok(sound.collect::<anyhow::Result<Vec<_>>>()?.into_iter().all(|sound| sound))
    }
}

/// Root file system, hash tree, initrd and UKI, and what is told about them.
pub(super) fn parts(inputs: &Inputs<'_>) -> anyhow::Result<Parts> {
    let store = &inputs.session.store;
    let merged = MergedRoot::default();
    let mut erofs = Recipe::new("erofs", ROOT_REVISION);
    erofs.hash("root", &inputs.stages.root.key).hash("tools", &inputs.stages.tools.key);
    let mut cpio = Recipe::new("initrd", INITRD_REVISION);
    cpio.hash("kernel", &inputs.stages.kernel.key).hash("firstboot", &inputs.stages.programs.key);
    let (root, initrd, list) = thread::scope(|threads| {
        let initrd = threads.spawn(|| store.entry(Bucket::Initrd, &cpio, |into| write_initrd(inputs, into)));
        let list = threads.spawn(|| describe::file_list(inputs, || merged.path(inputs)));
        let root = store.entry(Bucket::Images, &erofs, |into| write_root(inputs, &merged.path(inputs)?, into));
        anyhow::Ok((root?, join(initrd)?, join(list)?))
    })?;
    let (files, file_list) = list;
    let root_hash: RootHash = fs_err::read_to_string(root.join("root.hash"))?.trim().parse()?;

    let command_line = inputs.profile.kernel.command_line.join(" ") + &format!(" roothash={root_hash}");
    let mut unified = Recipe::new("uki", UKI_REVISION);
    unified
        .hash("initrd", &cpio.key())
        .hash("kernel", &inputs.stages.kernel.key)
        .hash("tools", &inputs.stages.tools.key)
        .field("command-line", &command_line);
    let uki = store.entry(Bucket::Images, &unified, |into| {
        let release = merged.path(inputs)?.join("usr/lib/os-release");
        inputs.session.progress.step("UKI", || write_uki(inputs, &initrd.join("initrd"), &release, &command_line, into))
    })?;
    let sbom = describe::sbom(inputs, root_hash)?;
    let stages = [
        ("root", erofs.key()),
        ("initrd", cpio.key()),
        ("uki", unified.key()),
        ("kernel", inputs.stages.kernel.key),
        ("tools", inputs.stages.tools.key),
        ("files", file_list),
        ("sbom", sbom.key),
    ];
    Ok(Parts {
        verity: root.join("root.verity"),
        root: root.join("root.erofs"),
        root_hash,
        uki: uki.join("uki.efi"),
        files,
        sbom,
        inputs: stages.map(|(name, key)| Input { name: name.to_owned(), key }).to_vec(),
    })
}

/// The finished root, mounted when the first stage wants to read it, for as long as stages run.
#[derive(Debug, Default)]
struct MergedRoot {
    /// The mount first, so that it is gone when its folder is removed.
    mounted: Mutex<Option<(OverlayMount, Scratch)>>,
}

impl MergedRoot {
    fn path(&self, inputs: &Inputs<'_>) -> anyhow::Result<PathBuf> {
        let mut mounted = self.mounted.lock().unwrap_or_else(PoisonError::into_inner);
        if mounted.is_none() {
            let scratch = inputs.session.store.scratch("merged")?;
            let mount = OverlayMount::new(&inputs.stages.root.folders, None, scratch.path())?;
            *mounted = Some((mount, scratch));
        }
        mounted.as_ref().map(|(mount, _)| mount.path().to_owned()).context("the merged root is not mounted")
    }
}

/// `root.erofs`, `root.verity` and `root.hash`.
fn write_root(inputs: &Inputs<'_>, merged: &Path, into: &Path) -> anyhow::Result<()> {
    let image = into.join("root.erofs");
    let id = Uuid::new_v5(&Uuid::NAMESPACE_OID, inputs.stages.root.key.as_bytes());
    let sandbox = inputs.stages.tools.sandbox_with(into).bind(merged, Path::new("/root-tree"));
    let workers = std::thread::available_parallelism()?;
    inputs.session.progress.step("erofs", || {
        sandbox
            .command("mkfs.erofs")
            .args(["--quiet", "--all-time", &format!("-T{EPOCH}"), &format!("-U{id}"), &format!("--workers={workers}")])
            .arg(&image)
            .arg("/root-tree")
            .run()
    })?;
    let data = fs_err::File::open(&image)?;
    let tree = fs_err::OpenOptions::new().read(true).write(true).create_new(true).open(into.join("root.verity"))?;
    let root_hash = inputs.session.progress.step("verity", || Ok(Tree::write(data.file(), tree.file(), id)?))?;
    fs_err::write(into.join("root.hash"), format!("{root_hash}\n"))?;
    Ok(())
}

fn write_initrd(inputs: &Inputs<'_>, into: &Path) -> anyhow::Result<()> {
    let (init, modules) = (&inputs.stages.programs.init, &inputs.stages.kernel.initrd);
    inputs.session.progress.step("initrd", || initrd::assemble(init, modules, &into.join("initrd")))
}

fn write_uki(
    inputs: &Inputs<'_>,
    initrd: &Path,
    release: &Path,
    command_line: &str,
    into: &Path,
) -> anyhow::Result<()> {
    let out = into.join("uki.efi");
    let sandbox = inputs
        .stages
        .tools
        .sandbox_with(into)
        .bind(&inputs.stages.kernel.vmlinuz, Path::new("/input/linux"))
        .bind(initrd, Path::new("/input/initrd"))
        .bind(release, Path::new("/input/os-release"))
        .env("SOURCE_DATE_EPOCH", EPOCH.to_string());
    let (sandbox, microcode) = match &inputs.stages.kernel.microcode {
        Some(archive) => (sandbox.bind(archive, Path::new(MICROCODE)), Some(format!("--microcode={MICROCODE}"))),
        None => (sandbox, None),
    };
    sandbox
        .command("ukify")
        .args(["build", "--linux=/input/linux", "--initrd=/input/initrd", "--os-release=@/input/os-release"])
        .args(microcode)
        .arg(format!("--uname={}", inputs.stages.kernel.version))
        .arg(format!("--cmdline={command_line}"))
        .arg(format!("--stub={STUB}"))
        .arg(format!("--output={}", out.display()))
        .run()?;
    Ok(())
}
