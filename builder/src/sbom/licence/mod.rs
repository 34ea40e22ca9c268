//! Licences of a Debian package, from its copyright file.
//!
//! Most are in Debian's machine-readable format (copyright-format 1.0): paragraphs that say which files have which
//! licences, and paragraphs with the text of a licence. The file is about the *source* package; which of its files
//! went into a binary package is not recorded anywhere. So a package's licence is all of them, joined by `AND`.
//!
//! A licence that SPDX has no identifier for becomes a `LicenseRef-`, named by its Debian name and the digest of its
//! text: the same text is the same reference, in whichever packages and images it is.

mod names;

use std::collections::{BTreeMap, BTreeSet};

use deb822_fast::{Deb822, Paragraph};
use debian_copyright::{License, LicenseExpr};
use serde::{Deserialize, Serialize};

use crate::hash::Hash;

/// What a copyright file says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Licence {
    /// How it says so.
    pub form: Form,
    /// SPDX expression; `None` when nothing is known.
    pub expression: Option<String>,
    /// What the expression refers to, besides the licence list: by identifier (`LicenseRef-…`).
    pub references: BTreeMap<String, Reference>,
}

/// How a package tells its licence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Form {
    /// By a machine-readable copyright file.
    MachineReadable,
    /// By a copyright file for people, whose whole text is the only reference.
    Text,
    /// Not at all: it has no copyright file.
    Missing,
}

/// A licence with its text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Reference {
    /// What Debian calls it.
    pub name: String,
    /// Its text.
    pub text: String,
}

/// What stands where a copyright file names a licence and nowhere says its text.
const NO_TEXT: &str = "The copyright file names this licence without its text.";
/// Longest name in an identifier; the digest tells apart what is cut.
const MAX_NAME: usize = 48;

impl Licence {
    /// Nothing is known.
    pub fn missing() -> Self {
        Self { form: Form::Missing, expression: None, references: BTreeMap::new() }
    }

    /// Reads a copyright file; `package` names it where it is for people only.
    pub fn parse(text: &str, package: &str) -> Self {
        Copyright::parse(text).map_or_else(|| Self::whole(text, package), |copyright| copyright.licence())
    }

    fn whole(text: &str, package: &str) -> Self {
        let mut references = BTreeMap::new();
        let name = format!("copyright of {package}");
        let id = refer(&mut references, &name, text.trim());
        Self { form: Form::Text, expression: Some(id), references }
    }
}

/// A machine-readable file: what is licensed, and the texts that stand by themselves.
struct Copyright {
    /// In the order of the file.
    licensed: Vec<License>,
    /// By their names in lower case.
    texts: BTreeMap<String, String>,
}

impl Copyright {
    /// `None` when the file is for people, or claims a format that it does not keep.
    fn parse(text: &str) -> Option<Self> {
        let file: Deb822 = text.trim_start_matches('\u{feff}').parse().ok()?;
        let mut paragraphs = file.iter();
        let header = paragraphs.next()?;
        header.get("Format").or_else(|| header.get("Format-Specification"))?;
        let (mut licensed, mut texts) = (Vec::new(), BTreeMap::new());
        for paragraph in paragraphs {
            let Some(licence) = licence_of(paragraph) else { continue };
            if paragraph.get("Files").is_some() {
                licensed.push(licence);
            } else if let (Some(name), Some(text)) = (licence.name(), licence.text()) {
                texts.entry(key(name)).or_insert_with(|| text.to_owned());
            }
        }
        if licensed.is_empty() {
            licensed.extend(licence_of(header));
        }
        (!licensed.is_empty()).then_some(Self { licensed, texts })
    }

    fn licence(&self) -> Licence {
        let mut references = BTreeMap::new();
        let mut all = BTreeSet::new();
        for licence in &self.licensed {
            match self.translate(licence, &mut references) {
                LicenseExpr::And(parts) => all.extend(parts.iter().map(operand)),
                expression => {
                    all.insert(operand(&expression));
                }
            }
        }
        // A lone choice needs no brackets around it.
        let expression = match &all.iter().collect::<Vec<_>>()[..] {
            [only] => only.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')).unwrap_or(only).to_owned(),
            several => several.iter().map(|part| part.as_str()).collect::<Vec<_>>().join(" AND "),
        };
        Licence { form: Form::MachineReadable, expression: Some(expression), references }
    }

    /// The licence's expression in the words of SPDX.
    fn translate(&self, licence: &License, references: &mut BTreeMap<String, Reference>) -> LicenseExpr {
        let name = licence.name().unwrap_or_default();
        let mut found = BTreeMap::new();
        let parsed = LicenseExpr::parse(name);
        for leaf in parsed.leaves() {
            let translated = identifier(leaf).unwrap_or_else(|| {
                let text = self.text(&leaf.to_string(), licence);
                LicenseExpr::Name(refer(references, &leaf.to_string(), text))
            });
            found.insert(leaf.to_string(), translated);
        }
        in_order(parsed.map_leaves(|leaf| found.get(&leaf.to_string()).unwrap_or(leaf).clone()))
    }

    /// The text of a licence: of the paragraph that names it, else the one that stands by itself.
    fn text<'a>(&'a self, leaf: &str, named_in: &'a License) -> &'a str {
        let own = named_in.text();
        let alone = || self.texts.get(&key(leaf)).map(String::as_str);
        let whole = || self.texts.get(&key(named_in.name().unwrap_or_default())).map(String::as_str);
        let text = if named_in.name() == Some(leaf) { own.or_else(alone) } else { alone().or(own).or_else(whole) };
        text.map(str::trim).filter(|text| !text.is_empty()).unwrap_or(NO_TEXT)
    }
}

fn licence_of(paragraph: &Paragraph) -> Option<License> {
    paragraph.get("License").and_then(|field| field.trim().parse().ok())
}

fn key(name: &str) -> String {
    name.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase()
}

/// A leaf of an expression by its identifier, if it has one.
fn identifier(leaf: &LicenseExpr) -> Option<LicenseExpr> {
    match leaf {
        LicenseExpr::Name(name) => LicenseExpr::parse_spdx(&names::licence(name.trim())?).ok(),
        LicenseExpr::WithException(name, exception) => {
            let licence = names::licence(name.trim())?;
            let exception = names::exception(exception.trim(), &licence)?;
            Some(LicenseExpr::WithException(licence, exception.to_owned()))
        }
        _ => None,
    }
}

/// Choices in one order, so that the same choice is the same text: `(C OR B) OR A` is `A OR B OR C`. An alias may
/// have brought in the brackets.
fn in_order(expression: LicenseExpr) -> LicenseExpr {
    match expression {
        LicenseExpr::And(parts) => LicenseExpr::And(parts.into_iter().map(in_order).collect()),
        LicenseExpr::Or(parts) => {
            let parts = parts.into_iter().flat_map(|part| match part {
                LicenseExpr::Or(inner) => inner,
                other => vec![other],
            });
            let mut parts: Vec<_> = parts.map(in_order).collect();
            parts.sort_by_cached_key(LicenseExpr::to_spdx_string);
            parts.dedup();
            LicenseExpr::Or(parts)
        }
        leaf => leaf,
    }
}

/// The expression as part of a conjunction.
fn operand(expression: &LicenseExpr) -> String {
    match expression {
        LicenseExpr::Or(_) => format!("({})", expression.to_spdx_string()),
        _ => expression.to_spdx_string(),
    }
}

/// Adds a reference; returns its identifier, of the letters that SPDX allows (annex D, `idstring`).
fn refer(references: &mut BTreeMap<String, Reference>, name: &str, text: &str) -> String {
    let shown = if name.is_empty() { "unnamed" } else { name };
    let words: Vec<_> =
        shown.split(|c: char| !c.is_ascii_alphanumeric() && c != '.').filter(|word| !word.is_empty()).collect();
    let letters: String = words.join("-").chars().take(MAX_NAME).collect();
    let id = format!("LicenseRef-{letters}-{}", Hash::of(format!("{shown}\n{text}")).short());
    references.entry(id.clone()).or_insert_with(|| Reference { name: shown.to_owned(), text: text.to_owned() });
    id
}

#[cfg(test)]
mod tests;
