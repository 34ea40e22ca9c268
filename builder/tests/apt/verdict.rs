//! Two answers to one question, and what is wrong with them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::sets::{Difference, Reason, Set};

/// Version by name (`libc6`, `libc6:i386`).
pub type Packages = BTreeMap<String, String>;

/// What a solver says.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    Packages(Packages),
    /// Its explanation.
    Refused(String),
}

/// The answers to one set.
#[derive(Debug)]
pub struct Verdict {
    pub set: Set,
    pub ours: Answer,
    pub theirs: Answer,
    /// Both install the same, or both refuse.
    pub same: bool,
    /// What is not as the set expects.
    pub problems: Vec<String>,
}

impl Verdict {
    pub fn new(set: &Set, ours: Answer, theirs: Answer) -> Self {
        let mut problems = Vec::new();
        let same = match (&ours, &theirs) {
            (Answer::Packages(ours), Answer::Packages(theirs)) => {
                if !set.refused.is_empty() {
                    problems.push("both were to refuse, and both install it".to_owned());
                }
                compare(ours, theirs, set.differs.as_ref(), &mut problems)
            }
            (Answer::Refused(ours), Answer::Refused(theirs)) => {
                compare_refusals(ours, theirs, &set.refused, &mut problems);
                true
            }
            (Answer::Packages(_), Answer::Refused(theirs)) => {
                let expected =
                    set.differs.as_ref().is_some_and(|difference| difference.because == Reason::OtherVersions);
                if !(expected && theirs.contains("unmet dependencies")) {
                    problems.push(format!("only apt refuses:\n{theirs}"));
                }
                false
            }
            (Answer::Refused(ours), Answer::Packages(_)) => {
                problems.push(format!("only larder refuses:\n{ours}"));
                false
            }
        };
        if same && set.differs.is_some() {
            problems.push("the two do not differ any more: remove `differs` from the set".to_owned());
        }
        Self { set: set.clone(), ours, theirs, same, problems }
    }

    /// `answer` is larder's when asked for all of apt's packages.
    pub fn must_be_accepted_by_larder(&mut self, answer: &Answer) {
        if *answer != self.theirs {
            self.problems
                .push(format!("asked for all of apt's packages, larder says {}", against(answer, &self.theirs)));
        }
    }

    /// `answer` is apt's when asked for all of larder's packages.
    pub fn must_be_accepted_by_apt(&mut self, answer: &Answer) {
        if *answer != self.ours {
            self.problems.push(format!("asked for all of larder's packages, apt says {}", against(answer, &self.ours)));
        }
    }
}

/// Whether they are the same; what is not as expected goes to `problems`.
fn compare(ours: &Packages, theirs: &Packages, expected: Option<&Difference>, problems: &mut Vec<String>) -> bool {
    let only = |these: &Packages, others: &Packages| -> BTreeSet<String> {
        these.keys().filter(|name| !others.contains_key(*name)).cloned().collect()
    };
    let (larder, apt) = (only(ours, theirs), only(theirs, ours));
    for (name, version) in ours {
        if let Some(other) = theirs.get(name).filter(|other| *other != version) {
            problems.push(format!("{name}: {version} by larder, {other} by apt"));
        }
    }
    let empty = BTreeSet::new();
    let (known_larder, known_apt) =
        expected.map_or((&empty, &empty), |difference| (&difference.larder, &difference.apt));
    for (who, found, known) in [("larder", &larder, known_larder), ("apt", &apt, known_apt)] {
        if found != known {
            problems.push(format!("only in {who}: {found:?}, expected {known:?}"));
        }
    }
    match expected.map(|difference| difference.because) {
        Some(Reason::ComesAnyway) if !larder.is_empty() => {
            problems.push("what comes anyway makes apt's answer larger, never larder's".to_owned());
        }
        Some(Reason::EqualProviders) if larder.is_empty() || apt.is_empty() => {
            problems.push("of equal providers each side takes one".to_owned());
        }
        Some(Reason::OtherVersions) => problems.push("apt was to refuse, and does not".to_owned()),
        _ => {}
    }
    larder.is_empty() && apt.is_empty()
}

fn compare_refusals(ours: &str, theirs: &str, expected: &BTreeSet<String>, problems: &mut Vec<String>) {
    if expected.is_empty() {
        problems.push(format!("both refuse:\n{ours}{theirs}"));
    }
    for (who, text) in [("larder", ours), ("apt", theirs)] {
        for name in expected.iter().filter(|name| !text.contains(*name)) {
            problems.push(format!("{who}'s refusal does not name {name}:\n{text}"));
        }
    }
}

/// An answer, in the words of what it should have been.
fn against(answer: &Answer, expected: &Answer) -> String {
    match (answer, expected) {
        (Answer::Packages(answer), Answer::Packages(expected)) => {
            let show = |these: &Packages, others: &Packages| -> Vec<String> {
                let other = these.iter().filter(|(name, version)| others.get(*name) != Some(version));
                other.map(|(name, version)| format!("{name} {version}")).collect()
            };
            format!("{:?} instead of {:?}", show(answer, expected), show(expected, answer))
        }
        (Answer::Refused(text), _) | (Answer::Packages(_), Answer::Refused(text)) => text.clone(),
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |answer: &Answer| match answer {
            Answer::Packages(packages) => packages.len().to_string(),
            Answer::Refused(_) => "-".to_owned(),
        };
        writeln!(f, "{:<32} larder {:>5}  apt {:>5}", self.set.name, count(&self.ours), count(&self.theirs))?;
        for line in self.problems.iter().flat_map(|problem| problem.lines()) {
            writeln!(f, "    {line}")?;
        }
        Ok(())
    }
}
