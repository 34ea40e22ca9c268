//! Which packages to install: what `apt-get install --no-install-recommends` would choose on an
//! empty system, decided by a SAT solver.
//!
//! `catalog` knows names, priorities and versions; `relations` who satisfies a relation; `draft` guesses
//! the answer; `provider` puts all of it in the solver's terms; `explain` words its refusals.
//! `builder/tests/apt` asks apt-get the same questions. The rules, and where they are from:
//!
//! - Of several versions of a package the one with the highest (suite priority, version) is apt's
//!   *candidate* (apt_preferences(5)). The solver tries candidates first, in all alternatives, and
//!   goes to other versions only where candidates cannot be combined.
//! - Alternatives are tried in their order; for each, the package of that name comes before those
//!   that provide it, and those come by architecture, priority, then name (apt's `CompareProviders`).
//! - An alternative is not needed where another one comes anyway, now or later (apt looks at what has
//!   come so far, and so may install more).
//! - Recommends and Suggests are ignored.

mod catalog;
mod draft;
mod explain;
mod provider;
mod relations;
mod request;

pub use request::PackageRequest;

use std::collections::BTreeMap;

use anyhow::Result;
use resolvo::{ConditionalRequirement, Problem, Solver, UnsolvableOrCancelled};

use crate::archive::{PackageId, Universe};
use catalog::Catalog;
use draft::Draft;
use provider::Provider;

/// Raised when the same request and universe may give another result; part of a lock's request hash.
pub const REVISION: u32 = 2;

/// Why a package is installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The request names it.
    Requested,
    /// It is essential.
    Essential,
    /// The first package, in breadth-first order from the request, that needs it.
    NeededBy(PackageId),
}

/// The packages to install, sorted by name and architecture, each with its reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Solution {
    packages: Vec<(PackageId, Reason)>,
}

impl Solution {
    /// The packages, sorted by name and architecture.
    pub fn packages(&self) -> &[(PackageId, Reason)] {
        &self.packages
    }
}

/// Chooses packages. The result depends on the request and the set of packages only.
pub fn solve(request: &PackageRequest, universe: &Universe) -> Result<Solution> {
    let catalog = Catalog::new(request, universe)?;
    let roots = catalog.roots(request)?;
    let draft = Draft::of(&catalog, &roots)?;
    let provider = Provider::new(&catalog, &draft);
    let requirements: Vec<ConditionalRequirement> = roots.iter().map(|root| provider.root(root).into()).collect();
    let mut solver = Solver::new(provider);
    let outcome = solver.solve(Problem::new().requirements(requirements));
    // A broken relation makes its package uninstallable for the solver; that is the better message.
    solver.provider().take_error()?;
    match outcome {
        Ok(chosen) => {
            let mut chosen: Vec<PackageId> = chosen.into_iter().map(|id| catalog.package_of(id)).collect();
            chosen.sort_by_key(|id| {
                let package = universe.package(*id);
                (package.name(), package.architecture())
            });
            Ok(Solution { packages: with_reasons(&catalog, &roots, &chosen)? })
        }
        Err(UnsolvableOrCancelled::Unsolvable(conflict)) => {
            Err(explain::conflict(&conflict.display_user_friendly(&solver).to_string()).into())
        }
        Err(UnsolvableOrCancelled::Cancelled(_)) => anyhow::bail!("the solver was cancelled"),
    }
}

/// Walks from the roots along the relations between chosen packages.
fn with_reasons(
    catalog: &Catalog<'_>,
    roots: &[catalog::Root],
    chosen: &[PackageId],
) -> Result<Vec<(PackageId, Reason)>> {
    let mut reasons: BTreeMap<PackageId, Option<Reason>> = chosen.iter().map(|id| (*id, None)).collect();
    let mut queue = std::collections::VecDeque::new();
    let reach = |reasons: &mut BTreeMap<PackageId, Option<Reason>>, id: PackageId, reason: Reason| {
        if let Some(slot @ None) = reasons.get_mut(&id) {
            *slot = Some(reason);
            return true;
        }
        false
    };
    for root in roots {
        for id in root.options.iter().copied().filter(|id| reach(&mut reasons, *id, root.reason)) {
            queue.push_back(id);
        }
    }
    while let Some(needing) = queue.pop_front() {
        for group in catalog.requirements(needing)? {
            for id in group.options.into_iter().filter(|id| reach(&mut reasons, *id, Reason::NeededBy(needing))) {
                queue.push_back(id);
            }
        }
    }
    // Nothing can be left without a reason, as the solver only takes what a requirement asks for.
    Ok(chosen.iter().map(|id| (*id, reasons[id].unwrap_or(Reason::Requested))).collect())
}

#[cfg(test)]
mod any_universe;
#[cfg(test)]
mod tests;
