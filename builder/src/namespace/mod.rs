//! The private user and mount namespace in which images are made, and sandboxes inside it.
//!
//! [`enter`] makes the calling process root of a namespace of its own: it may then own files by any
//! id below 65536, mount overlays that the host never sees, and run maintainer scripts that believe
//! to be root. The real root takes the same way, so that both produce the same bytes.

mod enter;
mod hurdle;
mod ids;
mod mounts;
mod sandbox;

pub use enter::{enter, map_ids};
pub use mounts::OverlayMount;
pub use sandbox::{Bind, RootTree, Sandbox, SandboxCommand, exec_sandbox, exit_code, init_sandbox};
