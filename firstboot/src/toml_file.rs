//! Strict TOML files: every error names file, line and column, and the nearest right key.

use std::path::Path;

use serde::{Deserialize, Deserializer, de::DeserializeOwned};

use crate::report::{Mistake, line_of};
use crate::suggest::nearest;

/// Schema version as a type: a file of any other version fails with a sentence, inside serde.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SchemaVersion<const CURRENT: u32>;

impl<'de, const CURRENT: u32> Deserialize<'de> for SchemaVersion<CURRENT> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u32::deserialize(deserializer)? {
            version if version == CURRENT => Ok(Self),
            version => Err(serde::de::Error::custom(format!(
                "schema {version} is not known to this larder, which reads schema {CURRENT}"
            ))),
        }
    }
}

/// Reads and parses a file.
pub fn read<T: DeserializeOwned>(path: &Path) -> anyhow::Result<T> {
    let text = fs_err::read_to_string(path)?;
    Ok(parse(&text, &path.display().to_string())?)
}

/// Parses the text of the file that people know as `name`.
pub fn parse<T: DeserializeOwned>(text: &str, name: &str) -> Result<T, Mistake> {
    parse_or_locate(text, name).map_err(|(mistake, _)| mistake)
}

/// As [`parse`]; says at which byte the mistake is, too.
pub fn parse_or_locate<T: DeserializeOwned>(text: &str, name: &str) -> Result<T, (Mistake, usize)> {
    toml::from_str(text).map_err(|error| {
        let offset = error.span().map_or(0, |span| span.start);
        let (line, column) = position(text, offset);
        let mistake = Mistake::new(format!("{name}:{line}:{column}: {}", first_line(error.message())));
        match nearest_key(error.message()) {
            Some(key) => (mistake.hint(format!("did you mean `{key}`?")), offset),
            None => (mistake, offset),
        }
    })
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or(text)
}

/// Line and column, from 1.
fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = &text[..offset.min(text.len())];
    let line_start = before.rfind('\n').map_or(0, |index| index + 1);
    (line_of(text, offset), before[line_start..].chars().count() + 1)
}

/// serde says "unknown field `modulse`, expected one of `modules`, `firmware`", and so do checks of values.
fn nearest_key(message: &str) -> Option<String> {
    let mut quoted = message.strip_prefix("unknown ")?.split('`').skip(1).step_by(2);
    let unknown = quoted.next()?;
    nearest(unknown, quoted).first().map(|&key| key.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only parsed")]
    struct Sample {
        schema: SchemaVersion<1>,
        #[serde(default)]
        modules: Vec<String>,
    }

    fn complaint(text: &str) -> String {
        crate::report::render(&parse::<Sample>(text, "profiles/nas.toml").unwrap_err().into(), None)
    }

    #[test]
    fn an_unknown_key_is_answered_with_the_nearest_right_one() {
        insta::assert_snapshot!(complaint("schema = 1\nmodulse = []\n"), @r"
        error: profiles/nas.toml:2:1: unknown field `modulse`, expected `schema` or `modules`

        hint: did you mean `modules`?
        ");
    }

    #[test]
    fn another_schema_version_is_refused_with_a_sentence() {
        insta::assert_snapshot!(complaint("schema = 2\n"), @"error: profiles/nas.toml:1:10: schema 2 is not known to this larder, which reads schema 1");
    }

    #[test]
    fn a_syntax_error_names_its_line() {
        insta::assert_snapshot!(complaint("schema = 1\nmodules = [\n"), @"error: profiles/nas.toml:2:12: unclosed array, expected `]`");
    }
}
