//! `larder why`: what pulls a package into an image, and what a file in it comes from.

mod chain;

pub use chain::{Chain, Link, Root};

use crate::lock::LockedPackage;
use crate::report::Mistake;
use crate::solve::PackageRequest;
use crate::suggest;
use crate::tree::UnpackedPackage;

/// Why `name` is among the packages that were locked for `request`, which is that of `profile`.
///
/// # Errors
/// A [`Mistake`] when it is not, which says why not.
pub fn package(
    profile: &str,
    request: &PackageRequest,
    locked: &[LockedPackage],
    unpacked: &[UnpackedPackage],
    name: &str,
) -> anyhow::Result<Chain> {
    if locked.iter().any(|package| package.name == name) {
        return chain::find(request, locked, unpacked, name);
    }
    let what = format!("`{name}` is not among the {} packages of profile `{profile}`", locked.len());
    let hint = if request.provided.contains(name) {
        "it counts as installed: larder does its job (`packages.provided`)".to_owned()
    } else if request.forbid.contains(name) {
        "`packages.forbid` keeps it out".to_owned()
    } else {
        match suggest::nearest(name, locked.iter().map(|package| package.name.as_str())).as_slice() {
            [] => "nothing asks for it; add it to `packages.include` to have it".to_owned(),
            near => format!("did you mean {}?", near.join(" or ")),
        }
    };
    Err(Mistake::new(what).hint(hint).into())
}
