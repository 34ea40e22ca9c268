//! Kernel, modules, firmware and ZFS of an image.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::EPOCH;
use crate::hash::Hash;
use crate::kernel::firmware::FirmwareIndex;
use crate::kernel::{modules, modules::ModuleTree, zfs};
use crate::lock::Lock;
use crate::profile::Profile;
use crate::recipe::Recipe;
use crate::report::Mistake;
use crate::session::Session;
use crate::store::Bucket;
use crate::tools::ToolsTree;
use crate::tree::UnpackedPackage;

/// Raise one of these when its stage gives another result from the same inputs.
const ZFS_REVISION: u32 = 1;
const KERNEL_REVISION: u32 = 1;

/// What the kernel stage gives to the later ones.
#[derive(Debug)]
pub(super) struct KernelStage {
    /// Version and ABI, as `uname -r` says it.
    pub(super) version: String,
    /// The kernel itself.
    pub(super) vmlinuz: PathBuf,
    /// Layer of the root: modules and firmware.
    pub(super) root: PathBuf,
    /// Tree of the initrd: its modules.
    pub(super) initrd: PathBuf,
    /// Digest of all of it.
    pub(super) key: Hash,
}

/// Chooses modules and firmware, and builds ZFS when its modules are not in the store.
pub(super) fn prepare(
    session: &Session,
    profile: &Profile,
    lock: &Lock,
    packages: &[UnpackedPackage],
    tools: &ToolsTree,
    zfs_tools: &ToolsTree,
) -> anyhow::Result<KernelStage> {
    let kernel = Kernel::find(packages)?;
    zfs::ZfsSources::find(&zfs_tools.root)?.check_kernel(&kernel.version)?;
    let (zfs_key, zfs_modules) = zfs_modules(session, &kernel, zfs_tools)?;
    let choice = &profile.kernel;
    let mut recipe = Recipe::new("kernel", KERNEL_REVISION);
    recipe.hash("zfs", &zfs_key).hash("tools", &tools.key);
    // The lock's packages and the unpacked ones are in the same order.
    for (locked, unpacked) in lock.packages.iter().zip(packages) {
        if locked.name.starts_with("linux-image-") || firmware_of(unpacked).is_some() {
            recipe.hash(&locked.name, &locked.sha256);
        }
    }
    for (name, list) in
        [("modules", &choice.modules), ("initrd", &choice.initrd_modules), ("firmware", &choice.firmware)]
    {
        recipe.field(name, list.join("\n"));
    }
    let folder = session.store.entry(Bucket::Kernel, &recipe, |into| {
        let write = || write_modules(profile, &kernel, packages, &zfs_modules, tools, into);
        session.progress.step("Modules", write)
    })?;
    Ok(KernelStage {
        vmlinuz: kernel.vmlinuz,
        root: folder.join("root"),
        initrd: folder.join("initrd"),
        version: kernel.version,
        key: recipe.key(),
    })
}

/// The kernel among the unpacked packages.
struct Kernel {
    version: String,
    modules: PathBuf,
    vmlinuz: PathBuf,
}

impl Kernel {
    fn find(packages: &[UnpackedPackage]) -> anyhow::Result<Self> {
        let mut found = Vec::new();
        for package in packages.iter().filter(|package| package.name.starts_with("linux-image-")) {
            let version = package.name.trim_start_matches("linux-image-");
            let data = package.folder.join("data");
            let modules = data.join("usr/lib/modules").join(version);
            if modules.join("modules.builtin").is_file() {
                found.push(Self {
                    vmlinuz: data.join(format!("boot/vmlinuz-{version}")),
                    modules,
                    version: version.to_owned(),
                });
            }
        }
        match found.len() {
            1 => Ok(found.remove(0)),
            count => Err(Mistake::new(format!("the profile's packages hold {count} kernels, an image has one"))
                .hint("include `linux-image-amd64` in `packages.include`")
                .into()),
        }
    }
}

/// The package's firmware, whatever the package is called (`intel-microcode`, `wireless-regdb`).
fn firmware_of(package: &UnpackedPackage) -> Option<PathBuf> {
    Some(package.folder.join("data/usr/lib/firmware")).filter(|folder| folder.is_dir())
}

/// Whether the tools tree has the headers of the packages' kernel and the ZFS of their programs.
///
/// # Errors
/// A [`Mistake`] that names both versions.
pub(super) fn check_zfs_tools(packages: &[UnpackedPackage], lock: &Lock, zfs_tools: &ToolsTree) -> anyhow::Result<()> {
    zfs::check_headers(&zfs_tools.root, &Kernel::find(packages)?.version)?;
    let dkms = zfs_version(zfs_tools)?;
    version_of(lock, "zfsutils-linux").map_or(Ok(()), |utils| zfs::check_userland(dkms, utils))
}

/// Version of the package that the ZFS modules are compiled from.
pub(super) fn zfs_version(zfs_tools: &ToolsTree) -> anyhow::Result<&str> {
    version_of(&zfs_tools.lock, "zfs-dkms").context("the tools tree `zfs` has no zfs-dkms")
}

fn version_of<'a>(lock: &'a Lock, name: &str) -> Option<&'a str> {
    lock.packages.iter().find(|package| package.name == name).map(|package| package.version.as_str())
}

/// `spl.ko` and `zfs.ko` for the kernel. Everything that they are made from is in the tools tree.
fn zfs_modules(session: &Session, kernel: &Kernel, tools: &ToolsTree) -> anyhow::Result<(Hash, Vec<PathBuf>)> {
    let mut recipe = Recipe::new("zfs", ZFS_REVISION);
    recipe.hash("tools", &tools.key).field("kernel", &kernel.version);
    let folder = session.store.entry(Bucket::Zfs, &recipe, |into| {
        let scratch = session.store.scratch("zfs")?;
        let build = zfs::ZfsBuild {
            sources: &zfs::ZfsSources::find(&tools.root)?,
            kernel: &kernel.version,
            vermagic: &vermagic(&kernel.modules)?,
            epoch: u64::try_from(EPOCH)?,
            jobs: std::thread::available_parallelism()?.get(),
        };
        let sandbox = tools.sandbox().bind_writable(scratch.path(), Path::new(zfs::BUILD_FOLDER));
        let built = session.progress.step("ZFS modules", || build.run(&sandbox, scratch.path()))?;
        built.iter().try_for_each(|module| {
            fs_err::copy(module, into.join(module.file_name().context("a module has no name")?))?;
            Ok(())
        })
    })?;
    Ok((recipe.key(), zfs::MODULES.iter().map(|name| folder.join(format!("{name}.ko"))).collect()))
}

/// What every module of this kernel says of itself, taken from one of them.
fn vermagic(modules: &Path) -> anyhow::Result<String> {
    let tree = ModuleTree::open(modules)?;
    let selection = tree.select(&["erofs".to_owned()], "the vermagic of the kernel")?;
    let module = selection.modules().values().next().context("the kernel has no module erofs")?;
    module.info.vermagic.clone().context("the module erofs has no vermagic")
}

/// Writes `into/root` (modules, ZFS, firmware) and `into/initrd` (the initrd's modules). Firmware that no package has
/// is left to the lint of that name.
fn write_modules(
    profile: &Profile,
    kernel: &Kernel,
    packages: &[UnpackedPackage],
    zfs_modules: &[PathBuf],
    tools: &ToolsTree,
    into: &Path,
) -> anyhow::Result<()> {
    let origin = format!("profile `{}`", profile.name);
    let (root, initrd) = (into.join("root"), into.join("initrd"));
    let allow = [profile.kernel.modules.clone(), profile.kernel.initrd_modules.clone()].concat();
    let selection = ModuleTree::open(&kernel.modules)?.select(&allow, &origin)?;
    let folder = selection.write(&root)?;
    zfs::install(zfs_modules, &root, &kernel.version)?;
    modules::initrd_modules(&folder, &profile.kernel.initrd_modules, &origin)?.write(&initrd)?;
    for tree in [&root, &initrd] {
        let sandbox = tools.sandbox().bind_writable(tree, Path::new("/modules"));
        modules::index("/modules", &kernel.version, &|argv| sandbox.run(argv).map(drop))?;
    }
    let folders = packages.iter().filter_map(firmware_of);
    let firmware = FirmwareIndex::open(folders)?.plan(&selection.firmware(), &profile.kernel.firmware, &origin)?;
    firmware.write(&root)
}
