//! What a profile accepts: `[[lint.skip]]`.

use globset::GlobMatcher;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de};

use super::{Finding, LINTS};
use crate::path_glob;

/// Findings that the profile accepts, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Skip {
    /// Name of a lint.
    #[serde(deserialize_with = "known_lint")]
    pub name: String,
    /// Path or glob of paths in the image; all that the lint finds when there is none.
    #[serde(default, deserialize_with = "glob", skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Why it is right here.
    #[serde(deserialize_with = "reason")]
    pub reason: String,
}

impl Skip {
    /// Tells whether a finding of the lint `name` is one of those.
    pub(super) fn matcher(&self) -> impl Fn(&str, &Finding) -> bool {
        let name = self.name.clone();
        let glob = self.path.as_deref().map(compiled);
        move |lint, finding| {
            lint == name
                && glob.as_ref().is_none_or(|glob| {
                    glob.as_ref().is_some_and(|glob| glob.is_match(finding.path.trim_start_matches('/')))
                })
        }
    }
}

/// The glob of a path in the image, with or without a slash at its start; `None` for what is none.
fn compiled(text: &str) -> Option<GlobMatcher> {
    path_glob::parse(text.trim_start_matches('/')).ok().map(|glob| glob.compile_matcher())
}

fn known_lint<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let name = String::deserialize(deserializer)?;
    if LINTS.iter().any(|lint| lint.name == name) {
        return Ok(name);
    }
    let names: Vec<_> = LINTS.iter().map(|lint| format!("`{}`", lint.name)).collect();
    // In serde's own words: the reader of TOML files makes a hint of it.
    Err(de::Error::custom(format!("unknown lint `{name}`, expected one of {}", names.join(", "))))
}

fn glob<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let text = String::deserialize(deserializer)?;
    match compiled(&text) {
        Some(_) => Ok(Some(text)),
        None => Err(de::Error::custom(format!("`{text}` is not a valid pattern"))),
    }
}

fn reason<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.trim().is_empty() {
        return Err(de::Error::custom("a skip needs a reason: say why this is right in the image"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    struct File {
        skip: Vec<Skip>,
    }

    fn complaint(text: &str) -> String {
        crate::report::render(&crate::toml_file::parse::<File>(text, "profiles/nas.toml").unwrap_err().into())
    }

    #[test]
    fn a_skip_needs_a_lint_that_exists_and_a_reason() {
        let text = complaint("[[skip]]\nname = \"setuit\"\nreason = \"x\"\n");
        assert!(text.starts_with("error: profiles/nas.toml:2:8: unknown lint `setuit`, expected one of "), "{text}");
        assert!(text.ends_with("\nhint: did you mean `setuid`?\n"), "{text}");
        insta::assert_snapshot!(complaint("[[skip]]\nname = \"setuid\"\n"), @"error: profiles/nas.toml:1:1: missing field `reason`");
        insta::assert_snapshot!(complaint("[[skip]]\nname = \"setuid\"\nreason = \" \"\n"), @"error: profiles/nas.toml:3:10: a skip needs a reason: say why this is right in the image");
        insta::assert_snapshot!(complaint("[[skip]]\nname = \"setuid\"\npath = \"a[\"\nreason = \"x\"\n"), @"error: profiles/nas.toml:3:8: `a[` is not a valid pattern");
    }

    #[test]
    fn a_skip_is_for_its_lint_and_its_paths_only() {
        let text = "[[skip]]\nname = \"setuid\"\npath = \"/usr/bin/*\"\nreason = \"x\"\n[[skip]]\nname = \"elf\"\nreason = \"x\"\n";
        let skips = crate::toml_file::parse::<File>(text, "x").unwrap().skip;
        let accepts = |index: usize, lint: &str, path: &str| {
            let finding = Finding { path: path.into(), message: String::new(), remedy: "".into() };
            skips[index].matcher()(lint, &finding)
        };
        assert!(accepts(0, "setuid", "/usr/bin/su"));
        assert!(!accepts(0, "setuid", "/usr/lib/su"));
        assert!(!accepts(0, "setuid", "/usr/bin/x/su"));
        assert!(!accepts(0, "elf", "/usr/bin/su"));
        assert!(accepts(1, "elf", "/usr/bin/su"));
    }
}
