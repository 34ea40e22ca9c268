//! The packages of a request, by name: which versions there are, and which of them apt would take.

use std::cell::OnceCell;
use std::collections::{HashMap, HashSet};

use anyhow::Result;
use resolvo::{DenseIndex as _, SolvableId};

use super::PackageRequest;
use crate::archive::relation::{self, Relation, Version};
use crate::archive::{PackageId, PackageView, Universe};
use crate::report::Mistake;

/// What is installed at most once: a name on an architecture (`all` counts as the machine's own).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Slot<'u> {
    pub(super) name: &'u str,
    pub(super) architecture: &'u str,
}

/// A requirement of the request itself.
#[derive(Debug)]
pub(super) struct Root {
    pub(super) text: String,
    pub(super) options: Vec<PackageId>,
}

/// A `Provides` of some package.
pub(super) struct Provided<'u> {
    pub(super) by: PackageId,
    pub(super) relation: Relation<'u>,
}

pub(super) struct Catalog<'u> {
    universe: &'u Universe,
    pub(super) native: &'u str,
    /// The machine's own architecture first.
    architectures: &'u [String],
    /// All versions of a name: the machine's own architecture before others, then the most preferred first.
    by_name: HashMap<&'u str, Vec<PackageId>>,
    pub(super) provided: HashMap<&'u str, Vec<Provided<'u>>>,
    /// Versions are parsed when first compared.
    versions: Vec<OnceCell<Version>>,
    forbidden: HashSet<&'u str>,
    /// Names whose job larder does itself: dpkg is told that they are installed.
    pub(super) given: HashSet<&'u str>,
    pins: HashMap<&'u str, &'u str>,
    /// Whether any package is for another architecture than the machine's.
    pub(super) foreign: bool,
}

impl std::fmt::Debug for Catalog<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Catalog of {} names", self.by_name.len())
    }
}

impl<'u> Catalog<'u> {
    pub(super) fn new(request: &'u PackageRequest, universe: &'u Universe) -> Result<Self> {
        let native =
            request.architectures.first().ok_or_else(|| anyhow::anyhow!("the request names no architecture"))?;
        let mut catalog = Self {
            universe,
            native,
            architectures: &request.architectures,
            by_name: HashMap::with_capacity(universe.len()),
            provided: HashMap::new(),
            versions: universe.ids().map(|_| OnceCell::new()).collect(),
            forbidden: request.forbid.iter().map(String::as_str).collect(),
            given: request.provided.iter().map(String::as_str).collect(),
            pins: request.pins.iter().map(|(name, suite)| (name.as_str(), suite.as_str())).collect(),
            foreign: request.architectures.len() > 1,
        };
        for id in universe.ids() {
            let package = universe.package(id);
            let architecture = package.architecture();
            if architecture == "all" || request.architectures.iter().any(|wanted| wanted == architecture) {
                catalog.by_name.entry(package.name()).or_default().push(id);
            }
        }
        catalog.order_versions();
        catalog.check_pins(request)?;
        catalog.index_provides()?;
        Ok(catalog)
    }

    /// Sorts each name's versions and drops copies: the same package in two suites or indices.
    fn order_versions(&mut self) {
        let mut by_name = std::mem::take(&mut self.by_name);
        for ids in by_name.values_mut().filter(|ids| ids.len() > 1) {
            ids.sort_by(|a, b| {
                let by_architecture = self.rank(*a).cmp(&self.rank(*b));
                by_architecture
                    .then_with(|| self.preference(*b).cmp(&self.preference(*a)))
                    .then_with(|| self.tie_break(*a).cmp(&self.tie_break(*b)))
            });
            ids.dedup_by(|later, earlier| {
                self.slot(*later) == self.slot(*earlier) && self.version(*later) == self.version(*earlier)
            });
        }
        self.by_name = by_name;
    }

    /// Place of the package's architecture among the request's.
    fn rank(&self, id: PackageId) -> usize {
        let architecture = self.slot(id).architecture;
        self.architectures.iter().position(|other| other == architecture).unwrap_or(usize::MAX)
    }

    /// Higher wins; a pinned suite beats all others.
    fn preference(&self, id: PackageId) -> (bool, i32, &Version) {
        let package = self.package(id);
        let pinned = self.pins.get(package.name()) == Some(&package.suite().name.as_str());
        (pinned, package.suite().priority, self.version(id))
    }

    /// Orders what is equal to apt, by content, never by position in the universe.
    fn tie_break(&self, id: PackageId) -> impl Ord + use<'u> {
        let package = self.package(id);
        let suite = package.suite();
        (suite.archive.as_str(), suite.name.as_str(), package.sha256())
    }

    fn check_pins(&self, request: &PackageRequest) -> Result<()> {
        for (name, suite) in &request.pins {
            if !self.universe.suites().iter().any(|known| known.name == *suite) {
                let problem = format!("`{name}` is pinned to the suite `{suite}`, which no archive of the profile has");
                return Err(Mistake::new(problem)
                    .hint("add the suite to an archive's `suites`, or correct the pin")
                    .into());
            }
            if !self.versions_of(name).iter().any(|id| self.package(*id).suite().name == *suite) {
                return Err(Mistake::new(format!("`{name}` is pinned to the suite `{suite}`, which does not have it"))
                    .hint("correct or remove the pin")
                    .into());
            }
        }
        Ok(())
    }

    fn index_provides(&mut self) -> Result<()> {
        for id in self.by_name.values().flatten().copied() {
            let package = self.universe.package(id);
            let provides = relation::parse(package.provides()).map_err(|error| package.malformed(error))?;
            for relation in provides.into_iter().flatten() {
                self.provided.entry(relation.name).or_default().push(Provided { by: id, relation });
            }
        }
        let mut provided = std::mem::take(&mut self.provided);
        for list in provided.values_mut().filter(|list| list.len() > 1) {
            list.sort_by(|a, b| {
                self.provider_order(a.by)
                    .cmp(&self.provider_order(b.by))
                    .then_with(|| self.preference(b.by).cmp(&self.preference(a.by)))
            });
        }
        self.provided = provided;
        Ok(())
    }

    /// apt's order of providers: essential, by architecture, by priority. apt ends by the order in which
    /// names come up in the indices, the last one first. Any upload may change that: we put the suite's
    /// priority and the name.
    fn provider_order(&self, id: PackageId) -> impl Ord + use<'u> {
        let package = self.package(id);
        let suite = std::cmp::Reverse(package.suite().priority);
        (!package.essential(), self.rank(id), package.priority(), suite, package.name())
    }

    pub(super) fn package(&self, id: PackageId) -> PackageView<'u> {
        self.universe.package(id)
    }

    pub(super) fn slot(&self, id: PackageId) -> Slot<'u> {
        let package = self.package(id);
        let architecture = if package.architecture() == "all" { self.native } else { package.architecture() };
        Slot { name: package.name(), architecture }
    }

    /// The slot as people write it: the machine's own architecture is left out.
    pub(super) fn display(&self, slot: Slot<'_>) -> String {
        if slot.architecture == self.native {
            slot.name.to_owned()
        } else {
            format!("{}:{}", slot.name, slot.architecture)
        }
    }

    /// Solver ids are universe ids.
    pub(super) fn package_of(&self, id: SolvableId) -> PackageId {
        PackageId::from_index(id.to_index())
    }

    pub(super) fn version(&self, id: PackageId) -> &Version {
        // The index's parser has checked the text, so the fallback cannot be reached.
        self.versions[id.index()].get_or_init(|| {
            relation::version(self.package(id).version()).unwrap_or_else(|_| "0".parse().expect("a version"))
        })
    }

    pub(super) fn versions_of(&self, name: &str) -> &[PackageId] {
        self.by_name.get(name).map_or(&[], Vec::as_slice)
    }

    /// All versions of a slot, the most preferred first.
    pub(super) fn in_slot(&self, slot: Slot<'_>) -> Vec<PackageId> {
        self.versions_of(slot.name)
            .iter()
            .copied()
            .filter(|id| self.slot(*id).architecture == slot.architecture)
            .collect()
    }

    /// Why the request rules this version out.
    pub(super) fn excluded(&self, id: PackageId) -> Option<String> {
        let package = self.package(id);
        if self.forbidden.contains(package.name()) {
            return Some("the profile forbids it".to_owned());
        }
        let suite = self.pins.get(package.name())?;
        (package.suite().name != *suite).then(|| format!("the profile pins it to {suite}"))
    }

    /// Whether apt would consider this version of its package.
    pub(super) fn is_candidate(&self, id: PackageId) -> bool {
        let slot = self.slot(id);
        self.versions_of(slot.name).iter().find(|other| self.slot(**other) == slot) == Some(&id)
    }

    /// The request's own requirements, in the order of their names.
    pub(super) fn roots(&self, request: &PackageRequest) -> Result<Vec<Root>> {
        let mut roots = Vec::new();
        for wanted in &request.include {
            let options = self.requested(wanted)?;
            roots.push(Root { text: wanted.clone(), options });
        }
        if request.essential {
            let candidates = self.by_name.values().filter_map(|ids| ids.first().copied());
            let essential =
                candidates.filter(|id| self.package(*id).essential() && self.slot(*id).architecture == self.native);
            let mut slots: Vec<Slot<'u>> = essential.map(|id| self.slot(id)).collect();
            slots.sort();
            roots.extend(slots.into_iter().map(|slot| Root { text: self.display(slot), options: self.in_slot(slot) }));
        }
        Ok(roots)
    }

    /// A name of the request: a real package, or a virtual one with a single provider. Without an
    /// architecture it is the first of the request's that has the package.
    fn requested(&self, wanted: &str) -> Result<Vec<PackageId>> {
        let (name, architecture) = match wanted.split_once(':') {
            Some(both) => both,
            None => (wanted, self.versions_of(wanted).first().map_or(self.native, |id| self.slot(*id).architecture)),
        };
        let real = self.in_slot(Slot { name, architecture });
        if !real.is_empty() {
            return Ok(real);
        }
        let relation = Relation { name, qualifier: None, version: None, architectures: Vec::new() };
        let providers = self.options(std::slice::from_ref(&relation), architecture);
        let mut names: Vec<&str> = providers.iter().map(|id| self.package(*id).name()).collect();
        names.sort_unstable();
        names.dedup();
        match names[..] {
            [] => Err(super::explain::unknown(wanted, name, self.by_name.keys().copied()).into()),
            [_] => Ok(providers),
            _ => Err(Mistake::new(format!("`{wanted}` is a virtual package"))
                .hint(format!("include one of {}", names.join(", ")))
                .into()),
        }
    }
}
