//! Delays between connection attempts.

use std::time::Duration;

use tokio::time::Instant;
use yardarm_core::Backoff;

use super::connection::ConnectionError;

/// The backoff is reset after a connection that was healthy for this long.
const HEALTHY: Duration = Duration::from_secs(60);
/// The first delay, and the default for the shortest delay that a service may request.
const FIRST: Duration = Duration::from_secs(1);

/// How long rejections of a key that worked before count as an interruption.
const INTERRUPTION: Duration = Duration::from_secs(600);

/// Whether a service accepted a key so far. Services also reject valid keys while they have an outage.
#[derive(Debug, Default)]
pub struct KeyHistory {
    has_worked: bool,
    /// When the key was first rejected after it last worked.
    rejected_since: Option<Instant>,
}

impl KeyHistory {
    /// Records that the service accepts the key.
    pub fn note_accepted(&mut self) {
        *self = Self { has_worked: true, rejected_since: None };
    }

    /// Records a rejection. Returns whether it may be an interruption: the key worked before, and has been rejected for
    /// less than ten minutes.
    pub fn note_rejected(&mut self) -> bool {
        let since = *self.rejected_since.get_or_insert_with(Instant::now);
        self.has_worked && since.elapsed() < INTERRUPTION
    }
}

/// Computes the delay before the next attempt: short and growing after failures, long after rejections, which may heal
/// but should not be retried often. A key that worked before is at first retried like after any other failure.
pub struct ReconnectPolicy {
    usual: Backoff,
    rejected: Backoff,
    key: KeyHistory,
    healthy_since: Option<Instant>,
    /// The shortest first delay that a service may request.
    shortest: Duration,
}

impl ReconnectPolicy {
    /// Creates a policy with delays from one second to `ceiling`, and a separate curve from `rejected` on for rejected
    /// keys.
    #[must_use]
    pub fn new(ceiling: Duration, rejected: Duration) -> Self {
        Self {
            usual: Backoff::literal(FIRST, ceiling),
            rejected: Backoff::literal(rejected, rejected.saturating_mul(12)),
            key: KeyHistory::default(),
            healthy_since: None,
            shortest: FIRST,
        }
    }

    /// Sets the shortest first delay that a service may request.
    #[must_use]
    pub fn with_shortest(mut self, shortest: Duration) -> Self {
        self.shortest = shortest;
        self
    }

    /// Records that a connection is being opened.
    pub fn mark_connecting(&mut self) {
        self.healthy_since = None;
    }

    /// Records that a message arrived, so the key is accepted.
    pub fn mark_healthy(&mut self) {
        self.healthy_since.get_or_insert_with(Instant::now);
        self.rejected.reset();
        self.key.note_accepted();
    }

    /// Sets the first delay that the service requested, clamped to the configured minimum and the ceiling. The growth
    /// of the delay is kept, so that a connection which breaks repeatedly is opened less and less often.
    pub fn rebase(&mut self, base: Duration) {
        self.usual.rebase(base.max(self.shortest));
    }

    /// Resets all delays, for a new key.
    pub fn reset(&mut self) {
        self.usual.reset();
        self.rejected.reset();
        self.key = KeyHistory::default();
    }

    /// Returns the delay after `error`.
    pub fn delay_after(&mut self, error: &ConnectionError) -> Duration {
        if self.healthy_since.is_some_and(|since| since.elapsed() >= HEALTHY) {
            self.usual.reset();
            self.healthy_since = None;
        }
        if !error.is_rejection() {
            return self.usual.next_delay();
        }
        if self.key.note_rejected() { self.usual.next_delay() } else { self.rejected.next_delay() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_service_cannot_make_a_hot_loop() {
        let error = ConnectionError::Network("closed".to_owned());
        for asks in [0, 1, 999, u64::MAX] {
            let mut reconnect = ReconnectPolicy::new(Duration::from_secs(30), Duration::from_secs(300));
            let mut before = Duration::ZERO;
            for attempt in 0..12 {
                reconnect.mark_connecting();
                reconnect.rebase(Duration::from_millis(asks));
                reconnect.mark_healthy();
                let delay = reconnect.delay_after(&error);
                let least = Duration::from_millis(if asks == u64::MAX { 15_000 } else { 500 << attempt.min(4) });
                assert!(delay >= least.min(Duration::from_secs(15)) && delay <= Duration::from_secs(30), "{delay:?}");
                before = before.max(delay);
            }
            assert!(before >= Duration::from_secs(15), "it grows, although the service asks each time");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_rejection_after_success_is_an_interruption_at_first() {
        let rejected = ConnectionError::Status(http::StatusCode::UNAUTHORIZED);
        let closed = ConnectionError::Network("closed".to_owned());
        let (short, long) = (Duration::from_secs(30), Duration::from_secs(150));
        let mut reconnect = ReconnectPolicy::new(short, Duration::from_secs(300));
        assert!(reconnect.delay_after(&rejected) >= long, "never accepted");
        assert!(reconnect.delay_after(&closed) <= Duration::from_secs(1), "another failure is another matter");
        for _ in 0..3 {
            reconnect.mark_connecting();
            reconnect.mark_healthy();
            let began = Instant::now();
            loop {
                let delay = reconnect.delay_after(&rejected);
                tokio::time::advance(delay).await;
                if delay > short {
                    break;
                }
            }
            assert!(began.elapsed() >= INTERRUPTION, "however often it happens");
            assert!(reconnect.delay_after(&rejected) >= long * 2, "it grows");
        }
        reconnect.mark_healthy();
        assert!(reconnect.delay_after(&closed) <= short, "success ends it at once");
        reconnect.reset();
        assert!(reconnect.delay_after(&rejected) >= long, "a new key has not worked yet");
    }

    #[tokio::test(start_paused = true)]
    async fn a_service_may_request_a_longer_delay() {
        let mut reconnect = ReconnectPolicy::new(Duration::from_secs(30), Duration::from_secs(300));
        reconnect.rebase(Duration::from_secs(20));
        let delay = reconnect.delay_after(&ConnectionError::Network("closed".to_owned()));
        assert!((Duration::from_secs(10)..=Duration::from_secs(20)).contains(&delay), "{delay:?}");
    }
}
