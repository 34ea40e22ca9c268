//! Opening the data: first the ways that need nobody, then whatever somebody types, at the console or over SSH; servers at
//! home are asked meanwhile ([`by_network`]).
//!
//! Everything else is up meanwhile. Units that need the data belong to `larder-storage.target`, which is started when the
//! data is mounted, whoever has opened it. What is typed wrongly costs time, see [`throttle`].

pub mod ask;
mod boot;
mod network;
pub mod throttle;
mod typed;

pub use boot::{at_boot, automatically, forget_findings, locked_because, record_open};
pub use network::by_network;
pub use throttle::Throttle;
pub use typed::{Denied, Opened, open_typed};
