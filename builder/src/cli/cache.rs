//! `larder cache`

use std::process::ExitCode;
use std::time::Duration;

use indicatif::HumanBytes;

use super::args::CacheVerb;
use crate::namespace;
use crate::store::{Freed, Store};

pub(super) fn run(verb: &CacheVerb) -> anyhow::Result<ExitCode> {
    match verb {
        CacheVerb::Dir => println!("{}", Store::directory(None)?.display()),
        CacheVerb::Size => size()?,
        CacheVerb::Prune { days } => {
            // Trees in the store belong to ids of the namespace: only its root may remove them.
            namespace::enter()?;
            say(&Store::exclusive(None)?.prune(Duration::from_secs(days * 24 * 60 * 60))?);
        }
        CacheVerb::Clean => {
            namespace::enter()?;
            say(&Store::exclusive(None)?.clean()?);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn say(freed: &Freed) {
    println!("removed {} entries, {}", freed.count, HumanBytes(freed.bytes));
}

fn size() -> anyhow::Result<()> {
    namespace::enter()?;
    for usage in Store::open(None)?.usage()? {
        println!("{:<14} {:>6} entries {:>12}", usage.part, usage.count, HumanBytes(usage.bytes).to_string());
    }
    Ok(())
}
