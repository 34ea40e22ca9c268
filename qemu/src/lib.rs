//! Boots an appliance image in QEMU, for people (`larder try`) and for tests.
//!
//! A [`Machine`] is a PC that is switched off: a folder with its disks, its firmware variables and the state of its
//! TPM. [`Machine::boot`] turns it into a [`Vm`]; [`Vm::power_cut`] and [`Vm::shut_down`] give the [`Machine`] back. So
//! the types say when a disk may be tampered with: only while nobody else writes to it.
//!
//! ```text
//! FOLDER/boot.img       the boot medium: a copy of the image, grown; the image itself is never written
//! FOLDER/disk0.img …    one sparse file for each NVMe disk
//! FOLDER/target0.img …  one for each disk that the system can be installed to
//! FOLDER/vars.fd        UEFI variables
//! FOLDER/tpm/           what swtpm keeps
//! FOLDER/*.sock         QMP, TPM and guest channel; FOLDER/*.log what QEMU and swtpm complained about
//! ```
//!
//! Where QEMU itself comes from is a [`Launcher`]'s business: larder's own tools tree, or the host's `PATH`.
//!
//! # What a power cut loses
//!
//! [`Vm::power_cut`] is SIGKILL to QEMU at whatever instruction the guest is. Disks use the host's page cache and honour
//! flushes, so everything QEMU had handed to the host kernel survives, flushed or not; lost are the guest's own dirty
//! pages and the requests still queued in QEMU. That is kinder than a real disk, which may drop or reorder what
//! it had not flushed: these cuts find missing *writes* and half-done sequences, not missing flushes.

mod accel;
mod console;
mod disk;
mod error;
mod guest;
mod interactive;
mod keeper;
mod launcher;
mod machine;
mod process;
mod qemu_args;
mod qmp;
mod stall;
mod tpm;
mod vm;

pub use accel::Acceleration;
pub use console::Console;
pub use disk::{Disk, Partition};
pub use error::{ConsoleTail, Error, Result};
pub use guest::Output;
pub use interactive::{HOW_TO_LEAVE, TryOptions, try_image};
pub use launcher::{Firmware, HostTools, LarderTools, Launcher};
pub use machine::{BootMedium, Forward, Machine, MachineBuilder, Target};
pub use qmp::{Qmp, RunState};
pub use vm::Vm;
