//! The catalog in the solver's terms.
//!
//! A *solvable* is a package (the same number), a *name* is a [`Slot`], so that the solver itself
//! sees to one version per slot. A *version set* is an explicit list of packages of one slot: the
//! catalog has already decided who satisfies a relation. A relation that several slots satisfy is a
//! union of such sets, in the order of preference.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt::Display;

use resolvo::{
    Candidates, Condition, ConditionId, DenseIndex, Dependencies, DependencyProvider, HintDependenciesAvailable,
    Interner, KnownDependencies, NameId, Requirement, SolvableId, SolverCache, StringId, VersionSetId,
    VersionSetUnionId,
};

use super::catalog::{Catalog, Root, Slot};
use super::draft::Draft;
use super::relations::Exclusion;
use crate::archive::PackageId;
use crate::archive::relation::Relation;

/// Packages of one slot.
#[derive(Clone)]
struct Set {
    name: NameId,
    packages: Vec<PackageId>,
    /// What the relation says about the slot, without its name.
    text: String,
}

#[derive(Default)]
struct Tables<'u> {
    names: Vec<(String, &'u str)>,
    name_ids: HashMap<(String, &'u str), NameId>,
    sets: Vec<Set>,
    unions: Vec<Vec<VersionSetId>>,
    strings: Vec<String>,
    error: Option<anyhow::Error>,
}

pub(super) struct Provider<'c, 'u> {
    catalog: &'c Catalog<'u>,
    draft: &'c Draft,
    tables: RefCell<Tables<'u>>,
}

fn solvable(id: PackageId) -> SolvableId {
    SolvableId::from_index(id.index())
}

impl<'c, 'u> Provider<'c, 'u> {
    pub(super) fn new(catalog: &'c Catalog<'u>, draft: &'c Draft) -> Self {
        Self { catalog, draft, tables: RefCell::default() }
    }

    /// The first broken relation that the solver came across.
    pub(super) fn take_error(&self) -> anyhow::Result<()> {
        self.tables.borrow_mut().error.take().map_or(Ok(()), Err)
    }

    pub(super) fn root(&self, root: &Root) -> Requirement {
        let relation = Relation { name: &root.text, qualifier: None, version: None, architectures: Vec::new() };
        self.requirement(&root.options, &[relation])
    }

    /// One set for each run of packages of one slot, the draft's package first.
    fn requirement(&self, options: &[PackageId], relations: &[Relation<'_>]) -> Requirement {
        let (mut ordered, others): (Vec<_>, Vec<_>) = options.iter().copied().partition(|id| self.draft.has(*id));
        ordered.extend(others);
        let options = &ordered;
        let slot = |id: &PackageId| self.catalog.slot(*id);
        let one_slot = options.iter().all(|id| slot(id) == slot(&options[0]));
        let runs = options.chunk_by(|a, b| one_slot || slot(a) == slot(b));
        let sets: Vec<VersionSetId> = runs
            .map(|run| self.set(self.name(slot(&run[0])), run.to_vec(), describe(slot(&run[0]), relations)))
            .collect();
        match sets[..] {
            [] => self.unsatisfiable(relations).into(),
            [only] => only.into(),
            _ => {
                let mut tables = self.tables.borrow_mut();
                tables.unions.push(sets);
                VersionSetUnionId::from_index(tables.unions.len() - 1).into()
            }
        }
    }

    /// A set without packages, of a name that no slot has.
    fn unsatisfiable(&self, relations: &[Relation<'_>]) -> VersionSetId {
        let text = relations.iter().map(ToString::to_string).collect::<Vec<_>>().join(" | ");
        let name = self.intern((text, ""));
        self.set(name, Vec::new(), String::new())
    }

    /// "None of these" as sets of what may stay, one a slot.
    fn constraints(&self, exclusion: &Exclusion) -> Vec<VersionSetId> {
        let mut slots: Vec<Slot<'u>> = exclusion.packages.iter().map(|id| self.catalog.slot(*id)).collect();
        slots.sort();
        slots.dedup();
        let constraint = |slot: Slot<'u>| {
            let allowed =
                self.catalog.in_slot(slot).into_iter().filter(|id| !exclusion.packages.contains(id)).collect();
            self.set(self.name(slot), allowed, format!("({})", exclusion.text))
        };
        slots.into_iter().map(constraint).collect()
    }

    fn name(&self, slot: Slot<'u>) -> NameId {
        self.intern((self.catalog.display(slot), slot.architecture))
    }

    fn intern(&self, key: (String, &'u str)) -> NameId {
        let mut tables = self.tables.borrow_mut();
        if let Some(id) = tables.name_ids.get(&key) {
            return *id;
        }
        let id = NameId::from_index(tables.names.len());
        tables.names.push(key.clone());
        tables.name_ids.insert(key, id);
        id
    }

    fn set(&self, name: NameId, packages: Vec<PackageId>, text: String) -> VersionSetId {
        let mut tables = self.tables.borrow_mut();
        tables.sets.push(Set { name, packages, text });
        VersionSetId::from_index(tables.sets.len() - 1)
    }

    fn string(&self, text: String) -> StringId {
        let mut tables = self.tables.borrow_mut();
        tables.strings.push(text);
        StringId::from_index(tables.strings.len() - 1)
    }

    fn known_dependencies(&self, id: PackageId) -> anyhow::Result<KnownDependencies> {
        let mut known = KnownDependencies::default();
        for requirement in self.catalog.requirements(id)? {
            known.requirements.push(self.requirement(&requirement.options, &requirement.relations).into());
        }
        for exclusion in self.catalog.exclusions(id)? {
            known.constrains.extend(self.constraints(&exclusion));
        }
        Ok(known)
    }
}

/// What is printed after a slot's name: what the relation asks of it, or whose place it takes.
fn describe(slot: Slot<'_>, relations: &[Relation<'_>]) -> String {
    match relations.iter().find(|relation| relation.name == slot.name) {
        Some(Relation { version: Some((operator, version)), .. }) => format!("({operator} {version})"),
        Some(_) => String::new(),
        None => format!("(for {})", relations.iter().map(ToString::to_string).collect::<Vec<_>>().join(" | ")),
    }
}

impl Interner for Provider<'_, '_> {
    type NameId = NameId;
    type SolvableId = SolvableId;

    fn display_solvable(&self, id: SolvableId) -> impl Display + '_ {
        let package = self.catalog.package_of(id);
        format!("{} {}", self.catalog.display(self.catalog.slot(package)), self.catalog.package(package).version())
    }

    fn display_merged_solvables(&self, ids: &[SolvableId]) -> impl Display + '_ {
        let Some(first) = ids.first() else {
            return String::new();
        };
        let mut versions: Vec<&str> =
            ids.iter().map(|id| self.catalog.package(self.catalog.package_of(*id)).version()).collect();
        versions.sort_unstable();
        versions.dedup();
        format!("{} {}", self.catalog.display(self.catalog.slot(self.catalog.package_of(*first))), versions.join(" | "))
    }

    fn display_name(&self, name: NameId) -> impl Display + '_ {
        self.tables.borrow().names[name.to_index()].0.clone()
    }

    fn display_version_set(&self, set: VersionSetId) -> impl Display + '_ {
        self.tables.borrow().sets[set.to_index()].text.clone()
    }

    fn display_string(&self, string: StringId) -> impl Display + '_ {
        self.tables.borrow().strings[string.to_index()].clone()
    }

    fn version_set_name(&self, set: VersionSetId) -> NameId {
        self.tables.borrow().sets[set.to_index()].name
    }

    fn solvable_name(&self, id: SolvableId) -> NameId {
        self.name(self.catalog.slot(self.catalog.package_of(id)))
    }

    fn version_sets_in_union(&self, union: VersionSetUnionId) -> impl Iterator<Item = VersionSetId> {
        self.tables.borrow().unions[union.to_index()].clone().into_iter()
    }

    fn resolve_condition(&self, _condition: ConditionId) -> Condition {
        unreachable!("Debian's relations have no conditions, so none is ever made")
    }
}

impl DependencyProvider for Provider<'_, '_> {
    async fn filter_candidates(&self, candidates: &[SolvableId], set: VersionSetId, inverse: bool) -> Vec<SolvableId> {
        let tables = self.tables.borrow();
        let packages = &tables.sets[set.to_index()].packages;
        candidates.iter().copied().filter(|id| packages.contains(&self.catalog.package_of(*id)) != inverse).collect()
    }

    async fn get_candidates(&self, name: NameId) -> Option<Candidates<SolvableId>> {
        let (display, architecture) = self.tables.borrow().names[name.to_index()].clone();
        let bare = display.split_once(':').map_or(display.as_str(), |(bare, _)| bare);
        let packages = self.catalog.in_slot(Slot { name: bare, architecture });
        if packages.is_empty() {
            return None;
        }
        let excluded =
            packages.iter().filter_map(|id| Some((solvable(*id), self.string(self.catalog.excluded(*id)?)))).collect();
        let candidates: Vec<SolvableId> = packages.into_iter().map(solvable).collect();
        Some(Candidates {
            candidates,
            excluded,
            hint_dependencies_available: HintDependenciesAvailable::None,
            ..Candidates::default()
        })
    }

    async fn sort_candidates(&self, _solver: &SolverCache<Self>, solvables: &mut [SolvableId]) {
        let Some(first) = solvables.first() else {
            return;
        };
        let order = self.catalog.in_slot(self.catalog.slot(self.catalog.package_of(*first)));
        solvables.sort_by_key(|id| {
            let id = self.catalog.package_of(*id);
            (!self.draft.has(id), order.iter().position(|other| *other == id))
        });
    }

    async fn get_dependencies(&self, id: SolvableId) -> Dependencies {
        match self.known_dependencies(self.catalog.package_of(id)) {
            Ok(known) => Dependencies::Known(known),
            Err(error) => {
                let reason = self.string(error.to_string());
                self.tables.borrow_mut().error.get_or_insert(error);
                Dependencies::Unknown(reason)
            }
        }
    }
}
