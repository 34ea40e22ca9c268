//! `larder lock`

use std::process::ExitCode;

use super::Common;
use super::args::LockArgs;
use crate::lock::{Lock, Lockable};
use crate::profile::Profile;
use crate::report::Mistake;
use crate::session::{Limits, Session};
use crate::tools::Tools;

pub(super) fn run(common: &Common, args: &LockArgs) -> anyhow::Result<ExitCode> {
    let session = common.session(Limits::default())?;
    let (profiles, trees) = chosen(&session, args)?;
    let profiles =
        profiles.iter().map(|name| Profile::load(&session.project, name)).collect::<anyhow::Result<Vec<_>>>()?;
    let trees = trees.iter().map(|name| Tools::load(&session.project, name)).collect::<anyhow::Result<Vec<_>>>()?;
    let lockables = profiles
        .iter()
        .map(|profile| profile.lockable(&session.project))
        .chain(trees.iter().map(|tools| tools.lockable(&session.project)));
    let mut outdated = Vec::new();
    for lockable in lockables {
        if !lock_one(&session, &lockable, args.check)? {
            outdated.push(session.project.relative(&lockable.path));
        }
    }
    if !outdated.is_empty() {
        return Err(Mistake::new(format!("not what the archive would give now: {}", outdated.join(", ")))
            .hint("run `larder lock`")
            .into());
    }
    Ok(ExitCode::SUCCESS)
}

/// Names of the profiles and of the tools trees to lock.
fn chosen(session: &Session, args: &LockArgs) -> anyhow::Result<(Vec<String>, Vec<String>)> {
    Ok(match (&args.profile, &args.tools) {
        (Some(profile), _) => (vec![profile.clone()], Vec::new()),
        (None, Some(tools)) => (Vec::new(), vec![tools.clone()]),
        (None, None) => (Profile::names(&session.project)?, Tools::names(&session.project)?),
    })
}

/// Locks or checks; `false` when the check found that something would change.
fn lock_one(session: &Session, lockable: &Lockable<'_>, check: bool) -> anyhow::Result<bool> {
    let (old, new) = if check {
        (Lock::read(&lockable.path)?, session.resolve(lockable.request)?)
    } else {
        session.relock(lockable)?
    };
    let same_request = old.as_ref().is_none_or(|old| old.request == new.request);
    let diff = old.as_ref().map(|old| Lock::diff(old, &new));
    let state = match &diff {
        None => "new",
        Some(diff) if !diff.is_empty() => "changed",
        Some(_) if !same_request => "the same for a changed request",
        Some(_) => "unchanged",
    };
    let count = match new.packages.len() {
        1 => "1 package".to_owned(),
        more => format!("{more} packages"),
    };
    let text = format!("{}: {state}, {count}\n{}", session.project.relative(&lockable.path), diff.unwrap_or_default());
    session.progress.note(text.trim_end());
    Ok(!check || state == "unchanged")
}
