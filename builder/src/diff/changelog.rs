//! Debian changelogs (deb-changelog(5)): which security fixes they name between two versions.
//!
//! ```text
//! openssl (3.5.7-1~deb13u3) trixie-security; urgency=medium
//!
//!   * CVE-2026-84782 (DTLS retransmits handshake messages from a stale buffer)
//!
//!  -- Jo Doe <jo@debian.org>  Sat, 21 Nov 2026 10:00:00 +0000
//! ```

use std::collections::BTreeSet;

use crate::archive::relation::{self, Version};

/// What the entries between two versions name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Named {
    /// `CVE-YEAR-NUMBER` and `DSA-NUMBER`, each once, the oldest first.
    pub ids: Vec<String>,
    /// Security suites that an entry was uploaded to (`trixie-security`).
    pub suites: BTreeSet<String>,
    /// Whether an entry has urgency high or above.
    pub urgent: bool,
}

impl Named {
    /// Whether nothing speaks of security.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty() && self.suites.is_empty() && !self.urgent
    }
}

/// Reads the entries later than `old`, up to and including `new`: versions of the source package.
pub fn between(changelog: &str, old: &Version, new: &Version) -> Named {
    let mut named = Named::default();
    let mut ids = BTreeSet::new();
    let mut wanted = false;
    for line in changelog.lines() {
        if let Some(heading) = Heading::parse(line) {
            wanted = heading.version > *old && heading.version <= *new;
            if wanted {
                named.suites.extend(heading.suites.filter(|suite| suite.contains("security")).map(str::to_owned));
                named.urgent |= ["high", "emergency", "critical"].contains(&heading.urgency.as_str());
            }
        } else if wanted {
            ids.extend(identifiers(line));
        }
    }
    named.ids = ids.into_iter().map(|id| id.to_string()).collect();
    named
}

/// `NAME (VERSION) SUITE...; KEY=VALUE, ...`
struct Heading<'a> {
    version: Version,
    suites: std::str::SplitWhitespace<'a>,
    urgency: String,
}

impl<'a> Heading<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (name, rest) = line.split_once(" (")?;
        let (version, rest) = rest.split_once(')')?;
        let (suites, keys) = rest.split_once(';')?;
        if !relation::is_package_name(name) {
            return None;
        }
        let urgency = keys.split(',').find_map(|key| key.trim().strip_prefix("urgency=")).unwrap_or_default();
        Some(Self {
            version: relation::version(version).ok()?,
            suites: suites.split_whitespace(),
            // A remark may follow the word.
            urgency: urgency.split_whitespace().next().unwrap_or_default().to_lowercase(),
        })
    }
}

/// An identifier, in an order that counts.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Id {
    /// Year and number; the number as its text, which keeps leading zeros.
    Cve(u32, u64, String),
    /// Number and revision.
    Dsa(u64, Option<u64>),
}

impl std::fmt::Display for Id {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Cve(year, _, number) => write!(f, "CVE-{year}-{number}"),
            Self::Dsa(number, Some(revision)) => write!(f, "DSA-{number}-{revision}"),
            Self::Dsa(number, None) => write!(f, "DSA-{number}"),
        }
    }
}

/// Every identifier in a line, however it is set apart from the words around it.
fn identifiers(line: &str) -> impl Iterator<Item = Id> + '_ {
    let cves = line.match_indices("CVE-").filter_map(|(at, prefix)| cve(&line[at + prefix.len()..]));
    let dsas = line.match_indices("DSA-").filter_map(|(at, prefix)| dsa(&line[at + prefix.len()..]));
    cves.chain(dsas)
}

/// Four digits, a hyphen, four digits or more (CVE record format).
fn cve(rest: &str) -> Option<Id> {
    let (year, rest) = digits(rest)?;
    let (number, _) = digits(rest.strip_prefix('-')?)?;
    (year.len() == 4 && number.len() >= 4).then_some(())?;
    Some(Id::Cve(year.parse().ok()?, number.parse().ok()?, number.to_owned()))
}

fn dsa(rest: &str) -> Option<Id> {
    let (number, rest) = digits(rest)?;
    let revision = rest.strip_prefix('-').and_then(digits).and_then(|(revision, _)| revision.parse().ok());
    Some(Id::Dsa(number.parse().ok()?, revision))
}

/// The digits that a text starts with, at least one, and what follows.
fn digits(text: &str) -> Option<(&str, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CHANGELOG: &str = "\
openssl (3.5.7-1~deb13u3) trixie-security; urgency=medium

  * CVE-2026-84782 (\"stale buffer\"), CVE-2026-35189;
    see DSA-6001-1 and CVE-2025-0123.
  * Not one: CVE-26-1, CVE-2026-12, MYCVE-, DSA-x.

 -- Jo Doe <jo@debian.org>  Sat, 21 Nov 2026 10:00:00 +0000

openssl (3.5.7-1~deb13u2) trixie-security; urgency=HIGH (a remark), binary-only=yes

  * Fix CVE-2026-35189 again, properly.

 -- Jo Doe <jo@debian.org>  Sat, 14 Nov 2026 10:00:00 +0000

openssl (3.5.7-1~deb13u1) trixie; urgency=medium

  * CVE-2026-1111.

 -- Jo Doe <jo@debian.org>  Sat, 07 Nov 2026 10:00:00 +0000
";

    fn named(old: &str, new: &str) -> Named {
        between(CHANGELOG, &relation::version(old).unwrap(), &relation::version(new).unwrap())
    }

    #[test]
    fn entries_after_the_old_version_count_up_to_the_new_one() {
        assert_eq!(
            named("3.5.7-1~deb13u2", "3.5.7-1~deb13u3").ids,
            ["CVE-2025-0123", "CVE-2026-35189", "CVE-2026-84782", "DSA-6001-1"]
        );
        assert_eq!(named("3.5.7-1~deb13u1", "3.5.7-1~deb13u2").ids, ["CVE-2026-35189"]);
        assert_eq!(named("3.4", "3.5.7-1~deb13u1").ids, ["CVE-2026-1111"]);
        assert!(named("3.5.7-1~deb13u3", "3.5.7-1").is_empty());
        // A step back fixes nothing.
        assert!(named("3.5.7-1~deb13u3", "3.5.7-1~deb13u1").is_empty());
    }

    #[test]
    fn security_suites_and_urgencies_are_found() {
        let both = named("3.5.7-1~deb13u1", "3.5.7-1~deb13u3");
        assert_eq!((both.suites, both.urgent), (["trixie-security".to_owned()].into(), true));
        let last = named("3.5.7-1~deb13u2", "3.5.7-1~deb13u3");
        assert!(!last.urgent);
    }

    proptest! {
        #[test]
        fn any_changelog_is_read(text in "((a \\(|\\)|;|urgency=|CVE-|DSA-|[0-9-]|\\PC|\n){0,40})") {
            let _ = between(&text, &relation::version("1").unwrap(), &relation::version("2").unwrap());
        }
    }
}
