//! A person at the terminal.

use std::io::Write as _;

use anyhow::{Context as _, bail, ensure};
use firstboot::secret::Secret;
use firstboot::unlock::ask::{self, Answer};
use firstboot::wizard::Dialogue;

/// Erases the screen and what a terminal keeps of what has left it at the top (xterm's `3J`, which the console knows too).
const CLEAR: &str = "\x1b[2J\x1b[3J\x1b[H";

/// The terminal of this program.
#[derive(Debug, Default)]
pub(crate) struct Terminal;

impl Dialogue for Terminal {
    fn say(&mut self, text: &str) -> anyhow::Result<()> {
        let mut out = std::io::stdout().lock();
        out.write_all(text.as_bytes())?;
        Ok(out.flush()?)
    }

    fn ask(&mut self, question: &str) -> anyhow::Result<String> {
        self.say(question)?;
        line()
    }

    fn ask_secret(&mut self, question: &str) -> anyhow::Result<Secret> {
        match ask::secret(question, || false)? {
            Answer::Line(typed) => Ok(typed),
            Answer::Settled | Answer::End => bail!("nobody answers any more"),
        }
    }

    fn show_secret(&mut self, secret: &Secret) -> anyhow::Result<()> {
        self.say(CLEAR)?;
        self.say(secret.expose())
    }

    fn hide_secret(&mut self) -> anyhow::Result<()> {
        self.say(CLEAR)
    }
}

/// A line, without its end.
fn line() -> anyhow::Result<String> {
    let mut line = String::new();
    let length = std::io::stdin().read_line(&mut line).context("reading the answer")?;
    ensure!(length > 0, "nobody answers any more");
    line.truncate(line.trim_end_matches(['\r', '\n']).len());
    Ok(line)
}
