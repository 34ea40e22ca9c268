//! No faster than the owner wants it.

use std::time::{Duration, Instant};

/// Slows a download down.
#[derive(Debug)]
pub struct Limiter {
    /// Bytes a second.
    rate: Option<u64>,
    /// When what was received so far may have been received.
    due: Instant,
}

impl Limiter {
    /// At most so many bytes a second; as fast as it goes without.
    pub fn new(rate: Option<u64>) -> Self {
        Self { rate, due: Instant::now() }
    }

    /// So many bytes were received: waits as long as they may take.
    pub fn received(&mut self, bytes: u64) {
        let pause = self.pause(bytes, Instant::now());
        if !pause.is_zero() {
            std::thread::sleep(pause);
        }
    }

    fn pause(&mut self, bytes: u64, now: Instant) -> Duration {
        let Some(rate) = self.rate else { return Duration::ZERO };
        // Time in which nothing was received is not made up for.
        self.due = self.due.max(now) + Duration::from_secs_f64(bytes as f64 / rate.max(1) as f64);
        self.due.saturating_duration_since(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_take_their_time_and_a_rest_is_not_made_up_for() {
        let start = Instant::now();
        let mut limiter = Limiter { rate: Some(1000), due: start };
        assert_eq!(limiter.pause(500, start), Duration::from_millis(500));
        assert_eq!(limiter.pause(500, start), Duration::from_secs(1));
        let later = start + Duration::from_secs(60);
        assert_eq!(limiter.pause(100, later), Duration::from_millis(100));
        assert_eq!(Limiter::new(None).pause(u64::MAX, start), Duration::ZERO);
    }
}
