//! The hardware that an image is for, and the machine that it runs on.
//!
//! A profile says which board it is for ([`Match`]), what is soldered on it ([`Device`]) and what is known to go wrong
//! there ([`Hazard`]). The builder chooses modules and firmware by that, and puts it into the image as a file
//! ([`DESCRIPTION`]), by which the appliance tells whether it is on the right board and whether everything works.
//!
//! ```text
//! profiles/*.toml ─ builder ─ /usr/lib/larder/hardware.json    [`description`]
//! /sys, or a saved lspci -nn and DMI dump                      [`machine`]
//!                      └──────┬──────┘
//!               which profile fits, and why                    [`detect`]
//!               what is wrong, what it means, what to do       [`check`]
//! ```

pub mod check;
pub mod description;
pub mod detect;
pub mod drives;
pub mod kernel_log;
pub mod machine;
pub mod media;
pub mod memory;
mod size;

pub use description::{Class, Codec, Description, Device, DmiPattern, Graphics, Hazard, Interface, Match, Memory};
pub use machine::{Dmi, Machine, PciFunction, PciId};
pub use size::Size;

/// Where the image describes the hardware that it is for; relative to its root.
pub const DESCRIPTION: &str = "usr/lib/larder/hardware.json";
