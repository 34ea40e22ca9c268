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
