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

use anyhow::Result;
use resolvo::{ConditionalRequirement, Problem, Solver, UnsolvableOrCancelled};

use crate::archive::{PackageId, Universe};
use catalog::Catalog;
use draft::Draft;
use provider::Provider;

/// Raised when the same request and universe may give another result; part of a lock's request hash.
pub const REVISION: u32 = 2;

/// Chooses packages and sorts them by name and architecture. The result depends on the request and the set of packages only.
pub fn solve(request: &PackageRequest, universe: &Universe) -> Result<Vec<PackageId>> {
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
            Ok(chosen)
        }
        Err(UnsolvableOrCancelled::Unsolvable(conflict)) => {
            Err(explain::conflict(&conflict.display_user_friendly(&solver)).into())
        }
        Err(UnsolvableOrCancelled::Cancelled(_)) => anyhow::bail!("the solver was cancelled"),
    }
}

#[cfg(test)]
mod any_universe;
#[cfg(test)]
mod tests;
