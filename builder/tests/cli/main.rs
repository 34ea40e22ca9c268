//! The program as people use it: the real `larder`, a signed mirror of its own, and what it says.
//!
//! Nothing here needs a network. Each test has a folder of its own (`bench`) with a project, a cache
//! and a mirror on 127.0.0.1 whose faults are switched on file by file.

#![allow(clippy::unwrap_used, reason = "a test that cannot be prepared has failed")]

mod bench;
mod cache;
mod damage;
mod diff;
mod disk_full;
mod download;
mod flash;
mod help;
mod kill;
mod lint;
mod lock;
mod miniature;
mod mirror;
mod namespace;
mod package;
mod profile;
mod program;
mod release;
mod together;
mod tools;
mod why;

#[allow(dead_code, reason = "shared: each user takes what it needs")]
#[path = "../support/archive.rs"]
mod archive;
#[allow(dead_code, reason = "shared: each user takes what it needs")]
#[path = "../support/deb.rs"]
mod deb;
#[allow(dead_code, reason = "shared: each user takes what it needs")]
#[path = "../../../firstboot/src/disk/testing.rs"]
mod machine;
#[path = "../support/module.rs"]
mod module;
#[allow(dead_code, reason = "shared: each user takes what it needs")]
#[path = "../support/server.rs"]
mod server;

use firstboot::disk::Machine;
