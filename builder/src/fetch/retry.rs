//! When to try again: exponential backoff with jitter, within one allowance shared by all downloads,
//! so that a dying mirror is not hammered by three hundred files that each think they are alone.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::error::FetchError;

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
    /// The pause after this many failures in a row: a random share of the doubled pause, at least half,
    /// or what the server asks for.
    pub fn pause_after(&self, failures: u32, error: &FetchError) -> Duration {
        let doubled = self.pause.saturating_mul(1 << failures.saturating_sub(1).min(16));
        let pause = doubled.min(self.longest_pause).mul_f64(0.5 + random_share() / 2.0);
        match error {
            FetchError::Status { retry_after: Some(asked), .. } => pause.max(*asked).min(self.longest_pause),
            _ => pause,
        }
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
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
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

    fn gone() -> FetchError {
        FetchError::NotFound { url: String::new() }
    }

    #[test]
    fn a_server_may_ask_for_a_pause_but_not_for_a_long_one() {
        let busy = |seconds| FetchError::Status {
            url: String::new(),
            status: 503,
            retry_after: Some(Duration::from_secs(seconds)),
        };
        let patience = Patience::default();
        assert_eq!(patience.pause_after(1, &busy(7)), Duration::from_secs(7));
        assert_eq!(patience.pause_after(1, &busy(86400)), patience.longest_pause);
    }

    #[test]
    fn pauses_double_up_to_the_longest_and_are_not_all_alike() {
        let patience =
            Patience { pause: Duration::from_secs(1), longest_pause: Duration::from_secs(10), ..Patience::default() };
        for (failures, full) in [(1, 1), (2, 2), (3, 4), (4, 8), (5, 10), (41, 10)] {
            let (pause, full) = (patience.pause_after(failures, &gone()), Duration::from_secs(full));
            assert!(pause >= full / 2 && pause <= full, "{failures}: {pause:?}");
        }
        let some: std::collections::HashSet<_> = (0..10).map(|_| patience.pause_after(4, &gone())).collect();
        assert!(some.len() > 1);
    }

    #[test]
    fn the_allowance_ends() {
        let allowance = Allowance::new(2);
        assert_eq!([allowance.take(), allowance.take(), allowance.take()], [true, true, false]);
    }
}
