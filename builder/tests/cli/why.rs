//! `larder why`: the chain that pulls a package in, and where a path comes from.

use crate::bench::Bench;
use crate::package::Package;

fn bench() -> Bench {
    let bench = Bench::new();
    bench.mirror.publish(&[
        Package::new("probe", "1.0").field("Depends", "helper | other, libprobe (>= 1.0)"),
        Package::new("helper", "2.0").field("Pre-Depends", "libhelp"),
        Package::new("libhelp", "2.0"),
        Package::new("libprobe", "1.0"),
    ]);
    bench
}

#[test]
fn a_package_is_explained_by_the_chain_that_pulls_it_in() {
    let bench = bench();
    insta::assert_snapshot!(bench.prints(&["why", "--profile", "nas", "libhelp"]), @r"
    probe 1.0  (packages.include of the profile)
    └─ helper 2.0  (Depends: helper)
       └─ libhelp 2.0  (Pre-Depends: libhelp)
    ");
}

#[test]
fn a_package_that_the_profile_does_not_have_is_named_with_the_nearest() {
    let bench = bench();
    bench.does(&["lock", "--profile", "nas"]);
    insta::assert_snapshot!(bench.refuses(&["why", "--profile", "nas", "--locked", "libprobee"]), @r"
    error: `libprobee` is not among the 4 packages of profile `nas`

    hint: did you mean libprobe?
    ");
}

#[test]
fn a_path_is_explained_by_what_it_comes_from() {
    let bench = Bench::miniature();
    let said = [
        "/usr/share/more-1/3",
        "/etc/base.conf",
        "/etc",
        "/usr/share/changed",
        "/usr/share/removed",
        "/var/lib/dpkg/status",
        "/usr/bin/firstboot",
        "/usr/lib/modules/6.12.1-mini/kernel/fs/erofs/erofs.ko",
        // By the name that it had before / and /usr were merged.
        "/lib/os-release",
    ]
    .map(|path| bench.prints(&["why", "-p", "nas", path]))
    .concat();
    insta::assert_snapshot!(said, @r"
    /usr/share/more-1/3: package more-1
    more-1 1  (packages.include of the profile)
    /etc/base.conf: overlays/base/root/etc/base.conf
    /etc: package mini-root
    mini-root 1  (packages.include of the profile)
    /usr/share/changed: package mini-root, changed by the packages' scripts
    /usr/share/removed: not in the image: the packages' scripts remove what package mini-root ships
    /var/lib/dpkg/status: not in the image: `var/lib/dpkg` of files.remove takes it away
    /usr/bin/firstboot: larder's own program, compiled from firstboot/
    /usr/lib/modules/6.12.1-mini/kernel/fs/erofs/erofs.ko: package linux-image-6.12.1-mini, chosen by [kernel] of the profile
    linux-image-6.12.1-mini 1  (packages.include of the profile)
    /usr/lib/os-release: package mini-root
    mini-root 1  (packages.include of the profile)
    ");
    insta::assert_snapshot!(bench.refuses(&["why", "-p", "nas", "/usr/share/more-1/33"]), @r"
    error: /usr/share/more-1/33: no package, overlay or stage of profile `nas` has such a path

    hint: did you mean /usr/share/more-1/3 or /usr/share/more-1/13 or /usr/share/more-1/0?
    ");
}
