//! Kernel, modules, firmware and ZFS of an image.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::EPOCH;
use crate::hash::Hash;
use crate::kernel::firmware::{FirmwareIndex, without_other_chips};
use crate::kernel::{is_hardware, microcode, modules, modules::ModuleTree, zfs};
use crate::lock::Lock;
use crate::profile::Profile;
use crate::recipe::Recipe;
use crate::report::Mistake;
use crate::session::Session;
use crate::store::Bucket;
use crate::tools::{LockedTools, ToolsTree};
use crate::tree::{self, PathFilter, UnpackedPackage};

/// Raise one of these when its stage gives another result from the same inputs.
const ZFS_REVISION: u32 = 2;
const KERNEL_REVISION: u32 = 3;

/// Microcode within the stage's entry.
const MICROCODE: &str = "microcode.cpio";

/// How the package of a kernel is called; its version and ABI follow.
const KERNEL_PACKAGE: &str = "linux-image-";

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
    /// What goes in front of the initrd: microcode, where the profile wants some.
    pub(super) microcode: Option<PathBuf>,
    /// Digest of all of it.
    pub(super) key: Hash,
}

/// What the kernel stage is made from.
#[derive(Debug)]
pub(super) struct Inputs<'a> {
    pub(super) session: &'a Session,
    pub(super) profile: &'a Profile,
    /// All packages of the image: any of them may have firmware.
    pub(super) packages: &'a [UnpackedPackage],
    pub(super) tools: &'a ToolsTree,
    pub(super) zfs_tools: &'a LockedTools,
}

/// Chooses modules and firmware, and builds ZFS when its modules are not in the store.
pub(super) fn prepare(inputs: &Inputs<'_>) -> anyhow::Result<KernelStage> {
    let Inputs { session, profile, packages, tools, zfs_tools } = *inputs;
    let kernel = Kernel::find(packages)?;
    let (zfs_key, zfs_modules) = zfs_modules(session, &kernel, zfs_tools)?;
    let choice = &profile.kernel;
    let mut recipe = Recipe::new("kernel", KERNEL_REVISION);
    recipe.hash("zfs", &zfs_key).hash("tools", &tools.key);
    for package in packages {
        if is_hardware(&package.name) || firmware_of(package).is_some() {
            recipe.hash(&package.name, &package.sha256);
        }
    }
    let by_device: Vec<_> = choice.firmware_of_devices.iter().cloned().collect();
    for (name, list) in [
        ("modules", &choice.modules),
        ("initrd", &choice.initrd_modules),
        ("firmware", &firmware(profile)),
        ("firmware of devices", &by_device),
        ("microcode", &choice.microcode),
        ("exclude", &profile.exclude),
        ("keep", &profile.keep),
    ] {
        recipe.field(name, list.join("\n"));
    }
    let folder = session.store.entry(Bucket::Kernel, &recipe, |into| {
        session.progress.step("Modules", || write_layer(inputs, &kernel, &zfs_modules, into))
    })?;
    Ok(KernelStage {
        microcode: Some(folder.join(MICROCODE)).filter(|path| path.exists()),
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
        for package in packages {
            let Some(version) = package.name.strip_prefix(KERNEL_PACKAGE) else { continue };
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
            count => Err(not_one_kernel(count).into()),
        }
    }
}

/// The package's firmware, whatever the package is called (`intel-microcode`, `wireless-regdb`).
fn firmware_of(package: &UnpackedPackage) -> Option<PathBuf> {
    Some(package.folder.join("data/usr/lib/firmware")).filter(|folder| folder.is_dir())
}

/// Whether the tools tree has the headers of the packages' kernel and the ZFS of their programs; the locks
/// say so, before anything is unpacked.
///
/// # Errors
/// A [`Mistake`] that names both versions.
pub(super) fn check_zfs_tools(lock: &Lock, zfs_tools: &LockedTools) -> anyhow::Result<()> {
    let locked = || zfs_tools.packages.iter().map(|package| &package.locked);
    zfs::check_headers(locked().map(|package| package.name.as_str()), locked_kernel(lock)?)?;
    let dkms = zfs_version(zfs_tools)?;
    let utils = lock.packages.iter().find(|package| package.name == "zfsutils-linux");
    utils.map_or(Ok(()), |utils| zfs::check_userland(dkms, &utils.version))
}

/// Version of the package that the ZFS modules are compiled from.
pub(super) fn zfs_version(zfs_tools: &LockedTools) -> anyhow::Result<&str> {
    let dkms = zfs_tools.packages.iter().find(|package| package.locked.name == zfs::SOURCE_PACKAGE);
    dkms.map(|package| package.locked.version.as_str()).context("the tools tree `zfs` has no zfs-dkms")
}

/// Version and ABI of the one kernel in the lock.
fn locked_kernel(lock: &Lock) -> anyhow::Result<&str> {
    let images = lock.packages.iter().filter_map(|package| package.name.strip_prefix(KERNEL_PACKAGE));
    // `linux-image-amd64` is no kernel, but a name for the newest.
    let kernels: Vec<_> = images.filter(|version| version.starts_with(|first: char| first.is_ascii_digit())).collect();
    match kernels.as_slice() {
        [kernel] => Ok(kernel),
        _ => Err(not_one_kernel(kernels.len()).into()),
    }
}

fn not_one_kernel(count: usize) -> Mistake {
    Mistake::new(format!("the profile's packages hold {count} kernels, an image has one"))
        .hint("include `linux-image-amd64` in `packages.include`")
}

/// `spl.ko` and `zfs.ko` for the kernel. Everything that they are made from is in the tools tree, which
/// nobody needs once they are made.
fn zfs_modules(session: &Session, kernel: &Kernel, tools: &LockedTools) -> anyhow::Result<(Hash, Vec<PathBuf>)> {
    let mut recipe = Recipe::new("zfs", ZFS_REVISION);
    recipe.hash("tools", &tools.key()).field("kernel", &kernel.version);
    let folder = session.store.entry(Bucket::Zfs, &recipe, |into| {
        let tools = tools.prepare(session)?;
        let sources = zfs::ZfsSources::find(&tools.root)?;
        sources.check_kernel(&kernel.version)?;
        let scratch = session.store.scratch("zfs")?;
        let build = zfs::ZfsBuild {
            sources: &sources,
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

/// Writes `into/root` (modules, ZFS, firmware, and what else the packages of the hardware have) and
/// `into/initrd` (the initrd's modules). Firmware that no package has is left to the lint of that name.
fn write_layer(inputs: &Inputs<'_>, kernel: &Kernel, zfs_modules: &[PathBuf], into: &Path) -> anyhow::Result<()> {
    let Inputs { profile, packages, tools, .. } = *inputs;
    let origin = format!("profile `{}`", profile.name);
    let (root, initrd) = (into.join("root"), into.join("initrd"));
    compose_rest(profile, packages, &root)?;
    let choice = &profile.kernel;
    let allow = [&choice.modules[..], &choice.initrd_modules].concat();
    let selection = ModuleTree::open(&kernel.modules)?.select(&allow, &origin)?;
    let folder = selection.write(&root)?;
    zfs::install(zfs_modules, &root, &kernel.version)?;
    modules::initrd_modules(&folder, &profile.kernel.initrd_modules, &origin)?.write(&initrd)?;
    for tree in [&root, &initrd] {
        let sandbox = tools.sandbox().bind_writable(tree, Path::new("/modules"));
        modules::index("/modules", &kernel.version, &|argv| sandbox.run(argv).map(drop))?;
    }
    let folders = packages.iter().filter_map(firmware_of);
    let index = FirmwareIndex::open(folders)?;
    let named = without_other_chips(selection.firmware(), &choice.firmware_of_devices);
    index.plan(&named, &firmware(profile), &origin)?.write(&root)?;
    if let Some(archive) = microcode::archive(&index, &choice.microcode, &origin)? {
        fs_err::write(into.join(MICROCODE), archive)?;
    }
    Ok(())
}

/// Globs of firmware that must be there: the profile's own list, and what its devices need.
fn firmware(profile: &Profile) -> Vec<String> {
    let of_devices = profile.hardware.devices.iter().flat_map(|device| &device.firmware);
    profile.kernel.firmware.iter().chain(of_devices).cloned().collect()
}

/// Licences and the like: what the profile does not exclude of the packages of the hardware.
fn compose_rest(profile: &Profile, packages: &[UnpackedPackage], root: &Path) -> anyhow::Result<()> {
    let chosen_here = ["boot", "usr/lib/firmware", "usr/lib/modules"].map(|folder| format!("{folder}/**"));
    let filter = PathFilter::new(&[&profile.exclude[..], &chosen_here].concat(), &profile.keep)?;
    let hardware: Vec<_> = packages.iter().filter(|package| is_hardware(&package.name)).cloned().collect();
    fs_err::create_dir_all(root)?;
    tree::compose(&hardware, &filter, None, root)
}
