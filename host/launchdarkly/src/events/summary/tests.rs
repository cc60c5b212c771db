use yardarm_core::budget::Budget;
use yardarm_core::environment;

use super::*;
use crate::config::{EnvironmentConfig, LiveConfig};
use crate::events::post::Form;
use crate::identity::SdkKind;

/// Nothing listens there, and with an hour between posts nothing is sent.
fn poster() -> Poster {
    let environment = EnvironmentConfig::for_tests("sdk-1");
    Poster::new(
        ByTrust::from_fn(|_| reqwest::Client::new()),
        "http://127.0.0.1:1".to_owned(),
        LiveConfig::new(environment),
    )
}

fn parts(lifecycle: &Lifecycle) -> SummaryParts {
    parts_within(lifecycle, Limits::of(64 << 20, 1, 1).unwrap())
}

fn parts_within(lifecycle: &Lifecycle, limits: Limits) -> SummaryParts {
    let settings = OutboxSettings { capacity: 3, flush_interval: Duration::from_secs(3600) };
    let ledger = Arc::new(Ledger::default());
    let poster = poster();
    SummaryParts {
        outbox: Outbox::start(settings.clone(), &limits.outbox, poster.clone(), Arc::clone(&ledger), lifecycle),
        settings,
        data: environment().1,
        poster,
        ledger,
        limits,
    }
}

fn key(tags: usize) -> QueueKey {
    QueueKey { kind: SdkKind::Server, form: Form::Summarised, schema: 2, tags: Some(tags.to_string().into()) }
}

fn alias(count: usize) -> Vec<Bytes> {
    vec![Bytes::from_static(br#"{"kind":"alias"}"#); count]
}

/// A paused clock advances when the runtime is idle, also while a thread is working; here it is never idle.
fn hold_clock(lifecycle: &Lifecycle) {
    lifecycle.spawn("test clock", async {
        loop {
            tokio::task::yield_now().await;
        }
    });
}

/// Memory of a post.
fn charge() -> Charge {
    Budget::new(1).account().charge(0).unwrap()
}

impl Summariser {
    async fn processes(&mut self, tags: usize, events: Vec<Bytes>) {
        self.parts.ledger.record_received(events.len());
        self.process(Arrival { key: key(tags), events, _charge: charge(), on_disk: None }).await;
    }
}

fn summariser(lifecycle: &Lifecycle) -> Summariser {
    Summariser::new(parts(lifecycle), Trust::Secret)
}

#[tokio::test]
async fn a_flush_comes_after_what_was_queued_before_it() {
    let lifecycle = Lifecycle::new();
    let parts = parts(&lifecycle);
    let ledger = Arc::clone(&parts.ledger);
    let summaries = Summaries::start(&parts, &lifecycle);
    ledger.record_received(12);
    summaries.push(key(1), alias(2), charge(), None);
    summaries.push(key(2), alias(1), charge(), None);
    summaries.push(key(1), alias(4), charge(), None);
    summaries.push(key(2), [alias(1), vec![Bytes::from_static(b"7"); 4]].concat(), charge(), None);
    let mut batches: Vec<_> = summaries
        .take()
        .await
        .into_iter()
        .map(|(key, batch, _)| (key.tags, batch.events.len(), batch.stands_for))
        .collect();
    batches.sort();
    assert_eq!(batches, [(Some("1".into()), 3, 3), (Some("2".into()), 2, 2)]);
    let report = ledger.report();
    assert_eq!(report.dropped.get("malformed"), Some(&4));
    assert_eq!(report.pending, 8, "three more are on their way already, for the processor was full");
    assert!(summaries.take().await.is_empty());
}

#[tokio::test]
async fn a_waiting_post_is_charged_to_its_own_memory() {
    let lifecycle = Lifecycle::new();
    let parts = parts_within(&lifecycle, Limits::of(12_000, 1, 1).unwrap());
    let summaries = Summaries::start(&parts, &lifecycle);
    let account = Budget::new(1 << 20).account();
    let large = format!(r#"{{"kind":"alias","x":"{}"}}"#, "x".repeat(6000));
    parts.ledger.record_received(1);
    summaries.push(key(1), vec![large.into()], account.charge(7000).unwrap(), None);
    assert_eq!(account.used(), 7000);
    assert!(summaries.take().await.is_empty(), "larger than all that may be held");
    assert_eq!(account.used(), 0, "read, and so free for the next post");
}

#[tokio::test]
async fn kinds_of_callers_do_not_share_memory() {
    let lifecycle = Lifecycle::new();
    let parts = parts_within(&lifecycle, Limits::of(40_000, 1, 1).unwrap());
    let ledger = Arc::clone(&parts.ledger);
    let summaries = Summaries::start(&parts, &lifecycle);
    for tags in 0..100 {
        ledger.record_received(1);
        summaries.push(QueueKey { kind: SdkKind::Browser, ..key(tags) }, alias(1), charge(), None);
    }
    ledger.record_received(1);
    summaries.push(key(1), alias(1), charge(), None);
    assert!(summaries.take().await.iter().any(|(key, ..)| key.kind == SdkKind::Server));
    let lost = ledger.report().dropped["memory-full"];
    assert!((1..100).contains(&lost), "{lost}");
}

#[tokio::test]
async fn an_ended_task_accepts_nothing_and_blocks_nothing() {
    let lifecycle = Lifecycle::new();
    let parts = parts(&lifecycle);
    let ledger = Arc::clone(&parts.ledger);
    let summaries = Summaries::start(&parts, &lifecycle);
    lifecycle.stop(Duration::from_secs(5)).await;
    ledger.record_received(1);
    summaries.push(key(1), alias(1), charge(), None);
    assert_eq!(ledger.report().dropped, [("summaries-too-slow", 1)].into());
    assert!(summaries.take().await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_processor_too_many_closes_another() {
    let lifecycle = Lifecycle::new();
    hold_clock(&lifecycle);
    let mut summariser = summariser(&lifecycle);
    for tags in 0..MAX_PROCESSORS {
        summariser.processes(tags, alias(1)).await;
        tokio::time::advance(Duration::from_millis(1)).await;
    }
    summariser.processes(MAX_PROCESSORS, alias(2)).await;
    let report = summariser.parts.ledger.report();
    assert!(report.dropped.keys().all(|it| *it == "upstream-unreachable"), "{report:?}");
    assert_eq!(summariser.processors.len(), MAX_PROCESSORS);
    assert!(!summariser.processors.contains_key(&key(0)), "the least recently used processor is sent");
    assert_eq!(summariser.take().len(), MAX_PROCESSORS);
    summariser.processes(0, alias(1)).await;
    assert!(!summariser.processors.contains_key(&key(1)), "idle for longest");
    summariser.processes(2, alias(1)).await;
    tokio::time::advance(Duration::from_millis(1)).await;
    summariser.processes(MAX_PROCESSORS + 1, alias(1)).await;
    assert_eq!(summariser.processors.len(), MAX_PROCESSORS);
    assert!(summariser.processors.contains_key(&key(2)), "a processor with events is closed last");
}

#[tokio::test(start_paused = true)]
async fn idle_processors_are_closed_unless_there_is_only_one() {
    let lifecycle = Lifecycle::new();
    hold_clock(&lifecycle);
    let mut summariser = summariser(&lifecycle);
    summariser.processes(1, alias(1)).await;
    summariser.take();
    tokio::time::advance(MAX_IDLE).await;
    summariser.close_idle();
    assert_eq!(summariser.processors.len(), 1, "the only one");
    summariser.processes(2, alias(1)).await;
    summariser.take();
    summariser.close_idle();
    assert!(summariser.processors.contains_key(&key(2)) && summariser.processors.len() == 1);
}
