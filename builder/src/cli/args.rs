//! What may be typed: clap structures only.

use std::ffi::OsString;
use std::path::PathBuf;

/// Builds a minimal, immutable, bootable Debian + ZFS image for small home servers.
#[derive(Debug, clap::Parser)]
#[command(name = "larder", version)]
pub struct Args {
    #[command(subcommand)]
    pub verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
pub enum Verb {
    Shell { tree: PathBuf },
    /// Writes the id maps of another process.
    #[command(hide = true)]
    MapIds { pid: u32, uid: u32, gid: u32 },
    /// Enters the namespaces of a sandbox.
    #[command(hide = true)]
    SandboxExec {
        spec: String,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        argv: Vec<OsString>,
    },
    /// Builds a sandbox's root and runs a program in it.
    #[command(hide = true)]
    SandboxInit {
        spec: String,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        argv: Vec<OsString>,
    },
}
