use std::path::Path;

use super::*;
use crate::hash::Hash;

const COPYRIGHT: &str = "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\n\
    Files: *\nCopyright: Jo\nLicense: GPL-2+ or Kitchen\n\nLicense: Kitchen\n Cook with it.\n";

fn package(store: &Path, name: &str, control: &str, copyright: Option<&str>) -> (LockedPackage, UnpackedPackage) {
    let folder = store.join(name);
    let documents = folder.join("data/usr/share/doc").join(name);
    fs_err::create_dir_all(&documents).unwrap();
    fs_err::create_dir_all(folder.join("control")).unwrap();
    fs_err::write(folder.join("control/control"), format!("Package: {name}\nVersion: 1.0-1\n{control}")).unwrap();
    if let Some(text) = copyright {
        fs_err::write(documents.join("copyright"), text).unwrap();
    }
    let locked = LockedPackage {
        name: name.to_owned(),
        version: "1.0-1".to_owned(),
        architecture: "amd64".to_owned(),
        sha256: Hash::of(name),
        size: 1,
        source: format!("debian:pool/main/{name}_1.0-1_amd64.deb"),
    };
    let unpacked =
        UnpackedPackage { name: name.to_owned(), architecture: "amd64".to_owned(), sha256: locked.sha256, folder };
    (locked, unpacked)
}

fn archive() -> Archive {
    Archive {
        name: "debian".to_owned(),
        mirror: "http://deb.debian.org/debian/".to_owned(),
        snapshot: None,
        suites: vec!["trixie-updates".to_owned()],
        components: vec!["main".to_owned()],
        keys: Vec::new(),
    }
}

/// The document of an image with three packages.
fn made() -> (serde_json::Value, Summary) {
    let store = tempfile::tempdir().unwrap();
    let (bash_control, libc_control) = (
        "Source: shells (1.0-0)\nMaintainer: Jo <jo@example.org>\nPre-Depends: libc (>= 2)\nDepends: cook | chef, absent\n",
        "Maintainer: Debian C Team <c@lists.debian.org>\nProvides: chef\n",
    );
    let (locked, unpacked): (Vec<_>, Vec<_>) = [
        package(store.path(), "bash", bash_control, Some(COPYRIGHT)),
        package(store.path(), "libc", libc_control, Some("For people.")),
        package(store.path(), "none", "", None),
    ]
    .into_iter()
    .unzip();
    let (zfs, zfs_unpacked) = package(store.path(), "zfs-dkms", "Source: zfs-linux\n", Some(COPYRIGHT));
    let (zfs, zfs_unpacked) = ([zfs], [zfs_unpacked]);
    let program = crates::read(
        "0\tfirstboot v0.1.0\tMIT\t\n1\tanyhow v1.0.1\tMIT OR Apache-2.0\thttps://example.org\n",
        "[[package]]\nname = \"firstboot\"\nversion = \"0.1.0\"\n",
    )
    .unwrap();
    let version = "1.2".parse().unwrap();
    let image = Image {
        profile: "test",
        version: &version,
        root_hash: RootHash::from([7; 32]),
        snapshot: "2026-11-21T02:10:46.5Z".parse().unwrap(),
        archives: &[archive()],
        packages: Packages { locked: &locked, unpacked: &unpacked },
        boot: Packages { locked: &[], unpacked: &[] },
        zfs: Packages { locked: &zfs, unpacked: &zfs_unpacked },
        kernel: "6.12.1-amd64",
        program: &program,
        rust: "1.95.0",
        overlays: vec!["base".to_owned()],
    };
    let made = document(&image).unwrap();
    assert_eq!(document(&image).unwrap().text, made.text);
    (serde_json::from_str(&made.text).unwrap(), made.summary)
}

fn text<'a>(value: &'a serde_json::Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

#[test]
fn an_image_is_described_with_all_of_its_parts() {
    let (document, summary) = made();
    let list = |key: &str| document[key].as_array().unwrap().clone();
    let relationships: Vec<_> = list("relationships")
        .iter()
        .map(|one| {
            format!(
                "{} {} {}",
                text(one, "spdxElementId"),
                text(one, "relationshipType"),
                text(one, "relatedSpdxElement")
            )
            .replace("SPDXRef-", "")
        })
        .collect();
    insta::assert_snapshot!(relationships.join("\n"), @r"
    DOCUMENT DESCRIBES image
    cargo-anyhow-1.0.1 STATIC_LINK cargo-firstboot-0.1.0
    deb-bash-1.0-1-amd64 DEPENDS_ON deb-libc-1.0-1-amd64
    deb-bash-1.0-1-amd64 GENERATED_FROM source-shells-1.0-0
    deb-libc-1.0-1-amd64 GENERATED_FROM source-libc-1.0-1
    deb-none-1.0-1-amd64 GENERATED_FROM source-none-1.0-1
    deb-zfs-dkms-1.0-1-amd64 GENERATED_FROM source-zfs-linux-1.0-1
    image CONTAINS cargo-firstboot-0.1.0
    image CONTAINS deb-bash-1.0-1-amd64
    image CONTAINS deb-libc-1.0-1-amd64
    image CONTAINS deb-none-1.0-1-amd64
    image CONTAINS overlay-base
    image CONTAINS zfs-modules
    rust STATIC_LINK cargo-firstboot-0.1.0
    zfs-modules GENERATED_FROM deb-zfs-dkms-1.0-1-amd64
    ");
    let licences: Vec<_> =
        list("packages").iter().map(|one| format!("{}: {}", text(one, "name"), text(one, "licenseDeclared"))).collect();
    insta::assert_snapshot!(licences.join("\n"), @"
    anyhow: MIT OR Apache-2.0
    firstboot: MIT
    bash: GPL-2.0-or-later OR LicenseRef-Kitchen-7be0c8d9c6b4
    libc: LicenseRef-copyright-of-libc-79ebe605c21e
    none: NOASSERTION
    zfs-dkms: GPL-2.0-or-later OR LicenseRef-Kitchen-7be0c8d9c6b4
    larder-test: NOASSERTION
    overlays/base: NOASSERTION
    rust: MIT OR Apache-2.0
    libc: LicenseRef-copyright-of-libc-79ebe605c21e
    none: NOASSERTION
    shells: GPL-2.0-or-later OR LicenseRef-Kitchen-7be0c8d9c6b4
    zfs-linux: GPL-2.0-or-later OR LicenseRef-Kitchen-7be0c8d9c6b4
    zfs-modules: GPL-2.0-or-later OR LicenseRef-Kitchen-7be0c8d9c6b4
    ");
    insta::assert_snapshot!(summary, @"SBOM: 3 packages and 2 crates; licences of 1 packages machine-readable, 1 as text, 1 unknown; 2 not on SPDX's list");
}

#[test]
fn a_debian_package_tells_what_it_is_and_where_it_is_from() {
    let (document, _) = made();
    let packages = document["packages"].as_array().unwrap();
    let bash = packages.iter().find(|one| text(one, "SPDXID") == "SPDXRef-deb-bash-1.0-1-amd64").unwrap();
    insta::assert_snapshot!(serde_json::to_string_pretty(bash).unwrap(), @r#"
    {
      "SPDXID": "SPDXRef-deb-bash-1.0-1-amd64",
      "checksums": [
        {
          "algorithm": "SHA256",
          "checksumValue": "37d2b12d5d9abc2a364ef9448767ee03938e383c0284193477dc7618f4b7c6c2"
        }
      ],
      "copyrightText": "NOASSERTION",
      "downloadLocation": "http://deb.debian.org/debian/pool/main/bash_1.0-1_amd64.deb",
      "externalRefs": [
        {
          "referenceCategory": "PACKAGE-MANAGER",
          "referenceLocator": "pkg:deb/debian/bash@1.0-1?arch=amd64&distro=trixie",
          "referenceType": "purl"
        }
      ],
      "filesAnalyzed": false,
      "licenseConcluded": "NOASSERTION",
      "licenseDeclared": "GPL-2.0-or-later OR LicenseRef-Kitchen-7be0c8d9c6b4",
      "name": "bash",
      "packageFileName": "bash_1.0-1_amd64.deb",
      "sourceInfo": "built from the Debian source package shells 1.0-0",
      "supplier": "Person: Jo (jo@example.org)",
      "versionInfo": "1.0-1"
    }
    "#);
    assert_eq!(text(&document["creationInfo"], "created"), "2026-11-21T02:10:46Z");
}
