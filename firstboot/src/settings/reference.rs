//! The reference page of the settings: from the example's comments, and from what the parser takes.

use std::fmt::Write as _;

use super::{EXAMPLE, KEYS, Settings};

const HEAD: &str = "# Settings\n\n\
    The owner's settings file is `nas.toml`, in [TOML](https://toml.io). `schema = 1` must be in it; whatever else is left out has a\n\
    default that works. `firstboot check nas.toml` says what is wrong with one, `firstboot apply` puts a changed one into force.\n\n\
    The server looks for it in these places, and takes the first one: what it has applied before (`/state/larder/nas.toml`, a copy\n\
    without secrets); the partition `LARDER` of the disk that it was started from; the credential `larder.nas-toml` (virtual\n\
    machines, SMBIOS type 11); a USB stick labelled `LARDER`.\n\n\
    <!-- written by `firstboot check --reference` from example.toml and the parser -->\n";

/// The page, in Markdown.
pub fn reference() -> String {
    let mut page = HEAD.to_owned();
    for (table, keys) in KEYS {
        let _ = write!(page, "\n## `[{table}]`\n\n| key | example | |\n|---|---|---|\n");
        for key in *keys {
            let Entry { example, text } = entry(table, key);
            let choices = choices(table, key);
            let is_told = choices.iter().all(|choice| text.contains(choice.as_str()));
            let choice = if is_told { String::new() } else { format!(" One of {}.", choices.join(", ")) };
            let secret = if super::secrets::SECRETS.contains(&(table, key)) { " **Secret.**" } else { "" };
            let _ = writeln!(page, "| `{key}` | `{example}` | {text}{choice}{secret} |");
        }
    }
    page
}

/// What the example says about a key.
struct Entry {
    /// A value, on one line.
    example: String,
    /// What it is for.
    text: String,
}

fn entry(table: &str, key: &str) -> Entry {
    let lines = EXAMPLE.lines().skip_while(|line| *line != format!("[{table}]")).skip(1);
    let mut comment = Vec::new();
    let mut lines = lines.take_while(|line| !line.starts_with('['));
    while let Some(line) = lines.next() {
        if let Some(text) = line.strip_prefix("# ") {
            comment.push(text);
        } else if let Some(value) = line.strip_prefix(&format!("#{key} = ")) {
            let mut example = value.to_owned();
            // A list with a line for each of its values.
            while example.starts_with('[') && !example.ends_with(']') {
                let Some(more) = lines.next() else { break };
                example.push_str(more.trim_start_matches(['#', ' ']).trim_end_matches(','));
            }
            return Entry { example, text: comment.join(" ") };
        } else if line.starts_with('#') && line.contains(" = ") {
            comment.clear();
        }
    }
    Entry { example: String::new(), text: String::new() }
}

/// The words that a key takes, if it takes a few only: what the parser says when it gets another one.
fn choices(table: &str, key: &str) -> Vec<String> {
    let wrong = Settings::parse(&format!("schema = 1\n[{table}]\n{key} = \"no such word\"\n"), "");
    let complaint = wrong.err().map(|mistake| mistake.to_string()).unwrap_or_default();
    let Some((_, expected)) = complaint.split_once("unknown variant `no such word`, expected") else {
        return Vec::new();
    };
    expected.split('`').skip(1).step_by(2).map(|word| format!("\"{word}\"")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_explained_and_has_an_example_that_is_right() {
        for (table, keys) in KEYS {
            for key in *keys {
                let Entry { example, text } = entry(table, key);
                assert!(text.len() > 10, "[{table}] {key}: {text:?}");
                assert!(format!("{key} = {example}").parse::<toml::Table>().is_ok(), "[{table}] {key}: {example}");
            }
        }
    }

    #[test]
    fn the_words_that_a_key_takes_come_from_its_type() {
        assert_eq!(choices("keys", "tpm"), ["\"auto\"", "\"off\"", "\"required\""]);
        assert!(choices("system", "hostname").is_empty());
    }
}
