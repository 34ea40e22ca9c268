//! From a build to what appliances update themselves with: signed releases, on any static web server.
//!
//! The formats are in [`firstboot::update`]; here is who makes them.

pub mod delta;
pub mod keys;
pub mod passphrase;
pub mod publish;
pub mod serve;
pub mod site;
