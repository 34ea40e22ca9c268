//! The command line: one file per verb, each a thin front of the library.

mod args;

use std::process::ExitCode;

use clap::Parser as _;

use crate::{namespace, report};
use args::{Args, Verb};

/// Parses the command line, runs the verb, reports errors; returns the exit status.
pub fn main() -> ExitCode {
    run(Args::parse()).unwrap_or_else(|error| {
        eprint!("{}", report::render(&error));
        report::exit_code(&error)
    })
}

fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.verb {
        Verb::MapIds { pid, uid, gid } => namespace::map_ids(pid, uid, gid).map(|()| ExitCode::SUCCESS),
        Verb::SandboxExec { spec, argv } => namespace::exec_sandbox(&spec, &argv),
        Verb::SandboxInit { spec, argv } => namespace::init_sandbox(&spec, &argv),
        Verb::Shell { tree } => {
            namespace::enter()?;
            let sandbox = namespace::Sandbox::new(namespace::RootTree { lowers: vec![tree], upper: None });
            let status = sandbox.command("/bin/sh").arg("-c").arg("id; cat /proc/self/uid_map; ls /; ls -la /dev; mount; ps ax || true").status()?;
            println!("{status}");
            Ok(ExitCode::SUCCESS)
        }
    }
}
