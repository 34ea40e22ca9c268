//! When to try again: exponential backoff with jitter, within one allowance shared by all downloads,
//! so that a dying mirror is not hammered by three hundred files that each think they are alone.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// How patient a fetcher is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// Attempts at one address before the next one.
    pub attempts: u32,
    /// Retries of all downloads together.
    pub allowance: u32,
    /// First pause; doubled for each further one.
    pub pause: Duration,
    /// Longest pause, also where a server asks for more.
    pub longest_pause: Duration,
    /// To open a connection.
    pub connect: Duration,
    /// For the first byte of an answer, and between any two reads of it.
    pub stall: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            attempts: 4,
            allowance: 40,
            pause: Duration::from_millis(500),
            longest_pause: Duration::from_secs(30),
            connect: Duration::from_secs(15),
            stall: Duration::from_secs(30),
        }
    }
}

impl Patience {
    /// The pause before retry number `retry` (from 0): a random share of the doubled pause, at least half.
    pub fn pause_before(&self, retry: u32) -> Duration {
        let full = self
            .pause
            .saturating_mul(1 << retry.min(16))
            .min(self.longest_pause);
        full.mul_f64(0.5 + random_share() / 2.0)
    }
}

/// Retries left for all downloads together.
#[derive(Debug)]
pub(super) struct Allowance(AtomicU32);

impl Allowance {
    pub fn new(retries: u32) -> Self {
        Self(AtomicU32::new(retries))
    }

    /// Takes one retry; false when none is left.
    pub fn take(&self) -> bool {
        self.0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                left.checked_sub(1)
            })
            .is_ok()
    }
}

/// 0 to 1. `RandomState` is seeded by the system: enough for jitter, and no dependency.
fn random_share() -> f64 {
    let bits = RandomState::new().hash_one(0) >> 32;
    bits as f64 / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_are_not_all_alike() {
        let patience = Patience {
            pause: Duration::from_secs(1),
            longest_pause: Duration::from_secs(10),
            ..Patience::default()
        };
        for (retry, full) in [(0, 1), (1, 2), (2, 4), (3, 8), (4, 10), (40, 10)] {
            let (pause, full) = (patience.pause_before(retry), Duration::from_secs(full));
            assert!(pause >= full / 2 && pause <= full, "{retry}: {pause:?}");
        }
        let some: std::collections::HashSet<_> =
            (0..10).map(|_| patience.pause_before(3)).collect();
        assert!(some.len() > 1);
    }

    #[test]
    fn the_allowance_ends() {
        let allowance = Allowance::new(2);
        assert_eq!(
            [allowance.take(), allowance.take(), allowance.take()],
            [true, true, false]
        );
    }
}
