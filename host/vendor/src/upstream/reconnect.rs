//! Delays between connection attempts, and between retries of requests.

use std::time::Duration;

use tokio::time::Instant;
use yardarm_core::Backoff;

use super::connection::ConnectionError;
use super::key_history::KeyHistory;

/// The default of the time for which a connection must have been healthy to be a success.
const HEALTHY: Duration = Duration::from_secs(60);
/// The first delay, and the default for the shortest delay that a service may request.
const FIRST: Duration = Duration::from_secs(1);
/// Consecutive short connections after which an open connection alone is no success any more.
const MAX_SHORT_CONNECTIONS: u32 = 5;
/// Duration up to which a connection without a message is short.
const SHORT_CONNECTION: Duration = Duration::from_secs(1);

/// Computes the delay before the next attempt: short and growing after failures, long after rejections, which may heal
/// but should not be retried often. A key that worked before is at first retried like after any other failure, because
/// services also reject valid keys while something of their own fails.
pub struct ReconnectPolicy {
    usual: Backoff,
    /// Delays while a rejection may be an interruption; `None` for the usual ones.
    interrupted: Option<Backoff>,
    rejected: Backoff,
    key: KeyHistory,
    /// The shortest first delay that a service may request.
    shortest: Duration,
    /// How long a connection must have been healthy to be a success.
    success: Duration,
    open_since: Option<Instant>,
    healthy_since: Option<Instant>,
    /// Short connections since the last success.
    short_connections: u32,
}

/// The next attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// The delay before it.
    pub delay: Duration,
    /// Whether a rejection has lasted so long that it is retried with long backoff.
    pub is_lasting: bool,
}

impl ReconnectPolicy {
    /// Creates a policy with delays from one second to `ceiling`, and a separate curve from `rejected` on for rejected
    /// keys.
    #[must_use]
    pub fn new(ceiling: Duration, rejected: Duration) -> Self {
        Self {
            usual: Backoff::literal(FIRST, ceiling),
            interrupted: None,
            rejected: Backoff::literal(rejected, rejected.saturating_mul(12)),
            key: KeyHistory::default(),
            shortest: FIRST,
            success: HEALTHY,
            open_since: None,
            healthy_since: None,
            short_connections: 0,
        }
    }

    /// Sets the first delay, which is also the shortest that a service may request then.
    #[must_use]
    pub fn with_first(mut self, first: Duration) -> Self {
        self.usual.rebase(first);
        Self { shortest: first, ..self }
    }

    /// Sets the shortest first delay that a service may request.
    #[must_use]
    pub fn with_shortest(self, shortest: Duration) -> Self {
        Self { shortest, ..self }
    }

    /// Sets how long a connection must have been healthy to be a success, which resets the delays.
    #[must_use]
    pub fn with_success(self, success: Duration) -> Self {
        Self { success, ..self }
    }

    /// Sets a separate curve, from one second to `ceiling`, for rejections that may be an interruption.
    #[must_use]
    pub fn with_interruptions(self, ceiling: Duration) -> Self {
        Self { interrupted: Some(Backoff::literal(FIRST, ceiling)), ..self }
    }

    /// Sets how many rejections of a key that never worked may be an interruption.
    #[must_use]
    pub fn with_early_attempts(self, early_attempts: u32) -> Self {
        Self { key: self.key.with_early_attempts(early_attempts), ..self }
    }

    /// Records that a connection is being opened.
    pub fn mark_connecting(&mut self) {
        self.open_since = None;
        self.healthy_since = None;
    }

    /// Records that the connection is open, where that alone is a success: ordinary disconnects do not add up then. A
    /// service that ends every connection at once is still reconnected to with growing delays.
    pub fn mark_open(&mut self) {
        self.open_since = Some(Instant::now());
    }

    /// Records that a message arrived, so the key is accepted.
    pub fn mark_healthy(&mut self) {
        self.healthy_since.get_or_insert_with(Instant::now);
        self.rejected.reset();
        self.key.note_accepted();
    }

    /// Records that the key is accepted, although another request with it may fail.
    pub fn mark_accepted(&mut self) {
        self.key.note_accepted_in_part();
    }

    /// Records a success: the next failure is the first one.
    pub fn mark_succeeded(&mut self) {
        self.reset_delays();
        self.key.note_accepted();
    }

    /// Sets the first delay that the service requested, clamped to the configured minimum and the ceiling. The growth
    /// of the delay is kept, so that a connection which breaks repeatedly is opened less and less often.
    pub fn rebase(&mut self, base: Duration) {
        self.usual.rebase(base.max(self.shortest));
    }

    /// Resets all delays, for a new key.
    pub fn reset(&mut self) {
        self.mark_connecting();
        self.reset_delays();
        self.key.forget();
    }

    /// Returns the delay after `error`.
    pub fn delay_after(&mut self, error: &ConnectionError) -> Duration {
        self.retry_after_failure(error.is_rejection()).delay
    }

    /// Returns the next attempt after a failure, or after the end of a connection.
    pub fn retry_after_failure(&mut self, is_rejection: bool) -> Retry {
        self.end_connection();
        let is_lasting = is_rejection && !self.key.note_rejected();
        let backoff = match &mut self.interrupted {
            _ if is_lasting => &mut self.rejected,
            Some(interrupted) if is_rejection => interrupted,
            _ => &mut self.usual,
        };
        Retry { delay: backoff.next_delay(), is_lasting }
    }

    /// Resets the delays if a connection has ended that was a success.
    fn end_connection(&mut self) {
        let (open_since, healthy_since) = (self.open_since.take(), self.healthy_since.take());
        let was_healthy = healthy_since.is_some_and(|it| it.elapsed() >= self.success);
        let was_long = open_since.is_some_and(|it| it.elapsed() >= SHORT_CONNECTION);
        if was_healthy || was_long {
            self.mark_succeeded();
        } else if open_since.is_some() {
            let short_connections = self.short_connections + 1;
            if short_connections <= MAX_SHORT_CONNECTIONS {
                self.mark_succeeded();
            }
            self.short_connections = short_connections;
        }
    }

    fn reset_delays(&mut self) {
        let interrupted = self.interrupted.as_mut();
        [&mut self.usual, &mut self.rejected].into_iter().chain(interrupted).for_each(Backoff::reset);
        self.short_connections = 0;
    }
}

#[cfg(test)]
mod tests;
