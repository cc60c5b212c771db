//! Between the answer to an SDK and the outbox: the event filter, and a bounded place for batches it cannot judge.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;

use crate::backoff::Backoff;
use crate::hooks::{BatchFacts, Event, Filtering, Hooks, Verdict};
use crate::lifecycle::Lifecycle;
use crate::outbox::{INTERNAL_ERROR, Ledger};
use crate::supervisor::{self, fault_point};

/// Bytes of held events per environment and kind of caller, so that callers which anybody can be displace only each
/// other. When it is full the batch whose turn is next is dropped and counted.
const HOLD_BYTES: usize = 4 << 20;

/// Passes batches through the event filter of one environment.
pub struct EventPipeline {
    hooks: Hooks,
    ledger: Arc<Ledger>,
    /// By kind of caller.
    held: Mutex<BTreeMap<&'static str, Held>>,
    arrived: Notify,
}

/// Where events go that may leave.
pub type Sink = Box<dyn FnOnce(Vec<Bytes>) + Send>;

struct HeldBatch {
    facts: BatchFacts,
    events: Vec<Event>,
    sink: Sink,
}

/// What became of a batch that a filter was asked about.
enum Outcome {
    /// These may leave.
    Filtered(FilteredBatch),
    /// None of it goes any further, and all of it is counted.
    Settled,
    /// Nobody could say.
    Undecided(HeldBatch),
}

/// What may leave, and where to.
#[must_use = "events that nobody lets out are lost and not counted"]
pub struct FilteredBatch {
    events: Vec<Bytes>,
    sink: Sink,
}

#[derive(Default)]
struct Held {
    batches: VecDeque<HeldBatch>,
    bytes: usize,
}

impl EventPipeline {
    /// Starts the task that asks again about held batches.
    #[must_use]
    pub fn start(hooks: Hooks, ledger: Arc<Ledger>, lifecycle: &Lifecycle) -> Arc<Self> {
        let pipeline = Arc::new(Self { hooks, ledger, held: Mutex::default(), arrived: Notify::new() });
        let retries = Arc::clone(&pipeline);
        lifecycle.supervise("event filter retries", move || Arc::clone(&retries).retry_held());
        pipeline
    }

    /// Filters a batch that is pending in the ledger. What may leave at once is given back, so that the caller decides
    /// in which order; what is held goes to `sink` later, or is dropped and counted.
    pub async fn pass(&self, facts: BatchFacts, events: Vec<Event>, sink: Sink) -> Option<FilteredBatch> {
        match self.filter_caught(HeldBatch { facts, events, sink }).await {
            Outcome::Filtered(filtered) => Some(filtered),
            Outcome::Settled => None,
            Outcome::Undecided(batch) => {
                self.hold(batch);
                None
            }
        }
    }

    /// Gives up on what is still held, counted. For the end of the process.
    pub fn close(&self) {
        let held = std::mem::take(&mut *self.lock());
        for batch in held.into_values().flat_map(|it| it.batches) {
            self.ledger.record_dropped("filter-unavailable", batch.events.len());
        }
    }

    /// A batch whose filtering panics is lost and counted.
    async fn filter_caught(&self, batch: HeldBatch) -> Outcome {
        let count = batch.events.len();
        supervisor::catch(self.filter(batch)).await.unwrap_or_else(|_| {
            self.ledger.record_dropped(INTERNAL_ERROR, count);
            Outcome::Settled
        })
    }

    async fn filter(&self, batch: HeldBatch) -> Outcome {
        fault_point("event filter");
        let HeldBatch { facts, events, sink } = batch;
        let filter = self.hooks.of(&facts.environment).event_filter.clone();
        let Some(filter) = filter else {
            return Outcome::Filtered(FilteredBatch {
                events: events.into_iter().map(|event| event.body).collect(),
                sink,
            });
        };
        let unsettled = self.ledger.guard(events.len());
        let filtering = filter.filter(&facts, &events).await;
        unsettled.settle_elsewhere();
        match filtering {
            Filtering::Decided(verdicts) if verdicts.len() == events.len() => {
                let mut filtered = Vec::with_capacity(events.len());
                for (event, verdict) in events.into_iter().zip(verdicts) {
                    match verdict {
                        Verdict::Keep => filtered.push(event.body),
                        Verdict::Replace(body) => filtered.push(body),
                        Verdict::Drop { plugin } => self.ledger.record_filtered(&plugin, 1),
                    }
                }
                Outcome::Filtered(FilteredBatch { events: filtered, sink })
            }
            Filtering::Decided(_) => {
                tracing::error!(environment = %facts.environment, "event filter answered with a wrong number of verdicts");
                self.ledger.record_dropped("filter-invalid", events.len());
                Outcome::Settled
            }
            Filtering::Lose { plugin } => {
                tracing::debug!(environment = %facts.environment, %plugin, "events dropped, their filter failed");
                self.ledger.record_dropped("filter-failed", events.len());
                Outcome::Settled
            }
            Filtering::Hold { .. } => Outcome::Undecided(HeldBatch { facts, events, sink }),
        }
    }

    fn hold(&self, batch: HeldBatch) {
        let mut held = self.lock();
        let kind = held.entry(batch.facts.sdk).or_default();
        kind.push(batch);
        while kind.bytes > HOLD_BYTES {
            let Some(next) = kind.pop() else { break };
            self.ledger.record_dropped("hold-full", next.events.len());
        }
        drop(held);
        self.arrived.notify_one();
    }

    /// Kinds of callers take turns, beginning with the one behind `last`.
    fn take_next(&self, last: &mut &'static str) -> Option<HeldBatch> {
        let mut held = self.lock();
        let (before, after): (Vec<_>, Vec<_>) =
            held.iter_mut().filter(|(_, it)| !it.batches.is_empty()).partition(|(kind, _)| *kind <= last);
        let (kind, next) = after.into_iter().chain(before).next()?;
        *last = kind;
        next.pop()
    }

    /// Behind all others: a batch that no filter can judge must not keep the rest from being asked about.
    fn put_back(&self, batch: HeldBatch) {
        self.lock().entry(batch.facts.sdk).or_default().push(batch);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<&'static str, Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One after the other, with growing delays, at once after a change of plugins.
    async fn retry_held(self: Arc<Self>) {
        let mut backoff = Backoff::literal(Duration::from_secs(1), Duration::from_secs(60));
        let mut plans = self.hooks.changed();
        let mut last = "";
        loop {
            let Some(batch) = self.take_next(&mut last) else {
                self.arrived.notified().await;
                tokio::select! {
                    () = tokio::time::sleep(backoff.next_delay()) => (),
                    _ = plans.changed() => backoff.reset(),
                }
                continue;
            };
            match self.filter_caught(batch).await {
                Outcome::Undecided(batch) => {
                    self.put_back(batch);
                    tokio::select! {
                        () = tokio::time::sleep(backoff.next_delay()) => (),
                        _ = plans.changed() => backoff.reset(),
                    }
                    continue;
                }
                // Its turn is long over; it goes when it can.
                Outcome::Filtered(filtered) => filtered.forward(),
                Outcome::Settled => (),
            }
            backoff.reset();
        }
    }
}

impl Held {
    fn push(&mut self, batch: HeldBatch) {
        self.bytes += batch.size();
        self.batches.push_back(batch);
    }

    fn pop(&mut self) -> Option<HeldBatch> {
        let batch = self.batches.pop_front()?;
        self.bytes -= batch.size();
        Some(batch)
    }
}

impl FilteredBatch {
    /// How many events may leave.
    #[must_use]
    pub fn count(&self) -> usize {
        self.events.len()
    }

    /// Lets the events out.
    pub fn forward(self) {
        (self.sink)(self.events);
    }
}

impl HeldBatch {
    fn size(&self) -> usize {
        self.events.iter().map(|event| event.body.len() + event.kind.len() + size_of::<Event>()).sum()
    }
}

#[cfg(test)]
mod tests;
