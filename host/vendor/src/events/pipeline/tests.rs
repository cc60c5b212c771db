use std::sync::atomic::{AtomicBool, Ordering};

use yardarm_core::EnvironmentLabel;
use yardarm_core::hooks::{EnvironmentHooks, EventFilter, HookFuture, Plan, RequestFacts};

use super::*;

/// Drops events of kind `bad`, fails on `poison`, and holds everything while broken.
#[derive(Default)]
struct Filter {
    is_broken: AtomicBool,
}

impl EventFilter for Filter {
    fn filter<'a>(&'a self, _: &'a BatchFacts, events: &'a [Event]) -> HookFuture<'a, Filtering> {
        Box::pin(async {
            if self.is_broken.load(Ordering::Relaxed)
                || events.iter().any(|event| event.kind.as_deref() == Some("poison"))
            {
                return Filtering::Hold { plugin: "f".into() };
            }
            if events.iter().any(|event| event.kind.as_deref() == Some("short")) {
                return Filtering::Decided(Filtered { verdicts: vec![Verdict::Keep], added: Vec::new() });
            }
            let verdict = |event: &Event| match event.kind.as_deref().unwrap_or_default() {
                "bad" => Verdict::Drop { plugin: "f".into() },
                "new" => Verdict::Replace(vec![Bytes::from_static(b"\"new\"")]),
                "two" => Verdict::Replace(vec![Bytes::from_static(b"1"), Bytes::from_static(b"2")]),
                _ => Verdict::Keep,
            };
            let is_extended = events.iter().any(|event| event.kind.as_deref() == Some("two"));
            let added = if is_extended { vec![Bytes::from_static(b"3")] } else { Vec::new() };
            Filtering::Decided(Filtered { verdicts: events.iter().map(verdict).collect(), added })
        })
    }
}

pub(in crate::events) fn batch(sdk: &'static str) -> BatchFacts {
    let request = RequestFacts::new(EnvironmentLabel::new("v", "e"), "bulk", sdk).into();
    BatchFacts { request, schema: Some(4), read: |body| Event { kind: None, at_ms: None, body } }
}

struct FilterPlan(Arc<EnvironmentHooks>);

impl Plan for FilterPlan {
    fn generation(&self) -> u64 {
        1
    }

    fn environment(&self, _: &EnvironmentLabel) -> Arc<EnvironmentHooks> {
        Arc::clone(&self.0)
    }
}

struct Setup {
    filter: Arc<Filter>,
    pipeline: Arc<EventPipeline>,
    ledger: Arc<Ledger>,
    left: Arc<Mutex<Vec<Bytes>>>,
    _lifecycle: Lifecycle,
}

fn setup() -> Setup {
    let (filter, hooks) = (Arc::new(Filter::default()), Hooks::none());
    let plan = EnvironmentHooks { event_filter: Some(filter.clone()), ..EnvironmentHooks::default() };
    hooks.replace(Arc::new(FilterPlan(Arc::new(plan))));
    let (ledger, lifecycle) = (Arc::new(Ledger::default()), Lifecycle::new());
    let pipeline = EventPipeline::start(hooks, Arc::clone(&ledger), &lifecycle);
    Setup { filter, pipeline, ledger, left: Arc::default(), _lifecycle: lifecycle }
}

impl Setup {
    async fn pass(&self, kinds: &[&str], body: &'static [u8]) {
        self.pass_from("server", kinds, body).await;
    }

    async fn pass_from(&self, sdk: &'static str, kinds: &[&str], body: &'static [u8]) {
        let facts = batch(sdk);
        let event = |kind: &&str| Event { kind: Some((*kind).into()), at_ms: None, body: Bytes::from_static(body) };
        self.ledger.record_received(kinds.len());
        let left = Arc::clone(&self.left);
        let sink = Box::new(move |events: Vec<Bytes>| left.lock().extend(events));
        if let Some(filtered) = self.pipeline.pass(facts, kinds.iter().map(event).collect(), sink).await {
            filtered.forward();
        }
    }
}

#[tokio::test]
async fn verdicts_are_applied_and_counted() {
    let setup = setup();
    setup.pass(&["good", "bad", "new"], b"{}").await;
    assert_eq!(*setup.left.lock(), ["{}", "\"new\""]);
    assert_eq!(setup.ledger.report().filtered, [("f".into(), 1)].into());
}

#[tokio::test]
async fn split_and_added_events_are_counted() {
    let setup = setup();
    setup.pass(&["two", "good"], b"{}").await;
    assert_eq!(*setup.left.lock(), ["1", "2", "{}", "3"]);
    let report = setup.ledger.report();
    assert_eq!((report.received, report.added, report.pending), (2, 2, 4));
}

#[tokio::test]
async fn a_wrong_number_of_verdicts_forwards_nothing() {
    let setup = setup();
    setup.pass(&["short", "good"], b"{}").await;
    assert!(setup.left.lock().is_empty());
    assert_eq!(setup.ledger.report().dropped, [("filter-invalid", 2)].into());
}

#[tokio::test(start_paused = true)]
async fn held_events_are_limited_to_the_byte() {
    for (more, lost) in [(0, None), (1, Some(&1))] {
        let setup = setup();
        setup.filter.is_broken.store(true, Ordering::Relaxed);
        let body = vec![b' '; HOLD_BYTES - size_of::<Event>() + more].leak();
        setup.pass(&[""], body).await;
        assert_eq!(setup.ledger.report().dropped.get("hold-full"), lost, "{more}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_batch_on_which_the_filter_fails_is_held_and_retried() {
    let setup = setup();
    setup.filter.is_broken.store(true, Ordering::Relaxed);
    setup.pass(&["good"], b"{}").await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert!(setup.left.lock().is_empty(), "nothing leaves unfiltered");
    setup.filter.is_broken.store(false, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert_eq!(*setup.left.lock(), ["{}"]);
}

#[tokio::test(start_paused = true)]
async fn a_batch_on_which_the_filter_always_fails_does_not_block_others() {
    let setup = setup();
    setup.filter.is_broken.store(true, Ordering::Relaxed);
    setup.pass(&["poison"], b"[]").await;
    setup.pass(&["poison"], b"[]").await;
    setup.pass(&["good"], b"{}").await;
    setup.filter.is_broken.store(false, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_secs(240)).await;
    assert_eq!(*setup.left.lock(), ["{}"]);
    // They are still held, and nothing is lost.
    setup.pipeline.close();
    assert_eq!(setup.ledger.report().dropped, [("filter-unavailable", 2)].into());
}

#[tokio::test(start_paused = true)]
async fn held_events_are_bounded_and_losses_are_counted() {
    let setup = setup();
    setup.filter.is_broken.store(true, Ordering::Relaxed);
    static LARGE: [u8; 1 << 20] = [b' '; 1 << 20];
    for _ in 0..10 {
        setup.pass(&["good"], &LARGE).await;
    }
    assert_eq!(setup.ledger.report().dropped.get("hold-full"), Some(&7));
    setup.pipeline.close();
    let report = setup.ledger.report();
    assert_eq!((report.received, report.pending), (10, 0));
}

#[tokio::test(start_paused = true)]
async fn kinds_of_callers_do_not_displace_each_others_held_events() {
    let setup = setup();
    setup.filter.is_broken.store(true, Ordering::Relaxed);
    static LARGE: [u8; 1 << 20] = [b' '; 1 << 20];
    setup.pass_from("server", &["good"], b"{}").await;
    for _ in 0..10 {
        setup.pass_from("client", &["good"], &LARGE).await;
    }
    assert_eq!(setup.ledger.report().dropped, [("hold-full", 7)].into());
    setup.filter.is_broken.store(false, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_secs(240)).await;
    let left = setup.left.lock();
    assert_eq!(left.len(), 4);
    assert!(left.contains(&Bytes::from_static(b"{}")), "held first, and never displaced");
}

#[tokio::test(start_paused = true)]
async fn kinds_of_callers_alternate() {
    let setup = setup();
    setup.filter.is_broken.store(true, Ordering::Relaxed);
    for (sdk, body) in [("client", &b"1"[..]), ("client", b"2"), ("client", b"3"), ("mobile", b"4"), ("server", b"5")] {
        setup.pass_from(sdk, &["good"], body).await;
    }
    setup.filter.is_broken.store(false, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_secs(240)).await;
    // The task was processing the first when the others arrived.
    let left: Vec<_> = setup.left.lock().iter().map(|it| it[0]).collect();
    let place = |body: u8| left.iter().position(|it| *it == body);
    assert_eq!(left.len(), 5);
    assert!(place(b'4') < place(b'3') && place(b'5') < place(b'3'), "{left:?}");
}
