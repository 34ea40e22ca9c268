//! Shared library of the appliance: what its program and the image builder must agree on.
pub mod boot_disk;
pub mod command_line;
pub mod disk;
pub mod fat;
pub mod finding;
pub mod flash;
pub mod hardware;
pub mod health;
pub mod install;
pub mod layout;
pub mod report;
pub mod seed;
pub mod settings;
pub mod status;
pub mod suggest;
pub mod toml_file;
pub mod verity;
