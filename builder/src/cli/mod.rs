//! The command line: one file per verb, each a thin front of the library.

mod args;
mod build;
mod cache;
mod diff;
mod flash;
mod inspect;
mod keys;
mod lint;
mod lock;
mod profiles;
mod publish;
mod recovery_key;
mod seed;
mod serve;
mod sizes;
mod tools;
mod try_image;
mod try_update;
mod why;

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser as _;

use crate::namespace;
use crate::progress::Progress;
use crate::project::Project;
use crate::report;
use crate::session::{Limits, Session};
use crate::store::Store;
use args::{Args, LimitArgs, Verb};

/// Parses the command line, runs the verb, reports errors; returns the exit status.
pub fn main() -> ExitCode {
    run(Args::parse()).unwrap_or_else(|error| {
        eprint!("{}", report::render(&error));
        report::exit_code(&error)
    })
}

fn run(args: Args) -> anyhow::Result<ExitCode> {
    let common = Common { project: args.project, quiet: args.quiet };
    match args.verb {
        Verb::Lock(args) => lock::run(&common, &args),
        Verb::Build(args) => build::run(&common, &args),
        Verb::Try(args) => try_image::run(&common, &args),
        Verb::Flash(args) => flash::run(&common, &args),
        Verb::Seed(args) => seed::run(&common, &args),
        Verb::Publish(args) => publish::run(&common, &args),
        Verb::Serve(args) => serve::run(&common, &args),
        Verb::Keys { verb } => keys::run(&common, verb),
        Verb::RecoveryKey => recovery_key::run(&common),
        Verb::Lint(args) => lint::run(&common, &args),
        Verb::Why(args) => why::run(&common, &args),
        Verb::Profiles { verb } => profiles::run(&common, verb.as_ref()),
        Verb::Sizes(args) => sizes::run(&common, &args),
        Verb::Inspect(args) => inspect::run(&common, &args),
        Verb::Diff(args) => diff::run(&common, &args),
        Verb::Cache { verb } => cache::run(&common, &verb),
        Verb::Tools { verb } => tools::run(&common, verb),
        Verb::MapIds { pid, uid, gid } => namespace::map_ids(pid, uid, gid).map(|()| ExitCode::SUCCESS),
        Verb::SandboxExec(args) => namespace::exec_sandbox(&args.spec, &args.argv),
        Verb::SandboxInit(args) => namespace::init_sandbox(&args.spec, &args.argv),
    }
}

/// What every verb may be told.
struct Common {
    project: Option<std::path::PathBuf>,
    quiet: bool,
}

impl Common {
    fn progress(&self) -> Progress {
        if self.quiet { Progress::silent() } else { Progress::stderr() }
    }

    fn project(&self) -> anyhow::Result<Project> {
        let start = std::env::current_dir().context("reading the current folder")?;
        Ok(Project::find(self.project.as_deref(), &start)?)
    }

    fn session(&self, limits: Limits) -> anyhow::Result<Session> {
        let (project, progress) = (self.project()?, self.progress());
        let store = Store::open_aloud(None, &progress)?;
        Ok(Session::new(project, store, progress, limits))
    }
}

impl From<&LimitArgs> for Limits {
    fn from(args: &LimitArgs) -> Self {
        Self { locked: args.locked, offline: args.offline }
    }
}
