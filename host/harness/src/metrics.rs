//! Metrics of SDKs on their way to Harness: filtered, summed up, posted on a timer (sections 3.9 and 6.6).

mod sums;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::sync::{Notify, Semaphore};
use yardarm_core::hooks::{BatchFacts, Event, Hooks};
use yardarm_core::intake::Intake;
use yardarm_core::outbox::{Ledger, LedgerReport};
use yardarm_core::supervisor;
use yardarm_core::{EnvironmentLabel, Lifecycle};

use self::sums::Sums;

/// Bytes of accepted posts that have not been read yet, per environment. Posts beyond are answered 503.
const MAX_UNREAD_KIB: usize = 32 << 10;
/// How often a batch that could not be posted is tried again before it is given up.
const MAX_ATTEMPTS: u32 = 5;

/// The way out for metrics of one environment. Cheap to clone.
#[derive(Clone)]
pub(crate) struct MetricsPort(Arc<Port>);

struct Port {
    label: EnvironmentLabel,
    intake: Arc<Intake>,
    ledger: Arc<Ledger>,
    sums: Arc<Mutex<Sums>>,
    /// What could not be posted yet, with the number of attempts.
    failed: Mutex<Option<(Batch, u32)>>,
    unread: Arc<Semaphore>,
    /// So much has been summed up that it should be posted now.
    is_large: Arc<Notify>,
    lifecycle: Lifecycle,
    /// Whether anybody takes them off our hands.
    is_forwarded: bool,
}

/// Why a post is not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotTaken {
    /// Too much is waiting to be read.
    #[error("too much is waiting")]
    Busy,
    /// It cannot be read.
    #[error("malformed metrics: {0}")]
    Malformed(#[from] serde_json::Error),
}

/// A post of an SDK, and what upstream is posted.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Post<'a> {
    #[serde(borrow, default)]
    metrics_data: Option<Vec<&'a RawValue>>,
    #[serde(borrow, default)]
    target_data: Option<Vec<&'a RawValue>>,
}

/// Summed-up metrics, ready to be posted.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Batch {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    metrics_data: Vec<sums::Metric>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    target_data: Vec<sums::TargetEntry>,
    /// Entries of SDKs that it stands for.
    #[serde(skip)]
    stands_for: usize,
}

/// What became of a post to upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Delivered,
    /// May work later.
    Later,
    /// Never will.
    Refused,
}

/// Kinds of entries as event plugins know them.
const METRIC: &str = "metric";
const TARGET: &str = "target";

impl MetricsPort {
    pub(crate) fn start(label: EnvironmentLabel, hooks: Hooks, is_forwarded: bool, lifecycle: &Lifecycle) -> Self {
        let ledger = Arc::new(Ledger::default());
        Self(Arc::new(Port {
            label,
            intake: Intake::start(hooks, Arc::clone(&ledger), lifecycle),
            sums: Arc::new(Mutex::new(Sums::default())),
            failed: Mutex::default(),
            ledger,
            unread: Arc::new(Semaphore::new(MAX_UNREAD_KIB)),
            is_large: Arc::default(),
            lifecycle: lifecycle.clone(),
            is_forwarded,
        }))
    }

    /// Takes a post over; filtering and summing up happen behind the answer.
    pub(crate) fn accept(&self, body: Bytes, route: &'static str, sdk: &'static str) -> Result<(), NotTaken> {
        if !self.0.is_forwarded {
            return Ok(serde_json::from_slice::<Post<'_>>(&body).map(drop)?);
        }
        let kib = u32::try_from(body.len() / 1024 + 1).unwrap_or(u32::MAX);
        let place = Arc::clone(&self.0.unread).try_acquire_many_owned(kib).map_err(|_| NotTaken::Busy)?;
        let events = read(&body)?;
        if events.is_empty() {
            return Ok(());
        }
        let received = events.len();
        self.0.ledger.receive(received);
        // A filter would fail over what is no entry at all, again and again.
        let events: Vec<_> = events.into_iter().filter(|it| it.body.starts_with(b"{")).collect();
        self.0.ledger.lose("malformed", received - events.len());
        let facts = BatchFacts { environment: self.0.label.clone(), route, sdk, schema: 0 };
        let port = Arc::clone(&self.0);
        // Not dropped on shutdown: what was answered gets its chance within the drain time.
        self.0.lifecycle.spawn_graceful("metrics intake", async move {
            let (sums, ledger, is_large) =
                (Arc::clone(&port.sums), Arc::clone(&port.ledger), Arc::clone(&port.is_large));
            let add = move |entries: Vec<Bytes>| {
                let mut sums = sums.lock().unwrap_or_else(PoisonError::into_inner);
                for entry in entries {
                    if let Err(reason) = sums.add(&entry) {
                        ledger.lose(reason, 1);
                    }
                }
                if sums.is_large() {
                    is_large.notify_one();
                }
            };
            if let Some(leaving) = port.intake.pass(facts, events, Box::new(add)).await {
                leaving.go();
            }
            drop(place);
        });
        Ok(())
    }

    /// Waits until so much has been summed up that it should be posted before its time. While a batch waits that could
    /// not be posted there is no such moment: upstream is not asked more often for having failed.
    pub(crate) async fn is_large(&self) {
        loop {
            self.0.is_large.notified().await;
            if self.lock_failed().is_none() {
                return;
            }
        }
    }

    fn lock_failed(&self) -> std::sync::MutexGuard<'_, Option<(Batch, u32)>> {
        self.0.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Posts what has been summed up, with `post`. What could not be posted before comes first, and while it cannot, the
    /// rest goes on being summed up.
    pub(crate) async fn flush<F: Future<Output = Outcome>>(&self, post: impl Fn(Bytes) -> F) {
        let retried = self.lock_failed().take();
        if let Some((batch, attempts)) = retried {
            self.send(batch, attempts, &post).await;
        }
        if self.lock_failed().is_some() {
            return;
        }
        let fresh = self.0.sums.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(batch) = fresh {
            self.send(batch, 0, &post).await;
        }
    }

    async fn send<F: Future<Output = Outcome>>(&self, batch: Batch, attempts: u32, post: &impl Fn(Bytes) -> F) {
        let body = serde_json::to_vec(&batch).expect("text and numbers are always JSON");
        let outcome = supervisor::catch(post(body.into())).await;
        match outcome.unwrap_or(Outcome::Later) {
            Outcome::Delivered => self.0.ledger.deliver(batch.stands_for),
            Outcome::Refused => self.0.ledger.lose("rejected", batch.stands_for),
            Outcome::Later if attempts + 1 >= MAX_ATTEMPTS => self.0.ledger.lose("upstream-error", batch.stands_for),
            Outcome::Later => *self.lock_failed() = Some((batch, attempts + 1)),
        }
    }

    /// Everything that was taken in has been summed up, and what plugins hold back is given up. For the end of the process.
    pub(crate) async fn settle(&self) {
        let _ = self.0.unread.acquire_many(u32::try_from(MAX_UNREAD_KIB).unwrap_or(u32::MAX)).await;
        self.0.intake.close();
    }

    /// Where metrics stand.
    pub(crate) fn report(&self) -> LedgerReport {
        self.0.ledger.report()
    }
}

/// One event per entry, so that plugins see each by its kind.
fn read(body: &Bytes) -> Result<Vec<Event>, serde_json::Error> {
    let post: Post<'_> = serde_json::from_slice(body)?;
    let entries = |kind: &str, list: Option<Vec<&RawValue>>| -> Vec<Event> {
        let event = |raw: &RawValue| Event {
            kind: kind.to_owned(),
            at_ms: if kind == METRIC { sums::timestamp(raw.get()) } else { 0 },
            body: body.slice_ref(raw.get().as_bytes()),
        };
        list.unwrap_or_default().into_iter().map(event).collect()
    };
    let mut events = entries(METRIC, post.metrics_data);
    events.extend(entries(TARGET, post.target_data));
    Ok(events)
}

/// Time between posts, with a little noise: gateways that were started together must not post together.
pub(crate) fn jittered(interval: Duration) -> Duration {
    use rand::Rng;
    interval.mul_f64(rand::rng().random_range(0.95..1.05))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    async fn posts(port: &MetricsPort, outcome: Outcome) -> usize {
        let count = AtomicUsize::new(0);
        port.flush(|_| {
            count.fetch_add(1, Ordering::Relaxed);
            std::future::ready(outcome)
        })
        .await;
        count.into_inner()
    }

    #[tokio::test]
    async fn an_outage_loses_nothing_and_is_not_made_worse() {
        // D8
        let lifecycle = Lifecycle::new();
        let port = MetricsPort::start(EnvironmentLabel::new("v", "e"), Hooks::none(), true, &lifecycle);
        let large = |name: &str| {
            let text = "x".repeat(1 << 20);
            Bytes::from(serde_json::json!({"targetData": [{"identifier": name, "x": text}]}).to_string())
        };
        let accept = async |name: &str| {
            port.accept(large(name), "r", "server").unwrap();
            let _ = port.0.unread.acquire_many(MAX_UNREAD_KIB as u32).await.unwrap();
        };
        accept("a").await;
        tokio::time::timeout(Duration::from_secs(10), port.is_large()).await.unwrap();
        assert_eq!(posts(&port, Outcome::Later).await, 1);
        accept("b").await;
        let early = tokio::time::timeout(Duration::from_millis(50), port.is_large()).await;
        assert!(early.is_err(), "a failed batch waits for its time");
        assert_eq!(posts(&port, Outcome::Later).await, 1, "the failed one, and not the rest besides");
        assert_eq!(posts(&port, Outcome::Delivered).await, 2);
        let report = port.report();
        assert_eq!((report.delivered, report.dropped.len()), (2, 0));
    }
}

#[cfg(fuzzing)]
pub(crate) fn fuzz(body: &Bytes) {
    let mut sums = Sums::default();
    for event in read(body).unwrap_or_default() {
        let _ = sums.add(&event.body);
    }
    if let Some(batch) = sums.take() {
        assert!(serde_json::to_vec(&batch).is_ok(), "what is posted is JSON");
    }
}
