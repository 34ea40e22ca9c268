use std::collections::VecDeque;

use super::*;
use crate::disk::Disk;
use crate::disk::testing::{FakeDisk, FakeMachine};

/// A person who has thought about the answers before.
#[derive(Default)]
struct Person {
    answers: VecDeque<String>,
    screen: String,
    secret: Option<String>,
    /// Whether a secret is still on the screen.
    is_shown: bool,
}

impl Person {
    fn with(answers: &[&str]) -> Self {
        Self { answers: answers.iter().map(|&answer| answer.to_owned()).collect(), ..Self::default() }
    }
}

impl Dialogue for Person {
    fn say(&mut self, text: &str) -> anyhow::Result<()> {
        self.screen.push_str(text);
        Ok(())
    }

    fn ask(&mut self, question: &str) -> anyhow::Result<String> {
        let answer = self.answers.pop_front().with_context(|| format!("nobody answers {question:?}"))?;
        let answer = match (answer.as_str(), &self.secret) {
            // Reads the plan's number off the screen, and the group of the key that is asked for off the paper.
            ("PLAN", _) => self.screen.lines().rev().find_map(|line| line.strip_prefix("Plan ")).unwrap().to_owned(),
            ("GROUP", Some(secret)) => {
                let number: usize = question.split("group ").nth(1).unwrap()[..1].parse().unwrap();
                let key = secret.lines().find(|line| line.matches('-').count() == 7).unwrap();
                key.trim().split('-').nth(number - 1).unwrap().to_lowercase()
            }
            _ => answer,
        };
        self.screen.push_str(&format!("{question}{answer}\n"));
        Ok(answer)
    }

    fn ask_secret(&mut self, question: &str) -> anyhow::Result<Secret> {
        self.screen.push_str(&format!("{question}\n"));
        Ok(Secret::new(self.answers.pop_front().context("nobody answers")?))
    }

    fn show_secret(&mut self, secret: &Secret) -> anyhow::Result<()> {
        (self.secret, self.is_shown) = (Some(secret.expose().to_owned()), true);
        Ok(())
    }

    fn hide_secret(&mut self) -> anyhow::Result<()> {
        self.is_shown = false;
        Ok(())
    }
}

struct Healthy;

impl Look for Healthy {
    fn is_blank(&self, _: &Disk) -> std::io::Result<bool> {
        Ok(true)
    }

    fn complaint(&self, _: &Disk) -> Option<String> {
        None
    }
}

const EMPTY: FakeDisk<'static> = FakeDisk {
    name: "nvme0n1",
    way: "pci0000:00/0000:00:1d.0/nvme/nvme0",
    id: "nvme-CT1000_2244A1",
    serial: "2244A1",
    size: 1_000_204_886_016,
    partitions: &[],
};
const USED: FakeDisk<'static> = FakeDisk {
    name: "nvme1n1",
    id: "nvme-CT1000_2244A2",
    serial: "2244A2",
    partitions: &[("nvme1n1p1", "E:ID_FS_TYPE=ntfs\nE:ID_FS_LABEL_ENC=Photos\n")],
    ..EMPTY
};

fn talk(answers: &[&str]) -> (Option<Agreed>, Person) {
    let machine = FakeMachine::new(&[EMPTY, USED]);
    let mut person = Person::with(answers);
    let agreed = run(&mut person, &machine.machine(), &Healthy).unwrap();
    (agreed, person)
}

#[test]
fn empty_answers_take_the_empty_disk_and_nothing_else() {
    let (agreed, person) = talk(&["", "", "", "", "PLAN", ""]);
    let agreed = agreed.unwrap();
    assert_eq!(agreed.plan.disks.len(), 1);
    assert_eq!(agreed.plan.erased().count(), 0);
    insta::assert_snapshot!(person.screen, @r#"
    This server has no pool yet. Some questions; nothing is written before you agree to the plan at the end.
    Name of this server [larder]: 
    Where it is, such as Europe/Berlin [UTC]: 
    Can be written to:
      /dev/disk/by-id/nvme-CT1000_2244A1
          Model, serial number 2244A1, 1.0 TB, NVMe
          nvme0n1: GPT partition table, 1.0 TB
      /dev/disk/by-id/nvme-CT1000_2244A2
          Model, serial number 2244A2, 1.0 TB, NVMe
          nvme1n1p1: ntfs "Photos", 1.0 MB
    Disks of the pool, each by the end of its serial number [all empty ones]: 
    Layout: single, mirror, mirrors, raidz1, raidz2 [auto]: 
    Pool `tank`: one disk
      Chosen because there is only one disk.

      Disk 1: Model, serial number 2244A1, 1.0 TB
          nvme-CT1000_2244A1

    Room for files: 965.2 GB of 1.0 TB
    When one disk fails: everything is lost.

    WARNING: with one disk, what it loses is lost. Errors are noticed, and nothing can mend them.

    Nothing is erased: all disks are empty.

    Plan 9e236e8e
    Type the number of the plan, 9e236e8e, to go on, or nothing to stop: 9e236e8e
    A passphrase that opens the data, besides the recovery key [none]
    "#);
}

#[test]
fn wrong_answers_are_asked_again_and_the_right_ones_become_a_settings_file() {
    let (agreed, person) = talk(&[
        "my nas",
        "nas",
        "Europe/Berln",
        "Europe/Berlin",
        "2244a9",
        "2244a1, 44a2",
        "raid5",
        "mirror",
        "44a2",
        "PLAN",
        "hunter2",
        "hunter2",
        "correct horse battery",
        "correct horse batterie",
        "correct \"horse\" battery",
        "correct \"horse\" battery",
    ]);
    let agreed = agreed.unwrap();
    insta::assert_snapshot!(*agreed.text, @r#"
    # Made by the questions at the console.
    schema = 1

    [system]
    hostname = "nas"
    timezone = "Europe/Berlin"

    [pool]
    layout = "mirror"
    disks = ["nvme-CT1000_2244A1", "nvme-CT1000_2244A2"]
    erase = ["nvme-CT1000_2244A2"]

    [keys]
    passphrase = 'correct "horse" battery'
    "#);
    assert_eq!(agreed.plan.erased().count(), 1);
    assert_eq!(agreed.settings.keys.passphrase.unwrap().expose(), "correct \"horse\" battery");
    assert!(!person.screen.contains("horse") && !person.screen.contains("hunter2"));
}

#[test]
fn a_disk_is_not_erased_by_whoever_has_not_looked_at_it() {
    assert!(talk(&["", "", "44A2", "", "44A1"]).0.is_none());
    assert!(talk(&["", "", "44A2", "", "44A2", "yes"]).0.is_none());
}

#[test]
fn the_recovery_key_is_taken_off_the_screen_once_a_part_was_typed_back() {
    let mut person = Person::with(&["00000", "GROUP"]);
    let key = recovery_key(&mut person).unwrap();
    assert!(person.secret.unwrap().contains(key.text().expose()) && !person.is_shown);
    assert!(person.screen.contains("Look again") && !person.screen.contains(key.text().expose()));
}
