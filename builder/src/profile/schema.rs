//! The JSON Schema of profiles: for editors, and for whoever writes profiles by program.
//!
//! It is made from the structures that read them ([`super::file`]) and lies in `profiles/schema.json`.

use anyhow::Context as _;

use super::file::ProfileFile;

/// The schema, as it is in `profiles/schema.json`.
pub fn text() -> anyhow::Result<String> {
    let schema = schemars::schema_for!(ProfileFile);
    Ok(serde_json::to_string_pretty(&schema).context("encoding the schema")? + "\n")
}
