//! Debian packages: what their control and copyright files say, as elements of a document.

use std::collections::HashMap;

use anyhow::Context as _;
use rayon::prelude::*;

use super::document::{Checksum, Contents, ElementId, ExtractedLicence, NO_ASSERTION, Package, Purl, Relation};
use super::licence::Licence;
use crate::archive::{Archive, relation};
use crate::deb::{self, Control, Source};
use crate::lock::LockedPackage;
use crate::tree::UnpackedPackage;

/// A package that was read.
#[derive(Debug)]
pub struct DebianPackage<'a> {
    /// What the lock says.
    pub locked: &'a LockedPackage,
    /// What it says itself.
    pub control: Control,
    /// What its copyright file says.
    pub licence: Licence,
}

/// Reads packages, which must be given in the same order, with all those in whose folders their documents may be.
pub fn read<'a>(locked: &'a [LockedPackage], unpacked: &[UnpackedPackage]) -> anyhow::Result<Vec<DebianPackage<'a>>> {
    let folders: HashMap<_, _> = unpacked.iter().map(|package| (package.name.as_str(), &package.folder)).collect();
    let folder_of = |name: &str| folders.get(name).map(|folder| (*folder).clone());
    let read = |(locked, unpacked): (&'a LockedPackage, &UnpackedPackage)| {
        let control = Control::read(&unpacked.folder)?;
        let copyright = deb::find_document(&folder_of, &unpacked.name, "copyright");
        let licence = match copyright.map(fs_err::read).transpose()? {
            Some(text) => Licence::parse(&String::from_utf8_lossy(&text), &control.source.name),
            None => Licence::missing(),
        };
        Ok(DebianPackage { locked, control, licence })
    };
    locked.par_iter().zip(unpacked).map(read).collect()
}

/// Where the packages of a document are from.
#[derive(Debug)]
pub struct Origin<'a> {
    /// The profile's archives.
    pub archives: &'a [Archive],
}

impl Origin<'_> {
    fn archive(&self, package: &LockedPackage) -> Option<&Archive> {
        self.archives.iter().find(|archive| archive.name == package.location().0)
    }

    /// Below the archive's own mirror, whatever mirror this machine uses.
    fn address(&self, package: &LockedPackage) -> Option<String> {
        let mirror = self.archive(package)?.mirror.trim_end_matches('/');
        Some(format!("{mirror}/{}", package.location().1))
    }

    /// Name of the release, which tells scanners what list of vulnerabilities to look at: `trixie` of `trixie-updates`.
    fn release(&self, package: &LockedPackage) -> Option<&str> {
        self.archive(package)?.suites.first()?.split('-').next()
    }

    fn purl(&self, package: &LockedPackage, name: &str, version: &str, architecture: &str) -> String {
        let vendor = package.location().0;
        let vendor = if vendor.starts_with("debian") { "debian" } else { vendor };
        let mut qualifiers = vec![("arch", architecture)];
        qualifiers.extend(self.release(package).map(|release| ("distro", release)));
        Purl { kind: "deb", namespace: Some(vendor), name, version, qualifiers: &qualifiers }.to_string()
    }
}

/// Adds packages and their sources; returns the packages' elements in the order given.
pub fn add(contents: &mut Contents, packages: &[DebianPackage<'_>], origin: &Origin<'_>) -> Vec<ElementId> {
    let mut ids = Vec::with_capacity(packages.len());
    for package in packages {
        let (binary, source) = (binary(package, origin), source(package, origin));
        contents.relate(&binary.id, Relation::GeneratedFrom, &source.id);
        ids.push(binary.id.clone());
        contents.packages.extend([binary, source]);
        contents.licences.extend(package.licence.references.iter().map(|(id, reference)| ExtractedLicence {
            license_id: id.clone(),
            extracted_text: reference.text.clone(),
            name: reference.name.clone(),
        }));
    }
    ids
}

fn binary(package: &DebianPackage<'_>, origin: &Origin<'_>) -> Package {
    let DebianPackage { locked, control, licence } = package;
    let id = ElementId::new(&["deb", &locked.name, &locked.version, &locked.architecture]);
    let Source { name, version } = &control.source;
    let file = locked.location().1.rsplit('/').next().unwrap_or_default();
    let homepage = control.homepage.clone().filter(|page| is_web_address(page));
    Package {
        package_file_name: Some(file.to_owned()),
        supplier: supplier(&control.maintainer),
        download_location: origin.address(locked).unwrap_or_else(|| NO_ASSERTION.to_owned()),
        checksums: vec![Checksum::from(locked.sha256)],
        homepage,
        source_info: Some(format!("built from the Debian source package {name} {version}")),
        license_declared: licence.expression.clone().unwrap_or_else(|| NO_ASSERTION.to_owned()),
        ..Package::new(id, &locked.name, Some(&locked.version))
    }
    .purl(origin.purl(locked, &locked.name, &locked.version, &locked.architecture))
}

/// The source package. The licence is the one of its packages, whose copyright files are about the source.
fn source(package: &DebianPackage<'_>, origin: &Origin<'_>) -> Package {
    let Source { name, version } = &package.control.source;
    let id = ElementId::new(&["source", name, version]);
    let declared = package.licence.expression.clone();
    Package {
        license_declared: declared.unwrap_or_else(|| NO_ASSERTION.to_owned()),
        primary_package_purpose: Some("SOURCE"),
        ..Package::new(id, name, Some(version))
    }
    .purl(origin.purl(package.locked, name, version, "source"))
}

/// `Jo Doe <jo@example.org>` as SPDX writes it. Debian does not say who is a person; teams have lists.
fn supplier(maintainer: &str) -> Option<String> {
    let (name, address) = maintainer.split_once('<').unwrap_or((maintainer, ""));
    let (name, address) = (name.trim().trim_matches('"'), address.trim().trim_end_matches('>'));
    if name.is_empty() {
        return None;
    }
    let words = name.to_lowercase();
    let team = ["team", "maintainers", "group", "developers", "project", "packagers", "debian"];
    let lists = ["@lists.", "@alioth-lists.", "@tracker.debian.org", "@packages.debian.org", "team+"];
    let is_team = team.iter().any(|word| words.contains(word)) || lists.iter().any(|list| address.contains(list));
    let kind = if is_team { "Organization" } else { "Person" };
    let address = if address.is_empty() { String::new() } else { format!(" ({address})") };
    Some(format!("{kind}: {name}{address}"))
}

fn is_web_address(text: &str) -> bool {
    (text.starts_with("http://") || text.starts_with("https://")) && !text.contains(char::is_whitespace)
}

/// Adds what the packages depend on among each other: of alternatives, the first that is there.
pub fn relate(contents: &mut Contents, packages: &[DebianPackage<'_>], ids: &[ElementId]) -> anyhow::Result<()> {
    let mut providers: HashMap<&str, Vec<usize>> = HashMap::new();
    for (index, package) in packages.iter().enumerate() {
        providers.entry(&package.locked.name).or_default().insert(0, index);
        for provided in relations(package, &package.control.provides)?.into_iter().flatten() {
            providers.entry(provided).or_default().push(index);
        }
    }
    for (package, id) in packages.iter().zip(ids) {
        for group in relations(package, &package.control.depends)? {
            let found = group.iter().find_map(|name| providers.get(name)?.first());
            if let Some(&found) = found.filter(|&&found| ids[found] != *id) {
                contents.relate(id, Relation::DependsOn, &ids[found]);
            }
        }
    }
    Ok(())
}

/// The names in a relation field.
fn relations<'a>(package: &DebianPackage<'_>, field: &'a str) -> anyhow::Result<Vec<Vec<&'a str>>> {
    let groups = relation::parse(field).with_context(|| format!("reading what {} depends on", package.locked.name))?;
    Ok(groups.iter().map(|group| group.iter().map(|relation| relation.name).collect()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn teams_are_told_from_people() {
        for (maintainer, supplier_) in [
            ("Jo Doe <jo@debian.org>", "Person: Jo Doe (jo@debian.org)"),
            (
                "Debian GCC Maintainers <debian-gcc@lists.debian.org>",
                "Organization: Debian GCC Maintainers (debian-gcc@lists.debian.org)",
            ),
            ("Kurt <team+openssl@tracker.debian.org>", "Organization: Kurt (team+openssl@tracker.debian.org)"),
            ("Jo", "Person: Jo"),
        ] {
            assert_eq!(supplier(maintainer).as_deref(), Some(supplier_));
        }
        assert_eq!(supplier("<jo@debian.org>"), None);
    }
}
