//! Which profile a machine wants.
//!
//! A profile is for a machine when all that its [`Match`] asks for holds. PCI ids are facts: one that is missing, or one
//! that should not be there, rules a profile out. Names that the firmware gives are not: some boards carry the name of
//! a reference design, others changed theirs between two versions of the firmware. So a name that does not match leaves
//! the profile possible, behind all those that nothing speaks against.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::{DmiPattern, Machine, Match};

/// How well a profile fits; the better, the greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fit {
    /// A device says that this is another machine.
    No,
    /// The devices fit, but the firmware calls the machine something else.
    Doubtful,
    /// Nothing speaks against it, and the profile asks for no name.
    Generic,
    /// The firmware's name and the devices fit.
    Exact,
}

impl fmt::Display for Fit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::No => "no",
            Self::Doubtful => "doubtful",
            Self::Generic => "generic",
            Self::Exact => "exact",
        })
    }
}

/// A profile as a candidate for a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Candidate {
    /// The profile.
    pub profile: String,
    /// How well it fits.
    pub fit: Fit,
    /// Number of conditions that hold: of two generic profiles the one that asks for more is the better one.
    pub held: usize,
    /// What speaks for it and against it, in words.
    pub reasons: Vec<String>,
}

/// A list of candidates, for people.
#[derive(Debug, Clone)]
pub struct Ranking(pub Vec<Candidate>);

impl fmt::Display for Ranking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.0.iter().map(|candidate| candidate.profile.len()).max().unwrap_or_default();
        for Candidate { profile, fit, reasons, .. } in &self.0 {
            writeln!(f, "{profile:width$}  {:8}  {}", fit.to_string(), reasons.join("; "))?;
        }
        Ok(())
    }
}

/// Every profile, the best one first.
pub fn rank(known: &BTreeMap<String, Match>, machine: &Machine) -> Vec<Candidate> {
    let mut candidates: Vec<_> = known.iter().map(|(profile, asked)| judge(profile, asked, machine)).collect();
    candidates.sort_by(|a, b| (b.fit, b.held).cmp(&(a.fit, a.held)).then_with(|| a.profile.cmp(&b.profile)));
    candidates
}

/// How well one profile fits.
pub fn judge(profile: &str, asked: &Match, machine: &Machine) -> Candidate {
    let mut candidate = Candidate { profile: profile.to_owned(), fit: Fit::Generic, held: 0, reasons: Vec::new() };
    candidate.ask_names(&asked.dmi, machine);
    candidate.ask_devices(asked, machine);
    if candidate.reasons.is_empty() {
        candidate.reasons.push("fits every machine".to_owned());
    }
    candidate
}

impl Candidate {
    fn ask_names(&mut self, patterns: &[DmiPattern], machine: &Machine) {
        if patterns.is_empty() {
            return;
        }
        let dmi = &machine.dmi;
        if patterns.iter().any(|pattern| pattern.fits(dmi)) {
            self.fit = Fit::Exact;
            self.held += 1;
            self.reasons.push(format!("its firmware says {dmi}"));
        } else {
            self.fit = Fit::Doubtful;
            let names: Vec<_> = patterns.iter().map(DmiPattern::to_string).collect();
            self.reasons.push(format!("its firmware says {dmi}, not {}", names.join(" or ")));
        }
    }

    fn ask_devices(&mut self, asked: &Match, machine: &Machine) {
        for id in &asked.pci {
            self.record(machine.has(*id), &format!("has {id}"), &format!("has no {id}"));
        }
        if !asked.any_pci.is_empty() {
            let here: Vec<_> = asked.any_pci.iter().filter(|id| machine.has(**id)).collect();
            self.record(
                !here.is_empty(),
                &format!("has {}", list(&here)),
                &format!("has none of {}", list(&asked.any_pci)),
            );
        }
        for id in asked.absent_pci.iter().filter(|id| machine.has(**id)) {
            self.fit = Fit::No;
            self.reasons.push(format!("has {id}, which another machine has"));
        }
    }

    fn record(&mut self, holds: bool, positive: &str, negative: &str) {
        if holds {
            self.held += 1;
            self.reasons.push(positive.to_owned());
        } else {
            self.fit = Fit::No;
            self.reasons.push(negative.to_owned());
        }
    }
}

fn list<I: fmt::Display>(ids: &[I]) -> String {
    ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

impl fmt::Display for DmiPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [("vendor", &self.vendor), ("product", &self.product), ("board", &self.board)];
        let parts = parts.into_iter().filter_map(|(name, value)| Some(format!("{name} `{}`", value.as_deref()?)));
        f.write_str(&parts.collect::<Vec<_>>().join(" and "))
    }
}

/// Whether `profile` is the wrong one for the machine, and which one is better: another fits exactly, or the devices rule
/// it out.
pub fn better_than(
    known: &BTreeMap<String, Match>,
    profile: &str,
    machine: &Machine,
) -> Option<(Candidate, Option<String>)> {
    let ranked = rank(known, machine);
    let ours = ranked.iter().find(|candidate| candidate.profile == profile)?;
    let best = ranked.first().filter(|best| best.profile != profile && best.fit != Fit::No);
    let wrong = ours.fit == Fit::No || best.is_some_and(|best| best.fit == Fit::Exact && ours.fit != Fit::Exact);
    wrong.then(|| (ours.clone(), best.map(|best| best.profile.clone())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> BTreeMap<String, Match> {
        let text = r#"{
            "beelink-me-mini": {"dmi": [{"vendor": "AZW", "product": "*ME*mini*"}], "pci": ["8086:46d4", "8086:125c"]},
            "asustor-fs6706t": {
                "dmi": [{"vendor": "Intel Corporation", "product": "Jasper Lake Client Platform"}],
                "pci": ["8086:4dc8"], "absent-pci": ["8086:4dd3", "1b21:2806"]
            },
            "generic-n150": {"any-pci": ["8086:46d1", "8086:46d4"]},
            "generic-amd64": {}
        }"#;
        serde_json::from_str(text).unwrap()
    }

    fn machine(dump: &str) -> Machine {
        Machine::of_dump(dump)
    }

    fn ranking(machine: &Machine) -> String {
        let line = |candidate: &Candidate| {
            format!("{} {}: {}", candidate.profile, candidate.fit, candidate.reasons.join("; "))
        };
        rank(&known(), machine).iter().map(line).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn a_known_box_comes_first_with_the_reasons() {
        let ranked = ranking(&machine(include_str!("fixtures/asustor-fs6706t.txt")));
        insta::assert_snapshot!(ranked, @r"
        asustor-fs6706t exact: its firmware says vendor `Intel Corporation`, product `Jasper Lake Client Platform`, board `Jasper Lake Client Platform`; has 8086:4dc8
        generic-amd64 generic: fits every machine
        beelink-me-mini no: its firmware says vendor `Intel Corporation`, product `Jasper Lake Client Platform`, board `Jasper Lake Client Platform`, not vendor `AZW` and product `*ME*mini*`; has no 8086:46d4; has no 8086:125c
        generic-n150 no: has none of 8086:46d1, 8086:46d4
        ");
    }

    #[test]
    fn a_box_of_the_same_reference_design_is_told_apart_by_its_devices() {
        let other = include_str!("fixtures/asustor-fs6706t.txt").to_owned()
            + "02:00.0 PCI bridge [0604]: ASMedia Technology Inc. ASM2806 [1b21:2806] (rev 01)\n";
        let ranked = rank(&known(), &machine(&other));
        assert_eq!(ranked[0].profile, "generic-amd64");
        let asustor = ranked.iter().find(|candidate| candidate.profile == "asustor-fs6706t").unwrap();
        assert_eq!(asustor.fit, Fit::No);
        assert_eq!(asustor.reasons.last().unwrap(), "has 1b21:2806, which another machine has");
    }

    #[test]
    fn a_box_that_nobody_has_named_gets_the_profile_of_its_chip() {
        let unknown = machine(
            "00:02.0 VGA [0300]: Intel [8086:46d4]\n01:00.0 Ethernet [0200]: Intel [8086:125c]\nsys_vendor: Topton\n",
        );
        let fits: Vec<_> = rank(&known(), &unknown).into_iter().map(|one| (one.profile, one.fit)).collect();
        let expected = [
            ("generic-n150", Fit::Generic),
            ("generic-amd64", Fit::Generic),
            ("beelink-me-mini", Fit::Doubtful),
            ("asustor-fs6706t", Fit::No),
        ];
        assert_eq!(fits, expected.map(|(profile, fit)| (profile.to_owned(), fit)));
    }

    #[test]
    fn a_generic_image_is_wrong_where_one_for_the_very_box_exists() {
        let asustor = machine(include_str!("fixtures/asustor-fs6706t.txt"));
        let better = |profile| better_than(&known(), profile, &asustor).map(|(_, best)| best);
        assert_eq!(better("generic-amd64"), Some(Some("asustor-fs6706t".to_owned())));
        assert_eq!(better("generic-n150"), Some(Some("asustor-fs6706t".to_owned())));
        assert_eq!(better("asustor-fs6706t"), None);
    }

    #[test]
    fn a_name_that_differs_is_no_proof_of_the_wrong_image() {
        let renamed = machine(
            "00:02.0 VGA [0300]: Intel [8086:46d4]\n01:00.0 Ethernet [0200]: Intel [8086:125c]\nsys_vendor: AZW\nproduct_name: Beelink\n",
        );
        assert_eq!(better_than(&known(), "beelink-me-mini", &renamed), None);
    }
}
