use super::*;

/// Answers each attempt with the next outcome, then delivers everything.
#[derive(Default)]
struct Script {
    outcomes: Mutex<Vec<Sent>>,
    sent: Mutex<Vec<(u8, Vec<Bytes>)>>,
}

impl Delivery<u8> for Arc<Script> {
    type Prepared = Vec<Bytes>;

    fn prepare(&self, _: &u8, events: Vec<Bytes>) -> Vec<Bytes> {
        events
    }

    fn send<'a>(&'a self, key: &'a u8, batch: &'a Vec<Bytes>) -> HookFuture<'a, Sent> {
        Box::pin(async {
            lock(&self.sent).push((*key, batch.clone()));
            lock(&self.outcomes).pop().unwrap_or(Sent::Delivered)
        })
    }
}

type Scripted = Outbox<u8, Arc<Script>>;

fn start(capacity: usize, outcomes: &[Sent]) -> (Arc<Script>, Arc<Scripted>, Arc<Ledger>, Lifecycle) {
    let script = Arc::new(Script { outcomes: Mutex::new(outcomes.to_vec()), ..Script::default() });
    let ledger = Arc::new(Ledger::default());
    let lifecycle = Lifecycle::new();
    let settings = OutboxSettings { capacity, flush_interval: Duration::from_secs(5) };
    let outbox = Outbox::start(settings, Arc::clone(&script), Arc::clone(&ledger), &lifecycle);
    (script, outbox, ledger, lifecycle)
}

fn events(count: usize) -> Vec<Bytes> {
    (0..count).map(|n| Bytes::from(n.to_string())).collect()
}

#[tokio::test(start_paused = true)]
async fn the_timer_sends_one_batch_per_queue() {
    let (script, outbox, ledger, _lifecycle) = start(10, &[]);
    ledger.receive(5);
    outbox.push(&1, events(2));
    outbox.push(&2, events(1));
    outbox.push(&1, events(2));
    tokio::time::sleep(Duration::from_secs(6)).await;
    let mut sent: Vec<_> = lock(&script.sent).iter().map(|(key, batch)| (*key, batch.len())).collect();
    sent.sort_unstable();
    assert_eq!(sent, [(1, 4), (2, 1)]);
    assert_eq!((ledger.report().delivered, ledger.report().pending), (5, 0));
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_does_not_fit_contributes_its_first_events() {
    let (script, outbox, ledger, _lifecycle) = start(3, &[]);
    ledger.receive(5);
    outbox.push(&1, events(2));
    outbox.push(&1, events(3));
    outbox.flush().await;
    assert_eq!(lock(&script.sent)[0].1, ["0", "1", "0"]);
    assert_eq!(ledger.report().dropped, [("queue-full", 2)].into());
}

#[tokio::test(start_paused = true)]
async fn one_retry_after_a_second_and_no_more() {
    let (script, outbox, ledger, _lifecycle) = start(10, &[Sent::Later("b"), Sent::Later("a")]);
    ledger.receive(1);
    outbox.push(&1, events(1));
    outbox.flush().await;
    assert_eq!(lock(&script.sent).len(), 2);
    assert_eq!(ledger.report().dropped, [("b", 1)].into());
    ledger.receive(1);
    outbox.push(&1, events(1));
    outbox.flush().await;
    assert_eq!(ledger.report().delivered, 1);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_not_retried() {
    let (script, outbox, ledger, _lifecycle) = start(10, &[Sent::Refused("too-large")]);
    ledger.receive(1);
    outbox.push(&1, events(1));
    outbox.flush().await;
    assert_eq!(lock(&script.sent).len(), 1);
    assert_eq!(ledger.report().dropped, [("too-large", 1)].into());
}

#[tokio::test(start_paused = true)]
async fn a_batch_from_elsewhere_settles_what_it_stands_for() {
    for (outcome, delivered, dropped) in
        [(Sent::Delivered, 7, vec![]), (Sent::Refused("rejected"), 0, vec![("rejected", 7)])]
    {
        let (script, outbox, ledger, _lifecycle) = start(1, &[outcome]);
        ledger.receive(8);
        // The capacity of one is that of the queue, not of such a batch.
        outbox.dispatch(1, Batch { events: events(2), stands_for: 7 });
        outbox.flush().await;
        outbox.push(&1, events(1));
        outbox.flush().await;
        let sent: Vec<_> = lock(&script.sent).iter().map(|(_, batch)| batch.len()).collect();
        assert_eq!(sent, [2, 1], "{outcome:?}");
        let report = ledger.report();
        assert_eq!((report.delivered, report.pending), (delivered + 1, 0), "{outcome:?}");
        assert_eq!(report.dropped, dropped.into_iter().collect(), "{outcome:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_finds_no_place_is_lost_with_all_it_stands_for() {
    let (script, outbox, ledger, _lifecycle) = start(1, &[]);
    ledger.receive(5);
    let taken = outbox.places.acquire_many(MAX_DELIVERIES as u32).await.unwrap();
    outbox.dispatch(1, Batch { events: events(1), stands_for: 5 });
    drop(taken);
    outbox.flush().await;
    assert!(lock(&script.sent).is_empty());
    assert_eq!((ledger.report().pending, ledger.report().dropped), (0, [("upstream-too-slow", 5)].into()));
}

proptest::proptest! {
    /// Delivered, filtered, dropped and pending add up to received, whatever happens.
    #[test]
    fn nothing_is_lost_uncounted(pushes in proptest::collection::vec((0_u8..4, 0_usize..20), 1..40), outcomes in proptest::collection::vec(0_u8..3, 0..20)) {
        let outcomes: Vec<_> = outcomes.iter().map(|it| match it { 0 => Sent::Delivered, 1 => Sent::Later("x"), _ => Sent::Refused("y") }).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let report = runtime.block_on(async {
            let (_script, outbox, ledger, _lifecycle) = start(15, &outcomes);
            for (key, count) in pushes {
                ledger.receive(count);
                outbox.push(&key, events(count));
            }
            outbox.flush().await;
            ledger.report()
        });
        proptest::prop_assert_eq!(report.pending, 0);
        let lost: u64 = report.dropped.values().sum();
        proptest::prop_assert_eq!(report.received, report.delivered + lost);
    }
}
