//! `firstboot keys …`

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;

use anyhow::ensure;
use clap::{Args, Subcommand};
use firstboot::key::{
    self, Kit, Overview, PoolKey, Presence, RecoveryKey, Refusal, Request, Slot, SlotName, SlotStore as _, Vault, Way,
    Wrapped,
};
use firstboot::report::Mistake;
use firstboot::secret::Secret;
use firstboot::settings::sources::Places;
use firstboot::settings::{self, MIN_PASSPHRASE, MIN_PIN};
use firstboot::tang::Client;
use firstboot::tpm::Tpm;
use firstboot::unlock::ask::{self, Answer};
use firstboot::unlock::{self, Opened, open_typed};

use super::unlock::{ask_for, find, question};

/// The running system.
const ROOT: &str = "/";

/// What may be typed.
#[derive(Debug, Args)]
pub(crate) struct KeysArgs {
    #[command(subcommand)]
    verb: KeysVerb,
    /// Pool, if several have keys.
    #[arg(long, global = true, value_name = "NAME")]
    pool: Option<String>,
}

#[derive(Debug, Subcommand)]
enum KeysVerb {
    /// Lists the keys that open the data.
    List {
        /// Prints JSON.
        #[arg(long)]
        json: bool,
    },
    /// Adds a key; asks for one that opens the data already.
    Add {
        /// What kind: recovery, passphrase, tpm2 (needs nobody), tpm2-pin, tang (needs the servers of the settings and, unless they
        /// say otherwise, the TPM).
        way: Way,
        /// What it is called [default: as its kind]
        #[arg(long)]
        name: Option<SlotName>,
        /// Reads a recovery key that `larder recovery-key` made, instead of making one.
        #[arg(long)]
        made: bool,
    },
    /// Takes a key away: it opens nothing any more.
    Remove {
        /// Its name.
        name: SlotName,
    },
    /// Says whether a key opens the data, and changes nothing.
    Test {
        /// Its name [default: whichever the typed one is]
        name: Option<SlotName>,
    },
    /// Has keys that do not work any more work again: those of the TPM, after it or the system was changed, and those of Tang
    /// servers, after their keys were rotated.
    Repair,
    /// Prints the recovery kit: how the recovery key opens the data on any Debian.
    Kit {
        /// Name of the recovery key [default: the first one]
        name: Option<SlotName>,
    },
}

pub(crate) fn run(args: &KeysArgs) -> anyhow::Result<ExitCode> {
    let vault = find(args.pool.as_deref())?;
    match &args.verb {
        KeysVerb::List { json } => list(&vault, *json)?,
        KeysVerb::Add { way, name, made } => add(&vault, *way, name.clone().unwrap_or((*way).into()), *made)?,
        KeysVerb::Remove { name } => {
            key::remove(&vault.slots(), name)?;
            println!("{name} is gone.");
        }
        KeysVerb::Test { name } => test(&vault, name.as_ref())?,
        KeysVerb::Repair => repair(&vault)?,
        KeysVerb::Kit { name } => kit(&vault, name.as_ref())?,
    }
    Ok(ExitCode::SUCCESS)
}

fn list(vault: &Vault, json: bool) -> anyhow::Result<()> {
    let (overview, mut out) = (Overview::of(vault)?, std::io::stdout().lock());
    if json {
        serde_json::to_writer_pretty(&mut out, &overview)?;
        return Ok(writeln!(out)?);
    }
    Ok(write!(out, "{overview}")?)
}

fn add(vault: &Vault, way: Way, name: SlotName, made: bool) -> anyhow::Result<()> {
    let slots = vault.slots().slots()?;
    if slots.find(&name).is_some() || slots.unreadable.iter().any(|slot| slot.name == name.as_str()) {
        return Err(Mistake::new(format!("there is a key {name} already"))
            .hint("call this one otherwise: --name NAME")
            .into());
    }
    let key = authorise(vault, &slots.slots)?;
    match way {
        Way::Recovery => add_recovery_key(vault, &key, name, made),
        Way::Passphrase => {
            let passphrase = new_secret("passphrase", MIN_PASSPHRASE, "; several words are good")?;
            enroll(vault, &key, name, &Request::Passphrase(&passphrase))
        }
        Way::Tpm2 | Way::Tpm2Pin => add_tpm(vault, &key, way, name),
        Way::Tang => add_tang(vault, &key, name),
    }?;
    tell_of_others(way, &slots.slots);
    Ok(())
}

/// A way that needs less makes one that needs more pointless, which is not seen otherwise until a thief has the machine.
fn tell_of_others(added: Way, slots: &[Slot]) {
    let others = |way: Way| slots.iter().filter(move |slot| slot.way() == way);
    match added {
        Way::Tang => others(Way::Tpm2).for_each(|Slot { name, .. }| {
            println!("{name} still opens it anywhere, without the servers; to end that: firstboot keys remove {name}");
        }),
        Way::Tpm2 => others(Way::Tang).for_each(|Slot { name, .. }| {
            println!("It opens it anywhere from now on, whatever {name} asks for.");
        }),
        Way::Recovery | Way::Passphrase | Way::Tpm2Pin => {}
    }
}

/// The servers, and whether the TPM is needed, are those of the settings in force.
fn add_tang(vault: &Vault, key: &PoolKey, name: SlotName) -> anyhow::Result<()> {
    let keys = match Places::here().applied()? {
        Some(found) => found.settings()?.keys,
        None => settings::Keys::default(),
    };
    let (client, tpm) = (Client::new(), Tpm::at(ROOT));
    let there = Some(&tpm).filter(|tpm| tpm.is_there());
    if there.is_none() && keys.tpm == settings::Tpm::Required {
        return Err(Mistake::new("the settings ask for a TPM, and this machine has none that Linux can use").into());
    }
    let presence = Presence::wanted(&keys, &client, there)?;
    if presence.tpm.is_some() {
        needs_open(vault)?;
    }
    enroll(vault, key, name, &Request::Tang(&presence))
}

fn needs_open(vault: &Vault) -> anyhow::Result<()> {
    if vault.is_open()? {
        return Ok(());
    }
    Err(Mistake::new("what the TPM trusts is kept in the data, which is locked").hint("firstboot unlock").into())
}

fn add_tpm(vault: &Vault, key: &PoolKey, way: Way, name: SlotName) -> anyhow::Result<()> {
    let tpm = Tpm::at(ROOT);
    needs_open(vault)?;
    if way == Way::Tpm2 {
        return enroll(vault, key, name, &Request::Tpm2(&tpm));
    }
    let pin = new_secret("PIN", MIN_PIN, "")?;
    enroll(vault, key, name, &Request::Tpm2Pin(&tpm, &pin))
}

fn repair(vault: &Vault) -> anyhow::Result<()> {
    let (slots, tpm, client) = (vault.slots().slots()?.slots, Tpm::at(ROOT), Client::new());
    let mut broken: Vec<_> = slots.iter().filter(|slot| slot.check_machine(&tpm, &client).is_err()).collect();
    // What can be mended here first: servers may not answer.
    broken.sort_by_key(|slot| slot.way().needs_network());
    if broken.is_empty() {
        println!("Nothing is broken.");
        return if vault.is_open()? { unlock::forget_findings(ROOT.as_ref()) } else { Ok(()) };
    }
    let key = authorise(vault, &slots)?;
    for slot in broken {
        match &slot.wrapped {
            Wrapped::Tang(present) => repair_tang(vault, &key, slot, &present.again(&client, &tpm))?,
            _ => add_tpm(vault, &key, slot.way(), slot.name.clone())?,
        }
    }
    unlock::forget_findings(ROOT.as_ref())
}

/// The servers stay those that they are, known by what they have signed with so far; where that is not good any more, the
/// settings may know better.
fn repair_tang(vault: &Vault, key: &PoolKey, slot: &Slot, presence: &Presence<'_>) -> anyhow::Result<()> {
    if presence.tpm.is_some() {
        needs_open(vault)?;
    }
    match enroll(vault, key, slot.name.clone(), &Request::Tang(presence)) {
        Err(error) if add_tang(vault, key, slot.name.clone()).is_err() => Err(error),
        _ => Ok(()),
    }
}

/// The pool's key, by whatever opens it: by itself, or somebody is asked.
fn authorise(vault: &Vault, slots: &[Slot]) -> anyhow::Result<PoolKey> {
    let (tpm, question) = (Tpm::at(ROOT), format!("{} that opens the data now", question(slots)));
    let opened = match unlock::automatically(slots, &tpm, &Client::new()).0 {
        Some(opened) => Some(opened),
        None => ask_for(&question, || false, |typed| open_typed(slots, &tpm, typed))?,
    };
    let key = opened.ok_or_else(|| Mistake::new("nothing was typed"))?.key;
    ensure!(vault.fits(&key)?, "this key opens its slot, but not {}", vault.dataset());
    Ok(key)
}

fn enroll(vault: &Vault, key: &PoolKey, name: SlotName, request: &Request<'_>) -> anyhow::Result<()> {
    let slot = key::enroll(&vault.slots(), key, name, request)?;
    println!("{} opens {} from now on.", slot.name, vault.dataset());
    Ok(())
}

fn add_recovery_key(vault: &Vault, key: &PoolKey, name: SlotName, made: bool) -> anyhow::Result<()> {
    let recovery = if made {
        let typed = read("The recovery key")?;
        typed.expose().parse().map_err(|typo: key::recovery::Typo| Mistake::new(typo.to_string()))?
    } else {
        new_recovery_key()?
    };
    enroll(vault, key, name, &Request::Recovery(&recovery))?;
    println!("Print how to use it without this server: firstboot keys kit");
    Ok(())
}

/// Shows a new one, and has a part of it typed back: what was not written down helps nobody.
fn new_recovery_key() -> anyhow::Result<RecoveryKey> {
    if !ask::is_attended() {
        return Err(Mistake::new("nobody is there to write down a recovery key")
            .hint("make one with `larder recovery-key`, and give it by standard input: --made")
            .into());
    }
    let recovery = RecoveryKey::generate()?;
    let colours = std::io::stdout().is_terminal();
    println!("\n{}\n\n{}", recovery.text().expose(), recovery.qr(colours).expose());
    println!("Write it down, or scan it. It is not shown again.\n");
    let mut random = [0];
    getrandom::fill(&mut random)?;
    let number = usize::from(random[0]) % key::recovery::GROUPS + 1;
    while !recovery.has_group(number, read(&format!("Type group {number} of it"))?.expose()) {
        eprintln!("This is not group {number}.");
    }
    Ok(recovery)
}

/// Asks for a new secret, at a terminal twice.
fn new_secret(what: &str, least: usize, hint: &str) -> anyhow::Result<Secret> {
    loop {
        let secret = read(&format!("New {what}"))?;
        let problem = if secret.expose().chars().count() < least {
            format!("the {what} has less than {least} characters{hint}")
        } else if ask::is_attended() && read("The same again")? != secret {
            "the two were different".to_owned()
        } else {
            return Ok(secret);
        };
        if !ask::is_attended() {
            return Err(Mistake::new(problem).into());
        }
        eprintln!("{problem}");
    }
}

fn read(question: &str) -> anyhow::Result<Secret> {
    match ask::secret(question, || false)? {
        Answer::Line(line) => Ok(line),
        Answer::End | Answer::Settled => Err(Mistake::new("nothing was typed").into()),
    }
}

fn test(vault: &Vault, name: Option<&SlotName>) -> anyhow::Result<()> {
    let slots = match name {
        Some(name) => vec![slot(vault, name)?],
        None => vault.slots().slots()?.slots,
    };
    let (question, tpm) = (question(&slots), Tpm::at(ROOT));
    let opened = match &slots[..] {
        [alone] if alone.way().is_automatic() => {
            let problem =
                |refusal: Refusal| Mistake::new(format!("{}: {refusal}", alone.name)).hint("firstboot keys repair");
            Opened {
                key: alone.open_alone(&tpm, &Client::new()).map_err(problem)?,
                slot: alone.name.clone(),
                way: alone.way(),
            }
        }
        _ => ask_for(question, || false, |typed| open_typed(&slots, &tpm, typed))?
            .ok_or_else(|| Mistake::new("nothing was typed"))?,
    };
    ensure!(vault.fits(&opened.key)?, "{} gives a key, but it does not open {}", opened.slot, vault.dataset());
    println!("{} opens {}.", opened.slot, vault.dataset());
    Ok(())
}

fn slot(vault: &Vault, name: &SlotName) -> anyhow::Result<Slot> {
    let missing = || Mistake::new(format!("there is no key {name}")).hint("list them: firstboot keys list");
    vault.slots().slots()?.find(name).cloned().ok_or_else(|| missing().into())
}

fn kit(vault: &Vault, name: Option<&SlotName>) -> anyhow::Result<()> {
    let slots = vault.slots().slots()?.slots;
    let mut recovery = slots.into_iter().filter(|slot| name.is_none_or(|name| slot.name == *name));
    let found = recovery.find_map(|slot| match slot.wrapped {
        Wrapped::Recovery(enc) => Some((slot.name, enc.iterations)),
        _ => None,
    });
    let (slot, iterations) =
        found.ok_or_else(|| Mistake::new("there is no such recovery key").hint("firstboot keys list"))?;
    Ok(write!(std::io::stdout(), "{}", Kit::of(vault, slot, iterations)?)?)
}
