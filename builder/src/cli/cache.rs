//! `larder cache`

use std::process::ExitCode;
use std::time::Duration;

use indicatif::HumanBytes;

use super::Common;
use super::args::CacheVerb;
use crate::namespace;
use crate::report::Mistake;
use crate::store::{Freed, Store};

pub(super) fn run(common: &Common, verb: &CacheVerb) -> anyhow::Result<ExitCode> {
    match verb {
        CacheVerb::Dir => println!("{}", Store::directory(None)?.display()),
        CacheVerb::Size => size(common)?,
        CacheVerb::Prune { days } => {
            // Trees in the store belong to ids of the namespace: only its root may remove them.
            namespace::enter()?;
            say(&Store::exclusive(None)?.prune(Duration::from_secs(days * 24 * 60 * 60))?);
        }
        CacheVerb::Verify => verify(common)?,
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

/// Damage that came by itself comes again: it is gone now, yet a person should hear of it.
fn verify(common: &Common) -> anyhow::Result<()> {
    namespace::enter()?;
    let verified = Store::exclusive(None)?.verify(&common.progress())?;
    for damaged in &verified.damaged {
        println!("removed {}: {}", damaged.path.display(), damaged.why);
    }
    if verified.damaged.is_empty() {
        println!("{} blobs and entries are what they were", verified.count);
        return Ok(());
    }
    let (damaged, count) = (verified.damaged.len(), verified.count);
    Err(Mistake::new(format!("{damaged} of {count} blobs and entries were damaged and have been removed"))
        .hint("the next build fetches or makes them again; if nothing else explains the damage, check the disk (smartctl, dmesg) and the memory")
        .into())
}

fn size(common: &Common) -> anyhow::Result<()> {
    namespace::enter()?;
    for usage in Store::open_aloud(None, &common.progress())?.usage()? {
        println!("{:<14} {:>6} entries {:>12}", usage.part, usage.count, HumanBytes(usage.bytes).to_string());
    }
    Ok(())
}
