//! A distribution of a few small packages from which `larder build` makes an image as it does from Debian's:
//! every stage is the real one, in a second instead of half a minute. The probe plays the programs that the
//! stages run (dpkg, systemctl, mkfs.erofs, ukify, depmod, make, …); what it makes cannot boot.

use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use larder::hash::{Hash, Hasher};
use larder::image::sparse::data_ranges;

use crate::bench::{Bench, LARDER, files};
use crate::module::module;
use crate::package::{Package, noise};
use crate::program::probe_program;

const KERNEL: &str = "6.12.1-mini";

/// The command line of a build, with the output in the bench's folder `out`.
pub const BUILD: [&str; 7] = ["build", "--profile", "nas", "--version", "1", "--out", "out"];

impl Bench {
    /// A bench whose mirror has the miniature distribution, locked, and whose cache has the `firstboot` program:
    /// compiling it is cargo's business and takes half a minute.
    pub fn miniature() -> Self {
        let bench = Self::new();
        bench.mirror.publish(&distribution());
        let tree = |packages: &str| format!("schema = 1\ndescription = \"\"\npackages = [{packages}]\n");
        bench.write("profiles/tools/image.toml", &tree("\"mini-tools\""));
        bench.write("profiles/tools/zfs.toml", &tree(&format!("\"zfs-dkms\", \"linux-headers-{KERNEL}\"")));
        fs_err::remove_file(bench.project("profiles/tools/kit.toml")).unwrap();
        bench.write("profiles/nas.toml", &profile(""));
        bench.write("profiles/nas2.toml", &profile("\"more-3\""));
        fs_err::create_dir_all(bench.project("overlays/base/root/etc")).unwrap();
        bench.write("overlays/base/root/etc/base.conf", "text\n");
        bench.does(&["lock"]);
        bench.seed_firstboot();
        bench
    }

    /// Puts the entry of `firstboot` into the cache, which may be new.
    pub fn seed_firstboot(&self) {
        copy_tree(&self.firstboot(), &self.cache("v1/firstboot-v1"));
    }

    /// The entries of `firstboot` in a cache that this machine's test runs share; compiled when its sources changed.
    pub fn firstboot(&self) -> PathBuf {
        static DONE: OnceLock<PathBuf> = OnceLock::new();
        DONE.get_or_init(|| {
            let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("firstboot-cache");
            fs_err::create_dir_all(&cache).unwrap();
            // With this user's own environment, as it is cargo that compiles.
            let mut larder = Command::new(LARDER);
            larder.arg("--project").arg(self.project("")).args(BUILD).current_dir(self.folder("firstboot"));
            larder.env("LARDER_CACHE_DIR", &cache).env("LARDER_MIRROR_DEBIAN", self.mirror.address());
            self.ends(&mut larder, 0);
            cache.join("v1/firstboot-v1")
        })
        .clone()
    }

    /// What is in the output folder: names, and digests of what is not zero, as an image is mostly holes.
    pub fn outputs(&self, folder: &str) -> Vec<(String, String)> {
        let here = self.folder(folder);
        let list = files(&here).into_iter().filter(|path| path.parent() == Some(&here)).map(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, fingerprint(&path))
        });
        list.collect()
    }

    /// The output folder holds what its checksums say, and nothing hidden.
    pub fn is_whole(&self, folder: &str) {
        let folder = self.folder(folder);
        let sums = fs_err::read_to_string(folder.join("larder-nas-1.SHA256SUMS")).unwrap();
        for line in sums.lines() {
            let (sum, name) = line.split_once("  ").unwrap();
            assert_eq!(Hash::of_file(&folder.join(name)).unwrap().to_string(), sum, "{name}");
        }
        let hidden =
            files(&folder).into_iter().find(|path| path.file_name().unwrap().to_string_lossy().starts_with('.'));
        assert_eq!(hidden, None, "left behind in the output folder");
    }
}

/// Where holes are must not matter: only blocks of this size count, each once.
const BLOCK: u64 = 1 << 16;

fn fingerprint(path: &Path) -> String {
    let file = fs_err::File::open(path).unwrap();
    let mut hasher = Hasher::default();
    let (mut block, mut next) = (vec![0; BLOCK as usize], 0);
    for range in data_ranges(file.file()).unwrap() {
        for at in ((range.start / BLOCK * BLOCK).max(next)..range.end).step_by(BLOCK as usize) {
            next = at + BLOCK;
            let count = file.file().read_at(&mut block, at).unwrap();
            if block[..count].iter().any(|byte| *byte != 0) {
                hasher.update(at.to_le_bytes());
                hasher.update(&block[..count]);
            }
        }
    }
    format!("{} of {} bytes", hasher.finish(), file.metadata().unwrap().len())
}

fn profile(more: &str) -> String {
    format!(
        "schema = 1\ninherits = \"base\"\noverlays = [\"base\"]\n\
         [packages]\ninclude = [\"linux-image-{KERNEL}\", \"mini-root\", \"more-1\", \"more-2\", {more}]\n\
         [files]\nremove = [\"var/lib/dpkg\"]\n\
         [kernel]\ncommand-line = [\"quiet\"]\nmodules = [\"erofs\"]\ninitrd-modules = [\"erofs\"]\n"
    )
}

fn distribution() -> Vec<Package> {
    let erofs = module(&["name=erofs", "depends=", &format!("vermagic={KERNEL} SMP")]);
    let kernel = Package::new(&format!("linux-image-{KERNEL}"), "1")
        .file(&format!("usr/lib/modules/{KERNEL}/modules.builtin"), b"")
        .file(&format!("usr/lib/modules/{KERNEL}/modules.order"), b"kernel/fs/erofs/erofs.ko\n")
        .file(&format!("usr/lib/modules/{KERNEL}/kernel/fs/erofs/erofs.ko"), &erofs)
        .file(&format!("boot/vmlinuz-{KERNEL}"), &noise(500_000));
    let tools = playing(Package::new("mini-tools", "1"), &["mkfs.erofs", "ukify", "depmod"])
        .file("usr/lib/systemd/boot/efi/systemd-bootx64.efi", &noise(90_000));
    let zfs = playing(Package::new("zfs-dkms", "2.3.9-1"), &["sh", "make", "strip"])
        .file("usr/src/zfs-2.3.9/META", b"Version: 2.3.9\nLinux-Minimum: 4.18\nLinux-Maximum: 6.16\n")
        .file("usr/src/zfs-2.3.9/configure", b"#!/bin/sh\n")
        .file(
            "usr/src/zfs-2.3.9/module/module.ko",
            &module(&["name=zfs", "depends=", &format!("vermagic={KERNEL} SMP")]),
        );
    let headers = Package::new(&format!("linux-headers-{KERNEL}"), "1")
        .link(&format!("usr/lib/modules/{KERNEL}/build"), "/usr/src/linux");
    let more = (1..=3).map(|n| {
        let package = Package::new(&format!("more-{n}"), "1");
        (0..20).fold(package, |package, i| package.file(&format!("usr/share/more-{n}/{i}"), &noise(n * i * 1000)))
    });
    [kernel, headers, root(), tools, zfs].into_iter().chain(more).collect()
}

/// What dpkg's scripts change, and the two programs that configure it.
fn root() -> Package {
    playing(Package::new("mini-root", "1"), &["dpkg", "systemctl"])
        .file("etc/passwd", b"root:x:0:0::/:/usr/bin/dpkg\n")
        .file("etc/group", b"root:x:0:\n")
        .file("usr/lib/systemd/system/basic.target", b"[Unit]\n")
        .file("usr/lib/os-release", b"ID=mini\n")
        .file("usr/share/replaced/old", b"a folder that its script makes anew")
        .file("usr/share/removed", b"a file that its script removes")
        .file("usr/share/changed", b"a file that its script adds to\n")
}

/// Programs that the probe plays.
fn playing(package: Package, names: &[&str]) -> Package {
    let package = package.program("probe", &probe_program());
    names.iter().fold(package, |package, name| package.link(&format!("usr/bin/{name}"), "probe"))
}

/// Copies files and folders, their times apart.
pub fn copy_tree(from: &Path, to: &Path) {
    for entry in walkdir::WalkDir::new(from) {
        let entry = entry.unwrap();
        let target = to.join(entry.path().strip_prefix(from).unwrap());
        if entry.file_type().is_dir() {
            fs_err::create_dir_all(&target).unwrap();
            fs_err::set_permissions(&target, entry.metadata().unwrap().permissions()).unwrap();
        } else {
            fs_err::copy(entry.path(), &target).unwrap();
        }
    }
}

#[test]
fn the_miniature_gives_the_same_bytes_twice_and_from_a_cold_cache() {
    let bench = Bench::miniature();
    bench.does(&BUILD);
    let first = bench.outputs("out");
    assert!(first.iter().any(|(name, _)| name == "larder-nas-1.img"), "{first:?}");
    bench.is_whole("out");
    bench.does(&BUILD);
    assert_eq!(bench.outputs("out"), first);
    bench.ends(&mut bench.larder(&["cache", "clean"]), 0);
    bench.seed_firstboot();
    bench.does(&BUILD);
    assert_eq!(bench.outputs("out"), first);
}
