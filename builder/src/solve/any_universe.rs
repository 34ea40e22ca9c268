//! Any small universe: an answer keeps every relation, and where there is a refusal nothing would do.

use std::collections::HashSet;

use proptest::prelude::*;

use super::tests::{request, universe};
use super::*;

/// Two versions of each; `v` is a name that packages provide.
const NAMES: [&str; 4] = ["a", "b", "c", "d"];

fn relation() -> impl Strategy<Value = String> {
    let version = prop_oneof![3 => Just(""), 1 => Just(" (= 1)"), 1 => Just(" (>= 2)"), 1 => Just(" (<< 2)")];
    (prop_oneof![Just("a"), Just("b"), Just("c"), Just("d"), Just("v")], version)
        .prop_map(|(name, version)| format!("{name}{version}"))
}

fn fields() -> impl Strategy<Value = String> {
    let group = prop::collection::vec(relation(), 1..3).prop_map(|group| group.join(" | "));
    let depends = prop::collection::vec(group, 0..3).prop_map(|groups| groups.join(", "));
    let negative = prop::option::weighted(0.4, relation());
    (depends, negative, prop::bool::weighted(0.3)).prop_map(|(depends, conflicts, provides)| {
        let depends = if depends.is_empty() { String::new() } else { format!("; Depends: {depends}") };
        let conflicts = conflicts.map_or(String::new(), |conflicts| format!("; Conflicts: {conflicts}"));
        format!("{depends}{conflicts}{}", if provides { "; Provides: v" } else { "" })
    })
}

fn stanzas() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec(fields(), NAMES.len() * 2).prop_map(|all| {
        let stanza = |(number, fields)| format!("{} {}{fields}", NAMES[number / 2], number % 2 + 1);
        all.iter().enumerate().map(stanza).collect()
    })
}

/// Whether these packages answer the roots, need nothing else and may stand side by side.
fn holds(catalog: &Catalog<'_>, roots: &[catalog::Root], installed: &HashSet<PackageId>) -> bool {
    let one_is_there = |options: &[PackageId]| options.iter().any(|id| installed.contains(id));
    let slots: HashSet<_> = installed.iter().map(|id| catalog.slot(*id)).collect();
    slots.len() == installed.len()
        && roots.iter().all(|root| one_is_there(&root.options))
        && installed.iter().all(|id| {
            let needs = catalog.requirements(*id).unwrap();
            let excludes = catalog.exclusions(*id).unwrap();
            needs.iter().all(|need| one_is_there(&need.options))
                && !excludes.iter().any(|exclusion| one_is_there(&exclusion.packages))
        })
}

proptest! {
    #[test]
    fn answers_hold_and_refusals_are_right(stanzas in stanzas()) {
        let lines: Vec<&str> = stanzas.iter().map(String::as_str).collect();
        let (request, universe) = (request(&["a", "b"]), universe(&lines));
        let catalog = Catalog::new(&request, &universe).unwrap();
        let roots = catalog.roots(&request).unwrap();
        match solve(&request, &universe) {
            Ok(solution) => {
                let installed = solution.into_iter().collect();
                prop_assert!(holds(&catalog, &roots, &installed), "{installed:?}");
            }
            Err(error) => {
                let ids: Vec<PackageId> = universe.ids().collect();
                for subset in 0..1_u32 << ids.len() {
                    let installed = ids.iter().copied().filter(|id| subset >> id.index() & 1 == 1).collect();
                    prop_assert!(!holds(&catalog, &roots, &installed), "{installed:?} would do, but\n{error}");
                }
            }
        }
    }
}
