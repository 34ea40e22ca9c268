//! What happens to the settings at every start.
//!
//! ```text
//! larder-settings.service    [`Boot::settings`]   before ZFS and the network: identity, and /etc from the settings
//! larder-keep.service        [`Boot::keep`]       at the first start, once there is a state partition: what must last
//! ```
//!
//! At the first start the state partition is being made, which takes longer than anything else: nobody waits for it. What
//! has to be kept lies in [`KEEP`] until then. At every other start the settings are on it, so it is waited for.
//!
//! Nothing here stops a boot. What is wrong is a finding, and what the image brings stays in force.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;

use crate::apply::{Prepared, TOPIC};
use crate::finding::{Finding, Severity};
use crate::identity::{self, Identity};
use crate::settings::sources::{Found, Places, Source};
use crate::settings::{FILE_NAME, mistakes, understood};
use crate::state::State;
use crate::{report, status};

/// What has to get onto the state partition; relative to the root.
const KEEP: &str = "run/larder/keep";
/// The initrd's mark: the disk has all its partitions (`initrd/main.rs`).
const COMPLETE: &str = "run/larder/disk-is-complete";
/// How long the state partition may take to be checked and mounted: as long as systemd waits for a device.
const PATIENCE: Duration = Duration::from_secs(90);

/// A system that starts.
#[derive(Debug)]
pub struct Boot {
    root: PathBuf,
    places: Places,
}

impl Boot {
    /// This computer.
    pub fn here() -> Self {
        Self { root: "/".into(), places: Places::here() }
    }

    /// Puts identity and settings into force. Gives what is wrong, which `firstboot status` knows from then on.
    ///
    /// # Errors
    /// Not even that can be written down.
    pub fn settings(&self) -> anyhow::Result<Vec<Finding>> {
        let mut findings = Vec::new();
        let state = self.state().unwrap_or_else(|error| {
            findings.push(failure("state-not-readable", &error, "read `journalctl -b -u state.mount`"));
            None
        });
        if let Err(error) = self.identity(state.as_ref()) {
            findings.push(failure("identity-not-in-force", &error, "is the state partition full or failing?"));
        }
        if let Some(found) = self.find(state.as_ref(), &mut findings)
            && let Err(error) = self.put_into_force(&found, state.as_ref())
        {
            findings.push(failure("settings-not-in-force", &error, "read `journalctl -b -u larder-settings`"));
        }
        status::record(&self.root, TOPIC, &findings)?;
        Ok(findings)
    }

    /// Puts what has to be kept onto the state partition, which must be mounted. An identity that is there already stays.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn keep(&self) -> anyhow::Result<()> {
        let state = State::at(&self.root);
        for name in identity::FILES.into_iter().chain([FILE_NAME]) {
            let from = self.root.join(KEEP).join(name);
            let is_kept = name != FILE_NAME && state.read(name)?.is_some();
            if from.exists() && !is_kept {
                state.write(name, &fs_err::read(from)?)?;
            }
        }
        Ok(fs_err::remove_dir_all(self.root.join(KEEP))?)
    }

    /// The state partition, unless it is still being made.
    fn state(&self) -> anyhow::Result<Option<State>> {
        if !self.root.join(COMPLETE).exists() {
            return Ok(None);
        }
        let state = State::at(&self.root);
        let is_mounted = state.is_mounted_within(PATIENCE)?;
        anyhow::ensure!(is_mounted, "the state partition is not mounted after {} s", PATIENCE.as_secs());
        Ok(Some(state))
    }

    fn identity(&self, state: Option<&State>) -> anyhow::Result<()> {
        let identity = Identity::of(&self.root, state)?;
        identity.put_into_force(&self.root)?;
        match state {
            Some(state) => identity.keep(state),
            None => identity.files().into_iter().try_for_each(|(name, content)| self.keep_later(name, &content)),
        }
    }

    /// The settings that count. Where those that were applied are damaged, what they came from may still be there.
    fn find(&self, state: Option<&State>, findings: &mut Vec<Finding>) -> Option<Found> {
        let applied = || if state.is_some() { self.places.applied() } else { Ok(None) };
        let offered = || self.places.offered();
        for place in [&applied as &dyn Fn() -> _, &offered] {
            match place() {
                Ok(None) => {}
                Err(error) => findings.push(failure("settings-not-readable", &error, "put them there anew")),
                Ok(Some(found)) => match wrong(&found) {
                    None => return Some(found),
                    Some(_) if found.source == Source::State && is_of_a_newer_version(&found, findings) => {
                        return Some(found);
                    }
                    finding => findings.extend(finding),
                },
            }
        }
        None
    }

    fn put_into_force(&self, found: &Found, state: Option<&State>) -> anyhow::Result<()> {
        let understood = found.understood();
        let prepared = Prepared::new(&self.root, &understood, &found.source.to_string())?;
        prepared.changes.write(&self.root)?;
        match state {
            // What a newer version has added stays there for it.
            Some(_) if understood != **found.text => Ok(()),
            Some(state) => prepared.keep(state),
            None => self.keep_later(FILE_NAME, prepared.kept().as_bytes()),
        }
    }

    fn keep_later(&self, name: &str, content: &[u8]) -> anyhow::Result<()> {
        let folder = self.root.join(KEEP);
        fs_err::create_dir_all(&folder)?;
        fs_err::write(folder.join(name), content).context("putting aside what has to be kept")
    }
}

/// Whether what was applied makes sense without what is not known here: a newer version has applied it, and this one runs in
/// its place. Says so.
fn is_of_a_newer_version(found: &Found, findings: &mut Vec<Finding>) -> bool {
    let place = found.source.to_string();
    if understood(&found.text, &place).is_none() {
        return false;
    }
    let unknown: Vec<_> = mistakes(&found.text, &place).into_iter().map(|mistake| one_line(&mistake.into())).collect();
    findings.push(Finding {
        id: "settings-of-a-newer-version".into(),
        severity: Severity::Warning,
        message: format!(
            "a newer version has applied settings that this one does not know, and leaves aside: {}",
            unknown.join("; ")
        ),
        next: "update again when there is a version that works; nothing has to be done to the settings".into(),
    });
    true
}

/// What is wrong with settings, if anything is.
fn wrong(found: &Found) -> Option<Finding> {
    let place = found.source.to_string();
    let mistakes: Vec<_> = mistakes(&found.text, &place).into_iter().map(|mistake| one_line(&mistake.into())).collect();
    (!mistakes.is_empty()).then(|| Finding {
        id: "settings-wrong".into(),
        severity: Severity::Failure,
        message: format!("the settings are wrong and not in force: {}", mistakes.join("; ")),
        next: "mend the file and restart, or `firstboot apply FILE`".into(),
    })
}

fn failure(id: &'static str, error: &anyhow::Error, next: &'static str) -> Finding {
    Finding { id: id.into(), severity: Severity::Failure, message: one_line(error), next: next.into() }
}

/// The error with its causes, and what to do next.
fn one_line(error: &anyhow::Error) -> String {
    report::hints(error).fold(format!("{error:#}"), |text, hint| format!("{text} ({hint})"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::sources::testing::Computer;

    const MOUNTED: &str = "64 29 8:7 / /state rw,nosuid - ext4 /dev/sda7 rw\n";
    const NAMED: &str = "schema = 1\nsystem.hostname = \"nas\"\nkeys.passphrase = \"several words\"\n";

    /// A computer whose image has one template.
    fn computer() -> Computer {
        let computer = Computer::new();
        computer.put("usr/share/larder/templates/etc/hostname.tera", "{# #}\n{{ system.hostname }}\n");
        computer.put("etc/hostname", "larder\n");
        computer.put("etc/machine-id", "0123456789abcdef0123456789abcdef\n");
        computer
    }

    /// The state partition is there.
    fn complete(computer: &Computer) {
        computer.put(COMPLETE, "");
        computer.put("proc/self/mountinfo", MOUNTED);
    }

    fn boot(computer: &Computer) -> Boot {
        Boot { root: computer.root().into(), places: computer.places() }
    }

    fn read(computer: &Computer, path: &str) -> String {
        String::from_utf8_lossy(&std::fs::read(computer.root().join(path)).unwrap()).into_owned()
    }

    #[test]
    fn at_the_first_start_nobody_waits_for_the_state_and_everything_is_kept_later() {
        let computer = computer();
        computer.put_on_seed(FILE_NAME, NAMED);
        assert_eq!(boot(&computer).settings().unwrap(), []);
        assert_eq!(read(&computer, "etc/hostname"), "nas\n");
        assert!(!computer.root().join("state").exists());
        let host_id = read(&computer, "etc/hostid");

        complete(&computer);
        boot(&computer).keep().unwrap();
        assert!(!computer.root().join(KEEP).exists());
        assert_eq!(read(&computer, "state/larder/nas.toml"), "schema = 1\nsystem.hostname = \"nas\"\n");

        // The next start: /etc is new, the seed is gone.
        computer.put_on_seed(FILE_NAME, "schema = 1\n");
        computer.put("etc/hostname", "larder\n");
        computer.put("etc/machine-id", "ffffffffffffffffffffffffffffffff\n");
        std::fs::remove_file(computer.root().join("etc/hostid")).unwrap();
        assert_eq!(boot(&computer).settings().unwrap(), []);
        assert_eq!(read(&computer, "etc/hostname"), "nas\n");
        assert_eq!(read(&computer, "etc/machine-id"), "0123456789abcdef0123456789abcdef\n");
        assert_eq!(read(&computer, "etc/hostid"), host_id);
        identity::ensure_kept(computer.root()).unwrap();
    }

    #[test]
    fn wrong_settings_are_told_and_change_nothing() {
        let computer = computer();
        computer.put_on_seed(FILE_NAME, "schema = 1\n[system]\nhostnam = \"nas\"\ntimezone = \"UTX\"\n");
        let findings = boot(&computer).settings().unwrap();
        insta::assert_snapshot!(findings[0], @r"
        settings-wrong: the settings are wrong and not in force: nas.toml on the partition LARDER:3:1: unknown field `hostnam`, expected `hostname` or `timezone` (did you mean `hostname`?); nas.toml on the partition LARDER:4:12: `UTX` is no time zone; did you mean `UTC`?
          next: mend the file and restart, or `firstboot apply FILE`
        ");
        assert_eq!(findings.len(), 1);
        assert_eq!(read(&computer, "etc/hostname"), "larder\n");
        assert_eq!(status::recorded(computer.root(), TOPIC).unwrap().unwrap(), findings);
        assert!(!computer.root().join(KEEP).join(FILE_NAME).exists());
    }

    #[test]
    fn where_the_kept_settings_are_damaged_the_seed_counts_and_mends_them() {
        let computer = computer();
        complete(&computer);
        computer.put("state/larder/nas.toml", "\0\0\0");
        computer.put_on_seed(FILE_NAME, NAMED);
        let findings = boot(&computer).settings().unwrap();
        assert_eq!(findings[0].id, "settings-wrong");
        assert_eq!(read(&computer, "etc/hostname"), "nas\n");
        assert_eq!(boot(&computer).settings().unwrap(), []);
    }

    #[test]
    fn settings_of_a_newer_version_are_in_force_as_far_as_they_are_known_and_stay_as_they_are() {
        let computer = computer();
        complete(&computer);
        let newer = "schema = 1\n[system]\nhostname = \"nas\"\n[shares]\nphotos = true\n";
        computer.put("state/larder/nas.toml", newer);
        computer.put_on_seed(FILE_NAME, "schema = 1\nsystem.hostname = \"other\"\n");
        let findings = boot(&computer).settings().unwrap();
        assert_eq!(findings.iter().map(|finding| &*finding.id).collect::<Vec<_>>(), ["settings-of-a-newer-version"]);
        assert_eq!(read(&computer, "etc/hostname"), "nas\n");
        assert_eq!(read(&computer, "state/larder/nas.toml"), newer);
    }

    #[test]
    fn without_any_settings_the_defaults_stay_and_nothing_is_wrong() {
        let computer = computer();
        complete(&computer);
        assert_eq!(boot(&computer).settings().unwrap(), []);
        assert_eq!(read(&computer, "etc/hostname"), "larder\n");
        assert!(computer.root().join("state/larder/hostid").exists());
        assert!(!computer.root().join("state/larder/nas.toml").exists());
    }

    #[test]
    fn an_identity_that_is_kept_is_not_replaced_later() {
        let computer = computer();
        boot(&computer).settings().unwrap();
        computer.put("state/larder/hostid", "abcd");
        boot(&computer).keep().unwrap();
        assert_eq!(read(&computer, "state/larder/hostid"), "abcd");
    }
}
