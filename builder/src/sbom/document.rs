//! An SPDX 2.3 document, as far as larder fills one in (<https://spdx.github.io/spdx-spec/v2.3/>, JSON form).
//!
//! Its bytes depend on what it describes and on nothing else: elements are sorted, no field tells when or where it was
//! made, and its namespace, which has to be unique, is derived from the rest.

use std::fmt;

use serde::Serialize;
use uuid::Uuid;

use crate::hash::Hash;

/// Where nothing is known, and SPDX wants that said.
pub const NO_ASSERTION: &str = "NOASSERTION";

/// The whole document.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Document {
    spdx_version: &'static str,
    data_license: &'static str,
    #[serde(rename = "SPDXID")]
    id: ElementId,
    name: String,
    document_namespace: String,
    creation_info: CreationInfo,
    packages: Vec<Package>,
    has_extracted_licensing_infos: Vec<ExtractedLicence>,
    relationships: Vec<Relationship>,
}

/// Who made it, and when.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct CreationInfo {
    created: String,
    creators: Vec<String>,
    license_list_version: String,
}

/// Name of an element, unique in the document: `SPDXRef-…`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct ElementId(String);

impl ElementId {
    /// The document itself.
    pub fn document() -> Self {
        Self("SPDXRef-DOCUMENT".to_owned())
    }

    /// An element by the parts of its name. Letters that SPDX does not allow become `.` and their number, so that
    /// different names stay different.
    pub fn new(parts: &[&str]) -> Self {
        let mut id = "SPDXRef".to_owned();
        for part in parts {
            id.push('-');
            for byte in part.bytes() {
                match byte {
                    b'-' | b'.' => id.push(char::from(byte)),
                    letter if letter.is_ascii_alphanumeric() => id.push(char::from(letter)),
                    other => id.push_str(&format!(".{other:02X}")),
                }
            }
        }
        Self(id)
    }
}

/// A package: a piece of software, a tree of files, an image.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Package {
    /// Its element.
    #[serde(rename = "SPDXID")]
    pub id: ElementId,
    /// Name.
    pub name: String,
    /// Version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version_info: Option<String>,
    /// File that it comes in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub package_file_name: Option<String>,
    /// Who gives it out: `Person: NAME (ADDRESS)` or `Organization: …`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub supplier: Option<String>,
    /// Where it was taken from.
    pub download_location: String,
    /// Always `false`: files are in the image's file list.
    pub files_analyzed: bool,
    /// Digests of the file that it comes in.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub checksums: Vec<Checksum>,
    /// Web page of its upstream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub homepage: Option<String>,
    /// What it was made from, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_info: Option<String>,
    /// The licence as its authors or packagers say it.
    pub license_declared: String,
    /// The licence as found by whoever made the document: larder draws no conclusions.
    pub license_concluded: &'static str,
    /// Copyright notices: not gathered.
    pub copyright_text: &'static str,
    /// Anything else.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// Other names of it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub external_refs: Vec<ExternalRef>,
    /// What it is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub primary_package_purpose: Option<&'static str>,
}

impl Package {
    /// A package of which only this is known.
    pub fn new(id: ElementId, name: &str, version: Option<&str>) -> Self {
        Self {
            id,
            name: name.to_owned(),
            version_info: version.map(str::to_owned),
            package_file_name: None,
            supplier: None,
            download_location: NO_ASSERTION.to_owned(),
            files_analyzed: false,
            checksums: Vec::new(),
            homepage: None,
            source_info: None,
            license_declared: NO_ASSERTION.to_owned(),
            license_concluded: NO_ASSERTION,
            copyright_text: NO_ASSERTION,
            comment: None,
            external_refs: Vec::new(),
            primary_package_purpose: None,
        }
    }

    /// Adds its package URL.
    #[must_use]
    pub fn purl(mut self, purl: String) -> Self {
        self.external_refs.push(ExternalRef {
            reference_category: "PACKAGE-MANAGER",
            reference_type: "purl",
            reference_locator: purl,
        });
        self
    }
}

/// A digest.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Checksum {
    algorithm: &'static str,
    checksum_value: Hash,
}

impl From<Hash> for Checksum {
    fn from(sha256: Hash) -> Self {
        Self { algorithm: "SHA256", checksum_value: sha256 }
    }
}

/// A name in another system.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ExternalRef {
    /// `PACKAGE-MANAGER`, `OTHER`.
    pub reference_category: &'static str,
    /// Kind of name.
    pub reference_type: &'static str,
    /// The name.
    pub reference_locator: String,
}

/// A licence that is not on SPDX's list.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ExtractedLicence {
    /// `LicenseRef-…`
    pub license_id: String,
    /// Its text.
    pub extracted_text: String,
    /// What it is called.
    pub name: String,
}

/// Says how two elements are related; sorted by what it is from.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Relationship {
    spdx_element_id: ElementId,
    relationship_type: Relation,
    related_spdx_element: ElementId,
}

/// Kinds of relationship.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Relation {
    /// The document is about it.
    Describes,
    /// It is part of it.
    Contains,
    /// It needs it to work.
    DependsOn,
    /// It was made from it.
    GeneratedFrom,
    /// It is linked into it.
    StaticLink,
}

/// A package URL: `pkg:KIND/[NAMESPACE/]NAME@VERSION[?QUALIFIERS]`
/// (<https://github.com/package-url/purl-spec>).
#[derive(Debug, Clone, Copy)]
pub struct Purl<'a> {
    /// `deb`, `cargo`.
    pub kind: &'a str,
    /// The vendor.
    pub namespace: Option<&'a str>,
    /// Name.
    pub name: &'a str,
    /// Version.
    pub version: &'a str,
    /// Sorted by name.
    pub qualifiers: &'a [(&'a str, &'a str)],
}

impl fmt::Display for Purl<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pkg:{}/", self.kind)?;
        if let Some(namespace) = self.namespace {
            write!(f, "{}/", percent_encoded(namespace))?;
        }
        write!(f, "{}@{}", percent_encoded(self.name), percent_encoded(self.version))?;
        for (index, (name, value)) in self.qualifiers.iter().enumerate() {
            let separator = if index == 0 { '?' } else { '&' };
            write!(f, "{separator}{name}={}", percent_encoded(value))?;
        }
        Ok(())
    }
}

/// The specification leaves `.-_~:` and letters and digits as they are.
fn percent_encoded(text: &str) -> String {
    let encode = |byte: u8| match byte {
        b'.' | b'-' | b'_' | b'~' | b':' => char::from(byte).to_string(),
        letter if letter.is_ascii_alphanumeric() => char::from(letter).to_string(),
        other => format!("%{other:02X}"),
    };
    text.bytes().map(encode).collect()
}

/// What a document is put together from, in any order.
#[derive(Debug, Default)]
pub struct Contents {
    /// The packages.
    pub packages: Vec<Package>,
    /// The licences that they refer to.
    pub licences: Vec<ExtractedLicence>,
    relationships: Vec<Relationship>,
}

impl Contents {
    /// Adds a relationship.
    pub fn relate(&mut self, from: &ElementId, relation: Relation, to: &ElementId) {
        self.relationships.push(Relationship {
            spdx_element_id: from.clone(),
            relationship_type: relation,
            related_spdx_element: to.clone(),
        });
    }

    /// The document's text: `name` is its title, `created` an RFC 3339 time in UTC without fractions.
    pub fn into_json(mut self, name: &str, created: &str) -> anyhow::Result<String> {
        self.packages.sort_by(|a, b| a.id.cmp(&b.id));
        self.packages.dedup_by(|a, b| a.id == b.id);
        self.licences.sort_by(|a, b| a.license_id.cmp(&b.license_id));
        self.licences.dedup_by(|a, b| a.license_id == b.license_id);
        self.relationships.sort();
        self.relationships.dedup();
        let list = spdx::license_version();
        let mut document = Document {
            spdx_version: "SPDX-2.3",
            data_license: "CC0-1.0",
            id: ElementId::document(),
            name: name.to_owned(),
            document_namespace: String::new(),
            creation_info: CreationInfo {
                created: created.to_owned(),
                creators: vec![format!("Tool: larder-{}", env!("CARGO_PKG_VERSION"))],
                // The field has no room for a patch level.
                license_list_version: list.rsplit_once('.').map_or(list, |(list, _)| list).to_owned(),
            },
            packages: self.packages,
            has_extracted_licensing_infos: self.licences,
            relationships: self.relationships,
        };
        let digest = Hash::of(serde_json::to_vec(&document)?);
        let id = Uuid::new_v5(&Uuid::NAMESPACE_OID, digest.as_bytes());
        // The form that the standard recommends (6.5) for those without a site of their own.
        document.document_namespace = format!("https://spdx.org/spdxdocs/{name}-{id}");
        Ok(serde_json::to_string_pretty(&document)? + "\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn package_urls_are_encoded_as_the_specification_asks() {
        let purl = Purl {
            kind: "deb",
            namespace: Some("debian"),
            name: "libstdc++6",
            version: "1:14.2.0-19~x+b1",
            qualifiers: &[("arch", "amd64"), ("distro", "trixie")],
        };
        assert_eq!(purl.to_string(), "pkg:deb/debian/libstdc%2B%2B6@1:14.2.0-19~x%2Bb1?arch=amd64&distro=trixie");
    }

    #[test]
    fn element_names_keep_apart_what_differs() {
        assert_eq!(ElementId::new(&["deb", "libstdc++6"]).0, "SPDXRef-deb-libstdc.2B.2B6");
        assert_ne!(ElementId::new(&["deb", "g++"]), ElementId::new(&["deb", "g--"]));
    }

    #[test]
    fn a_document_does_not_depend_on_the_order_in_which_it_was_filled() {
        let id = |name: &str| ElementId::new(&[name]);
        let document = |names: &[&str]| {
            let mut contents = Contents::default();
            for name in names {
                contents.packages.push(Package::new(id(name), name, Some("1")));
                contents.relate(&id("image"), Relation::Contains, &id(name));
            }
            contents.into_json("larder-test", "2026-11-21T02:10:46Z").unwrap()
        };
        assert_eq!(document(&["a", "b"]), document(&["b", "a", "b"]));
        insta::assert_snapshot!(document(&["a"]), @r#"
        {
          "spdxVersion": "SPDX-2.3",
          "dataLicense": "CC0-1.0",
          "SPDXID": "SPDXRef-DOCUMENT",
          "name": "larder-test",
          "documentNamespace": "https://spdx.org/spdxdocs/larder-test-69802528-d7c2-590d-9c43-718c5048bc11",
          "creationInfo": {
            "created": "2026-11-21T02:10:46Z",
            "creators": [
              "Tool: larder-0.1.0"
            ],
            "licenseListVersion": "3.29"
          },
          "packages": [
            {
              "SPDXID": "SPDXRef-a",
              "name": "a",
              "versionInfo": "1",
              "downloadLocation": "NOASSERTION",
              "filesAnalyzed": false,
              "licenseDeclared": "NOASSERTION",
              "licenseConcluded": "NOASSERTION",
              "copyrightText": "NOASSERTION"
            }
          ],
          "hasExtractedLicensingInfos": [],
          "relationships": [
            {
              "spdxElementId": "SPDXRef-image",
              "relationshipType": "CONTAINS",
              "relatedSpdxElement": "SPDXRef-a"
            }
          ]
        }
        "#);
    }
}
