//! Tests of deliveries: concurrency, threads, and the effect of each outcome.

use std::thread::{self, ThreadId};

use super::*;

#[tokio::test(start_paused = true)]
async fn deliveries_are_concurrent_and_bounded() {
    let setup = start(10, &[]);
    setup.script.delays(Duration::from_secs(1));
    for key in 0..100 {
        setup.push(key, 1);
    }
    let start = tokio::time::Instant::now();
    setup.outbox.flush().await;
    let waves = 100_u64.div_ceil(MAX_LANE_POSTS as u64);
    assert_eq!(start.elapsed().as_secs(), waves, "{MAX_LANE_POSTS} at a time");
    assert_eq!(setup.script.most_active.load(Ordering::Relaxed), MAX_LANE_POSTS);
    assert_eq!((setup.ledger.report().delivered, setup.dropped()), (100, vec![]));
}

#[tokio::test(start_paused = true)]
async fn environments_share_slots_and_other_credentials_keep_theirs() {
    let limits = SharedLimits::without_threads(64 << 20);
    let all: Vec<_> = (0..6).map(|_| limited(1, &[], &limits)).collect();
    for setup in &all {
        setup.script.delays(Duration::from_secs(1));
        for key in 0..100 {
            setup.push(PUBLIC + key, 1);
        }
        setup.push(1, 1);
    }
    settle().await;
    let active = all.iter().map(|it| it.script.active.load(Ordering::Relaxed)).sum::<usize>();
    assert_eq!(active, MAX_POSTS.public + all.len(), "and one of each server");
    for setup in &all {
        setup.outbox.flush().await;
        assert_eq!((setup.ledger.report().delivered, setup.dropped()), (101, vec![]));
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_delivery_is_retried_once_after_a_second() {
    let setup = start(10, &[Sent::Later("b"), Sent::Later("a")]);
    setup.push(1, 1);
    let start = tokio::time::Instant::now();
    setup.outbox.flush().await;
    assert_eq!(start.elapsed(), RETRY_DELAY);
    assert_eq!(setup.script.lengths().len(), 2);
    assert_eq!(setup.dropped(), [("b", 1)]);
    setup.push(1, 1);
    setup.outbox.flush().await;
    assert_eq!(setup.ledger.report().delivered, 1);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_not_retried() {
    let setup = start(10, &[Sent::Refused("too-large")]);
    setup.push(1, 1);
    setup.outbox.flush().await;
    assert_eq!(setup.script.lengths().len(), 1);
    assert_eq!(setup.dropped(), [("too-large", 1)]);
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_a_delivery_affects_only_its_batch() {
    let setup = start(1, &[]);
    setup.script.panics.store(MAX_LANE_POSTS, Ordering::Relaxed);
    setup.push(1, 2 * MAX_LANE_POSTS);
    setup.outbox.flush().await;
    let report = setup.ledger.report();
    assert_eq!((report.delivered, report.pending), (MAX_LANE_POSTS as u64, 0));
    assert_eq!(setup.dropped(), [("internal-error", MAX_LANE_POSTS as u64)]);
}

#[tokio::test]
async fn large_and_untrusted_batches_are_prepared_and_sent_on_separate_threads() {
    /// The threads on which batches were prepared and sent.
    struct Places(Mutex<Vec<[ThreadId; 2]>>);
    impl Delivery<u32> for Places {
        type Prepared = ThreadId;
        fn prepare(&self, _: &u32, _: Vec<Bytes>) -> ThreadId {
            thread::current().id()
        }
        fn send<'a>(&'a self, _: &'a u32, prepared: &'a ThreadId) -> HookFuture<'a, Sent> {
            Box::pin(async {
                self.0.lock().push([*prepared, thread::current().id()]);
                Sent::Delivered
            })
        }
    }
    let (ledger, lifecycle) = (Arc::new(Ledger::default()), Lifecycle::new());
    let settings = OutboxSettings { capacity: 10_000, flush_interval: FLUSH_INTERVAL };
    let limits = SharedLimits::new(1 << 20, &Workers::by_trust("test").unwrap()).unwrap();
    let outbox = Outbox::start(settings, &limits, Places(Mutex::default()), ledger, &lifecycle);
    let here = thread::current().id();
    let (long, many) = (LARGE_BATCH - EVENT_COST, LARGE_BATCH / (EVENT_COST + 1));
    for (key, count, length, are_here) in [
        (1, 1, long - 1, [true, true]),
        (1, 1, long, [false, true]),
        (1, many, 1, [true, true]),
        (1, many + 1, 1, [false, true]),
        (EMBEDDED, 1, 1, [false, false]),
        (PUBLIC, 1, 1, [false, false]),
    ] {
        outbox.ledger.record_received(count);
        outbox.push(&key, vec![Bytes::from(vec![b' '; length]); count], None);
        outbox.flush().await;
        let places = outbox.delivery.0.lock().pop().map(|it| it.map(|it| it == here));
        assert_eq!(places, Some(are_here), "{count} of {length} bytes");
    }
}
