//! Exponential backoff with jitter.

use std::time::Duration;

use rand::Rng;

/// Doubles from a base to a ceiling; each delay is shortened by a random part of up to half of it.
///
/// LaunchDarkly's SDKs use the same curve (launchdarkly/eventsource `backoff.go`): subtractive jitter spreads
/// reconnecting clients without ever exceeding the ceiling.
#[derive(Debug, Clone)]
pub struct Backoff {
    base: Duration,
    ceiling: Duration,
    attempt: u32,
}

/// The base is zero or above the ceiling.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("backoff needs a base above zero and not above its ceiling")]
pub struct InvalidBackoff;

impl Backoff {
    /// Starts at `base` and never exceeds `ceiling`.
    ///
    /// # Errors
    /// When `base` is zero or above `ceiling`.
    pub fn new(base: Duration, ceiling: Duration) -> Result<Self, InvalidBackoff> {
        if base.is_zero() || base > ceiling { Err(InvalidBackoff) } else { Ok(Self::literal(base, ceiling)) }
    }

    /// Creates a backoff from constants that are known to be valid.
    #[must_use]
    pub const fn literal(base: Duration, ceiling: Duration) -> Self {
        Self { base, ceiling, attempt: 0 }
    }

    /// Returns the delay before the next attempt.
    pub fn next_delay(&mut self) -> Duration {
        let full = self.base.saturating_mul(1_u32.checked_shl(self.attempt).unwrap_or(u32::MAX)).min(self.ceiling);
        self.attempt = self.attempt.saturating_add(1);
        full - full.mul_f64(rand::rng().random_range(0.0..0.5))
    }

    /// Restarts from the base.
    pub fn reset(&mut self) {
        self.attempt = 0;
    }

    /// Replaces the base, as a server may request with `retry:`; the number of attempts is kept. Values outside the
    /// range are clamped.
    pub fn rebase(&mut self, base: Duration) {
        self.base = base.clamp(Duration::from_millis(1), self.ceiling);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_stay_within_the_published_bounds() {
        // U031: gaps within 0.5–1, 1–2, 2–4, 4–8, 8–16, 15–30 s.
        for _ in 0..200 {
            let mut backoff = Backoff::literal(Duration::from_secs(1), Duration::from_secs(30));
            for upper in [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0] {
                let delay = backoff.next_delay().as_secs_f64();
                assert!(delay > upper / 2.0 && delay <= upper, "{delay} for {upper}");
            }
            backoff.reset();
            assert!(backoff.next_delay() <= Duration::from_secs(1));
        }
    }

    #[test]
    fn delays_differ_over_their_whole_range() {
        let first = |_| Backoff::literal(Duration::from_secs(10), Duration::from_secs(10)).next_delay().as_secs_f64();
        let delays: Vec<_> = (0..500).map(first).collect();
        let (least, most) =
            delays.iter().fold((f64::MAX, 0.0_f64), |(least, most), it| (least.min(*it), most.max(*it)));
        assert!(
            least < 5.5 && most > 9.5,
            "{least} to {most}: clients that were cut off together must not come together"
        );
    }

    #[test]
    fn it_survives_any_number_of_attempts() {
        let mut backoff = Backoff::literal(Duration::from_secs(1), Duration::from_secs(30));
        for _ in 0..10_000 {
            assert!(backoff.next_delay() <= Duration::from_secs(30));
        }
    }

    #[test]
    fn a_server_may_request_another_base_within_the_range() {
        let mut backoff = Backoff::literal(Duration::from_secs(1), Duration::from_secs(30));
        backoff.next_delay();
        for (base, upper) in [(4, 8.0), (60, 30.0), (0, 0.008)] {
            backoff.rebase(Duration::from_secs(base));
            let delay = backoff.next_delay().as_secs_f64();
            assert!(delay > upper / 2.0 && delay <= upper, "{delay} for {upper}: attempts count on");
        }
    }

    #[test]
    fn invalid_input_is_rejected() {
        assert!(Backoff::new(Duration::ZERO, Duration::from_secs(1)).is_err());
        assert!(Backoff::new(Duration::from_secs(2), Duration::from_secs(1)).is_err());
    }
}
