//! How far it is, for somebody at the console: one line that changes, or nothing where nobody looks.

use std::io::{IsTerminal as _, Write as _};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use firstboot::disk::Size;
use firstboot::flash::{Phase, Watch};

/// A serial console writes some thousand characters a second.
const EVERY: Duration = Duration::from_millis(500);

/// Says it on stderr.
#[derive(Debug, Default)]
pub(super) struct Line(Mutex<Option<State>>);

#[derive(Debug)]
struct State {
    what: &'static str,
    total: u64,
    done: u64,
    start: Instant,
    said: Option<Instant>,
}

impl Line {
    /// Something of `bytes` begins.
    pub(super) fn begin_with(&self, what: &'static str, bytes: u64) {
        self.with(|state| *state = Some(State { what, total: bytes, done: 0, start: Instant::now(), said: None }));
    }

    fn with(&self, change: impl FnOnce(&mut Option<State>)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Watch for Line {
    fn begin(&self, phase: Phase, bytes: u64) {
        let what = match phase {
            Phase::Writing => "writing",
            Phase::Verifying => "verifying",
        };
        self.begin_with(what, bytes);
    }

    fn advance(&self, bytes: u64) {
        self.with(|state| {
            if let Some(state) = state {
                state.done += bytes;
                state.say();
            }
        });
    }

    fn end(&self) {
        self.with(|state| *state = None);
        if std::io::stderr().is_terminal() {
            eprint!("\r\x1b[K");
        }
    }
}

impl State {
    fn say(&mut self) {
        if self.said.is_some_and(|said| said.elapsed() < EVERY) || !std::io::stderr().is_terminal() {
            return;
        }
        self.said = Some(Instant::now());
        eprint!("\r\x1b[K{}", self.text(self.start.elapsed()));
        let _ = std::io::stderr().flush();
    }

    fn text(&self, elapsed: Duration) -> String {
        let rate = self.done as f64 / elapsed.as_secs_f64().max(0.001);
        let left = (self.total.saturating_sub(self.done)) as f64 / rate.max(1.0);
        let (done, total, rate) = (Size(self.done), Size(self.total), Size(rate as u64));
        format!("{} {done} of {total}, {rate}/s, {left:.0} s left", self.what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rate_and_time_left_are_told() {
        let state = State { what: "writing", total: 200_000_000, done: 50_000_000, start: Instant::now(), said: None };
        assert_eq!(state.text(Duration::from_secs(5)), "writing 50.0 MB of 200.0 MB, 10.0 MB/s, 15 s left");
    }
}
