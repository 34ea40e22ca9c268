//! The settings without what nobody else may see: for the copy that lies in the open.

use toml_edit::DocumentMut;
use zeroize::Zeroizing;

use super::without_mark;

/// Tables, and their keys that are secrets.
pub(super) const SECRETS: &[(&str, &str)] = &[("keys", "recovery-key"), ("keys", "passphrase"), ("keys", "tpm-pin")];
/// Stands for the value of a secret that was switched off.
const BLANK: &str = "\"...\"";

/// The text of settings that are right, without secrets. Comments stay, as long as they do not repeat one.
///
/// # Errors
/// The text is no TOML.
pub fn without_secrets(text: &str) -> anyhow::Result<String> {
    let mut document: DocumentMut = without_mark(text).parse()?;
    let mut secrets = Vec::new();
    for (table, key) in SECRETS {
        let table = document.get_mut(table).and_then(toml_edit::Item::as_table_like_mut);
        if let Some(removed) = table.and_then(|table| table.remove(key)) {
            secrets.push(Zeroizing::new(removed.as_str().unwrap_or_default().to_owned()));
        }
    }
    let bare = Zeroizing::new(document.to_string());
    let values: toml::Table = bare.parse()?;
    let kept: String = bare.split_inclusive('\n').map(blanked).collect();
    let repeats_one = secrets.iter().any(|secret| !secret.is_empty() && kept.contains(secret.as_str()));
    // What looks like a switched off line may be part of a text that has several.
    if repeats_one || kept.parse::<toml::Table>()? != values {
        return Ok(toml::to_string(&values)?);
    }
    Ok(kept)
}

/// The line; without its value if it is a secret that is switched off: `#passphrase = "..."`.
fn blanked(line: &str) -> String {
    let comment = line.trim_start().strip_prefix('#').map(|text| text.trim_start_matches(['#', ' ', '\t']));
    let key = comment.and_then(|text| text.split_once('=')).map(|(key, _)| key.trim().trim_matches(['"', '\'']));
    let key = key.map(|key| key.rsplit(['.', ' ']).next().unwrap_or(key));
    match line.split_once('=') {
        Some((before, _)) if key.is_some_and(|key| SECRETS.iter().any(|(_, secret)| *secret == key)) => {
            format!("{before}= {BLANK}\n")
        }
        _ => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::key::RecoveryKey;
    use crate::settings::{EXAMPLE, Settings};

    #[test]
    fn the_other_settings_and_their_comments_stay() {
        let text = "# My box.\nschema = 1\n\n[system]\nhostname = \"nas\" # downstairs\n\n[keys]\ntpm = \"off\"\n\
                    # never told anybody\npassphrase = \"correct horse battery\"\n#tpm-pin = \"271828\"\n";
        insta::assert_snapshot!(without_secrets(text).unwrap(), @r##"
        # My box.
        schema = 1

        [system]
        hostname = "nas" # downstairs

        [keys]
        tpm = "off"
        #tpm-pin = "..."
        "##);
    }

    #[test]
    fn a_comment_that_repeats_a_secret_goes_with_all_others() {
        let text =
            "schema = 1 # 1\nkeys.passphrase = 'correct horse'\n# it is correct horse\nsystem.hostname = \"nas\"\n";
        insta::assert_snapshot!(without_secrets(text).unwrap(), @r#"
        schema = 1

        [system]
        hostname = "nas"
        "#);
    }

    #[test]
    fn the_example_loses_no_line_but_those_that_show_secrets() {
        let stripped = without_secrets(EXAMPLE).unwrap();
        let gone: Vec<_> = EXAMPLE.lines().filter(|line| !stripped.contains(line)).collect();
        assert_eq!(gone.len(), 3, "{gone:?}");
        assert_eq!(stripped.lines().count(), EXAMPLE.lines().count());
    }

    /// A way to write the keys into a file.
    fn written(form: usize, keys: &[(&str, String)]) -> String {
        let pairs = |prefix: &str, separator: &str| {
            let pairs: Vec<_> = keys
                .iter()
                .map(|(key, secret)| format!("{prefix}{key} = {}", toml::Value::from(secret.as_str())))
                .collect();
            pairs.join(separator)
        };
        match form {
            0 => format!("[keys]\n{}\n", pairs("", " # a comment\n")),
            1 => format!("keys = {{ {} }}\n", pairs("", ", ")),
            2 => format!("{}\n", pairs("keys.", "\n# a comment\n")),
            _ => format!("[keys]\n{}\n", pairs("", "\n#passphrase = \"old one\"\n")),
        }
    }

    proptest! {
        #[test]
        fn no_secret_survives(
            secrets in proptest::collection::vec("[ -~äß€\"'\\\\\n]{12,40}", 1..4),
            form in 0..4usize,
            comment: Option<usize>,
        ) {
            let mut secrets = secrets;
            // Another text is no recovery key.
            secrets[0] = RecoveryKey::generate().unwrap().text().expose().to_owned();
            // What every file has in it is no secret.
            prop_assume!(secrets.iter().all(|secret| secret.trim().len() > 9));
            let keys: Vec<_> = SECRETS.iter().map(|(_, key)| *key).zip(secrets.iter().cloned()).collect();
            let mut text = format!("schema = 1\n{}", written(form, &keys));
            if let Some(at) = comment {
                let secret = secrets[at % secrets.len()].replace('\n', " ");
                text.push_str(&format!("# {secret}\n#tpm-pin = {secret}\n"));
            }
            let before = Settings::parse(&text, "x").unwrap();
            let stripped = without_secrets(&text).unwrap();
            for secret in &secrets {
                prop_assert!(!stripped.contains(secret.as_str()), "{stripped}");
                prop_assert!(!stripped.contains("old one"), "{stripped}");
            }
            let after = Settings::parse(&stripped, "x").unwrap();
            prop_assert!(after.keys.recovery_key.is_none() && after.keys.passphrase.is_none() && after.keys.tpm_pin.is_none());
            prop_assert_eq!((before.system, before.pool), (after.system, after.pool));
        }
    }
}
