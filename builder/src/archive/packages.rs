//! `Packages` indices: which packages a suite offers.
//!
//! The main index has 69,000 stanzas and every `larder lock` reads all of it, so a [`Package`] holds
//! only *spans* of the index's text. Relation fields are checked when the solver looks at them:
//! that is the case for a few hundred of 70,000 packages.

use anyhow::{Context as _, Result};

use super::relation;
use crate::hash::Hash;
use crate::report::{Mistake, line_of};

/// The text of an index and where it is from.
#[derive(Debug)]
pub struct Index {
    /// For messages: `debian trixie main/binary-amd64/Packages`.
    pub origin: String,
    /// Number of the release in the universe.
    pub release: usize,
    /// The decompressed file.
    pub text: String,
}

/// A stretch of an index's text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Span {
    start: u32,
    end: u32,
}

impl Span {
    pub(super) fn of(self, text: &str) -> &str {
        &text[self.start as usize..self.end as usize]
    }

    fn is_empty(self) -> bool {
        self.start == self.end
    }
}

/// How a package of one architecture may serve packages of another (multi-arch specification).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum MultiArch {
    /// It serves its own architecture only.
    #[default]
    No,
    /// As `No`, and may be installed for several architectures at once.
    Same,
    /// It serves every architecture.
    Foreign,
    /// It serves every architecture for those that ask for `name:any`.
    Allowed,
}

/// Debian's `Priority`, the more important first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// Needed for a working package manager.
    Required,
    /// Expected on any Unix-like system.
    Important,
    /// A reasonably small character-mode system.
    Standard,
    /// Everything else.
    Optional,
    /// Withdrawn in favour of optional, or not said.
    Extra,
}

/// One stanza of an index.
#[derive(Debug, Clone)]
pub struct Package {
    pub(super) index: u32,
    pub(super) name: Span,
    pub(super) version: Span,
    pub(super) architecture: Span,
    pub(super) source: Span,
    pub(super) pre_depends: Span,
    pub(super) depends: Span,
    pub(super) provides: Span,
    pub(super) conflicts: Span,
    pub(super) breaks: Span,
    pub(super) filename: Span,
    pub(super) size: u64,
    pub(super) sha256: Hash,
    pub(super) multi_arch: MultiArch,
    pub(super) priority: Priority,
    pub(super) essential: bool,
}

/// Reads every stanza; `number` is the index's place in the universe.
pub fn parse(index: &Index, number: u32) -> Result<Vec<Package>> {
    let text = index.text.as_str();
    u32::try_from(text.len()).with_context(|| format!("{}: larger than 4 GiB", index.origin))?;
    let mut packages = Vec::with_capacity(text.len() / 800);
    let mut fields = Fields::default();
    let mut start = 0;
    let mut position = 0;
    while position < text.len() {
        let end = text[position..].find('\n').map_or(text.len(), |length| position + length);
        if text[position..end].trim_ascii().is_empty() {
            finish(&mut packages, &mut fields, index, start, number)?;
            start = end + 1;
        } else {
            fields.line(text, position, end).map_err(|problem| malformed_at(index, position, problem))?;
        }
        position = end + 1;
    }
    finish(&mut packages, &mut fields, index, start, number)?;
    Ok(packages)
}

/// The lines of an index that [`parse`] looks at: half of its text. The index must be one that `parse` reads.
pub(super) fn condense(text: &str) -> String {
    let mut condensed = String::with_capacity(text.len() * 6 / 10);
    let mut wanted = false;
    for line in text.split_inclusive('\n') {
        if line.trim_ascii().is_empty() {
            condensed.push('\n');
            continue;
        }
        if !line.starts_with([' ', '\t']) {
            wanted = line.find(':').is_some_and(|colon| place(&line[..colon]).is_some());
        }
        if wanted {
            condensed.push_str(line);
        }
    }
    condensed
}

/// Ends a stanza: what was collected becomes a package.
fn finish(packages: &mut Vec<Package>, fields: &mut Fields, index: &Index, start: usize, number: u32) -> Result<()> {
    let fields = std::mem::take(fields);
    if fields.seen {
        let package = fields.package(&index.text, number).map_err(|problem| malformed_at(index, start, problem))?;
        packages.push(package);
    }
    Ok(())
}

/// The error for a stanza or line that starts at `position`.
fn malformed_at(index: &Index, position: usize, problem: impl std::fmt::Display) -> anyhow::Error {
    malformed(&format!("{}:{}", index.origin, line_of(&index.text, position)), problem)
}

/// The error for whatever is at `place`.
pub(super) fn malformed(place: &str, problem: impl std::fmt::Display) -> anyhow::Error {
    Mistake::new(format!("{place}: {problem}"))
        .hint("the archive published a broken index; tell its owner, or leave that archive or component out of the profile")
        .into()
}

/// The spans of the stanza being read.
#[derive(Default)]
struct Fields {
    seen: bool,
    last: Option<usize>,
    spans: [Span; FIELDS.len()],
}

/// The fields that matter here; the constants below are their places.
const FIELDS: [&str; 16] = [
    "package",
    "version",
    "architecture",
    "filename",
    "size",
    "sha256",
    "source",
    "pre-depends",
    "depends",
    "provides",
    "conflicts",
    "breaks",
    "multi-arch",
    "priority",
    "essential",
    "",
];
const NAME: usize = 0;
const VERSION: usize = 1;
const ARCHITECTURE: usize = 2;
const FILENAME: usize = 3;
const SIZE: usize = 4;
const SHA256: usize = 5;
const SOURCE: usize = 6;
const PRE_DEPENDS: usize = 7;
const DEPENDS: usize = 8;
const PROVIDES: usize = 9;
const CONFLICTS: usize = 10;
const BREAKS: usize = 11;
const MULTI_ARCH: usize = 12;
const PRIORITY: usize = 13;
const ESSENTIAL: usize = 14;

impl Fields {
    /// Takes in the line `text[start..end]`.
    fn line(&mut self, text: &str, start: usize, end: usize) -> Result<(), &'static str> {
        let line = &text[start..end];
        if line.starts_with([' ', '\t']) {
            if !self.seen {
                return Err("a continuation line without a field");
            }
            if let Some(field) = self.last {
                self.spans[field].end = offset(end);
            }
            return Ok(());
        }
        self.seen = true;
        let colon = line.find(':').ok_or("neither a field nor a continuation line")?;
        self.last = place(&line[..colon]);
        if let Some(field) = self.last {
            if !self.spans[field].is_empty() {
                return Err("a field that the stanza already has");
            }
            let value = &line[colon + 1..];
            let begin = start + colon + 1 + (value.len() - value.trim_start().len());
            self.spans[field] = Span { start: offset(begin), end: offset(begin + value.trim().len()) };
        }
        Ok(())
    }

    fn package(&self, text: &str, index: u32) -> Result<Package, String> {
        let required = |field: usize| match self.spans[field] {
            span if span.is_empty() => Err(format!("the stanza has no {}", FIELDS[field])),
            span => Ok(span),
        };
        (NAME..=SHA256).try_for_each(|field| required(field).map(drop))?;
        let checked = |field: usize, valid: fn(&str) -> bool| {
            let span = required(field)?;
            if valid(span.of(text)) {
                Ok(span)
            } else {
                Err(format!("`{}` is not a valid {}", span.of(text), FIELDS[field]))
            }
        };
        let size = required(SIZE)?.of(text);
        let sha256 = required(SHA256)?.of(text);
        Ok(Package {
            index,
            name: checked(NAME, relation::is_package_name)?,
            version: checked(VERSION, relation::is_version)?,
            architecture: checked(ARCHITECTURE, relation::is_architecture)?,
            filename: checked(FILENAME, is_relative_path)?,
            size: size.parse().map_err(|_| format!("`{size}` is not a valid size"))?,
            sha256: sha256.parse().map_err(|error| format!("{error}"))?,
            source: self.spans[SOURCE],
            pre_depends: self.spans[PRE_DEPENDS],
            depends: self.spans[DEPENDS],
            provides: self.spans[PROVIDES],
            conflicts: self.spans[CONFLICTS],
            breaks: self.spans[BREAKS],
            multi_arch: multi_arch(self.spans[MULTI_ARCH].of(text))?,
            priority: priority(self.spans[PRIORITY].of(text)),
            essential: self.spans[ESSENTIAL].of(text) == "yes",
        })
    }
}

/// [`parse`] refuses larger texts.
fn offset(position: usize) -> u32 {
    u32::try_from(position).unwrap_or(u32::MAX)
}

/// Which of [`FIELDS`] a name is. The length sorts out nearly all the others.
fn place(name: &str) -> Option<usize> {
    let candidates: &[usize] = match name.len() {
        4 => &[SIZE],
        6 => &[SHA256, SOURCE, BREAKS],
        7 => &[NAME, VERSION, DEPENDS],
        8 => &[FILENAME, PROVIDES, PRIORITY],
        9 => &[CONFLICTS, ESSENTIAL],
        10 => &[MULTI_ARCH],
        11 => &[PRE_DEPENDS],
        12 => &[ARCHITECTURE],
        _ => return None,
    };
    candidates.iter().copied().find(|field| name.eq_ignore_ascii_case(FIELDS[*field]))
}

fn multi_arch(value: &str) -> Result<MultiArch, String> {
    match value {
        "" | "no" => Ok(MultiArch::No),
        "same" => Ok(MultiArch::Same),
        "foreign" => Ok(MultiArch::Foreign),
        "allowed" => Ok(MultiArch::Allowed),
        other => Err(format!("`{other}` is not a valid multi-arch")),
    }
}

fn priority(value: &str) -> Priority {
    match value {
        "required" => Priority::Required,
        "important" => Priority::Important,
        "standard" => Priority::Standard,
        "optional" => Priority::Optional,
        _ => Priority::Extra,
    }
}

/// Below the archive's base address and nowhere else. Flat vendor repositories start with `./`.
fn is_relative_path(path: &str) -> bool {
    !path.starts_with('/') && !path.split('/').any(|part| part == "..") && !path.contains(char::is_whitespace)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    fn read(text: &str) -> Result<Vec<Package>> {
        parse(&Index { origin: "debian trixie Packages".into(), release: 0, text: text.into() }, 0)
    }

    fn stanza(extra: &str) -> String {
        format!(
            "Package: mawk\nVersion: 1.3-1\nArchitecture: amd64\nFilename: pool/m.deb\nSize: 7\nSHA256: {HASH}\n{extra}"
        )
    }

    #[test]
    fn a_stanza_gives_its_fields_wherever_they_are() {
        let text = stanza(
            "Depends: a,\n b\nDescription: x\n Depends: not this\nMulti-Arch: foreign\nPriority: required\nEssential: yes\n",
        );
        let packages = read(&format!("\n{text}\n\n{}", stanza(""))).unwrap();
        assert_eq!(packages.len(), 2);
        let text = format!("\n{text}");
        assert_eq!(packages[0].name.of(&text), "mawk");
        assert_eq!(packages[0].depends.of(&text), "a,\n b");
        assert_eq!(
            (packages[0].multi_arch, packages[0].priority, packages[0].essential),
            (MultiArch::Foreign, Priority::Required, true)
        );
        assert_eq!(packages[0].size, 7);
    }

    #[test]
    fn a_malformed_stanza_is_named_with_its_line() {
        for (text, message) in [
            (stanza("").replace("Size: 7\n", ""), "debian trixie Packages:1: the stanza has no size"),
            (stanza("what\n"), "debian trixie Packages:7: neither a field nor a continuation line"),
            (stanza("Size: 8\n"), "debian trixie Packages:7: a field that the stanza already has"),
            (stanza("").replace("pool/", "../"), "debian trixie Packages:1: `../m.deb` is not a valid filename"),
            (stanza("").replace("1.3-1", "1:"), "debian trixie Packages:1: `1:` is not a valid version"),
            (format!("{}\n b: c", stanza("")), "debian trixie Packages:8: a continuation line without a field"),
        ] {
            assert_eq!(read(&text).unwrap_err().to_string(), message);
        }
    }

    /// Every field of every package, as text.
    fn fields(text: &str) -> Vec<String> {
        let view = |p: &Package| {
            let spans = [p.name, p.version, p.architecture, p.source, p.pre_depends, p.depends, p.provides];
            let more = [p.conflicts, p.breaks, p.filename];
            let texts: Vec<&str> = spans.iter().chain(&more).map(|span| span.of(text)).collect();
            format!("{texts:?} {} {} {:?} {:?} {}", p.size, p.sha256, p.multi_arch, p.priority, p.essential)
        };
        read(text).unwrap().iter().map(view).collect()
    }

    #[test]
    fn a_condensed_index_has_the_same_packages_in_less_text() {
        let text = stanza("Depends: a,\n b,\n\tc\nDescription: x\n Depends: not this\nTag: t\nPriority: required\n");
        let text = format!("\n{text} \n\n{}Tag: u\n v", stanza("Essential: yes\n"));
        let condensed = condense(&text);
        assert_eq!(fields(&condensed), fields(&text));
        assert!(condensed.contains("a,\n b,\n\tc\n") && !condensed.contains("not this") && !condensed.contains("Tag"));
    }

    proptest::proptest! {
        #[test]
        fn whatever_can_be_read_is_condensed_to_the_same(
            extra in "((Depends|Breaks|Tag|X)?: ?[a-z0-9]{0,4}\n([ \t][a-z]{1,3}\n)?){0,5}",
            blank in "[ \t]{0,2}\n{1,3}",
        ) {
            let text = format!("{}{blank}{}", stanza(&extra), stanza(""));
            if read(&text).is_ok() {
                proptest::prop_assert_eq!(fields(&condense(&text)), fields(&text));
            }
        }

        #[test]
        fn any_text_is_read_or_refused_and_never_panics(text in "((Package|Size|X)?:?[ a-z0-9\u{e9}]{0,4}\n?){0,12}") {
            let _ = read(&text);
        }
    }
}
