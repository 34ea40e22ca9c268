//! Which packages satisfy a relation, and which ones it keeps out: Debian Policy 7 and the multi-arch
//! specification, applied to the catalog.

use std::collections::HashSet;

use anyhow::Result;

use super::catalog::{Catalog, Provided};
use crate::archive::PackageId;
use crate::archive::packages::MultiArch;
use crate::archive::relation::{self, Group, Relation};

/// Packages one of which is needed, the preferred first.
#[derive(Debug)]
pub(super) struct Requirement<'u> {
    pub(super) relations: Group<'u>,
    pub(super) options: Vec<PackageId>,
}

/// Packages that cannot be installed beside another one.
#[derive(Debug)]
pub(super) struct Exclusion {
    pub(super) text: String,
    pub(super) packages: Vec<PackageId>,
}

impl<'u> Catalog<'u> {
    /// What the package needs: Pre-Depends, then Depends.
    pub(super) fn requirements(&self, id: PackageId) -> Result<Vec<Requirement<'u>>> {
        let package = self.package(id);
        let architecture = self.slot(id).architecture;
        let mut requirements = Vec::new();
        for field in [package.pre_depends(), package.depends()] {
            for mut relations in relation::parse(field).map_err(|error| package.malformed(error))? {
                relations.retain(|relation| relation.applies_to(architecture));
                let given =
                    relations.iter().any(|relation| relation.version.is_none() && self.given.contains(relation.name));
                if !relations.is_empty() && !given {
                    let options = self.options(&relations, architecture);
                    requirements.push(Requirement { relations, options });
                }
            }
        }
        Ok(requirements)
    }

    /// Who satisfies any of the alternatives: candidates in the order of preference, then the
    /// versions that apt would not consider.
    pub(super) fn options(&self, relations: &[Relation<'_>], architecture: &str) -> Vec<PackageId> {
        let mut seen = HashSet::new();
        let all: Vec<PackageId> = relations
            .iter()
            .flat_map(|relation| self.satisfying(relation, architecture))
            .filter(|id| seen.insert(*id))
            .collect();
        let (mut options, others): (Vec<_>, Vec<_>) = all.into_iter().partition(|id| self.is_candidate(*id));
        options.extend(others);
        options
    }

    /// Who satisfies a relation of a package for `architecture`.
    fn satisfying(&self, relation: &Relation<'_>, architecture: &str) -> Vec<PackageId> {
        let real = self
            .versions_of(relation.name)
            .iter()
            .copied()
            .filter(|id| self.accepts(relation, *id) && self.serves(*id, relation.qualifier, architecture));
        let virtuals = self.provided.get(relation.name).map_or(&[][..], Vec::as_slice).iter();
        let virtuals = virtuals.filter(|provided| {
            provides(provided, relation) && self.serves_as(provided, relation.qualifier, architecture)
        });
        real.chain(virtuals.map(|provided| provided.by)).collect()
    }

    fn accepts(&self, relation: &Relation<'_>, id: PackageId) -> bool {
        relation.version.is_none_or(|(operator, version)| {
            relation::version(version).is_ok_and(|version| operator.accepts(self.version(id).cmp(&version)))
        })
    }

    /// The multi-arch rules: whose architecture will do for a dependency of a package for
    /// `architecture` (see the specification, wiki.ubuntu.com/MultiarchSpec, and dpkg's
    /// `deppossi_arch_satisfied`).
    fn serves(&self, id: PackageId, qualifier: Option<&str>, architecture: &str) -> bool {
        let (own, multi_arch) = (self.slot(id).architecture, self.package(id).multi_arch());
        match qualifier {
            None => own == architecture || multi_arch == MultiArch::Foreign,
            Some("any") => matches!(multi_arch, MultiArch::Allowed | MultiArch::Foreign),
            Some("native") => own == self.native,
            Some(wanted) => own == wanted,
        }
    }

    /// As `serves`, for a name that a package provides: `Provides: x:any` serves `x:any` itself.
    fn serves_as(&self, provided: &Provided<'_>, qualifier: Option<&str>, architecture: &str) -> bool {
        match provided.relation.qualifier {
            Some("any") => qualifier == Some("any") || qualifier.is_none(),
            Some(own) => qualifier.unwrap_or(architecture) == own,
            None => self.serves(provided.by, qualifier, architecture),
        }
    }

    /// What cannot be installed beside the package: Conflicts, Breaks, and its own name on other
    /// architectures unless both are `Multi-Arch: same` and of one version.
    pub(super) fn exclusions(&self, id: PackageId) -> Result<Vec<Exclusion>> {
        let package = self.package(id);
        let architecture = self.slot(id).architecture;
        let mut exclusions = Vec::new();
        for (name, field) in [("Conflicts", package.conflicts()), ("Breaks", package.breaks())] {
            for relation in relation::parse(field).map_err(|error| package.malformed(error))?.into_iter().flatten() {
                if relation.applies_to(architecture) {
                    let packages = self.hit_by(&relation, package.name());
                    exclusions.push(Exclusion { text: format!("{name}: {relation}"), packages });
                }
            }
        }
        if self.foreign {
            let same = |other: PackageId| {
                [id, other].iter().all(|id| self.package(*id).multi_arch() == MultiArch::Same)
                    && self.version(id) == self.version(other)
            };
            let others = self
                .versions_of(package.name())
                .iter()
                .copied()
                .filter(|other| self.slot(*other).architecture != architecture && !same(*other));
            exclusions.push(Exclusion {
                text: "of another architecture and not Multi-Arch: same".to_owned(),
                packages: others.collect(),
            });
        }
        exclusions.retain(|exclusion| !exclusion.packages.is_empty());
        Ok(exclusions)
    }

    /// Whom a negative relation hits: on every architecture when it names none, and never another
    /// version of the package itself, which is how "only one provider of this" is written (Policy 7.4).
    fn hit_by(&self, relation: &Relation<'_>, own: &str) -> Vec<PackageId> {
        let on = |id: PackageId| match relation.qualifier {
            None | Some("any") => true,
            Some("native") => self.slot(id).architecture == self.native,
            Some(wanted) => self.slot(id).architecture == wanted,
        };
        let real = self.versions_of(relation.name).iter().copied().filter(|id| self.accepts(relation, *id));
        let virtuals = self.provided.get(relation.name).map_or(&[][..], Vec::as_slice).iter();
        let virtuals = virtuals.filter(|provided| provides(provided, relation)).map(|provided| provided.by);
        real.chain(virtuals).filter(|id| on(*id) && self.package(*id).name() != own).collect()
    }
}

/// Whether a `Provides` answers to a relation's name and version. One without a version answers only
/// to relations without one (Policy 7.5).
fn provides(provided: &Provided<'_>, relation: &Relation<'_>) -> bool {
    let Some((operator, wanted)) = relation.version else {
        return true;
    };
    let Some((_, offered)) = provided.relation.version else {
        return false;
    };
    match (relation::version(offered), relation::version(wanted)) {
        (Ok(offered), Ok(wanted)) => operator.accepts(offered.cmp(&wanted)),
        _ => false,
    }
}
