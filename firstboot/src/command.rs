//! Running other programs: without a shell, with an environment of our own, and with secrets by standard input only.

use std::ffi::{OsStr, OsString};
use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use anyhow::Context as _;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

/// Where programs are; the environment of whoever called us does not count.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A program that is about to run.
#[derive(Debug)]
pub struct Run {
    program: OsString,
    arguments: Vec<OsString>,
    input: Option<Input>,
}

/// What it reads from its standard input; shows nothing of itself.
struct Input(Zeroizing<Vec<u8>>);

impl std::fmt::Debug for Input {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Input(…)")
    }
}

/// A program ended with another status than 0.
#[derive(Debug, thiserror::Error)]
#[error("`{command}` failed ({status}): {said}")]
pub struct Failed {
    /// The program with its arguments, which never hold a secret.
    pub command: String,
    /// How it ended.
    pub status: std::process::ExitStatus,
    /// What it wrote to its standard error, or else to its standard output.
    pub said: String,
}

impl Run {
    /// `program`, found in the system's folders.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        Self { program: program.as_ref().to_owned(), arguments: Vec::new(), input: None }
    }

    /// Adds an argument. Everybody on the machine can read it, so it must be no secret.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    /// Adds several.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.arguments.extend(arguments.into_iter().map(|argument| argument.as_ref().to_owned()));
        self
    }

    /// Gives it bytes by its standard input.
    #[must_use]
    pub fn secret(mut self, bytes: &[u8]) -> Self {
        self.input = Some(Input(Zeroizing::new(bytes.to_owned())));
        self
    }

    /// Runs it to its end, however it ends.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn output(&self) -> anyhow::Result<Output> {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).env_clear().env("PATH", PATH).env("LC_ALL", "C.UTF-8");
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.stdin(if self.input.is_some() { Stdio::piped() } else { Stdio::null() });
        let mut child = command.spawn().with_context(|| format!("starting {}", self.program.display()))?;
        let pipe = child.stdin.take();
        std::thread::scope(|scope| {
            if let (Some(mut pipe), Some(input)) = (pipe, &self.input) {
                // A program that has read enough closes its end; what it says afterwards counts.
                scope.spawn(move || pipe.write_all(&input.0));
            }
            Ok(child.wait_with_output()?)
        })
    }

    /// Runs it, and gives back what it wrote to its standard output.
    ///
    /// # Errors
    /// It cannot be started, or it failed: [`Failed`].
    pub fn bytes(&self) -> anyhow::Result<Vec<u8>> {
        let output = self.output()?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        let said = if output.stderr.trim_ascii().is_empty() { &output.stdout } else { &output.stderr };
        let said = String::from_utf8_lossy(said).trim().to_owned();
        Err(Failed { command: self.to_string(), status: output.status, said }.into())
    }

    /// As [`Self::bytes`], as text without the white space around it.
    ///
    /// # Errors
    /// As [`Self::bytes`]; or it is not UTF-8.
    pub fn text(&self) -> anyhow::Result<String> {
        let text = String::from_utf8(self.bytes()?).with_context(|| format!("`{self}` wrote no UTF-8"))?;
        Ok(text.trim().to_owned())
    }

    /// As [`Self::bytes`], parsed as JSON.
    ///
    /// # Errors
    /// As [`Self::bytes`]; or it is not what was expected.
    pub fn json<T: DeserializeOwned>(&self) -> anyhow::Result<T> {
        serde_json::from_slice(&self.bytes()?).with_context(|| format!("reading what `{self}` wrote"))
    }

    /// Runs it; only its success counts.
    ///
    /// # Errors
    /// As [`Self::bytes`].
    pub fn done(&self) -> anyhow::Result<()> {
        self.bytes().map(drop)
    }
}

impl std::fmt::Display for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.program.display())?;
        self.arguments.iter().try_for_each(|argument| write!(f, " {}", argument.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_arrives_by_standard_input_and_nowhere_else() {
        let run = Run::new("sh").args(["-c", "cat; cat /proc/$$/cmdline /proc/$$/environ"]).secret(b"hunter2");
        assert!(!format!("{run:?} {run}").contains("hunter2"));
        assert_eq!(run.text().unwrap().matches("hunter2").count(), 1);
    }

    #[test]
    fn an_input_that_nobody_reads_is_no_failure_and_no_hang() {
        Run::new("true").secret(&vec![0; 1 << 20]).done().unwrap();
    }

    #[test]
    fn what_fails_says_which_program_and_why() {
        let error = Run::new("sh").args(["-c", "echo no pool >&2; exit 3"]).done().unwrap_err();
        assert_eq!(error.to_string(), "`sh -c echo no pool >&2; exit 3` failed (exit status: 3): no pool");
    }
}
