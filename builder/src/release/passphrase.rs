//! The passphrase of a key: from a terminal or a file. Never from the command line or the environment, which others can read.

use std::io::IsTerminal as _;
use std::path::Path;

use anyhow::Context as _;
use firstboot::secret::Secret;

use crate::report::Mistake;

/// The passphrase that opens a key.
///
/// # Errors
/// A [`Mistake`]: there is no terminal to ask at, and no file was named.
pub fn of(key: &Path, file: Option<&Path>) -> anyhow::Result<Secret> {
    match file {
        Some(file) => from_file(file),
        None => ask(&format!("Passphrase of {}: ", key.display())),
    }
}

/// A passphrase for a new key; at a terminal it has to be typed twice.
///
/// # Errors
/// A [`Mistake`], as above, or they are not the same.
pub fn new(key: &Path, file: Option<&Path>) -> anyhow::Result<Secret> {
    if let Some(file) = file {
        return from_file(file);
    }
    let first = ask(&format!("Passphrase for {}: ", key.display()))?;
    if ask("Once more: ")? == first { Ok(first) } else { Err(Mistake::new("the two are not the same").into()) }
}

fn from_file(file: &Path) -> anyhow::Result<Secret> {
    let read = fs_err::read_to_string(file).map(zeroize::Zeroizing::new);
    let text = read.map_err(|error| Mistake::new("the passphrase cannot be read").because(error))?;
    Ok(Secret::new(text.strip_suffix('\n').unwrap_or(&text).trim_end_matches('\r').to_owned()))
}

fn ask(question: &str) -> anyhow::Result<Secret> {
    if !std::io::stdin().is_terminal() {
        return Err(Mistake::new("there is no terminal to ask for the passphrase at")
            .hint("name a file that holds it: --passphrase-file FILE")
            .into());
    }
    Ok(Secret::new(rpassword::prompt_password(question).context("asking for the passphrase")?))
}
