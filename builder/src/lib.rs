//! larder turns a hardware profile into a bootable, immutable disk image.
//!
//! The pipeline is in [`build`]: lock → fetch → unpack → compose → configure → overlays, kernel,
//! initrd → erofs, verity, UKI → disk image. Each stage is keyed by the hash of its inputs.

pub mod archive;
pub mod build;
pub mod cli;
pub mod copy_tree;
pub mod deb;
pub mod diff;
pub mod elf;
pub mod fetch;
pub mod image;
pub mod initrd;
pub mod kernel;
pub mod lint;
pub mod lock;
pub mod namespace;
pub mod overlay;
pub mod path_glob;
pub mod profile;
pub mod progress;
pub mod project;
pub mod recipe;
pub mod release;
pub mod report;
pub mod sbom;
pub mod session;
pub mod solve;
pub mod store;
pub mod tools;
pub mod tree;
pub mod why;

pub use firstboot::{hash, suggest, toml_file, version};
