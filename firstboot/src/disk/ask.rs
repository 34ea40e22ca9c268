//! The question before a disk is overwritten.

use std::io::{IsTerminal as _, Write as _};

use anyhow::Context as _;

use super::Choice;
use crate::report::Mistake;

/// Shows a disk at the terminal and has a person type what proves that they mean it ([`Choice::proof`]).
///
/// # Errors
/// There is no terminal.
pub fn ask(choice: &Choice) -> anyhow::Result<String> {
    let (disk, proof) = (choice.disk(), choice.proof());
    if !std::io::stdin().is_terminal() {
        return Err(Mistake::new(format!("nobody is there to be asked for {proof}"))
            .hint("give them: --yes-serial XXXX")
            .into());
    }
    let contents: String = disk.contents().iter().map(|line| format!("  {line}\n")).collect();
    let mut terminal = std::io::stderr().lock();
    write!(terminal, "{}\n  {disk}\n{contents}\n", choice.id().display())?;
    write!(terminal, "Everything on it will be lost. To go on, type {proof}: ")?;
    terminal.flush()?;
    let mut typed = String::new();
    std::io::stdin().read_line(&mut typed).context("reading the answer")?;
    Ok(typed)
}
