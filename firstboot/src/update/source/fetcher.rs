//! Ranges of a payload, in few requests: what lies close together is asked for at once, and read as it is needed.

use std::collections::VecDeque;
use std::io::Read;
use std::ops::Range;

use super::{Answer, Limiter, Patience, Server, SourceError};
use crate::report::Mistake;
use crate::update::Object;
use crate::update::engine::Payload;

/// So much between two ranges is read and thrown away: a request of its own takes longer.
const GAP: u64 = 64 << 10;
/// Read at once.
const PIECE: u64 = 64 << 10;

/// Fetches ranges of an object.
pub struct Fetcher<'a> {
    server: &'a dyn Server,
    object: Object,
    patience: Patience,
    limiter: Limiter,
    watch: &'a dyn Fn(u64),
    /// Runs of ranges that are asked for at once.
    runs: VecDeque<Range<u64>>,
    open: Option<Open>,
}

/// An answer that is being read.
struct Open {
    at: u64,
    body: Box<dyn Read>,
}

impl std::fmt::Debug for Fetcher<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fetcher").field("object", &self.object).field("runs", &self.runs).finish_non_exhaustive()
    }
}

impl<'a> Fetcher<'a> {
    /// For an object of a server; `watch` is told of bytes as they are received.
    pub fn new(
        server: &'a dyn Server,
        object: Object,
        patience: Patience,
        limiter: Limiter,
        watch: &'a dyn Fn(u64),
    ) -> Self {
        Self { server, object, patience, limiter, watch, runs: VecDeque::new(), open: None }
    }

    /// Adds to `received` until it has all of `range`, or the answer ends.
    fn receive(&mut self, range: &Range<u64>, received: &mut Vec<u8>) -> Result<(), SourceError> {
        let at = range.start + received.len() as u64;
        let mut open = match self.open.take() {
            Some(open) if open.at <= at && at - open.at <= GAP => open,
            _ => self.ask(at)?,
        };
        let mut piece = vec![0; PIECE as usize];
        while open.at < range.end {
            // Up to the range, then all of it.
            let next = range.start + received.len() as u64;
            let wanted = if open.at < next { next - open.at } else { range.end - open.at };
            let count = open.body.read(&mut piece[..wanted.min(PIECE) as usize]);
            let count = count.map_err(|error| SourceError::Interrupted(error.to_string()))?;
            if count == 0 {
                return Err(SourceError::Interrupted("the answer is shorter than what was asked for".to_owned()));
            }
            if open.at >= next {
                received.extend_from_slice(&piece[..count]);
            }
            open.at += count as u64;
            (self.watch)(count as u64);
            self.limiter.received(count as u64);
        }
        // An answer that was read to its end, and no further, is done with; its connection can be used again.
        self.open = Some(open);
        Ok(())
    }

    /// Asks for the run that has this byte, from there on.
    fn ask(&mut self, at: u64) -> Result<Open, SourceError> {
        while self.runs.front().is_some_and(|run| run.end <= at) {
            self.runs.pop_front();
        }
        let end = self.runs.front().map_or(self.object.size, |run| run.end);
        let Answer { offset, body } = self.server.get(&self.object.path(), at, Some(end))?;
        // A server that ignores ranges begins at the beginning; what is before is thrown away.
        if offset != at && offset != 0 {
            return Err(SourceError::Interrupted("the server sends another part than was asked for".to_owned()));
        }
        Ok(Open { at: offset, body })
    }
}

impl Payload for Fetcher<'_> {
    fn expect(&mut self, ranges: Vec<Range<u64>>) {
        for range in ranges {
            match self.runs.back_mut() {
                Some(run) if run.start <= range.start && range.start <= run.end + GAP => {
                    run.end = run.end.max(range.end);
                }
                _ => self.runs.push_back(range),
            }
        }
    }

    fn fetch(&mut self, range: Range<u64>) -> anyhow::Result<Vec<u8>> {
        let mut received = Vec::with_capacity((range.end - range.start) as usize);
        let mut failures = 0;
        loop {
            let before = received.len();
            let Err(error) = self.receive(&range, &mut received) else { return Ok(received) };
            failures = if received.len() > before { 1 } else { failures + 1 };
            if !error.is_transient() || failures >= self.patience.attempts {
                return Err(Mistake::from(error).into());
            }
            self.patience.wait(failures, &error);
        }
    }
}
