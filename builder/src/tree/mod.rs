//! From unpacked packages to a configured root.
//!
//! [`compose`] joins the unpacked packages into one folder by hard links, with the database that dpkg
//! would have written. [`configure`] lets dpkg itself run the maintainer scripts over it, inside a
//! sandbox, into an overlay: the linked files are never written to.

mod compose;
mod configure;
mod database;
mod filter;

pub use compose::{UnpackedPackage, compose};
pub use configure::configure;
pub use filter::PathFilter;

/// Debian's merged /usr: links and their targets. base-files brings them; a tree without it has none, while its programs
/// name their loader as /lib64/ld-linux-x86-64.so.2.
pub const USR_MERGE: [(&str, &str); 4] =
    [("bin", "usr/bin"), ("lib", "usr/lib"), ("lib64", "usr/lib64"), ("sbin", "usr/sbin")];
