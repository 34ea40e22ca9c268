//! `larder profiles show`: everything that a profile comes to, each value with the file that says it.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::Context as _;
use toml::{Table, Value};

use super::Profile;
use crate::overlay;
use crate::project::Project;

/// Keys that say something about the file itself.
const ABOUT_THE_FILE: [&str; 2] = ["schema", "inherits"];

/// The values of a profile by key; those of a list are on their own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    values: BTreeMap<String, Vec<Origin>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Origin {
    value: String,
    file: String,
}

/// Reads a profile, and what its base and its overlays add.
///
/// # Errors
/// As [`Profile::load`]: what is shown is a profile that can be built.
pub fn resolved(project: &Project, name: &str) -> anyhow::Result<Resolved> {
    let profile = Profile::load(project, name)?;
    let mut resolved = Resolved { values: BTreeMap::new() };
    let own = table(project, name)?;
    if let Some(base) = own.get("inherits").and_then(Value::as_str) {
        resolved.add_file(&format!("profiles/{base}.toml"), &table(project, base)?);
    }
    resolved.add_file(&format!("profiles/{name}.toml"), &own);
    for wants in overlay::wants(&project.overlays(), &profile.overlays)? {
        let file = format!("overlays/{}/overlay.toml", wants.overlay);
        let lists = [
            ("packages.include", Vec::from_iter(wants.packages)),
            ("files.exclude", wants.exclude),
            ("kernel.modules", wants.modules),
        ];
        for (key, values) in lists {
            values.into_iter().for_each(|value| resolved.add(key, &Value::from(value), &file));
        }
    }
    Ok(resolved)
}

fn table(project: &Project, name: &str) -> anyhow::Result<Table> {
    let path = project.profiles().join(format!("{name}.toml"));
    fs_err::read_to_string(&path)?.parse().with_context(|| format!("reading {}", path.display()))
}

impl Resolved {
    fn add_file(&mut self, file: &str, table: &Table) {
        for (key, value) in table.iter().filter(|(key, _)| !ABOUT_THE_FILE.contains(&key.as_str())) {
            self.add(key, value, file);
        }
    }

    fn add(&mut self, key: &str, value: &Value, file: &str) {
        match value {
            Value::Table(table) => {
                table.iter().for_each(|(below, value)| self.add(&format!("{key}.{below}"), value, file));
            }
            Value::Array(list) => list.iter().for_each(|value| self.push(key, value, file)),
            value => self.push(key, value, file),
        }
    }

    fn push(&mut self, key: &str, value: &Value, file: &str) {
        let origins = self.values.entry(key.to_owned()).or_default();
        let value = value.to_string();
        // What both files say counts once; the base says it first.
        if !origins.iter().any(|origin| origin.value == value) {
            origins.push(Origin { value, file: file.to_owned() });
        }
    }
}

impl fmt::Display for Resolved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (key, origins) in &self.values {
            writeln!(f, "{key}")?;
            origins.iter().try_for_each(|Origin { value, file }| writeln!(f, "    {value}  # {file}"))?;
        }
        Ok(())
    }
}
