//! Asking somebody for a secret, at a terminal without showing it, or from a pipe.

use std::io::{IsTerminal as _, Write as _};
use std::os::fd::AsFd as _;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use crate::secret::Secret;

/// Longest line that is taken.
const MAX_LINE: usize = 1024;
/// How often it is looked whether the answer is still needed.
const INTERVAL_MS: u16 = 1000;

/// What came of a question.
#[derive(Debug)]
pub enum Answer {
    /// A line, without its end.
    Line(Secret),
    /// Nobody is there any more.
    End,
    /// The answer is not needed any more.
    Settled,
}

/// Whether somebody sits at a terminal, rather than a program at the other end of a pipe.
pub fn is_attended() -> bool {
    std::io::stdin().is_terminal()
}

/// Asks for a line that is not shown, until it is there or `is_settled`. Nothing is asked of a pipe: it just has to have a
/// line.
///
/// # Errors
/// The input cannot be read, or the line is longer than any secret.
pub fn secret(question: &str, is_settled: impl Fn() -> bool) -> anyhow::Result<Answer> {
    let hidden = Hidden::begin()?;
    if hidden.is_some() {
        let mut terminal = std::io::stderr();
        write!(terminal, "{question}: ")?;
        terminal.flush()?;
    }
    let answer = line(&is_settled);
    if hidden.is_some() {
        writeln!(std::io::stderr())?;
    }
    answer
}

/// Reads byte by byte: what comes after the line is for the next question.
fn line(is_settled: &dyn Fn() -> bool) -> anyhow::Result<Answer> {
    // With room for all of it: growing would leave copies in memory.
    let mut text = Zeroizing::new(Vec::with_capacity(MAX_LINE));
    let stdin = std::io::stdin();
    loop {
        let mut ready = [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)];
        match poll(&mut ready, PollTimeout::from(INTERVAL_MS)) {
            Ok(0) | Err(Errno::EINTR) if is_settled() => return Ok(Answer::Settled),
            Ok(0) | Err(Errno::EINTR) => continue,
            result => result?,
        };
        let mut byte = Zeroizing::new([0]);
        match nix::unistd::read(&stdin, byte.as_mut_slice()) {
            Ok(0) if text.is_empty() => return Ok(Answer::End),
            Ok(count) if count == 0 || byte[0] == b'\n' => return Ok(Answer::Line(finish(&text)?)),
            Ok(_) => text.push(byte[0]),
            Err(Errno::EINTR) => {}
            // The terminal was hung up.
            Err(Errno::EIO) => return Ok(Answer::End),
            Err(error) => return Err(error.into()),
        }
        anyhow::ensure!(text.len() < MAX_LINE, "a line of more than {MAX_LINE} bytes is no key");
    }
}

fn finish(bytes: &[u8]) -> anyhow::Result<Secret> {
    let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
    let text = std::str::from_utf8(bytes).map_err(|_| anyhow::anyhow!("what was typed is no UTF-8"))?;
    Ok(Secret::new(text.to_owned()))
}

/// A terminal that does not show what is typed; it does again when this goes.
struct Hidden(Termios);

impl Hidden {
    /// `None` when there is no terminal.
    fn begin() -> anyhow::Result<Option<Self>> {
        if !is_attended() {
            return Ok(None);
        }
        let before = tcgetattr(std::io::stdin())?;
        let mut hidden = before.clone();
        hidden.local_flags.remove(LocalFlags::ECHO);
        hidden.local_flags.insert(LocalFlags::ICANON);
        // What was typed before the question is not an answer to it.
        tcsetattr(std::io::stdin(), SetArg::TCSAFLUSH, &hidden)?;
        Ok(Some(Self(before)))
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        // The terminal may be gone.
        let _ = tcsetattr(std::io::stdin(), SetArg::TCSANOW, &self.0);
    }
}
