//! The shortest chain of dependencies from a profile to a package, read from the control files of the
//! locked packages themselves: it explains the lock as it is, whatever the archive has now.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;

use anyhow::Context as _;

use crate::archive::relation::{self, Relation, Version};
use crate::lock::LockedPackage;
use crate::solve::PackageRequest;
use crate::tree::UnpackedPackage;

/// Fields by which a package pulls in others (Debian Policy, 7.2).
const FIELDS: [&str; 2] = ["Pre-Depends", "Depends"];
/// That many further packages that need the same one are named.
const NAMED: usize = 8;

/// How a package came into a lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// Where the chain begins.
    pub root: Root,
    /// From the root's package to the one that was asked about.
    pub links: Vec<Link>,
    /// Other packages that need it directly, by name.
    pub also: Vec<String>,
}

/// Why the first package of a chain is installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Root {
    /// `packages.include` names it.
    Included,
    /// `Essential: yes`
    Essential,
}

/// A package of a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// What the package before it says: field and relation. Nothing for the first one.
    pub needed_as: Option<(String, String)>,
}

/// A locked package with what its control file says.
struct Node<'a> {
    locked: &'a LockedPackage,
    version: Version,
    fields: BTreeMap<String, String>,
}

/// What a package asks for, and which locked packages that is.
struct Edge {
    field: &'static str,
    relation: String,
    to: Vec<usize>,
}

/// The chain to `name`, which the lock has.
pub(super) fn find(
    request: &PackageRequest,
    locked: &[LockedPackage],
    unpacked: &[UnpackedPackage],
    name: &str,
) -> anyhow::Result<Chain> {
    let nodes = locked.iter().zip(unpacked).map(Node::read).collect::<anyhow::Result<Vec<_>>>()?;
    let graph = Graph { providers: providers(&nodes)?, nodes };
    graph.chain(request, name)
}

/// Real and virtual names -> who has them, with the version under that name.
type Providers = BTreeMap<String, Vec<(usize, Option<Version>)>>;

struct Graph<'a> {
    nodes: Vec<Node<'a>>,
    providers: Providers,
}

impl Graph<'_> {
    fn chain(&self, request: &PackageRequest, name: &str) -> anyhow::Result<Chain> {
        let roots = self.roots(request);
        let mut came_from: BTreeMap<usize, Option<(usize, String, String)>> = BTreeMap::new();
        let mut queue = VecDeque::new();
        for (index, _) in &roots {
            if came_from.insert(*index, None).is_none() {
                queue.push_back(*index);
            }
        }
        let mut also = Vec::new();
        while let Some(index) = queue.pop_front() {
            for edge in self.edges(index)? {
                for to in edge.to {
                    if self.nodes[to].locked.name == name {
                        also.push(self.nodes[index].locked.name.clone());
                    }
                    came_from.entry(to).or_insert_with(|| {
                        queue.push_back(to);
                        Some((index, edge.field.to_owned(), edge.relation.clone()))
                    });
                }
            }
        }
        let mut next = (0..self.nodes.len()).find(|index| self.nodes[*index].locked.name == name);
        let mut links = Vec::new();
        let mut first = None;
        while let Some(index) = next {
            let from = came_from
                .get(&index)
                .with_context(|| format!("nothing in the lock needs {name}: the lock was not made for this profile"))?;
            let LockedPackage { name, version, .. } = self.nodes[index].locked;
            let needed_as = from.as_ref().map(|(_, field, relation)| (field.clone(), relation.clone()));
            links.push(Link { name: name.clone(), version: version.clone(), needed_as });
            first = Some(index);
            next = from.as_ref().map(|(before, _, _)| *before);
        }
        links.reverse();
        let before = links.len().checked_sub(2).map(|index| links[index].name.clone());
        also.sort();
        also.dedup();
        also.retain(|other| Some(other) != before.as_ref() && other != name);
        let root = roots.iter().find(|(index, _)| Some(*index) == first).context("a chain begins at a root")?.1;
        Ok(Chain { root, links, also })
    }

    /// Where chains begin: what the profile includes, then what is essential.
    fn roots(&self, request: &PackageRequest) -> Vec<(usize, Root)> {
        let names = request.include.iter().map(|name| name.split(':').next().unwrap_or(name));
        let included = names.flat_map(|name| self.providers.get(name).into_iter().flatten());
        let included = included.map(|(index, _)| (*index, Root::Included));
        let essential = self.nodes.iter().enumerate().filter(|(_, node)| node.field("Essential") == "yes");
        included.chain(essential.map(|(index, _)| (index, Root::Essential))).collect()
    }

    fn edges(&self, index: usize) -> anyhow::Result<Vec<Edge>> {
        let node = &self.nodes[index];
        let mut edges = Vec::new();
        for field in FIELDS {
            let groups =
                relation::parse(node.field(field)).with_context(|| format!("{field} of {}", node.locked.name))?;
            for relation in groups.into_iter().flatten() {
                let to = self.satisfying(&relation)?;
                edges.push(Edge { field, relation: relation.to_string(), to });
            }
        }
        Ok(edges)
    }

    fn satisfying(&self, relation: &Relation<'_>) -> anyhow::Result<Vec<usize>> {
        let candidates = self.providers.get(relation.name).into_iter().flatten();
        let Some((operator, wanted)) = relation.version else {
            return Ok(candidates.map(|(index, _)| *index).collect());
        };
        let wanted = relation::version(wanted)?;
        let accepted =
            |version: &Option<Version>| version.as_ref().is_some_and(|version| operator.accepts(version.cmp(&wanted)));
        Ok(candidates.filter(|(_, version)| accepted(version)).map(|(index, _)| *index).collect())
    }
}

impl<'a> Node<'a> {
    fn read((locked, unpacked): (&'a LockedPackage, &UnpackedPackage)) -> anyhow::Result<Self> {
        let path = unpacked.folder.join("control/control");
        let text = fs_err::read_to_string(&path)?;
        let paragraph = text.parse::<deb822_fast::Paragraph>();
        let paragraph = paragraph.map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))?;
        let wanted = FIELDS.iter().chain(&["Provides", "Essential"]);
        let fields = wanted.filter_map(|field| Some(((*field).to_owned(), paragraph.get(field)?.to_owned())));
        Ok(Self { locked, version: relation::version(&locked.version)?, fields: fields.collect() })
    }

    fn field(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", String::as_str)
    }
}

fn providers(nodes: &[Node<'_>]) -> anyhow::Result<Providers> {
    let mut providers = Providers::new();
    for (index, node) in nodes.iter().enumerate() {
        providers.entry(node.locked.name.clone()).or_default().insert(0, (index, Some(node.version.clone())));
        let provides =
            relation::parse(node.field("Provides")).with_context(|| format!("Provides of {}", node.locked.name))?;
        for provided in provides.into_iter().flatten() {
            let version = provided.version.map(|(_, version)| relation::version(version)).transpose()?;
            providers.entry(provided.name.to_owned()).or_default().push((index, version));
        }
    }
    Ok(providers)
}

impl fmt::Display for Chain {
    /// One line for each package, deeper by the step.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (depth, link) in self.links.iter().enumerate() {
            let why = match (&link.needed_as, self.root) {
                (Some((field, relation)), _) => format!("{field}: {relation}"),
                (None, Root::Included) => "packages.include of the profile".to_owned(),
                (None, Root::Essential) => "essential: every Debian system has it".to_owned(),
            };
            let arm = if depth == 0 { String::new() } else { "   ".repeat(depth - 1) + "└─ " };
            writeln!(f, "{arm}{} {}  ({why})", link.name, link.version)?;
        }
        let named = self.also.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
        match self.also.len().checked_sub(NAMED) {
            _ if self.also.is_empty() => Ok(()),
            None | Some(0) => writeln!(f, "also needed by {named}"),
            Some(more) => writeln!(f, "also needed by {named} and {more} more"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::Hash;

    /// Packages as (name, fields of the control file).
    fn explain(include: &[&str], packages: &[(&str, &str)], name: &str) -> anyhow::Result<String> {
        let store = tempfile::tempdir()?;
        let (mut locked, mut unpacked) = (Vec::new(), Vec::new());
        for (package, fields) in packages {
            let folder = store.path().join(package);
            fs_err::create_dir_all(folder.join("control"))?;
            fs_err::write(folder.join("control/control"), format!("Package: {package}\nVersion: 1\n{fields}"))?;
            unpacked.push(UnpackedPackage {
                name: (*package).to_owned(),
                architecture: "amd64".to_owned(),
                sha256: Hash::of(package),
                folder,
            });
            locked.push(LockedPackage {
                name: (*package).to_owned(),
                version: "1".to_owned(),
                architecture: "amd64".to_owned(),
                sha256: Hash::of(package),
                size: 1,
                source: "debian:pool/x.deb".to_owned(),
            });
        }
        let request = PackageRequest {
            include: include.iter().map(|name| (*name).to_owned()).collect(),
            forbid: ["exim4".to_owned()].into(),
            provided: ["linux-initramfs-tool".to_owned()].into(),
            pins: BTreeMap::new(),
            essential: true,
            architectures: vec!["amd64".to_owned()],
            archives: Vec::new(),
        };
        let chain = super::super::package("nas", &request, &locked, &unpacked, name)?;
        Ok(chain.to_string())
    }

    #[test]
    fn the_shortest_chain_is_shown_with_the_relations_on_the_way() {
        let packages = [
            ("nas", "Depends: web, tool (>= 1)\n"),
            ("web", "Depends: mta | mail-transport-agent\n"),
            ("postfix", "Provides: mail-transport-agent\nPre-Depends: libssl (<< 2)\n"),
            ("tool", "Depends: libssl\n"),
            ("libssl", ""),
        ];
        insta::assert_snapshot!(explain(&["nas"], &packages, "libssl").unwrap(), @r"
        nas 1  (packages.include of the profile)
        └─ tool 1  (Depends: tool (>= 1))
           └─ libssl 1  (Depends: libssl)
        also needed by postfix
        ");
        insta::assert_snapshot!(explain(&["nas"], &packages, "postfix").unwrap(), @r"
        nas 1  (packages.include of the profile)
        └─ web 1  (Depends: web)
           └─ postfix 1  (Depends: mail-transport-agent)
        ");
    }

    #[test]
    fn a_package_that_the_profile_names_or_debian_needs_is_its_own_reason() {
        let packages = [("base-files", "Essential: yes\n"), ("nas", "")];
        insta::assert_snapshot!(explain(&["nas"], &packages, "nas").unwrap(), @"nas 1  (packages.include of the profile)");
        insta::assert_snapshot!(explain(&["nas"], &packages, "base-files").unwrap(), @"base-files 1  (essential: every Debian system has it)");
    }

    #[test]
    fn a_version_that_does_not_fit_is_no_reason() {
        let packages = [("nas", "Depends: lib (>= 2) | other\n"), ("lib", "Essential: yes\n"), ("other", "")];
        assert!(explain(&["nas"], &packages, "lib").unwrap().contains("essential"));
    }

    #[test]
    fn a_package_that_is_not_there_is_a_mistake_with_the_nearest_name() {
        let error = explain(&["nas"], &[("nas", "")], "nax").unwrap_err();
        insta::assert_snapshot!(crate::report::render(&error), @r"
        error: `nax` is not among the 1 packages of profile `nas`

        hint: did you mean nas?
        ");
        for (name, hint) in
            [("exim4", "keeps it out"), ("linux-initramfs-tool", "counts as installed"), ("q", "nothing asks")]
        {
            let error = explain(&["nas"], &[("nas", "")], name).unwrap_err();
            assert!(crate::report::render(&error).contains(hint));
        }
    }
}
