//! Shared library of the appliance: what its program and the image builder must agree on.
pub mod boot_disk;
pub mod finding;
pub mod hardware;
pub mod health;
pub mod status;
pub mod verity;
