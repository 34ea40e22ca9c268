//! The crates that a program is linked from, as cargo's own resolver says for one target.

use std::collections::BTreeMap;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::document::{Checksum, Contents, ElementId, NO_ASSERTION, Package, Purl, Relation};
use crate::hash::Hash;

/// What `cargo tree --prefix depth` must print: name and version, licence, repository.
pub const TREE_FORMAT: &str = "\t{p}\t{l}\t{r}";

/// A crate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Crate {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its licence as its manifest says it.
    pub licence: String,
    /// Where its sources are looked after.
    pub repository: String,
    /// Digest of its archive; none for a crate of this workspace.
    pub sha256: Option<Hash>,
    /// Places of the crates that it uses.
    pub uses: Vec<usize>,
}

/// Reads what `cargo tree` printed and the lock file it went by. The program's own crate comes first.
pub fn read(tree: &str, lock: &str) -> anyhow::Result<Vec<Crate>> {
    let checksums = checksums(lock)?;
    let mut crates: Vec<Crate> = Vec::new();
    let mut places: BTreeMap<(String, String), usize> = BTreeMap::new();
    // The crates above the line at hand, by depth.
    let mut above: Vec<usize> = Vec::new();
    for line in tree.lines().filter(|line| !line.is_empty()) {
        let (depth, one) = parse_line(line).with_context(|| format!("not a line of `cargo tree`: {line:?}"))?;
        let key = (one.name.clone(), one.version.clone());
        let place = *places.entry(key.clone()).or_insert_with(|| {
            crates.push(Crate { sha256: checksums.get(&key).copied().flatten(), ..one });
            crates.len() - 1
        });
        above.truncate(depth);
        if let Some(&user) = above.last()
            && !crates[user].uses.contains(&place)
        {
            crates[user].uses.push(place);
        }
        above.push(place);
    }
    Ok(crates)
}

/// `DEPTH\tNAME vVERSION[ (SOURCE)]\tLICENCE\tREPOSITORY[ (*)]`
fn parse_line(line: &str) -> Option<(usize, Crate)> {
    // The mark of a crate whose own line came before.
    let mut fields = line.strip_suffix(" (*)").unwrap_or(line).split('\t');
    let depth = fields.next()?.parse().ok()?;
    let (name, version) = fields.next()?.split_once(" v")?;
    let version = version.split(' ').next()?;
    let (licence, repository) = (fields.next()?, fields.next()?);
    let one = Crate {
        name: name.to_owned(),
        version: version.to_owned(),
        licence: licence.to_owned(),
        repository: repository.to_owned(),
        sha256: None,
        uses: Vec::new(),
    };
    Some((depth, one))
}

#[derive(Deserialize)]
struct CargoLock {
    package: Vec<LockedCrate>,
}

#[derive(Deserialize)]
struct LockedCrate {
    name: String,
    version: String,
    checksum: Option<Hash>,
}

fn checksums(lock: &str) -> anyhow::Result<BTreeMap<(String, String), Option<Hash>>> {
    let lock: CargoLock = toml::from_str(lock).context("reading Cargo.lock")?;
    Ok(lock.package.into_iter().map(|one| ((one.name, one.version), one.checksum)).collect())
}

/// Adds the crates and how they are linked; returns the element of the program.
pub fn add(contents: &mut Contents, crates: &[Crate]) -> Option<ElementId> {
    let id = |one: &Crate| ElementId::new(&["cargo", &one.name, &one.version]);
    for one in crates {
        let purl = Purl { kind: "cargo", namespace: None, name: &one.name, version: &one.version, qualifiers: &[] };
        contents.packages.push(
            Package {
                license_declared: licence(&one.licence).unwrap_or_else(|| NO_ASSERTION.to_owned()),
                checksums: one.sha256.map(Checksum::from).into_iter().collect(),
                homepage: Some(one.repository.clone()).filter(|page| page.starts_with("https://")),
                ..Package::new(id(one), &one.name, Some(&one.version))
            }
            .purl(purl.to_string()),
        );
        for &used in &one.uses {
            contents.relate(&id(&crates[used]), Relation::StaticLink, &id(one));
        }
    }
    crates.first().map(id)
}

/// Cargo's field is an SPDX expression; older crates have a slash for OR.
fn licence(field: &str) -> Option<String> {
    let expression = field.split('/').map(str::trim).collect::<Vec<_>>().join(" OR ");
    spdx::Expression::parse(&expression).is_ok().then_some(expression)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TREE: &str = "0\tfirstboot v0.1.0 (/src/firstboot)\tApache-2.0 OR MIT\t\n\
        1\tclap v4.6.9\tMIT/Apache-2.0\thttps://example.org/clap\n\
        2\tstrsim v0.11.1\tMIT\thttps://example.org/strsim\n\
        1\tserde v1.0.1\tsomething else\thttps://example.org/serde\n\
        1\tstrsim v0.11.1\tMIT\thttps://example.org/strsim (*)\n";
    const LOCK: &str = "version = 4\n\
        [[package]]\nname = \"clap\"\nversion = \"4.6.9\"\nsource = \"registry\"\n\
        checksum = \"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\"\n\
        [[package]]\nname = \"firstboot\"\nversion = \"0.1.0\"\n";

    #[test]
    fn each_crate_is_there_once_with_all_that_it_uses() {
        let crates = read(TREE, LOCK).unwrap();
        let shown: Vec<_> = crates
            .iter()
            .map(|one| format!("{} {} {:?} {}", one.name, one.version, one.uses, one.sha256.is_some()))
            .collect();
        assert_eq!(
            shown,
            [
                "firstboot 0.1.0 [1, 3, 2] false",
                "clap 4.6.9 [2] true",
                "strsim 0.11.1 [] false",
                "serde 1.0.1 [] false"
            ]
        );
    }

    #[test]
    fn licences_are_expressions_or_unknown() {
        let mut contents = Contents::default();
        add(&mut contents, &read(TREE, LOCK).unwrap());
        let licences: Vec<_> = contents.packages.iter().map(|package| package.license_declared.as_str()).collect();
        assert_eq!(licences, ["Apache-2.0 OR MIT", "MIT OR Apache-2.0", "MIT", "NOASSERTION"]);
    }

    #[test]
    fn another_format_is_refused() {
        assert!(read("firstboot v0.1.0\n", LOCK).is_err());
    }
}
