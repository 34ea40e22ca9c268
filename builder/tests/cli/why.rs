//! `larder why`: the chain that pulls a package in.

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
