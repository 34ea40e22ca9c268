use std::cell::RefCell;
use std::io::Read as _;

use super::super::modinfo::tests::module;
use super::*;
use crate::report::render;

const VERSION: &str = "6.12.107+deb13-amd64";

/// A small kernel: xz-compressed modules as Debian ships them.
fn kernel() -> (tempfile::TempDir, ModuleTree) {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join(VERSION);
    let put = |path: &str, modinfo: &[&str]| {
        let path = folder.join("kernel").join(path);
        fs_err::create_dir_all(path.parent().unwrap()).unwrap();
        let mut compressed = Vec::new();
        liblzma::read::XzEncoder::new(&*module(modinfo), 0).read_to_end(&mut compressed).unwrap();
        fs_err::write(path, compressed).unwrap();
    };
    put("drivers/net/ethernet/intel/igc/igc.ko.xz", &["depends=ptp", "firmware=intel/igc.bin"]);
    put("drivers/net/ethernet/intel/e1000e/e1000e.ko.xz", &["depends=ptp"]);
    put("drivers/ptp/ptp.ko.xz", &["depends=pps_core"]);
    put("drivers/pps/pps_core.ko.xz", &["depends="]);
    put("fs/btrfs/btrfs.ko.xz", &["depends=raid6_pq", "softdep=pre: crypto-crc32c", "softdep=pre: gone xxhash"]);
    put("lib/raid6/raid6_pq.ko.xz", &["depends="]);
    put("crypto/crc32c_generic.ko.xz", &["depends=", "alias=crypto-crc32c"]);
    put("arch/x86/crypto/crc32c-intel.ko.xz", &["depends=", "alias=crypto-crc32c"]);
    put("fs/nls/nls_ascii.ko.xz", &["depends="]);
    put("fs/nls/nls_cp437.ko.xz", &["depends="]);
    put("drivers/broken/broken.ko.xz", &["depends=nowhere"]);
    fs_err::write(folder.join("modules.builtin"), "kernel/drivers/char/tpm/tpm_tis.ko\n").unwrap();
    fs_err::write(folder.join("modules.builtin.modinfo"), "tpm_tis.license=GPL\0").unwrap();
    fs_err::write(folder.join("modules.order"), "kernel/drivers/ptp/ptp.ko\n").unwrap();
    let tree = ModuleTree::open(&folder).unwrap();
    (root, tree)
}

fn chosen(allow: &[&str]) -> Vec<String> {
    let (_root, tree) = kernel();
    let allow: Vec<String> = allow.iter().map(|entry| (*entry).to_owned()).collect();
    tree.select(&allow, "test.toml").unwrap().modules().keys().cloned().collect()
}

fn refused(entry: &str) -> String {
    let (_root, tree) = kernel();
    render(&tree.select(&[entry.to_owned()], "profiles/nas.toml: kernel.modules").unwrap_err())
}

#[test]
fn a_module_brings_what_it_depends_on() {
    assert_eq!(chosen(&["igc"]), ["igc", "pps_core", "ptp"]);
}

#[test]
fn softdeps_bring_modules_by_alias_and_ignore_what_does_not_exist() {
    assert_eq!(chosen(&["btrfs"]), ["btrfs", "crc32c_generic", "crc32c_intel", "raid6_pq"]);
}

#[test]
fn dash_and_underscore_are_the_same() {
    assert_eq!(chosen(&["pps-core", "crc32c_intel"]), ["crc32c_intel", "pps_core"]);
}

#[test]
fn patterns_of_paths_and_of_names_match() {
    assert_eq!(chosen(&["drivers/net/ethernet/intel/**"]), ["e1000e", "igc", "pps_core", "ptp"]);
    assert_eq!(chosen(&["fs/nls/nls_ascii"]), ["nls_ascii"]);
    assert_eq!(chosen(&["nls_*"]), ["nls_ascii", "nls_cp437"]);
}

#[test]
fn one_star_does_not_cross_folders() {
    assert!(refused("drivers/net/*").contains("matches no module"));
}

#[test]
fn a_built_in_module_is_as_good_as_kept() {
    assert!(chosen(&["tpm_tis"]).is_empty());
}

#[test]
fn an_entry_that_matches_nothing_is_refused_with_the_nearest_names() {
    insta::assert_snapshot!(refused("e100e"), @"
    error: profiles/nas.toml: kernel.modules: `e100e` matches no module of kernel 6.12.107+deb13-amd64

    hint: did you mean e1000e?
    ");
    insta::assert_snapshot!(refused("drivers/net/ethernet/inte/**"), @"
    error: profiles/nas.toml: kernel.modules: `drivers/net/ethernet/inte/**` matches no module of kernel 6.12.107+deb13-amd64

    hint: did you mean drivers/net/ethernet/intel or drivers/net/ethernet/intel/igc or drivers/net/ethernet?
    ");
}

#[test]
fn a_dependency_that_the_kernel_lacks_is_an_error() {
    insta::assert_snapshot!(refused("broken"), @"
    error: kernel/drivers/broken/broken.ko.xz depends on nowhere, which is not in kernel 6.12.107+deb13-amd64
    ");
}

#[test]
fn modules_are_written_uncompressed_with_the_shipped_lists() {
    let (_root, tree) = kernel();
    let selection = tree.select(&["igc".into()], "test").unwrap();
    let image = tempfile::tempdir().unwrap();
    let folder = selection.write(image.path()).unwrap();
    let igc = fs_err::read(folder.join("kernel/drivers/net/ethernet/intel/igc/igc.ko")).unwrap();
    assert!(igc.starts_with(b"\x7fELF"));
    assert!(folder.join("modules.builtin.modinfo").exists() && folder.join("modules.order").exists());
    assert!(!folder.join("kernel/fs").exists(), "what is not chosen is not written");
    assert_eq!(selection.firmware()["intel/igc.bin"].iter().collect::<Vec<_>>(), ["igc"]);

    let initrd = initrd_modules(&folder, &["ptp".into()], "test").unwrap();
    assert_eq!(initrd.modules().keys().collect::<Vec<_>>(), ["pps_core", "ptp"]);
}

#[test]
fn depmod_indexes_what_was_written() {
    let seen = RefCell::new(Vec::new());
    index("/image", VERSION, &|argv| {
        seen.borrow_mut().extend(argv.iter().map(|word| (*word).to_owned()));
        Ok(())
    })
    .unwrap();
    assert_eq!(seen.into_inner(), ["depmod", "--basedir", "/image", "--moduledir", "/usr/lib/modules", VERSION]);
}
