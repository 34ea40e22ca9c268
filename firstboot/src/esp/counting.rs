//! Which names change when: pure functions over the names.

use super::name::{Tries, UkiName};
use crate::version::Version;

/// The systems on an ESP.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Systems {
    /// The one that runs; `None` when its UKI is not there (started by hand from somewhere else).
    pub running: Option<UkiName>,
    /// All others, the newest last.
    pub others: Vec<UkiName>,
}

/// A file is to have another name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rename {
    /// What it is called.
    pub from: String,
    /// What it is to be called.
    pub to: String,
}

impl Systems {
    /// The running system is good: it gets all its tries back. `None` when it has them.
    pub fn mark_good(&self) -> Option<Rename> {
        self.count(Tries::FULL)
    }

    /// The running system is not to be started again while there is another one.
    pub fn give_up(&self) -> Option<Rename> {
        self.count(Tries::NONE)
    }

    fn count(&self, tries: Tries) -> Option<Rename> {
        let name = self.running.as_ref()?;
        let new = name.with(tries);
        // Two files of the same system are what a torn rename has left. They may share their content: neither is touched.
        let is_taken = self.others.contains(&new);
        (*name != new && !is_taken).then(|| Rename { from: name.to_string(), to: new.to_string() })
    }

    /// What the boot loader turns to when the running system gives up: the newest by its name that has tries left.
    pub fn fallback(&self) -> Option<&UkiName> {
        let running = self.running.as_ref().map(|name| &name.version);
        self.others.iter().rfind(|name| !name.is_used_up() && Some(&name.version) != running)
    }

    /// Versions that were started as often as they may without ever becoming good.
    pub fn failed(&self) -> impl Iterator<Item = &Version> {
        let running = self.running.as_ref().map(|name| &name.version);
        let others = self.others.iter().filter(move |name| name.is_used_up() && Some(&name.version) != running);
        others.map(|name| &name.version)
    }

    /// A system that the boot loader will start next, as it has tries and is newer than the one that runs.
    pub fn staged(&self) -> Option<&UkiName> {
        let running = &self.running.as_ref()?.version;
        self.others.iter().rfind(|name| !name.is_used_up() && name.version.is_newer_than(running))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn systems(running: &str, others: &[&str]) -> Systems {
        let name = |name: &&str| UkiName::parse(&format!("larder_{name}.efi")).unwrap();
        Systems { running: Some(name(&running)), others: others.iter().map(name).collect() }
    }

    fn to(rename: Option<Rename>) -> Option<String> {
        rename.map(|rename| rename.to)
    }

    #[test]
    fn a_good_start_gives_back_all_tries_and_goes_on_counting() {
        for counter in ["+2-1", "+1-2", "+0-3", "+0-4", ""] {
            assert_eq!(to(systems(&format!("2{counter}"), &["1+3"]).mark_good()).unwrap(), "larder_2+3.efi");
        }
        assert_eq!(systems("2+3", &["1+3"]).mark_good(), None, "it has them");
        assert_eq!(Systems::default().mark_good(), None, "its UKI is elsewhere");
    }

    #[test]
    fn a_name_that_another_file_has_is_not_taken() {
        assert_eq!(systems("2+2-1", &["2+3", "1+3"]).mark_good(), None);
    }

    #[test]
    fn a_system_that_gives_up_leaves_its_place_to_the_other_one() {
        let systems = systems("2+2-1", &["1+3"]);
        assert_eq!(to(systems.give_up()).unwrap(), "larder_2+0-3.efi");
        assert_eq!(systems.fallback().unwrap().version.as_str(), "1");
    }

    #[test]
    fn there_is_nothing_to_fall_back_to_where_nothing_has_tries_left() {
        assert_eq!(systems("2+2-1", &["1+0-3"]).fallback(), None);
        assert_eq!(systems("2+2-1", &["2+3"]).fallback(), None, "the same system");
        assert_eq!(systems("2+2-1", &[]).fallback(), None);
    }

    #[test]
    fn what_has_used_up_its_tries_has_failed() {
        let versions = |systems: &Systems| systems.failed().map(Version::to_string).collect::<Vec<_>>();
        assert_eq!(versions(&systems("1+2-1", &["2+0-3"])), ["2"]);
        assert!(versions(&systems("1+0-3", &["2+3"])).is_empty());
    }

    #[test]
    fn a_newer_system_that_has_tries_is_staged() {
        assert_eq!(systems("9+3", &["1+3", "10+3"]).staged().unwrap().version.as_str(), "10");
        assert_eq!(systems("9+3", &["1+3", "10+0-3"]).staged(), None);
    }
}
