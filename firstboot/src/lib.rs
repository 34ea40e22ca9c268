//! Shared library of the appliance.
pub mod finding;
pub mod health;
