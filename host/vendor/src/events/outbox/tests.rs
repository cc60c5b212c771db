mod deliveries;

use std::sync::atomic::{AtomicUsize, Ordering};

use super::lane::{MANY_QUEUES, MAX_POST_BYTES, MAX_POSTS as MAX_LANE_POSTS, MAX_QUEUES, Queued, STALL_TIME};
use super::*;

/// Lowest key of a mobile app, and of a browser. All lower keys belong to servers.
const EMBEDDED: u32 = 1_000_000;
const PUBLIC: u32 = 2_000_000;

impl QueueKey for u32 {
    fn trust(&self) -> Trust {
        match *self {
            ..EMBEDDED => Trust::Secret,
            EMBEDDED..PUBLIC => Trust::Embedded,
            PUBLIC.. => Trust::Public,
        }
    }

    fn heap_bytes(&self) -> usize {
        0
    }
}

/// Returns the scripted outcomes in order, then delivers everything.
#[derive(Default)]
struct Script {
    outcomes: Mutex<Vec<Sent>>,
    sent: Mutex<Vec<(u32, Vec<Bytes>)>>,
    /// How long each attempt takes.
    delay: Mutex<Duration>,
    panics: AtomicUsize,
    active: AtomicUsize,
    most_active: AtomicUsize,
}

impl Delivery<u32> for Arc<Script> {
    type Prepared = Vec<Bytes>;

    fn prepare(&self, _: &u32, events: Vec<Bytes>) -> Vec<Bytes> {
        events
    }

    fn send<'a>(&'a self, key: &'a u32, batch: &'a Vec<Bytes>) -> HookFuture<'a, Sent> {
        Box::pin(async {
            self.sent.lock().push((*key, batch.clone()));
            let active = self.active.fetch_add(1, Ordering::Relaxed) + 1;
            self.most_active.fetch_max(active, Ordering::Relaxed);
            let delay = *self.delay.lock();
            if !delay.is_zero() {
                tokio::time::sleep(delay).await;
            }
            self.active.fetch_sub(1, Ordering::Relaxed);
            let is_panic =
                self.panics.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |it| it.checked_sub(1)).is_ok();
            assert!(!is_panic, "on purpose");
            self.outcomes.lock().pop().unwrap_or(Sent::Delivered)
        })
    }
}

impl Script {
    fn delays(&self, delay: Duration) {
        *self.delay.lock() = delay;
    }

    /// Returns the lengths of all batches, in order of their start.
    fn lengths(&self) -> Vec<usize> {
        self.sent.lock().iter().map(|(_, batch)| batch.len()).collect()
    }
}

type Scripted = Outbox<u32, Arc<Script>>;

struct Setup {
    script: Arc<Script>,
    outbox: Arc<Scripted>,
    ledger: Arc<Ledger>,
    _lifecycle: Lifecycle,
}

const FLUSH_INTERVAL: Duration = Duration::from_secs(5);

fn limited(capacity: usize, outcomes: &[Sent], limits: &SharedLimits) -> Setup {
    let script = Arc::new(Script { outcomes: Mutex::new(outcomes.to_vec()), ..Script::default() });
    let (ledger, lifecycle) = (Arc::new(Ledger::default()), Lifecycle::new());
    let settings = OutboxSettings { capacity, flush_interval: FLUSH_INTERVAL };
    let outbox = Outbox::start(settings, limits, Arc::clone(&script), Arc::clone(&ledger), &lifecycle);
    Setup { script, outbox, ledger, _lifecycle: lifecycle }
}

fn start(capacity: usize, outcomes: &[Sent]) -> Setup {
    limited(capacity, outcomes, &SharedLimits::without_threads(64 << 20))
}

impl Setup {
    fn push(&self, key: u32, count: usize) {
        self.ledger.record_received(count);
        self.outbox.push(&key, events(count), None);
    }

    fn dropped(&self) -> Vec<(&'static str, u64)> {
        self.ledger.report().dropped.into_iter().collect()
    }
}

fn events(count: usize) -> Vec<Bytes> {
    (0..count).map(|n| Bytes::from(n.to_string())).collect()
}

/// Lets every task proceed as far as possible without advancing the clock.
async fn settle() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

#[tokio::test(start_paused = true)]
async fn each_queue_is_posted_as_one_batch_when_the_timer_fires() {
    let setup = start(10, &[]);
    setup.push(1, 2);
    setup.push(2, 1);
    setup.push(1, 2);
    settle().await;
    assert!(setup.script.lengths().is_empty(), "not before its time");
    tokio::time::sleep(FLUSH_INTERVAL).await;
    let mut sent: Vec<_> = setup.script.sent.lock().iter().map(|(key, batch)| (*key, batch.len())).collect();
    sent.sort_unstable();
    assert_eq!(sent, [(1, 4), (2, 1)]);
    assert_eq!((setup.ledger.report().delivered, setup.ledger.report().pending), (5, 0));
    assert_eq!(setup.outbox.lane(Trust::Secret).queues(), 0, "what is empty is forgotten");
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_is_posted_immediately_and_nothing_is_lost() {
    let setup = start(3, &[]);
    setup.push(1, 2);
    settle().await;
    assert!(setup.script.lengths().is_empty());
    setup.push(1, 100);
    settle().await;
    assert_eq!(setup.script.lengths(), [3; 34], "102 events, three in a post");
    setup.push(1, 4);
    settle().await;
    assert_eq!(setup.script.lengths().len(), 35, "the fourth waits for its time");
    setup.outbox.flush().await;
    let sent = setup.script.sent.lock().clone();
    let order: Vec<_> = sent[..34].iter().flat_map(|(_, batch)| batch.clone()).skip(2).collect();
    assert_eq!(order, events(100), "in the order in which they came");
    assert_eq!((setup.ledger.report().delivered, setup.dropped()), (106, vec![]));
}

#[tokio::test(start_paused = true)]
async fn a_queue_of_many_bytes_is_posted_immediately_in_posts_of_bounded_size() {
    let setup = start(1000, &[]);
    let event = Bytes::from(vec![b' '; MAX_POST_BYTES / 4]);
    setup.ledger.record_received(7);
    setup.outbox.push(&1, vec![event; 6], None);
    setup.outbox.push(&1, vec![Bytes::from(vec![b' '; MAX_POST_BYTES + 1])], None);
    settle().await;
    setup.outbox.flush().await;
    let mut lengths = setup.script.lengths();
    lengths.sort_unstable();
    assert_eq!(lengths, [1, 2, 4]);
    assert_eq!(setup.ledger.report().delivered, 7);
}

#[tokio::test(start_paused = true)]
async fn while_upstream_does_not_answer_a_queue_holds_its_capacity() {
    let setup = start(3, &[]);
    setup.script.delays(Duration::from_secs(3600));
    setup.push(1, 3 * MAX_LANE_POSTS);
    setup.push(1, 10);
    settle().await;
    assert_eq!((setup.script.lengths().len(), setup.dropped()), (MAX_LANE_POSTS, vec![]), "a burst is no stall");
    tokio::time::advance(STALL_TIME).await;
    setup.push(1, 2);
    assert_eq!(setup.dropped(), [("queue-full", 2)]);
    setup.push(2, 5);
    assert_eq!(setup.dropped(), [("queue-full", 4)], "the first three of another queue fit");
    for other in [EMBEDDED, PUBLIC] {
        setup.push(other, 3);
        settle().await;
        assert_eq!(setup.script.sent.lock().last().map(|it| it.0), Some(other), "not held back by others");
    }
    assert_eq!(setup.ledger.report().pending, setup.ledger.report().received - 4);
}

#[tokio::test(start_paused = true)]
async fn an_answer_ends_a_stall_and_a_failure_does_not() {
    for (outcome, ends) in [(Sent::Delivered, true), (Sent::Refused("x"), true), (Sent::Later("x"), false)] {
        let setup = start(1, &[outcome; 2]);
        setup.script.delays(Duration::from_secs(4));
        setup.push(1, 1);
        settle().await;
        // The first post ends after four seconds, the others do not.
        setup.script.delays(Duration::from_secs(3600));
        setup.push(1, MAX_LANE_POSTS - 1);
        tokio::time::sleep(Duration::from_secs(5)).await;
        setup.push(1, 1);
        let before = setup.ledger.report();
        setup.push(1, 5);
        let lost = setup.ledger.report().dropped.get("queue-full").copied().unwrap_or(0)
            - before.dropped.get("queue-full").copied().unwrap_or(0);
        assert_eq!(lost == 0, ends, "{outcome:?}: {lost}");
    }
}

#[tokio::test(start_paused = true)]
async fn many_queues_are_posted_early() {
    let setup = start(1000, &[]);
    (0..MANY_QUEUES as u32 - 1).for_each(|key| setup.push(key, 1));
    settle().await;
    assert!(setup.script.lengths().is_empty());
    setup.push(MANY_QUEUES as u32, 1);
    settle().await;
    assert_eq!((setup.ledger.report().delivered, setup.dropped()), (MANY_QUEUES as u64, vec![]));
}

#[tokio::test(start_paused = true)]
async fn the_number_of_queues_per_credential_is_bounded() {
    let setup = start(1000, &[]);
    setup.script.delays(Duration::from_secs(3600));
    let most = (MAX_QUEUES + MAX_LANE_POSTS) as u32;
    (0..most).for_each(|key| setup.push(PUBLIC + key, 1));
    assert_eq!((setup.outbox.lane(Trust::Public).queues(), setup.dropped()), (MAX_QUEUES, vec![]));
    setup.push(PUBLIC + most, 2);
    assert_eq!(setup.dropped(), [("too-many-queues", 2)]);
    setup.push(PUBLIC + most - 1, 1);
    setup.push(1, 1);
    assert_eq!(setup.dropped(), [("too-many-queues", 2)], "neither a known queue nor another credential");
}

#[tokio::test(start_paused = true)]
async fn memory_is_bounded_and_each_credential_has_its_own() {
    let limits = SharedLimits::without_threads(400_000);
    let setup = limited(1_000_000, &[], &limits);
    setup.script.delays(Duration::from_secs(3600));
    setup.push(PUBLIC, 10_000);
    let report = setup.ledger.report();
    let kept = report.pending;
    assert_eq!(report.dropped, [("memory-full", 10_000 - kept)].into());
    assert!((1000..1500).contains(&kept), "{kept} events of 67 bytes within eight ninths of 100 kB");
    setup.push(PUBLIC + 1, 100);
    let dropped = setup.dropped();
    assert!(dropped[0].1 > 10_000 - kept + 50, "another queue of the same credential: {dropped:?}");
    setup.push(1, 2000);
    setup.push(EMBEDDED, 1000);
    assert_eq!(setup.dropped(), dropped, "other credentials lose nothing");
    let other = limited(10, &[], &limits);
    other.push(PUBLIC, 9);
    assert_eq!(other.dropped(), [], "another environment finds room, too");
}

#[tokio::test(start_paused = true)]
async fn while_upstream_keeps_up_events_wait_in_the_memory_that_covers_them() {
    let elsewhere = Budget::new(1 << 30).account();
    let setup = limited(10, &[], &SharedLimits::without_threads(40_000));
    setup.script.delays(Duration::from_secs(1));
    for key in [PUBLIC, PUBLIC + 1] {
        setup.ledger.record_received(1000);
        setup.outbox.push(&key, events(1000), elsewhere.charge(1));
    }
    assert_eq!((setup.dropped(), elsewhere.used()), (vec![], 2));
    assert!(setup.outbox.lane(Trust::Public).memory() <= 10_000);
    setup.outbox.flush().await;
    assert_eq!((setup.ledger.report().delivered, setup.dropped(), elsewhere.used()), (2000, vec![], 0));
    let order = |key: u32| -> Vec<Bytes> {
        setup.script.sent.lock().iter().filter(|it| it.0 == key).flat_map(|it| it.1.clone()).collect()
    };
    assert!(order(PUBLIC) == events(1000) && order(PUBLIC + 1) == events(1000), "in order");
    // An event that is larger than all memory does not wait for space.
    setup.ledger.record_received(3);
    let large = Bytes::from(vec![b' '; 20_000]);
    setup.outbox.push(&PUBLIC, vec![events(1)[0].clone(), large, events(1)[0].clone()], elsewhere.charge(1));
    setup.outbox.flush().await;
    assert_eq!((setup.ledger.report().delivered, setup.dropped()), (2002, vec![("memory-full", 1)]));
    // No event waits while upstream does not answer.
    setup.script.delays(Duration::from_secs(3600));
    setup.push(PUBLIC, 10 * MAX_LANE_POSTS);
    settle().await;
    tokio::time::advance(STALL_TIME).await;
    setup.ledger.record_received(1000);
    setup.outbox.push(&PUBLIC, events(1000), elsewhere.charge(1));
    assert_eq!(elsewhere.used(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_queue_is_posted_again_when_its_rest_grows_large() {
    let setup = start(100, &[]);
    let large = |count| vec![Bytes::from(vec![b' '; MAX_POST_BYTES / 4]); count];
    setup.ledger.record_received(8);
    setup.outbox.push(&1, large(6), None);
    settle().await;
    assert_eq!(setup.script.lengths(), [4], "the other two wait for the timer or for more");
    setup.outbox.push(&1, large(2), None);
    settle().await;
    assert_eq!(setup.script.lengths(), [4, 4]);
}

#[tokio::test(start_paused = true)]
async fn many_events_are_queued_in_steps_and_in_order() {
    let setup = start(10_000, &[]);
    let (settings, ledger) = (&setup.outbox.settings, &setup.ledger);
    let mut elsewhere = Budget::new(1).account().charge(0);
    ledger.record_received(2000);
    let mut left = events(2000).into_iter().map(Queued::from).collect::<Vec<_>>().into_iter();
    for expected in [1000, 0] {
        setup.outbox.lane(Trust::Secret).push(&1, &mut left, &mut elsewhere, settings, ledger);
        assert_eq!(left.len(), expected, "others may come in between");
    }
    setup.push(2, 2500);
    setup.outbox.flush().await;
    let mut sent = std::mem::take(&mut *setup.script.sent.lock());
    sent.sort_by_key(|(key, _)| *key);
    assert!(sent == [(1, events(2000)), (2, events(2500))], "each in one post and in order");
    // Some of them fit only while others are being sent.
    let setup = limited(10_000, &[], &SharedLimits::without_threads(300_000));
    setup.ledger.record_received(2500);
    setup.outbox.push(&1, events(2500), Budget::new(1).account().charge(0));
    setup.outbox.flush().await;
    assert_eq!((setup.ledger.report().delivered, setup.dropped()), (2500, vec![]));
}

#[tokio::test(start_paused = true)]
async fn memory_is_free_again_when_events_are_settled() {
    let setup = start(7, &[Sent::Delivered, Sent::Refused("x"), Sent::Later("y"), Sent::Later("y")]);
    for key in [1, 2, EMBEDDED, PUBLIC] {
        setup.push(key, 20);
        setup.ledger.record_received(3);
        setup.outbox.dispatch(key, Batch { events: events(2), stands_for: 3 }, Vec::new());
    }
    setup.outbox.flush().await;
    for trust in Trust::ALL {
        let lane = setup.outbox.lane(trust);
        assert_eq!((lane.memory(), lane.posts(), lane.queues()), (0, 0, 0), "{trust:?}");
    }
    assert_eq!(setup.ledger.report().pending, 0);
}

#[tokio::test(start_paused = true)]
async fn a_prepared_batch_settles_the_events_it_accounts_for() {
    for (outcome, delivered, dropped) in
        [(Sent::Delivered, 7, vec![]), (Sent::Refused("rejected"), 0, vec![("rejected", 7)])]
    {
        let setup = start(1, &[outcome]);
        setup.ledger.record_received(7);
        // The capacity applies to queues, not to prepared batches.
        setup.outbox.dispatch(1, Batch { events: events(2), stands_for: 7 }, Vec::new());
        setup.outbox.dispatch(1, Batch::default(), Vec::new());
        setup.outbox.flush().await;
        setup.push(1, 1);
        setup.outbox.flush().await;
        assert_eq!(setup.script.lengths(), [2, 1], "{outcome:?}");
        let report = setup.ledger.report();
        assert_eq!((report.delivered, report.pending), (delivered + 1, 0), "{outcome:?}");
        assert_eq!(setup.dropped(), dropped, "{outcome:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_batch_without_memory_is_dropped_with_all_events_it_accounts_for() {
    let setup = limited(1, &[], &SharedLimits::without_threads(4000));
    setup.ledger.record_received(6);
    setup.outbox.dispatch(PUBLIC, Batch { events: vec![Bytes::from(vec![b' '; 900])], stands_for: 5 }, Vec::new());
    assert_eq!(setup.dropped(), [("memory-full", 5)]);
    setup.outbox.dispatch(PUBLIC, Batch { events: events(1), stands_for: 1 }, Vec::new());
    setup.outbox.flush().await;
    assert_eq!(setup.script.lengths(), [1]);
}

proptest::proptest! {
    /// Delivered, filtered, dropped and pending add up to received, whatever happens.
    #[test]
    fn every_loss_is_counted(
        pushes in proptest::collection::vec((0_u32..4, 0_usize..20, 0_u64..3000), 1..40),
        outcomes in proptest::collection::vec(0_u8..3, 0..20),
        capacity in 1_usize..20,
        memory in 4000_usize..20_000,
    ) {
        let outcomes: Vec<_> = outcomes.iter().map(|it| match it { 0 => Sent::Delivered, 1 => Sent::Later("x"), _ => Sent::Refused("y") }).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let report = runtime.block_on(async {
            let setup = limited(capacity, &outcomes, &SharedLimits::without_threads(memory));
            for (key, count, pause) in pushes {
                setup.push(key * 700_000, count);
                tokio::time::sleep(Duration::from_millis(pause)).await;
            }
            let flush = tokio::time::timeout(Duration::from_secs(3600), setup.outbox.flush());
            flush.await.expect("a flush ends");
            setup.ledger.report()
        });
        proptest::prop_assert_eq!(report.pending, 0);
        let lost: u64 = report.dropped.values().sum();
        proptest::prop_assert_eq!(report.received, report.delivered + lost);
    }
}
