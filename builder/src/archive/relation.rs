//! Relation fields: `Depends: default-mta | mail-transport-agent, libc6 (>= 2.38), perl:any`.
//!
//! The grammar is that of Debian Policy, section 7.1, plus the architecture qualifier of the
//! multi-arch specification. A field is a list of *groups* separated by commas, all of which must
//! hold; a group is a list of *relations* separated by bars, one of which must hold. Everything
//! borrows from the index's text.

use std::cmp::Ordering;
use std::fmt;

pub use super::debian_version::{Version, is_version};

/// Alternatives, the preferred one first.
pub type Group<'a> = Vec<Relation<'a>>;

/// One package name with what is asked of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Relation<'a> {
    /// A real or a virtual package.
    pub name: &'a str,
    /// What follows the name's colon: `any` or an architecture.
    pub qualifier: Option<&'a str>,
    /// Which versions will do; all of them when absent.
    pub version: Option<(Operator, &'a str)>,
    /// `[amd64 !i386]`: the architectures on which the relation holds; everywhere when empty.
    pub architectures: Vec<&'a str>,
}

/// How a package's version compares to the relation's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operator {
    /// `<<`
    Earlier,
    /// `<=`
    EarlierOrEqual,
    /// `=`
    Equal,
    /// `>=`
    LaterOrEqual,
    /// `>>`
    Later,
}

/// The text is no relation field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem} in the relation `{relation}`")]
pub struct InvalidRelation {
    problem: &'static str,
    relation: String,
}

impl Operator {
    /// Longest spellings first. `<` and `>` are the forms that Policy withdrew; dpkg still reads
    /// them, as "or equal".
    const SPELLINGS: [(&'static str, Self); 7] = [
        ("<<", Self::Earlier),
        ("<=", Self::EarlierOrEqual),
        (">=", Self::LaterOrEqual),
        (">>", Self::Later),
        ("=", Self::Equal),
        ("<", Self::EarlierOrEqual),
        (">", Self::LaterOrEqual),
    ];

    /// Whether a version that compares like this to the relation's is accepted.
    pub fn accepts(self, ordering: Ordering) -> bool {
        match self {
            Self::Earlier => ordering.is_lt(),
            Self::EarlierOrEqual => ordering.is_le(),
            Self::Equal => ordering.is_eq(),
            Self::LaterOrEqual => ordering.is_ge(),
            Self::Later => ordering.is_gt(),
        }
    }
}

impl fmt::Display for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Earlier => "<<",
            Self::EarlierOrEqual => "<=",
            Self::Equal => "=",
            Self::LaterOrEqual => ">=",
            Self::Later => ">>",
        })
    }
}

impl Relation<'_> {
    /// Whether the relation holds on this architecture at all.
    pub fn applies_to(&self, architecture: &str) -> bool {
        let (excluded, included): (Vec<&str>, Vec<&str>) =
            self.architectures.iter().partition(|name| name.starts_with('!'));
        if excluded.iter().any(|name| &name[1..] == architecture) {
            return false;
        }
        included.is_empty() || included.contains(&architecture)
    }
}

impl fmt::Display for Relation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)?;
        if let Some(qualifier) = self.qualifier {
            write!(f, ":{qualifier}")?;
        }
        if let Some((operator, version)) = self.version {
            write!(f, " ({operator} {version})")?;
        }
        if !self.architectures.is_empty() {
            write!(f, " [{}]", self.architectures.join(" "))?;
        }
        Ok(())
    }
}

/// The groups of a relation field, in its order. Empty groups (a trailing comma) are left out, as
/// dpkg does.
pub fn parse(field: &str) -> Result<Vec<Group<'_>>, InvalidRelation> {
    field.split(',').filter(|group| !group.trim().is_empty()).map(parse_group).collect()
}

fn parse_group(group: &str) -> Result<Group<'_>, InvalidRelation> {
    group.split('|').map(parse_relation).collect()
}

fn parse_relation(text: &str) -> Result<Relation<'_>, InvalidRelation> {
    let text = text.trim();
    let invalid = |problem| InvalidRelation { problem, relation: text.to_owned() };
    let end = text.find(|c: char| c.is_whitespace() || "([".contains(c)).unwrap_or(text.len());
    let (word, mut rest) = (&text[..end], text[end..].trim_start());
    let (name, qualifier) = match word.split_once(':') {
        Some((name, qualifier)) => (name, Some(qualifier)),
        None => (word, None),
    };
    if !is_package_name(name) {
        return Err(invalid("no valid package name"));
    }
    if qualifier.is_some_and(|name| !is_architecture(name)) {
        return Err(invalid("no valid architecture after the colon"));
    }
    let mut version = None;
    if let Some(inner) = rest.strip_prefix('(') {
        let (inside, after) = inner.split_once(')').ok_or_else(|| invalid("no closing parenthesis"))?;
        version = Some(parse_restriction(inside).ok_or_else(|| invalid("no valid version restriction"))?);
        rest = after.trim_start();
    }
    let mut architectures = Vec::new();
    if let Some(inner) = rest.strip_prefix('[') {
        let (inside, after) = inner.split_once(']').ok_or_else(|| invalid("no closing bracket"))?;
        architectures = inside.split_whitespace().collect();
        if architectures.is_empty()
            || !architectures.iter().all(|name| is_architecture(name.strip_prefix('!').unwrap_or(name)))
        {
            return Err(invalid("no valid list of architectures"));
        }
        rest = after.trim_start();
    }
    if !rest.is_empty() {
        return Err(invalid("unexpected text"));
    }
    Ok(Relation { name, qualifier, version, architectures })
}

fn parse_restriction(inside: &str) -> Option<(Operator, &str)> {
    let inside = inside.trim();
    let (spelling, operator) = Operator::SPELLINGS.into_iter().find(|(spelling, _)| inside.starts_with(spelling))?;
    let version = inside[spelling.len()..].trim();
    is_version(version).then_some((operator, version))
}

/// Policy 5.6.1, except that upper case and underscores are let through as apt does: some vendors'
/// repositories use them.
pub fn is_package_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-._".contains(&byte))
}

/// `amd64`, `any`, `linux-any`.
pub fn is_architecture(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// Reads a version.
pub fn version(text: &str) -> anyhow::Result<Version> {
    Ok(text.parse()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn render(groups: &[Group<'_>]) -> String {
        let group = |group: &Group<'_>| group.iter().map(ToString::to_string).collect::<Vec<_>>().join(" | ");
        groups.iter().map(group).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn every_form_of_a_relation_is_read() {
        let field = "default-mta|mail-transport-agent, libc6 (>=2.38) , perl:any (>> 5~),\n gcc:amd64 (<< 1:2-3) [!i386 amd64], a (> 1),";
        assert_eq!(
            render(&parse(field).unwrap()),
            "default-mta | mail-transport-agent, libc6 (>= 2.38), perl:any (>> 5~), gcc:amd64 (<< 1:2-3) [!i386 amd64], a (>= 1)"
        );
    }

    #[test]
    fn a_malformed_relation_is_refused_and_quoted() {
        for (field, problem) in [
            ("a | | b", "no valid package name in the relation ``"),
            ("a (>= 1", "no closing parenthesis in the relation `a (>= 1`"),
            ("a (~ 1)", "no valid version restriction in the relation `a (~ 1)`"),
            ("a b", "unexpected text in the relation `a b`"),
            ("a [", "no closing bracket in the relation `a [`"),
            ("a:", "no valid architecture after the colon in the relation `a:`"),
        ] {
            assert_eq!(parse(field).unwrap_err().to_string(), problem);
        }
    }

    #[test]
    fn architecture_restrictions_hold_where_they_say() {
        let applies = |field: &str, architecture: &str| parse(field).unwrap()[0][0].applies_to(architecture);
        assert!(applies("a", "amd64") && applies("a [amd64]", "amd64") && applies("a [!i386]", "amd64"));
        assert!(!applies("a [i386]", "amd64") && !applies("a [!amd64]", "amd64"));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused_and_never_panics(field in any::<String>()) {
            if let Ok(groups) = parse(&field) {
                prop_assert_eq!(render(&parse(&render(&groups)).unwrap()), render(&groups));
            }
        }

        #[test]
        fn what_is_written_is_read_back(field in r"[a-z][a-z0-9+.-]{0,4}(:any)?( \((<<|<=|=|>=|>>) ([0-9]:)?[0-9][0-9a-z.~+]{0,5}\))?( \[!?amd64( i386)?\])?([,|] ?[a-z0-9]{1,3}){0,3}") {
            let groups = parse(&field).unwrap();
            let text = render(&groups);
            prop_assert_eq!(parse(&text).unwrap(), groups);
        }

        #[test]
        fn what_passes_as_a_version_can_be_compared(text in r"[0-9a-z.+:~-]{1,12}") {
            if is_version(&text) {
                prop_assert!(version(&text).is_ok());
            }
        }
    }
}
