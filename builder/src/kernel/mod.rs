//! The kernel's modules, the firmware they ask for, and ZFS built against it.
//!
//! Debian ships every module, xz-compressed, and all firmware. An image keeps those that its profile
//! can use, uncompressed: compressed modules change completely with each kernel, while uncompressed
//! ones differ in few blocks, and that is what an update has to carry.
//!
//! ```text
//! usr/lib/modules/KVER/kernel/…/igc.ko     kept modules, same folders as in the package   [`modules`]
//!                      extra/zfs.ko        modules that Debian ships as sources           [`zfs`]
//!                      modules.order, modules.builtin, modules.builtin.modinfo   as shipped
//!                      modules.dep, modules.alias, …   made by depmod for what was kept
//! usr/lib/firmware/…                       what kept modules name, and the profile's list [`firmware`]
//! (in front of the initrd)                 what the processors want                       [`microcode`]
//! ```

pub mod firmware;
pub mod microcode;
pub mod modinfo;
pub mod modules;
pub mod zfs;

/// Whether a package is a kernel, firmware or microcode, as its name says.
///
/// An image gets of such a package what [`modules`] and [`firmware`] choose. No other package looks at it,
/// and its scripts (depmod, links in /boot, a call for an initrd) do what larder does itself.
pub fn is_hardware(package: &str) -> bool {
    ["linux-image-", "firmware-"].iter().any(|prefix| package.starts_with(prefix)) || package.ends_with("-microcode")
}
