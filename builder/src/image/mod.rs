//! From a root file system to a disk image: dm-verity, UKI, ESP, GPT, the output folder.
//!
//! Everything here is done in process, on plain files: no loop devices, no mounts, no host tools.
//! The same parts give the same bytes, and holes stay holes, so an image of 2.6 GiB takes no more
//! room on the builder's disk than what is in it.

pub mod compare;
pub mod compress;
pub mod disk;
pub mod esp;
pub mod frames;
pub mod gpt;
pub mod inspect;
pub mod mtree;
pub mod output;
pub mod source;
pub mod sparse;

pub use firstboot::version;
