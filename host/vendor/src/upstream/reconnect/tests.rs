use super::*;
use crate::upstream::NetworkError;
use crate::upstream::key_history::INTERRUPTION;

const LONG: Duration = Duration::from_secs(300);
/// Longest delay of a separate curve for interruptions.
const INTERRUPTED: Duration = Duration::from_secs(10);

#[tokio::test(start_paused = true)]
async fn a_service_cannot_make_a_hot_loop() {
    let error = ConnectionError::Network(NetworkError::Ended);
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
    let closed = ConnectionError::Network(NetworkError::Ended);
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
    let delay = reconnect.delay_after(&ConnectionError::Network(NetworkError::Ended));
    assert!((Duration::from_secs(10)..=Duration::from_secs(20)).contains(&delay), "{delay:?}");
}

/// Returns a policy for a service where an open connection is a success, and where new keys are rejected for a while.
fn lenient() -> ReconnectPolicy {
    let policy = ReconnectPolicy::new(Duration::from_secs(60), LONG).with_success(Duration::ZERO);
    policy.with_early_attempts(3).with_interruptions(INTERRUPTED)
}

/// Returns how many rejections come before a lasting one, and the time that takes.
async fn until_lasting(policy: &mut ReconnectPolicy) -> (u32, Duration) {
    let start = Instant::now();
    for count in 0.. {
        let retry = policy.retry_after_failure(true);
        if retry.is_lasting {
            assert!(retry.delay >= LONG / 2, "{retry:?}");
            return (count, start.elapsed());
        }
        assert!(retry.delay <= INTERRUPTED, "{retry:?}");
        tokio::time::advance(retry.delay).await;
    }
    unreachable!("a rejection becomes a lasting one")
}

#[tokio::test(start_paused = true)]
async fn a_new_key_has_a_few_early_attempts() {
    let mut policy = lenient();
    assert_eq!(until_lasting(&mut policy).await.0, 3);
    for _ in 0..3 {
        // Every time.
        policy.mark_succeeded();
        let (count, time) = until_lasting(&mut policy).await;
        assert!(time >= INTERRUPTION && count > 50, "{count} in {time:?}");
    }
    policy.mark_succeeded();
    let retry = policy.retry_after_failure(false);
    assert!(!retry.is_lasting && retry.delay <= FIRST, "{retry:?}");
    policy.reset();
    assert_eq!(until_lasting(&mut policy).await.0, 3, "another new key");
}

#[tokio::test(start_paused = true)]
async fn a_lasting_rejection_of_a_part_is_no_interruption() {
    let mut policy = lenient();
    policy.mark_accepted();
    let start = Instant::now();
    while let Retry { delay, is_lasting: false } = policy.retry_after_failure(true) {
        tokio::time::advance(delay).await;
        policy.mark_accepted();
    }
    let time = start.elapsed();
    assert!(time >= INTERRUPTION && time <= INTERRUPTION + INTERRUPTED, "{time:?}");
}

/// Opens a connection that ends after `life`; returns the delay after it.
async fn connect(policy: &mut ReconnectPolicy, life: Duration, has_arrived: bool) -> Duration {
    policy.mark_connecting();
    policy.mark_open();
    if has_arrived {
        policy.mark_healthy();
    }
    tokio::time::advance(life).await;
    policy.retry_after_failure(false).delay
}

#[tokio::test(start_paused = true)]
async fn ordinary_disconnects_do_not_add_up_and_hot_loops_do() {
    let mut policy = lenient();
    for _ in 0..20 {
        let delay = connect(&mut policy, Duration::from_millis(10), true).await;
        assert!(delay <= FIRST, "a heartbeat or event is a success");
        let delay = connect(&mut policy, SHORT_CONNECTION, false).await;
        assert!(delay <= FIRST, "and so is a while of silence");
    }
    for _ in 0..MAX_SHORT_CONNECTIONS + 6 {
        connect(&mut policy, Duration::ZERO, false).await;
    }
    assert!(policy.retry_after_failure(false).delay >= Duration::from_secs(20));
    assert!(connect(&mut policy, Duration::ZERO, true).await <= FIRST);
    for requested in [0, 1] {
        policy.rebase(Duration::from_millis(requested));
        policy.mark_succeeded();
        assert!(policy.retry_after_failure(false).delay >= FIRST / 2, "whatever the service requests");
    }
}

#[tokio::test(start_paused = true)]
async fn only_a_success_ends_a_lasting_rejection() {
    let mut policy = lenient();
    policy.mark_accepted();
    until_lasting(&mut policy).await;
    assert!(policy.retry_after_failure(true).delay >= LONG, "it grows");
    assert!(policy.retry_after_failure(false).delay <= FIRST, "another failure is another matter");
    assert!(policy.retry_after_failure(true).is_lasting);
    policy.mark_succeeded();
    assert!(!policy.retry_after_failure(true).is_lasting);
}
