//! `larder tools`

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;

use super::Common;
use super::args::ToolsVerb;
use crate::namespace::{self, Sandbox};
use crate::report::Mistake;
use crate::session::{Limits, Session};
use crate::tools::Tools;

pub(super) fn run(common: &Common, verb: ToolsVerb) -> anyhow::Result<ExitCode> {
    match verb {
        ToolsVerb::List => list(common),
        ToolsVerb::Run { tree, bind, network, limits, argv } => {
            namespace::enter()?;
            // Whoever starts a VM this way, a test say, may be killed. After `enter`: a change of ids clears it (prctl(2)).
            nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?;
            let session = common.session(Limits::from(&limits))?;
            run_program(&session, &tree, &bind, network, argv)
        }
    }
}

fn list(common: &Common) -> anyhow::Result<ExitCode> {
    let project = common.project()?;
    for name in Tools::names(&project)? {
        println!("{name:<8} {}", Tools::load(&project, &name)?.description);
    }
    Ok(ExitCode::SUCCESS)
}

fn run_program(
    session: &Session,
    tree: &str,
    binds: &[PathBuf],
    network: bool,
    argv: Vec<OsString>,
) -> anyhow::Result<ExitCode> {
    let mut sandbox = Tools::load(&session.project, tree)?.prepare(session)?.sandbox();
    for folder in binds {
        let folder = fs_err::canonicalize(folder).map_err(|error| {
            Mistake::new(format!("--bind {}: not a folder that larder can show to the program", folder.display()))
                .hint("name a folder that exists")
                .because(error)
        })?;
        sandbox = sandbox.bind_writable(&folder, &folder);
    }
    if network {
        sandbox = with_network(sandbox)?;
    }
    let mut argv = argv.into_iter();
    let program = argv.next().context("no program to run")?;
    let status = sandbox.command(&program.to_string_lossy()).args(argv).status()?;
    Ok(namespace::exit_code(status))
}

/// The host's network, and how the host finds the addresses of names.
fn with_network(sandbox: Sandbox) -> anyhow::Result<Sandbox> {
    let names = ["/etc/resolv.conf", "/etc/hosts"].map(Path::new);
    names.into_iter().filter(|path| path.exists()).try_fold(sandbox.with_network(), |sandbox, path| {
        // Often a link to where a resolver below /run writes; it is shown under its usual name.
        Ok(sandbox.bind(&fs_err::canonicalize(path)?, path))
    })
}
