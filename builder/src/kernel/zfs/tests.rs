use std::cell::RefCell;
use std::os::unix::fs::symlink;

use super::super::modinfo::tests::module;
use super::*;
use crate::report::render;

const KERNEL: &str = "6.12.107+deb13-amd64";
const VERMAGIC: &str = "6.12.107+deb13-amd64 SMP preempt mod_unload modversions";
const META: &str = "Meta:          1\nName:          zfs\nVersion:       2.3.9\nRelease:       0+deb13u1\nLinux-Maximum: 7.2\nLinux-Minimum: 4.18\n";

fn tools() -> tempfile::TempDir {
    let tools = tempfile::tempdir().unwrap();
    let sources = tools.path().join("usr/src/zfs-2.3.9");
    fs_err::create_dir_all(sources.join("module")).unwrap();
    fs_err::write(sources.join("META"), META).unwrap();
    fs_err::write(sources.join("configure"), "#!/bin/sh\n").unwrap();
    symlink("configure", sources.join("again")).unwrap();
    let headers = tools.path().join("usr/lib/modules").join(KERNEL);
    fs_err::create_dir_all(&headers).unwrap();
    symlink("../../../src/linux-headers", headers.join("build")).unwrap();
    tools
}

/// Writes down the commands; `make` "compiles" both modules.
struct Recorder<'a> {
    commands: RefCell<Vec<String>>,
    work: &'a Path,
    vermagic: &'a str,
}

impl BuildSandbox for Recorder<'_> {
    fn run(&self, argv: &[&str], cwd: &str, _env: &[(&str, &str)]) -> Result<()> {
        self.commands.borrow_mut().push(format!("{cwd}$ {}", argv.join(" ")));
        if argv[0] == "make" {
            for name in MODULES {
                let modinfo = format!("vermagic={} ", self.vermagic);
                fs_err::write(self.work.join(format!("zfs/module/{name}.ko")), module(&[&modinfo]))?;
            }
        }
        Ok(())
    }
}

fn build(vermagic: &str) -> (Result<Vec<String>>, Vec<String>) {
    let (tools, work) = (tools(), tempfile::tempdir().unwrap());
    let sources = ZfsSources::find(tools.path()).unwrap();
    let sandbox = Recorder { commands: RefCell::default(), work: work.path(), vermagic };
    let built = ZfsBuild { sources: &sources, kernel: KERNEL, vermagic: VERMAGIC, epoch: 1_700_000_000, jobs: 2 }
        .run(&sandbox, work.path());
    let names = built
        .map(|paths| paths.iter().map(|path| path.strip_prefix(work.path()).unwrap().display().to_string()).collect());
    (names, sandbox.commands.into_inner())
}

fn sources() -> ZfsSources {
    ZfsSources::find(tools().path()).unwrap()
}

#[test]
fn the_sources_say_which_kernels_they_know() {
    let sources = sources();
    assert_eq!(
        (sources.version.as_str(), sources.oldest_kernel.to_string(), sources.newest_kernel.to_string()),
        ("2.3.9", "4.18".into(), "7.2".into())
    );
    sources.check_kernel(KERNEL).unwrap();
    sources.check_kernel("7.2.9+deb13-amd64").unwrap();
}

#[test]
fn a_kernel_newer_than_zfs_supports_is_refused() {
    insta::assert_snapshot!(render(&sources().check_kernel("7.3.1+deb14-amd64").unwrap_err()), @"
    error: kernel 7.3.1+deb14-amd64 is newer than ZFS 2.3.9 supports (4.18 to 7.2)

    hint: pin an older kernel or a newer zfs-dkms in the profile, then run `larder lock`
    ");
    insta::assert_snapshot!(render(&sources().check_kernel("4.9.0-1-amd64").unwrap_err()), @"
    error: kernel 4.9.0-1-amd64 is older than ZFS 2.3.9 supports (4.18 to 7.2)

    hint: pin a newer kernel in the profile, then run `larder lock`
    ");
}

#[test]
fn series_compare_as_numbers() {
    let series = |text: &str| text.parse::<KernelSeries>().unwrap();
    assert!(series("6.9") < series("6.12") && series("6.12.107+deb13-amd64") == series("6.12"));
    assert!("six".parse::<KernelSeries>().is_err() && "6".parse::<KernelSeries>().is_err());
}

#[test]
fn modules_and_programs_of_different_versions_are_refused() {
    check_userland("2.3.9-0+deb13u1", "2.3.9-0+deb13u1").unwrap();
    insta::assert_snapshot!(render(&check_userland("2.3.9-0+deb13u1", "2.3.2-2").unwrap_err()), @"
    error: the ZFS modules would be 2.3.9-0+deb13u1 (zfs-dkms, tools tree `zfs`), the programs 2.3.2-2 (zfsutils-linux, image)

    hint: run `larder lock` to bring both to the same version
    ");
}

#[test]
fn headers_for_another_kernel_are_refused() {
    let packages =
        ["gcc", "linux-headers-6.12.107+deb13-amd64", "linux-headers-6.12.107+deb13-common", "linux-headers-amd64"];
    let check = |kernel| check_headers(packages.into_iter(), kernel);
    check(KERNEL).unwrap();
    insta::assert_snapshot!(render(&check("6.12.117+deb13-amd64").unwrap_err()), @"
    error: the image's kernel is 6.12.117+deb13-amd64, but the tools tree `zfs` has headers for 6.12.107+deb13-amd64

    hint: run `larder lock` to bring kernel and headers to the same version
    ");
}

#[test]
fn the_build_configures_compiles_and_strips() {
    let (built, commands) = build(VERMAGIC);
    assert_eq!(built.unwrap(), ["zfs/module/spl.ko", "zfs/module/zfs.ko"]);
    insta::assert_snapshot!(commands.join("\n"), @"
    /build/zfs$ /bin/sh ./configure --disable-dependency-tracking --prefix=/usr --with-config=kernel --with-linux=/usr/lib/modules/6.12.107+deb13-amd64/source --with-linux-obj=/usr/lib/modules/6.12.107+deb13-amd64/build
    /build/zfs$ make -j2 CC_FLAGS_FTRACE=
    /build$ strip --strip-debug /build/zfs/module/spl.ko
    /build$ strip --strip-debug /build/zfs/module/zfs.ko
    ");
}

#[test]
fn modules_for_another_kernel_are_refused() {
    let (built, _) = build("6.12.1-amd64 SMP");
    insta::assert_snapshot!(built.unwrap_err(), @"
    spl.ko was built for `6.12.1-amd64 SMP`, the kernel is `6.12.107+deb13-amd64 SMP preempt mod_unload modversions`
    ");
}

#[test]
fn the_sources_are_copied_with_links_and_times() {
    let (tools, work) = (tools(), tempfile::tempdir().unwrap());
    let source = tools.path().join("usr/src/zfs-2.3.9");
    copy_tree(&source, &work.path().join("zfs")).unwrap();
    let time = |path: &Path| fs_err::metadata(path).unwrap().modified().unwrap();
    assert_eq!(time(&work.path().join("zfs/META")), time(&source.join("META")));
    assert_eq!(fs_err::read_link(work.path().join("zfs/again")).unwrap(), Path::new("configure"));
}

#[test]
fn modules_are_installed_readable_for_all_whatever_the_umask() {
    let (work, root) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let zfs = work.path().join("zfs.ko");
    fs_err::write(&zfs, "elf").unwrap();
    fs_err::set_permissions(&zfs, Permissions::from_mode(0o600)).unwrap();
    install(&[zfs], root.path(), KERNEL).unwrap();
    let installed = root.path().join("usr/lib/modules").join(KERNEL).join("extra/zfs.ko");
    assert_eq!(fs_err::metadata(installed).unwrap().permissions().mode() & 0o777, 0o644);
}
