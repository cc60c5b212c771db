//! How soon to try again.

use std::time::Duration;

use tokio::time::Instant;
use yardarm_core::Backoff;

use crate::ConnectionError;

/// A connection that was good for this long starts its backoff anew.
const HEALTHY: Duration = Duration::from_secs(60);
/// The first delay, and the shortest that a service may ask for unless it is set otherwise.
const FIRST: Duration = Duration::from_secs(1);

/// For how long a rejection of a key that worked before is taken for an interruption.
const INTERRUPTION: Duration = Duration::from_secs(600);

/// What is known of how a service takes a key. Services also reject keys for a while when something of their own fails.
#[derive(Debug, Default)]
pub struct KeyHistory {
    has_worked: bool,
    /// When the key was rejected first since it worked last.
    rejected_since: Option<Instant>,
}

impl KeyHistory {
    /// Notes that the service accepts the key.
    pub fn note_accepted(&mut self) {
        *self = Self { has_worked: true, rejected_since: None };
    }

    /// Notes a rejection. Returns true if it may be an interruption: the key worked before, and has been rejected for less
    /// than ten minutes.
    pub fn note_rejected(&mut self) -> bool {
        let since = *self.rejected_since.get_or_insert_with(Instant::now);
        self.has_worked && since.elapsed() < INTERRUPTION
    }
}

/// How soon to try again: at once slowly growing, and seldom for keys that the vendor rejects, because that may heal
/// but asking often would be rude. A key that worked is tried like after any other failure at first.
pub struct ReconnectPolicy {
    usual: Backoff,
    rejected: Backoff,
    key: KeyHistory,
    healthy_since: Option<Instant>,
    /// What a service may ask for at least.
    shortest: Duration,
}

impl ReconnectPolicy {
    /// From one second to `ceiling`, and a curve that begins with `rejected` for keys that were rejected.
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

    /// The same with another limit on how short a first delay a service may ask for.
    #[must_use]
    pub fn with_shortest(mut self, shortest: Duration) -> Self {
        self.shortest = shortest;
        self
    }

    /// A connection is being opened.
    pub fn mark_connecting(&mut self) {
        self.healthy_since = None;
    }

    /// Notes that a message arrived, so the key is accepted.
    pub fn mark_healthy(&mut self) {
        self.healthy_since.get_or_insert_with(Instant::now);
        self.rejected.reset();
        self.key.note_accepted();
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
        self.key = KeyHistory::default();
    }

    /// How long to wait after `error`.
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
    async fn a_service_may_ask_for_more_patience() {
        let mut reconnect = ReconnectPolicy::new(Duration::from_secs(30), Duration::from_secs(300));
        reconnect.rebase(Duration::from_secs(20));
        let delay = reconnect.delay_after(&ConnectionError::Network("closed".to_owned()));
        assert!((Duration::from_secs(10)..=Duration::from_secs(20)).contains(&delay), "{delay:?}");
    }
}
