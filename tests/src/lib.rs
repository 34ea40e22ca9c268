//! What the end-to-end stories beside this folder share: an image built by the real program, and VMs that boot it.
//!
//! | environment | |
//! |---|---|
//! | `LARDER_TEST_IMAGE` | tests this image instead of building the profile `qemu` |
//! | `LARDER_TEST_RELEASES` | a folder with releases that were made before: `1.0` and `site`, as `target/releases` |
//! | `LARDER_TEST_TOOLS=host` | takes QEMU and swtpm from `PATH` instead of larder's tools tree |
//! | `LARDER_ACCEL`, `LARDER_KEEP` | see `larder-qemu` |
//!
//! Every VM's console is logged to `target/vm-logs/STORY.log`.

mod build;
mod ordinary;
mod releases;
mod server;
mod slots;
mod story;
mod verity;

pub use build::{image, larder, target_folder, workspace};
pub use ordinary::OrdinaryUser;
pub use releases::{Releases, releases, without_security};
pub use server::{Fault, WebServer};
pub use slots::Slot;
pub use story::{BOOT, SharedVm, Story, TestVm};
pub use verity::VerityTree;

/// A recovery key that is a sample, not a secret; its form is checked like any other's.
pub const RECOVERY_KEY: &str = "TESTS-KEYS6-ARE0G-N0T1H-SECRJ-ETATC-A000Q-7J2KQ";
