//! The questions, and the settings file that the answers become.

use std::fmt::Write as _;

use zeroize::Zeroizing;

use super::Dialogue;
use crate::disk::Disk;
use crate::report::Mistake;
use crate::secret::Secret;
use crate::settings::Settings;

/// A question with one line for an answer.
#[derive(Debug, Clone, Copy)]
pub(super) enum Question {
    HostName,
    TimeZone,
    Layout,
}

/// What was answered so far, as keys and values of a settings file.
#[derive(Debug, Default)]
pub(super) struct Answers {
    hostname: Option<String>,
    timezone: Option<String>,
    layout: Option<String>,
    disks: Vec<String>,
    erase: Vec<String>,
    passphrase: Option<Secret>,
}

impl Question {
    fn text(self) -> &'static str {
        match self {
            Self::HostName => "Name of this server [larder]: ",
            Self::TimeZone => "Where it is, such as Europe/Berlin [UTC]: ",
            Self::Layout => "Layout: single, mirror, mirrors, raidz1, raidz2 [auto]: ",
        }
    }

    fn slot(self, answers: &mut Answers) -> &mut Option<String> {
        match self {
            Self::HostName => &mut answers.hostname,
            Self::TimeZone => &mut answers.timezone,
            Self::Layout => &mut answers.layout,
        }
    }

    /// Asks until the answer is one that a settings file may have.
    pub(super) fn put(self, dialogue: &mut dyn Dialogue, answers: &mut Answers) -> anyhow::Result<()> {
        loop {
            let typed = dialogue.ask(self.text())?;
            let typed = typed.trim();
            *self.slot(answers) = (!typed.is_empty()).then(|| typed.to_owned());
            match answers.settings() {
                Ok(_) => return Ok(()),
                Err(mistake) => dialogue.say(&format!("{mistake}\n"))?,
            }
        }
    }
}

/// Asks which disks are taken: by the ends of their serial numbers, which are on their labels.
pub(super) fn disks(dialogue: &mut dyn Dialogue, disks: &[Disk], answers: &mut Answers) -> anyhow::Result<()> {
    loop {
        let typed = dialogue.ask("Disks of the pool, each by the end of its serial number [all empty ones]: ")?;
        match chosen(disks, &typed) {
            Ok(chosen) => {
                // What they hold is asked about later, disk by disk.
                let holds_something =
                    |disk: &&Disk| disk.areas.len() > 1 || disk.areas.iter().any(|area| area.format.is_some());
                let names = |disks: &mut dyn Iterator<Item = &Disk>| {
                    disks.filter_map(|disk| disk.id().map(str::to_owned)).collect::<Vec<_>>()
                };
                answers.erase = names(&mut chosen.iter().copied().filter(holds_something));
                answers.disks = names(&mut chosen.iter().copied());
                return Ok(());
            }
            Err(mistake) => dialogue.say(&format!("{mistake}\n"))?,
        }
    }
}

/// The disks whose serial numbers end like this.
fn chosen<'a>(disks: &'a [Disk], typed: &str) -> Result<Vec<&'a Disk>, Mistake> {
    let ends = typed.split([' ', ',']).filter(|end| !end.is_empty());
    ends.map(|end| {
        let fits = |disk: &&Disk| {
            disk.serial.as_deref().is_some_and(|serial| serial.to_lowercase().ends_with(&end.to_lowercase()))
        };
        let fitting: Vec<_> = disks.iter().filter(fits).collect();
        match fitting.as_slice() {
            [disk] => Ok(*disk),
            [] => Err(Mistake::new(format!("No serial number ends in `{end}`."))),
            _ => Err(Mistake::new(format!("Several serial numbers end in `{end}`: type more of it."))),
        }
    })
    .collect()
}

/// Asks for a passphrase, twice, until both are the same and good enough; or for none.
pub(super) fn passphrase(dialogue: &mut dyn Dialogue, answers: &mut Answers) -> anyhow::Result<()> {
    loop {
        let first = dialogue.ask_secret("A passphrase that opens the data, besides the recovery key [none]")?;
        if first.expose().is_empty() {
            return Ok(());
        }
        let second = dialogue.ask_secret("Once more")?;
        if first != second {
            dialogue.say("These are two different ones.\n")?;
            continue;
        }
        answers.passphrase = Some(first);
        match answers.settings() {
            Ok(_) => return Ok(()),
            Err(mistake) => dialogue.say(&format!("{mistake}\n"))?,
        }
        answers.passphrase = None;
    }
}

impl Answers {
    /// As a settings file.
    pub(super) fn text(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new("# Made by the questions at the console.\nschema = 1\n".to_owned());
        let line = |key: &str, value: &Option<String>| {
            value.as_ref().map(|value| format!("{key} = {}\n", quoted(value))).unwrap_or_default()
        };
        let list = |values: &[String]| values.iter().map(|value| quoted(value)).collect::<Vec<_>>().join(", ");
        let layout = self.layout.as_deref().unwrap_or("auto");
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            "\n[system]\n{}{}\n[pool]\nlayout = {}\ndisks = [{}]\nerase = [{}]\n",
            line("hostname", &self.hostname),
            line("timezone", &self.timezone),
            quoted(layout),
            list(&self.disks),
            list(&self.erase)
        );
        if let Some(passphrase) = &self.passphrase {
            let _ = write!(text, "\n[keys]\npassphrase = {}\n", *Zeroizing::new(quoted(passphrase.expose())));
        }
        text
    }

    /// What they say.
    ///
    /// # Errors
    /// The last one is wrong.
    pub(super) fn settings(&self) -> Result<Settings, Mistake> {
        Settings::parse(&self.text(), "your answer")
    }
}

/// As TOML writes it.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}
