//! A package's control file (deb-control(5)), as far as something here asks for it.

use std::path::Path;

use anyhow::Context as _;
use deb822_fast::Deb822;
use serde::{Deserialize, Serialize};

/// A source package.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// Its name.
    pub name: String,
    /// Its version: the binary package's, but for rebuilds without a change of the source (`+b1`) and for sources
    /// that give their packages versions of their own.
    pub version: String,
}

/// What a binary package says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Control {
    /// Who looks after it: `Name <address>`.
    pub maintainer: String,
    /// What it was built from.
    pub source: Source,
    /// Bytes that it takes on a disk, by the estimate of its builder.
    pub installed_size: u64,
    /// Relations that must hold once it is configured: `Pre-Depends` and `Depends`, joined.
    pub depends: String,
    /// Names that it stands for.
    pub provides: String,
    /// Its upstream's web page.
    pub homepage: Option<String>,
}

impl Control {
    /// Reads `control/control` of an unpacked package.
    pub fn read(unpacked: &Path) -> anyhow::Result<Self> {
        let path = unpacked.join("control/control");
        let text = String::from_utf8_lossy(&fs_err::read(&path)?).into_owned();
        Self::parse(&text).with_context(|| format!("reading {}", path.display()))
    }

    fn parse(text: &str) -> anyhow::Result<Self> {
        let file: Deb822 = text.parse().map_err(|error| anyhow::anyhow!("not a control file: {error}"))?;
        let paragraph = file.iter().next().context("the control file is empty")?;
        let field = |name: &str| paragraph.get(name).map(str::trim).filter(|value| !value.is_empty());
        let required = |name: &str| field(name).with_context(|| format!("the control file has no {name}"));
        let depends: Vec<_> = ["Pre-Depends", "Depends"].into_iter().filter_map(field).collect();
        Ok(Self {
            maintainer: field("Maintainer").unwrap_or_default().to_owned(),
            source: source(field("Source"), required("Package")?, required("Version")?),
            // Policy 5.6.20: in KiB.
            installed_size: field("Installed-Size").and_then(|size| size.parse().ok()).unwrap_or(0_u64) * 1024,
            depends: depends.join(", "),
            provides: field("Provides").unwrap_or_default().to_owned(),
            homepage: field("Homepage").map(str::to_owned),
        })
    }
}

/// `Source: NAME` or `NAME (VERSION)`; what is left out is the same as the binary package's.
fn source(field: Option<&str>, package: &str, version: &str) -> Source {
    let (name, own) = match field.unwrap_or(package).split_once('(') {
        Some((name, rest)) => (name.trim(), Some(rest.trim_end_matches(')').trim())),
        None => (field.unwrap_or(package), None),
    };
    Source { name: name.to_owned(), version: own.unwrap_or(version).to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Control {
        Control::parse(text).unwrap()
    }

    #[test]
    fn a_package_is_its_own_source_unless_it_says_otherwise() {
        let source = |more: &str| {
            let source = parsed(&format!("Package: bash\nVersion: 5.2-1+b2\n{more}")).source;
            format!("{} {}", source.name, source.version)
        };
        assert_eq!(source(""), "bash 5.2-1+b2");
        assert_eq!(source("Source: shells\n"), "shells 5.2-1+b2");
        assert_eq!(source("Source: bash (5.2-1)\n"), "bash 5.2-1");
    }

    #[test]
    fn relations_that_must_hold_are_joined_and_sizes_are_in_bytes() {
        let control = parsed(
            "Package: a\nVersion: 1\nMaintainer: Jo <jo@example.org>\nInstalled-Size: 12\nPre-Depends: b\nDepends: c |\n d\n",
        );
        assert_eq!(control.depends, "b, c |\nd");
        assert_eq!(control.installed_size, 12 * 1024);
        assert_eq!(control.maintainer, "Jo <jo@example.org>");
    }

    #[test]
    fn a_control_file_without_a_version_is_refused() {
        assert_eq!(Control::parse("Package: a\n").unwrap_err().to_string(), "the control file has no Version");
    }
}
