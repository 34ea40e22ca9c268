//! The SBOM of an image: an SPDX 2.3 document that lists what is inside, from where and under which licences.
//!
//! ```text
//! the document ─ DESCRIBES ─ the image ─ CONTAINS ─┬─ each Debian package ─ GENERATED_FROM ─ its source package
//!                                                  │     └─ DEPENDS_ON ─ other packages
//!                                                  ├─ ZFS modules ─ GENERATED_FROM ─ zfs-dkms
//!                                                  ├─ boot loader and kernel stub (a package of a tools tree)
//!                                                  ├─ firstboot ◂─ STATIC_LINK ─ its crates, Rust's library
//!                                                  └─ overlays
//! ```
//!
//! Licences are *declared*: by the packages' copyright files ([`licence`]) and the crates' manifests. larder concludes
//! nothing, so `licenseConcluded` is always `NOASSERTION`. Files are not listed: the image's file list does that, with
//! digests, in a tenth of the room.
//!
//! All of it is made anew whenever anything changes: reading the copyright files of 143 packages takes 20 ms, less than
//! looking up a result for each would. Only the list of crates is kept, as cargo takes longer to tell it.
//!
//! Its time is that of the newest package list that the image was locked against. The same image has the same document,
//! byte for byte.

pub mod crates;
pub mod debian;
pub mod document;
pub mod licence;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use firstboot::verity::RootHash;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::archive::Archive;
use crate::deb::Source;
use crate::image::version::Version;
use crate::lock::LockedPackage;
use crate::tree::UnpackedPackage;
use crates::Crate;
use debian::DebianPackage;
use document::{Contents, ElementId, ExternalRef, Package, Purl, Relation};
use licence::Form;

/// Raise when the same image gets another document.
pub const REVISION: u32 = 1;

/// What an SBOM is about.
#[derive(Debug)]
pub struct Image<'a> {
    /// Name of the profile.
    pub profile: &'a str,
    /// Version of the image.
    pub version: &'a Version,
    /// Root hash of its root file system.
    pub root_hash: RootHash,
    /// Date of its lock.
    pub snapshot: Timestamp,
    /// Where its packages are from.
    pub archives: &'a [Archive],
    /// Its packages.
    pub packages: Packages<'a>,
    /// Packages of a tools tree of which files are in the image as they are.
    pub boot: Packages<'a>,
    /// The package from which its ZFS modules were compiled.
    pub zfs: Packages<'a>,
    /// The kernel that they are for, as `uname -r` says it.
    pub kernel: &'a str,
    /// The `firstboot` program and what it is linked from.
    pub program: &'a [Crate],
    /// Version of the Rust that compiled it.
    pub rust: &'a str,
    /// Names of its overlays, the initrd's too.
    pub overlays: Vec<String>,
}

/// Locked packages and where they lie unpacked, in the same order.
#[derive(Debug, Clone, Copy)]
pub struct Packages<'a> {
    /// What they are.
    pub locked: &'a [LockedPackage],
    /// Where they are.
    pub unpacked: &'a [UnpackedPackage],
}

/// A document, and what else came out of its making.
#[derive(Debug)]
pub struct Sbom {
    /// The document's text: JSON.
    pub text: String,
    /// What the image's packages say of themselves, in their order.
    pub facts: Vec<Facts>,
    /// What it holds.
    pub summary: Summary,
}

/// What a package says of itself, for the image's manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Facts {
    /// What it was built from.
    pub source: Source,
    /// Bytes on a disk, by its builder's estimate.
    pub installed_size: u64,
}

/// What a document holds, for people.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    debian: usize,
    by_form: BTreeMap<&'static str, usize>,
    references: usize,
    crates: usize,
}

/// Makes the document.
pub fn document(image: &Image<'_>) -> anyhow::Result<Sbom> {
    let mut contents = Contents::default();
    let origin = debian::Origin { archives: image.archives };
    let root = add_image(&mut contents, image);

    let packages = debian::read(image.packages.locked, image.packages.unpacked)?;
    let ids = debian::add(&mut contents, &packages, &origin);
    debian::relate(&mut contents, &packages, &ids)?;
    let boot = debian::read(image.boot.locked, image.boot.unpacked)?;
    let boot = debian::add(&mut contents, &boot, &origin);
    let zfs = debian::read(image.zfs.locked, image.zfs.unpacked)?;
    let modules = add_modules(&mut contents, image, &zfs, &origin);
    let program = add_program(&mut contents, image);
    let overlays = add_overlays(&mut contents, image);

    for part in ids.iter().chain(&boot).chain(&modules).chain(&program).chain(&overlays) {
        contents.relate(&root, Relation::Contains, part);
    }
    let references: BTreeSet<_> = contents.licences.iter().map(|licence| &licence.license_id).collect();
    let summary = Summary { references: references.len(), crates: image.program.len(), ..Summary::of(&packages) };
    let name = format!("larder-{}-{}", image.profile, image.version);
    let facts = |package: &DebianPackage<'_>| Facts {
        source: package.control.source.clone(),
        installed_size: package.control.installed_size,
    };
    Ok(Sbom {
        // SPDX wants no fractions of seconds.
        text: contents.into_json(&name, &image.snapshot.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())?,
        facts: packages.iter().map(facts).collect(),
        summary,
    })
}

fn add_image(contents: &mut Contents, image: &Image<'_>) -> ElementId {
    let id = ElementId::new(&["image"]);
    let name = format!("larder-{}", image.profile);
    contents.packages.push(Package {
        primary_package_purpose: Some("OPERATING_SYSTEM"),
        external_refs: vec![ExternalRef {
            reference_category: "OTHER",
            reference_type: "dm-verity-root-hash",
            reference_locator: image.root_hash.to_string(),
        }],
        ..Package::new(id.clone(), &name, Some(image.version.as_str()))
    });
    contents.relate(&ElementId::document(), Relation::Describes, &id);
    id
}

/// The compiled modules; their source is a package that is not itself in the image.
fn add_modules(
    contents: &mut Contents,
    image: &Image<'_>,
    zfs: &[DebianPackage<'_>],
    origin: &debian::Origin<'_>,
) -> Vec<ElementId> {
    let sources = debian::add(contents, zfs, origin);
    let modules = zfs.iter().zip(&sources).map(|(package, source)| {
        let id = ElementId::new(&["zfs-modules"]);
        contents.packages.push(Package {
            source_info: Some(format!("compiled for Linux {}", image.kernel)),
            license_declared: package.licence.expression.clone().unwrap_or_else(|| document::NO_ASSERTION.to_owned()),
            ..Package::new(id.clone(), "zfs-modules", Some(&package.locked.version))
        });
        contents.relate(&id, Relation::GeneratedFrom, source);
        id
    });
    modules.collect()
}

/// The program; whatever else is linked into it is related to it.
fn add_program(contents: &mut Contents, image: &Image<'_>) -> Option<ElementId> {
    let program = crates::add(contents, image.program)?;
    let library = ElementId::new(&["rust"]);
    let purl = Purl { kind: "generic", namespace: None, name: "rust", version: image.rust, qualifiers: &[] };
    contents.packages.push(
        Package {
            license_declared: "MIT OR Apache-2.0".to_owned(),
            comment: Some("Rust's standard library, with musl's C library in it".to_owned()),
            ..Package::new(library.clone(), "rust", Some(image.rust))
        }
        .purl(purl.to_string()),
    );
    contents.relate(&library, Relation::StaticLink, &program);
    Some(program)
}

fn add_overlays(contents: &mut Contents, image: &Image<'_>) -> Vec<ElementId> {
    let add = |name: &String| {
        let id = ElementId::new(&["overlay", name]);
        contents.packages.push(Package::new(id.clone(), &format!("overlays/{name}"), Some(image.version.as_str())));
        id
    };
    image.overlays.iter().map(add).collect()
}

impl Summary {
    fn of(packages: &[DebianPackage<'_>]) -> Self {
        let mut by_form = BTreeMap::new();
        for package in packages {
            let form = match package.licence.form {
                Form::MachineReadable => "machine-readable",
                Form::Text => "as text",
                Form::Missing => "unknown",
            };
            *by_form.entry(form).or_default() += 1;
        }
        Self { debian: packages.len(), by_form, ..Self::default() }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { debian, by_form, references, crates } = self;
        let count = |form: &str| by_form.get(form).copied().unwrap_or_default();
        write!(
            f,
            "SBOM: {debian} packages and {crates} crates; licences of {} packages machine-readable, {} as text, {} unknown; {references} not on SPDX's list",
            count("machine-readable"),
            count("as text"),
            count("unknown"),
        )
    }
}

#[cfg(test)]
mod tests;
