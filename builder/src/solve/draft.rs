//! A first guess for the solver: what is installed when nothing stands in the way.
//!
//! It walks from the request along the relations, depth first, as apt's `MarkInstall` does, and takes
//! the first alternative that can be. But what has only one answer is followed to its end before any
//! alternative is decided: by then most of them are answered by a package that comes anyway, where
//! apt, deciding each as it meets it, installs one more.
//!
//! The walk never goes back. Where that leads to a contradiction the draft is wrong, and the solver,
//! which tries the draft's packages before others, finds another way.

use std::collections::{HashSet, VecDeque};

use anyhow::Result;

use super::catalog::{Catalog, Root, Slot};
use crate::archive::PackageId;

/// Packages one of which is needed, the preferred first.
type Options = Vec<PackageId>;

/// The packages of the draft.
#[derive(Debug, Default)]
pub(super) struct Draft {
    chosen: HashSet<PackageId>,
}

impl Draft {
    /// Walks from the request's own requirements.
    pub(super) fn of(catalog: &Catalog<'_>, roots: &[Root]) -> Result<Self> {
        let mut walk = Walk { catalog, draft: Self::default(), taken: HashSet::new(), ruled_out: HashSet::new() };
        let mut open = VecDeque::from(walk.follow(roots.iter().map(|root| root.options.clone()).collect())?);
        while let Some(options) = open.pop_front() {
            let Some(id) = walk.choose(&options)? else {
                continue;
            };
            let needs = walk.take(id)?;
            for options in walk.follow(needs)?.into_iter().rev() {
                open.push_front(options);
            }
        }
        Ok(walk.draft)
    }

    /// Whether the draft has this package, of this very version.
    pub(super) fn has(&self, id: PackageId) -> bool {
        self.chosen.contains(&id)
    }
}

struct Walk<'c, 'u> {
    catalog: &'c Catalog<'u>,
    draft: Draft,
    /// Slots of the chosen packages.
    taken: HashSet<Slot<'u>>,
    /// What cannot be installed beside the chosen packages.
    ruled_out: HashSet<PackageId>,
}

impl Walk<'_, '_> {
    /// Takes whatever has only one answer, and what that needs; returns what leaves a choice.
    fn follow(&mut self, requirements: Vec<Options>) -> Result<Vec<Options>> {
        let mut undecided = Vec::new();
        let mut stack = vec![requirements.into_iter()];
        while let Some(top) = stack.last_mut() {
            let Some(options) = top.next() else {
                stack.pop();
                continue;
            };
            match self.answers(&options)[..] {
                [] => {}
                [only] => stack.push(self.take(only)?.into_iter()),
                _ => undecided.push(options),
            }
        }
        Ok(undecided)
    }

    /// The first answer that does not clash with what was chosen before.
    fn choose(&self, options: &[PackageId]) -> Result<Option<PackageId>> {
        for id in self.answers(options) {
            if !self.clashes(id)? {
                return Ok(Some(id));
            }
        }
        Ok(None)
    }

    /// What may still be taken, one of each slot; nothing when a chosen package answers already.
    /// Versions that apt would not consider count only where there is no other.
    fn answers(&self, options: &[PackageId]) -> Options {
        let mut answers = Options::new();
        let mut slots = HashSet::new();
        for id in options.iter().copied() {
            if self.draft.has(id) {
                return Options::new();
            }
            let slot = self.catalog.slot(id);
            let free = !self.taken.contains(&slot) && !self.ruled_out.contains(&id);
            if free && self.catalog.excluded(id).is_none() && slots.insert(slot) {
                answers.push(id);
            }
        }
        if answers.first().is_some_and(|id| self.catalog.is_candidate(*id)) {
            answers.retain(|id| self.catalog.is_candidate(*id));
        }
        answers
    }

    fn clashes(&self, id: PackageId) -> Result<bool> {
        let exclusions = self.catalog.exclusions(id)?;
        Ok(exclusions.iter().flat_map(|exclusion| &exclusion.packages).any(|id| self.draft.has(*id)))
    }

    /// Adds a package; returns what it needs.
    fn take(&mut self, id: PackageId) -> Result<Vec<Options>> {
        self.draft.chosen.insert(id);
        self.taken.insert(self.catalog.slot(id));
        for exclusion in self.catalog.exclusions(id)? {
            self.ruled_out.extend(exclusion.packages);
        }
        Ok(self.catalog.requirements(id)?.into_iter().map(|requirement| requirement.options).collect())
    }
}
