//! Delays between retries of upstream requests.

use std::time::Duration;

use tokio::time::Instant;
use yardarm_core::Backoff;

/// Longest delay after an ordinary failure.
pub(super) const MAX_DELAY: Duration = Duration::from_secs(60);
/// First delay, of which up to a half is left off at random.
const FIRST_DELAY: Duration = Duration::from_secs(1);
/// Longest delay while a rejection counts as an interruption.
const MAX_INTERRUPTION_DELAY: Duration = Duration::from_secs(10);
/// Time in which a rejection that follows a success counts as an interruption.
const INTERRUPTION: Duration = Duration::from_secs(600);
/// Rejections of something that never succeeded that count as interruptions.
const EARLY_ATTEMPTS: u32 = 3;
/// Consecutive short connections, after which an open connection alone is no success any more.
const MAX_SHORT_CONNECTIONS: u32 = 5;
/// Duration from which on a connection is a success.
const GOOD_CONNECTION: Duration = Duration::from_secs(1);

/// The delays of one request that is retried until it succeeds.
///
/// Services respond with 401 and 403 for a while when something of their own fails, so a rejection is retried like any other
/// failure at first. Only a lasting rejection leads to long delays, and every success ends them.
pub(crate) struct RetryDelay {
    usual: Backoff,
    interrupted: Backoff,
    rejected: Backoff,
    has_succeeded: bool,
    rejected_since: Option<Instant>,
    rejections: u32,
    short_connections: u32,
}

/// The next retry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Retry {
    pub(crate) delay: Duration,
    /// Whether a rejection has lasted so long that it is retried with long backoff.
    pub(crate) is_lasting: bool,
}

impl RetryDelay {
    /// Lasting rejections are retried after `rejected`, and then after growing delays. `has_succeeded` is whether the request
    /// succeeded in an earlier process.
    pub(crate) fn new(rejected: Duration, has_succeeded: bool) -> Self {
        Self {
            usual: Backoff::literal(FIRST_DELAY, MAX_DELAY),
            interrupted: Backoff::literal(FIRST_DELAY, MAX_INTERRUPTION_DELAY),
            rejected: Backoff::literal(rejected, rejected.saturating_mul(12)),
            has_succeeded,
            rejected_since: None,
            rejections: 0,
            short_connections: 0,
        }
    }

    /// Notes a success: the next failure is the first one.
    pub(crate) fn succeed(&mut self) {
        for backoff in [&mut self.usual, &mut self.interrupted, &mut self.rejected] {
            backoff.reset();
        }
        (self.has_succeeded, self.rejected_since, self.rejections, self.short_connections) = (true, None, 0, 0);
    }

    /// Applies the first delay that the service requests, which is no shorter than the default.
    pub(crate) fn rebase(&mut self, base: Duration) {
        self.usual.rebase(base.max(FIRST_DELAY));
    }

    /// Notes that a part has succeeded, so that a rejection of the rest may be an interruption.
    pub(crate) fn accept(&mut self) {
        self.has_succeeded = true;
    }

    /// Notes the end of a connection after `life`. `has_arrived` is whether an event or heartbeat has arrived on it.
    pub(crate) fn disconnect(&mut self, life: Duration, has_arrived: bool) {
        let short = if has_arrived || life >= GOOD_CONNECTION { 0 } else { self.short_connections + 1 };
        // A service that ends every connection at once must not be reconnected to without a pause.
        if short <= MAX_SHORT_CONNECTIONS {
            self.succeed();
        }
        self.short_connections = short;
    }

    /// Returns the next retry after a failure.
    pub(crate) fn after_failure(&mut self, is_rejection: bool) -> Retry {
        if !is_rejection {
            return Retry { delay: self.usual.next_delay(), is_lasting: false };
        }
        self.rejections += 1;
        let since = *self.rejected_since.get_or_insert_with(Instant::now);
        let is_lasting =
            if self.has_succeeded { since.elapsed() >= INTERRUPTION } else { self.rejections > EARLY_ATTEMPTS };
        let backoff = if is_lasting { &mut self.rejected } else { &mut self.interrupted };
        Retry { delay: backoff.next_delay(), is_lasting }
    }
}

/// Returns an interval with up to 5 % of noise, so that gateways that were started together do not send together.
pub(crate) fn jittered(interval: Duration) -> Duration {
    use rand::Rng;
    interval.mul_f64(rand::rng().random_range(0.95..1.05))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(300);

    /// Returns how many rejections come before a lasting one, and the time that takes.
    async fn until_lasting(retries: &mut RetryDelay) -> (u32, Duration) {
        let start = Instant::now();
        for count in 0.. {
            let retry = retries.after_failure(true);
            if retry.is_lasting {
                assert!(retry.delay >= LONG / 2, "{retry:?}");
                return (count, start.elapsed());
            }
            assert!(retry.delay <= MAX_INTERRUPTION_DELAY, "{retry:?}");
            tokio::time::advance(retry.delay).await;
        }
        unreachable!("a rejection becomes a lasting one")
    }

    #[tokio::test(start_paused = true)]
    async fn a_rejection_after_success_is_an_interruption_at_first() {
        let mut retries = RetryDelay::new(LONG, false);
        assert_eq!(until_lasting(&mut retries).await.0, EARLY_ATTEMPTS, "never accepted: a few attempts");
        for _ in 0..3 {
            // Every time.
            retries.succeed();
            let (count, time) = until_lasting(&mut retries).await;
            assert!(time >= INTERRUPTION && count > 50, "{count} in {time:?}");
        }
        retries.succeed();
        let retry = retries.after_failure(false);
        assert!(!retry.is_lasting && retry.delay <= Duration::from_secs(1), "{retry:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn ordinary_disconnects_do_not_add_up_and_hot_loops_do() {
        let mut retries = RetryDelay::new(LONG, true);
        for _ in 0..20 {
            retries.disconnect(Duration::from_millis(10), true);
            assert!(retries.after_failure(false).delay <= Duration::from_secs(1), "a heartbeat or event is a success");
            retries.disconnect(GOOD_CONNECTION, false);
            assert!(retries.after_failure(false).delay <= Duration::from_secs(1), "and so is a while of silence");
        }
        for _ in 0..MAX_SHORT_CONNECTIONS + 6 {
            retries.disconnect(Duration::ZERO, false);
            retries.after_failure(false);
        }
        assert!(retries.after_failure(false).delay >= Duration::from_secs(20));
        retries.disconnect(Duration::ZERO, true);
        assert!(retries.after_failure(false).delay <= Duration::from_secs(1));
        for requested in [0, 1] {
            retries.rebase(Duration::from_millis(requested));
            retries.succeed();
            assert!(retries.after_failure(false).delay >= FIRST_DELAY / 2, "whatever the service requests");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_success_ends_a_lasting_rejection() {
        let mut retries = RetryDelay::new(LONG, true);
        until_lasting(&mut retries).await;
        assert!(retries.after_failure(true).delay >= LONG, "it grows");
        assert!(retries.after_failure(false).delay <= Duration::from_secs(1), "another failure is another matter");
        assert!(retries.after_failure(true).is_lasting);
        retries.succeed();
        assert!(!retries.after_failure(true).is_lasting);
    }
}
