//! How soon something that failed is tried again.

use std::time::Duration;

use tokio::time::Instant;
use yardarm_core::Backoff;

/// Longest delay before an ordinary failure is tried again.
pub(super) const MAX_DELAY: Duration = Duration::from_secs(60);
/// The first delay, of which up to a half is left off at random.
const FIRST_DELAY: Duration = Duration::from_secs(1);
/// Longest delay while a rejection is taken for an interruption.
const MAX_INTERRUPTION_DELAY: Duration = Duration::from_secs(10);
/// For how long a rejection that follows success is taken for an interruption.
const INTERRUPTION: Duration = Duration::from_secs(600);
/// How often something that never succeeded is tried soon after it was rejected.
const EARLY_ATTEMPTS: u32 = 3;
/// Connections that break at once and in a row, after which a connection that was made is no success any more.
const MAX_SHORT_CONNECTIONS: u32 = 5;
/// A connection that lasted so long was good.
const GOOD_CONNECTION: Duration = Duration::from_secs(1);

/// Delays of one thing that is tried again and again.
///
/// Services answer 401 and 403 for a while when something of their own fails, so a rejection is tried again like any other
/// failure at first. Only one that lasts leads to long delays, and every success ends them.
pub(crate) struct RetryDelay {
    usual: Backoff,
    interrupted: Backoff,
    rejected: Backoff,
    has_succeeded: bool,
    rejected_since: Option<Instant>,
    rejections: u32,
    short_connections: u32,
}

/// When to try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Retry {
    pub(crate) delay: Duration,
    /// Whether a rejection has lasted so long that it is tried again seldom.
    pub(crate) is_seldom: bool,
}

impl RetryDelay {
    /// Rejections that last are tried again after `rejected`, and then less and less often. `has_succeeded` says whether it
    /// worked in an earlier process.
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

    /// It worked: the next failure is the first one.
    pub(crate) fn succeed(&mut self) {
        for backoff in [&mut self.usual, &mut self.interrupted, &mut self.rejected] {
            backoff.reset();
        }
        (self.has_succeeded, self.rejected_since, self.rejections, self.short_connections) = (true, None, 0, 0);
    }

    /// Applies the first delay that the service wants. It gets no shorter one than the usual.
    pub(crate) fn rebase(&mut self, base: Duration) {
        self.usual.rebase(base.max(FIRST_DELAY));
    }

    /// Part of it worked, so a rejection of the rest may be an interruption.
    pub(crate) fn accept(&mut self) {
        self.has_succeeded = true;
    }

    /// A connection that was made is over after `life`, in which it `said_something` or not.
    pub(crate) fn disconnect(&mut self, life: Duration, said_something: bool) {
        let short = if said_something || life >= GOOD_CONNECTION { 0 } else { self.short_connections + 1 };
        // A service that ends every connection at once must not be connected to without a pause.
        if short <= MAX_SHORT_CONNECTIONS {
            self.succeed();
        }
        self.short_connections = short;
    }

    /// When to try again after a failure.
    pub(crate) fn after_failure(&mut self, is_rejection: bool) -> Retry {
        if !is_rejection {
            return Retry { delay: self.usual.next_delay(), is_seldom: false };
        }
        self.rejections += 1;
        let since = *self.rejected_since.get_or_insert_with(Instant::now);
        let is_seldom =
            if self.has_succeeded { since.elapsed() >= INTERRUPTION } else { self.rejections > EARLY_ATTEMPTS };
        let backoff = if is_seldom { &mut self.rejected } else { &mut self.interrupted };
        Retry { delay: backoff.next_delay(), is_seldom }
    }
}

/// Time between posts, with a little noise: gateways that were started together must not post together.
pub(crate) fn jittered(interval: Duration) -> Duration {
    use rand::Rng;
    interval.mul_f64(rand::rng().random_range(0.95..1.05))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(300);

    /// Delays until rejections become long ones, and how long that takes.
    async fn soon(retries: &mut RetryDelay) -> (u32, Duration) {
        let start = Instant::now();
        for count in 0.. {
            let retry = retries.after_failure(true);
            if retry.is_seldom {
                assert!(retry.delay >= LONG / 2, "{retry:?}");
                return (count, start.elapsed());
            }
            assert!(retry.delay <= MAX_INTERRUPTION_DELAY, "{retry:?}");
            tokio::time::advance(retry.delay).await;
        }
        unreachable!("a rejection lasts at some time")
    }

    #[tokio::test(start_paused = true)]
    async fn a_rejection_after_success_is_an_interruption_at_first() {
        let mut retries = RetryDelay::new(LONG, false);
        assert_eq!(soon(&mut retries).await.0, EARLY_ATTEMPTS, "never accepted: a few attempts");
        for _ in 0..3 {
            // However often it happens.
            retries.succeed();
            let (count, time) = soon(&mut retries).await;
            assert!(time >= INTERRUPTION && count > 50, "{count} in {time:?}");
        }
        retries.succeed();
        let retry = retries.after_failure(false);
        assert!(!retry.is_seldom && retry.delay <= Duration::from_secs(1), "{retry:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn ordinary_drops_do_not_add_up_and_hot_loops_do() {
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
        for asks in [0, 1] {
            retries.rebase(Duration::from_millis(asks));
            retries.succeed();
            assert!(retries.after_failure(false).delay >= FIRST_DELAY / 2, "whatever the service asks for");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_rejection_that_lasts_is_ended_by_success_only() {
        let mut retries = RetryDelay::new(LONG, true);
        soon(&mut retries).await;
        assert!(retries.after_failure(true).delay >= LONG, "it grows");
        assert!(retries.after_failure(false).delay <= Duration::from_secs(1), "another failure is another matter");
        assert!(retries.after_failure(true).is_seldom);
        retries.succeed();
        assert!(!retries.after_failure(true).is_seldom);
    }
}
