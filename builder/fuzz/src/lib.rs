//! Fuzz targets: everything that reads what somebody else wrote. From the folder `builder`:
//!
//! ```text
//! cargo install cargo-fuzz
//! cargo fuzz run --sanitizer none deb -- -max_total_time=600
//! ```
//!
//! larder has no unsafe code of its own, so targets look for panics and broken promises, not for bad
//! memory: that needs no sanitizer and hence no nightly toolchain. `corpus/` holds one small input for
//! each path that was worth keeping, findings included; `cargo test` replays it (`builder/tests/fuzz.rs`).

pub mod targets;

#[allow(dead_code, clippy::unwrap_used, reason = "shared with larder's tests: each user takes what it needs")]
#[path = "../../tests/support/archive.rs"]
mod archive;
#[allow(dead_code, clippy::unwrap_used, reason = "shared with larder's tests: each user takes what it needs")]
#[path = "../../tests/support/deb.rs"]
mod deb;
