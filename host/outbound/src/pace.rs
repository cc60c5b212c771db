//! How soon to try again.

use std::time::Duration;

use tokio::time::Instant;
use yardarm_core::Backoff;

use crate::ConnectionError;

/// A connection that was good for this long starts its backoff anew.
const HEALTHY: Duration = Duration::from_secs(60);
/// The first delay, and the shortest that a service may ask for unless it is set otherwise.
const FIRST: Duration = Duration::from_secs(1);

/// How soon to try again: at once slowly growing, and seldom for keys that the vendor rejects, because that may heal
/// but asking often would be rude.
pub struct Pace {
    usual: Backoff,
    rejected: Backoff,
    is_rejected: bool,
    healthy_since: Option<Instant>,
    /// What a service may ask for at least.
    shortest: Duration,
}

impl Pace {
    /// From one second to `ceiling`, and a curve that begins with `rejected` for keys that were rejected.
    #[must_use]
    pub fn new(ceiling: Duration, rejected: Duration) -> Self {
        Self {
            usual: Backoff::literal(FIRST, ceiling),
            rejected: Backoff::literal(rejected, rejected.saturating_mul(12)),
            is_rejected: false,
            healthy_since: None,
            shortest: FIRST,
        }
    }

    /// The same with another limit on how short a first delay a service may ask for.
    #[must_use]
    pub fn with_shortest(mut self, shortest: Duration) -> Self {
        self.shortest = shortest;
        self
    }

    /// A connection is being opened.
    pub fn connecting(&mut self) {
        self.healthy_since = None;
    }

    /// The connection said something useful.
    pub fn is_healthy(&mut self) {
        self.healthy_since.get_or_insert_with(Instant::now);
    }

    /// The service asked for another first delay. It gets one between the shortest that is set and the ceiling; and what it
    /// asks for does not undo how much the delay has grown, so that a connection which breaks again and again is opened
    /// less and less often.
    pub fn rebase(&mut self, base: Duration) {
        self.usual.rebase(base.max(self.shortest));
    }

    /// A new key starts anew.
    pub fn reset(&mut self) {
        self.usual.reset();
        self.rejected.reset();
        self.is_rejected = false;
    }

    /// How long to wait after `error`.
    pub fn delay_after(&mut self, error: &ConnectionError) -> Duration {
        if self.healthy_since.is_some_and(|since| since.elapsed() >= HEALTHY) {
            self.reset();
        }
        // Stays so until a connection was good for a while, also if the next failure is an ordinary one.
        self.is_rejected |= error.is_rejection();
        if self.is_rejected { self.rejected.next_delay() } else { self.usual.next_delay() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_service_cannot_make_a_hot_loop() {
        let error = ConnectionError::Network("closed".to_owned());
        for asks in [0, 1, 999, u64::MAX] {
            let mut pace = Pace::new(Duration::from_secs(30), Duration::from_secs(300));
            let mut before = Duration::ZERO;
            for attempt in 0..12 {
                pace.connecting();
                pace.rebase(Duration::from_millis(asks));
                pace.is_healthy();
                let delay = pace.delay_after(&error);
                let least = Duration::from_millis(if asks == u64::MAX { 15_000 } else { 500 << attempt.min(4) });
                assert!(delay >= least.min(Duration::from_secs(15)) && delay <= Duration::from_secs(30), "{delay:?}");
                before = before.max(delay);
            }
            assert!(before >= Duration::from_secs(15), "it grows, although the service asks each time");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_service_may_ask_for_more_patience() {
        let mut pace = Pace::new(Duration::from_secs(30), Duration::from_secs(300));
        pace.rebase(Duration::from_secs(20));
        let delay = pace.delay_after(&ConnectionError::Network("closed".to_owned()));
        assert!((Duration::from_secs(10)..=Duration::from_secs(20)).contains(&delay), "{delay:?}");
    }
}
