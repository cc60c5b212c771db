//! Delays between retries of upstream requests.

use std::time::Duration;

use yardarm_vendor::upstream::ReconnectPolicy;

/// Longest delay after an ordinary failure.
pub(super) const MAX_DELAY: Duration = Duration::from_secs(60);
/// Longest delay while a rejection counts as an interruption.
const MAX_INTERRUPTION_DELAY: Duration = Duration::from_secs(10);
/// Rejections of something that never succeeded that count as interruptions.
const EARLY_ATTEMPTS: u32 = 3;

/// Returns the policy of a connection, or of one request that is retried until it succeeds.
///
/// Services respond with 401 and 403 for a while when something of their own fails, so a rejection is retried like any other
/// failure at first, even where nothing has succeeded yet. Only a lasting rejection leads to long delays, from `rejected` on,
/// and every success ends them.
pub(crate) fn reconnect_policy(rejected: Duration) -> ReconnectPolicy {
    ReconnectPolicy::new(MAX_DELAY, rejected)
        .with_success(Duration::ZERO)
        .with_interruptions(MAX_INTERRUPTION_DELAY)
        .with_early_attempts(EARLY_ATTEMPTS)
}

/// Returns an interval with up to 5 % of noise, so that gateways that were started together do not send together.
pub(crate) fn jittered(interval: Duration) -> Duration {
    use rand::Rng;
    interval.mul_f64(rand::rng().random_range(0.95..1.05))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_rejected_key_is_retried_a_few_times_at_once() {
        let mut retries = reconnect_policy(Duration::from_secs(300));
        let early: Vec<_> = (0..EARLY_ATTEMPTS).map(|_| retries.retry_after_failure(true)).collect();
        assert!(early.iter().all(|it| !it.is_lasting && it.delay <= MAX_INTERRUPTION_DELAY), "{early:?}");
        let lasting = retries.retry_after_failure(true);
        assert!(lasting.is_lasting && lasting.delay >= Duration::from_secs(150), "{lasting:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_makes_a_connection_a_success() {
        let mut retries = reconnect_policy(Duration::from_secs(300));
        for _ in 0..20 {
            retries.mark_connecting();
            retries.mark_open();
            retries.mark_healthy();
            assert!(retries.retry_after_failure(false).delay <= Duration::from_secs(1));
        }
    }
}
