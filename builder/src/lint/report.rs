//! What lints found, with what the profile accepts taken out.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::{Finding, LINTS, Lint, Skip};
use crate::report::Mistake;

/// A root that has nothing which its profile does not accept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Report {
    /// How many lints looked.
    pub lints: usize,
    /// At how many paths.
    pub paths: usize,
    /// What they found and the profile accepts.
    pub accepted: Vec<Accepted>,
}

/// A finding that the profile accepts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Accepted {
    /// Name of the lint.
    pub lint: String,
    /// Where.
    pub path: String,
    /// What the lint says.
    pub message: String,
    /// What the profile says.
    pub reason: String,
}

/// What all lints found, sorted out.
#[derive(Debug)]
pub struct Outcome {
    report: Report,
    faults: Vec<(&'static Lint, Vec<Finding>)>,
    stale: Vec<Skip>,
}

impl Outcome {
    /// Takes out what `skips` accept.
    pub(super) fn judge(paths: usize, found: Vec<(&'static Lint, Vec<Finding>)>, skips: &[Skip]) -> Self {
        let matchers: Vec<_> = skips.iter().map(|skip| (skip, skip.matcher())).collect();
        let mut used = BTreeSet::new();
        let (mut accepted, mut faults) = (Vec::new(), Vec::new());
        for (lint, mut findings) in found {
            findings.sort_by(|a, b| (&a.path, &a.message).cmp(&(&b.path, &b.message)));
            findings.retain(|finding| {
                let skip = matchers.iter().position(|(_, matches)| matches(lint.name, finding));
                used.extend(skip);
                accepted.extend(skip.map(|index| accept(lint, finding, matchers[index].0)));
                skip.is_none()
            });
            if !findings.is_empty() {
                faults.push((lint, findings));
            }
        }
        let unused = skips.iter().enumerate().filter(|(index, _)| !used.contains(index));
        let stale = unused.map(|(_, skip)| skip.clone()).collect();
        Self { report: Report { lints: LINTS.len(), paths, accepted }, faults, stale }
    }

    /// The report of a clean root.
    ///
    /// # Errors
    /// A [`Mistake`] that lists every finding, grouped by lint, and every skip that matches nothing.
    pub fn verdict(self, profile: &str) -> Result<Report, Mistake> {
        if self.faults.is_empty() && self.stale.is_empty() {
            return Ok(self.report);
        }
        let count: usize = self.faults.iter().map(|(_, findings)| findings.len()).sum::<usize>() + self.stale.len();
        let mut text = format!("the finished root of profile `{profile}` does not pass its lints: {count} findings");
        for (lint, findings) in &self.faults {
            let _ = write!(text, "\n\n  {}: protects from {}", lint.name, lint.protects_from);
            describe(&mut text, findings);
        }
        if !self.stale.is_empty() {
            text.push_str("\n\n  [[lint.skip]]: what these accept is not there");
            for Skip { name, path, reason } in &self.stale {
                let _ = write!(text, "\n    {name} {}: {reason}", path.as_deref().unwrap_or("(everywhere)"));
            }
            text.push_str("\n      => remove them from the profile or its base");
        }
        Err(Mistake::new(text).hint(
            "mend what was found; what is right as it is, accept in the profile: [[lint.skip]] with `name`, `path` and `reason`",
        ))
    }
}

fn accept(lint: &Lint, finding: &Finding, skip: &Skip) -> Accepted {
    Accepted {
        lint: lint.name.to_owned(),
        path: finding.path.clone(),
        message: finding.message.clone(),
        reason: skip.reason.clone(),
    }
}

/// The findings, each remedy once, after all that it is for.
fn describe(text: &mut String, findings: &[Finding]) {
    let mut remedies: Vec<&str> = Vec::new();
    for finding in findings {
        if !remedies.contains(&&*finding.remedy) {
            remedies.push(&finding.remedy);
        }
    }
    for remedy in remedies {
        for finding in findings.iter().filter(|finding| finding.remedy == remedy) {
            let _ = write!(text, "\n    {}: {}", finding.path, finding.message);
        }
        let _ = write!(text, "\n      => {remedy}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::render;

    fn lint(name: &str) -> &'static Lint {
        LINTS.iter().find(|lint| lint.name == name).unwrap()
    }

    fn finding(path: &str, message: &str, remedy: &'static str) -> Finding {
        Finding { path: path.into(), message: message.into(), remedy: remedy.into() }
    }

    fn skip(name: &str, path: &str) -> Skip {
        Skip { name: name.into(), path: Some(path.into()), reason: "for a reason".into() }
    }

    #[test]
    fn findings_are_grouped_by_lint_with_what_to_do() {
        let found = vec![
            (
                lint("elf"),
                vec![
                    finding("/usr/bin/b", "needs libb.so", "add its package"),
                    finding("/usr/bin/a", "needs liba.so", "add its package"),
                ],
            ),
            (lint("firmware"), vec![]),
            (lint("special-files"), vec![finding("/dev/sda", "a block device", "remove it")]),
        ];
        let outcome = Outcome::judge(7, found, &[skip("elf", "/usr/bin/b"), skip("setuid", "/usr/bin/su")]);
        insta::assert_snapshot!(render(&outcome.verdict("nas").unwrap_err().into()), @"
        error: the finished root of profile `nas` does not pass its lints: 3 findings

          elf: protects from programs and libraries that cannot be loaded, as a library that they need is missing
            /usr/bin/a: needs liba.so
              => add its package

          special-files: protects from device nodes, pipes and sockets, which are made at boot or not at all
            /dev/sda: a block device
              => remove it

          [[lint.skip]]: what these accept is not there
            setuid /usr/bin/su: for a reason
              => remove them from the profile or its base

        hint: mend what was found; what is right as it is, accept in the profile: [[lint.skip]] with `name`, `path` and `reason`
        ");
    }

    #[test]
    fn what_the_profile_accepts_is_in_the_report() {
        let found = vec![(lint("elf"), vec![finding("/usr/bin/b", "needs libb.so", "add its package")])];
        let report = Outcome::judge(7, found, &[skip("elf", "/usr/bin/b")]).verdict("nas").unwrap();
        assert_eq!(report.paths, 7);
        assert_eq!(
            report.accepted,
            [Accepted {
                lint: "elf".into(),
                path: "/usr/bin/b".into(),
                message: "needs libb.so".into(),
                reason: "for a reason".into()
            }]
        );
    }
}
