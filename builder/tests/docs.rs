//! The README is checked against the code: what it does not say, nobody finds.

#![allow(clippy::unwrap_used, reason = "a test that cannot be prepared has failed")]

use std::path::Path;

fn readme() -> String {
    fs_err::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md")).unwrap()
}

/// The keys that serde expects, from its complaint about one that it does not.
fn keys(text: &str) -> Vec<String> {
    let error = larder::toml_file::parse::<larder::profile::file::ProfileFile>(text, "x").unwrap_err().to_string();
    let (_, expected) = error.rsplit_once("expected ").unwrap();
    expected.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn every_key_of_a_profile_is_documented() {
    let readme = readme();
    let tables = ["packages", "kernel", "match", "memory", "boot", "budget", "files", "lint"];
    for key in keys("schema = 1\nno-such-key = 1\n") {
        let documented = match key.as_str() {
            table if tables.contains(&table) => continue,
            list @ ("archive" | "device" | "hazard") => format!("| `[[{list}]]` |"),
            "variables" => "| `[variables]` |".to_owned(),
            key => format!("| `{key}` |"),
        };
        assert!(readme.contains(&documented), "README.md does not explain the key {key} of a profile");
    }
    for table in tables {
        for key in keys(&format!("schema = 1\n[{table}]\nno-such-key = 1\n")) {
            let forms = [format!("| `{table}.{key}` |"), format!("| `[[{table}.{key}]]` |")];
            assert!(forms.iter().any(|form| readme.contains(form)), "README.md does not explain {table}.{key}");
        }
    }
}

#[test]
fn the_json_schema_of_profiles_is_the_one_that_is_checked_in() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../profiles/schema.json");
    let expected = larder::profile::schema::text().unwrap();
    assert!(
        fs_err::read_to_string(path).unwrap() == expected,
        "profiles/schema.json is out of date: cargo run -- profiles schema > profiles/schema.json"
    );
}

#[test]
fn the_reference_of_the_settings_is_the_one_that_is_checked_in() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../firstboot/src/settings/README.md");
    assert!(
        fs_err::read_to_string(path).unwrap_or_default() == firstboot::settings::reference(),
        "out of date: cargo run -p firstboot --bin firstboot -- check --reference > firstboot/src/settings/README.md"
    );
}

#[test]
fn every_lint_is_documented_as_larder_lists_it() {
    let readme = readme();
    let rows: String =
        larder::lint::LINTS.iter().map(|lint| format!("| `{}` | {} |\n", lint.name, lint.protects_from)).collect();
    assert!(readme.contains(&format!("|---|---|\n{rows}\n")), "the table of lints in README.md must be\n{rows}");
}

#[test]
fn every_environment_variable_is_documented() {
    let readme = readme();
    for folder in ["builder/src", "qemu/src", "tests"] {
        for entry in walkdir::WalkDir::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(folder)) {
            let entry = entry.unwrap();
            if entry.path().extension().is_none_or(|extension| extension != "rs") {
                continue;
            }
            let text = fs_err::read_to_string(entry.path()).unwrap();
            for word in text.split('"').filter(|word| word.starts_with("LARDER_") && !word.contains(['{', ' ', '\n'])) {
                assert!(
                    readme.contains(&format!("`{word}`")),
                    "README.md does not explain {word}, read in {}",
                    entry.path().display()
                );
            }
        }
    }
}
