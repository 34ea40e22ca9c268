//! The questions at the console: for whoever has put no settings on the stick.
//!
//! The answers become the text of a settings file, which is read like any other: what a file may not say, nobody can
//! answer. The plan that follows from it is the one that a file would have got.

mod questions;

use std::fmt::Write as _;

use anyhow::Context as _;
use zeroize::Zeroizing;

use crate::disk::{self, Machine};
use crate::key::RecoveryKey;
use crate::key::recovery::GROUPS;
use crate::pool::plan::{Look, Plan};
use crate::report;
use crate::secret::Secret;
use crate::settings::Settings;

use questions::{Answers, Question};

/// A person at a terminal.
pub trait Dialogue {
    /// Shows text.
    ///
    /// # Errors
    /// Nobody is there.
    fn say(&mut self, text: &str) -> anyhow::Result<()>;
    /// Asks for a line.
    ///
    /// # Errors
    /// Nobody is there.
    fn ask(&mut self, question: &str) -> anyhow::Result<String>;
    /// Asks for a line that is not shown.
    ///
    /// # Errors
    /// Nobody is there.
    fn ask_secret(&mut self, question: &str) -> anyhow::Result<Secret>;
    /// Shows what must not stay on the screen.
    ///
    /// # Errors
    /// Nobody is there.
    fn show_secret(&mut self, secret: &Secret) -> anyhow::Result<()>;
    /// Takes what was shown off the screen.
    ///
    /// # Errors
    /// Nobody is there.
    fn hide_secret(&mut self) -> anyhow::Result<()>;
}

/// What somebody has agreed to.
#[derive(Debug)]
pub struct Agreed {
    /// The settings file.
    pub text: Zeroizing<String>,
    /// What it says.
    pub settings: Settings,
    /// What will be done to the disks.
    pub plan: Plan,
}

/// Asks until there is a plan that is agreed to; `None` when the person wants none of it.
///
/// # Errors
/// Nobody is there, or the disks cannot be looked at.
pub fn run(dialogue: &mut dyn Dialogue, machine: &Machine, look: &dyn Look) -> anyhow::Result<Option<Agreed>> {
    dialogue.say(
        "\nThis server has no pool yet. Some questions; nothing is written before you agree to the plan at the end.\n",
    )?;
    let mut answers = Answers::default();
    for question in [Question::HostName, Question::TimeZone] {
        question.put(dialogue, &mut answers)?;
    }
    loop {
        let disks = machine.disks().context("looking for disks")?;
        dialogue.say(&disk::list(&disks, |_| None))?;
        questions::disks(dialogue, &disks, &mut answers)?;
        Question::Layout.put(dialogue, &mut answers)?;
        let settings = answers.settings()?;
        match Plan::new(machine, look, &settings.pool) {
            Err(error) if report::is_mendable(&error) => dialogue.say(&report::render(&error, None))?,
            Err(error) => return Err(error),
            Ok(plan) => {
                dialogue.say(&plan.to_string())?;
                if !is_agreed(dialogue, &plan)? {
                    return Ok(None);
                }
                questions::passphrase(dialogue, &mut answers)?;
                let text = answers.text();
                return Ok(Some(Agreed { settings: answers.settings()?, text, plan }));
            }
        }
    }
}

/// Everything on a disk is lost only when somebody has looked at that very disk.
fn is_agreed(dialogue: &mut dyn Dialogue, plan: &Plan) -> anyhow::Result<bool> {
    for disk in plan.erased() {
        let serial = disk.serial.as_deref().unwrap_or(disk.id.as_str());
        let skipped = serial.chars().count().saturating_sub(4);
        let end: String = serial.chars().skip(skipped).collect();
        let typed = dialogue
            .ask(&format!("Everything on {} is lost. Type the last four characters of its serial number: ", disk.id))?;
        if !typed.trim().eq_ignore_ascii_case(&end) {
            dialogue.say("That is another one. Nothing was changed.\n")?;
            return Ok(false);
        }
    }
    let typed = dialogue.ask(&format!("Type the number of the plan, {}, to go on, or nothing to stop: ", plan.id()))?;
    Ok(typed.trim() == plan.id())
}

/// Makes a recovery key, shows it once, and has a part of it typed back.
///
/// # Errors
/// Nobody is there.
pub fn recovery_key(dialogue: &mut dyn Dialogue) -> anyhow::Result<RecoveryKey> {
    let key = RecoveryKey::generate()?;
    let mut sheet = Zeroizing::new(String::new());
    write!(
        sheet,
        "\nYour recovery key. It opens your data when nothing else does, on any Linux: without it, a fault of this machine \
         can mean that everything is lost. It is shown this once. Write it down, or take a picture and print it; keep it \
         away from the machine.\n\n    {}\n\n{}\n",
        key.text().expose(),
        key.qr(true).expose()
    )?;
    dialogue.show_secret(&Secret::new(std::mem::take(&mut *sheet)))?;
    let mut random = [0];
    getrandom::fill(&mut random)?;
    let number = 1 + usize::from(random[0]) % GROUPS;
    loop {
        let typed = dialogue.ask(&format!("From your paper, type group {number} of the key: "))?;
        if key.has_group(number, &typed) {
            dialogue.hide_secret()?;
            return Ok(key);
        }
        dialogue.say("That is not what the key says there. Look again.\n")?;
    }
}

#[cfg(test)]
mod tests;
