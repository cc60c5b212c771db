//! The stage between receiving a batch of events and the outbox: the event filter, and a bounded buffer for batches
//! that it cannot decide on.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;
use yardarm_core::hooks::{BatchFacts, Event, Filtered, Filtering, Hooks, Verdict};
use yardarm_core::supervisor::{self, fault_point};
use yardarm_core::{Backoff, Lifecycle};

use crate::events::outbox::{INTERNAL_ERROR, Ledger};

/// Bytes of held events per environment and kind of caller, so that untrusted callers displace only each other. When
/// the buffer is full, the next batch in line is dropped and counted.
const HOLD_BYTES: usize = 4 << 20;

/// Passes batches through the event filter of one environment.
pub struct EventPipeline {
    hooks: Hooks,
    ledger: Arc<Ledger>,
    /// Held batches by kind of caller.
    held: Mutex<BTreeMap<&'static str, Held>>,
    arrived: Notify,
}

/// Receives the events that passed the filter.
pub type Sink = Box<dyn FnOnce(Vec<Bytes>) + Send>;

struct HeldBatch {
    facts: BatchFacts,
    events: Vec<Event>,
    sink: Sink,
}

/// The outcome of filtering a batch.
enum Outcome {
    /// Events that passed the filter.
    Filtered(FilteredBatch),
    /// No event is left to forward, and all of them are counted.
    Settled,
    /// The filter failed and its policy is `hold`.
    Undecided(HeldBatch),
}

/// Events that passed the filter, with their destination.
#[must_use = "events that are not forwarded are lost and not counted"]
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
    /// Starts the task that filters held batches again.
    #[must_use]
    pub fn start(hooks: Hooks, ledger: Arc<Ledger>, lifecycle: &Lifecycle) -> Arc<Self> {
        let pipeline = Arc::new(Self { hooks, ledger, held: Mutex::default(), arrived: Notify::new() });
        let retries = Arc::clone(&pipeline);
        lifecycle.supervise("event filter retries", move || Arc::clone(&retries).retry_held());
        pipeline
    }

    /// Filters a batch that is pending in the ledger. Events that pass at once are returned, so that the caller decides
    /// on their order; held ones go to `sink` later, or are dropped and counted.
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

    /// Drops what is still held, counted. Called at the end of the process.
    pub fn close(&self) {
        let held = std::mem::take(&mut *self.lock());
        for batch in held.into_values().flat_map(|it| it.batches) {
            self.ledger.record_dropped("filter-unavailable", batch.events.len());
        }
    }

    /// Filters a batch; if that panics, the batch is dropped and counted.
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
        let filter = self.hooks.of(&facts.request.facts.environment).event_filter.clone();
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
            Filtering::Decided(Filtered { verdicts, added }) if verdicts.len() == events.len() => {
                let mut filtered = Vec::with_capacity(events.len() + added.len());
                self.ledger.record_added(added.len());
                for (event, verdict) in events.into_iter().zip(verdicts) {
                    match verdict {
                        Verdict::Keep => filtered.push(event.body),
                        Verdict::Replace(bodies) => {
                            self.ledger.record_added(bodies.len().saturating_sub(1));
                            filtered.extend(bodies);
                        }
                        Verdict::Drop { plugin } => self.ledger.record_filtered(&plugin, 1),
                    }
                }
                filtered.extend(added);
                Outcome::Filtered(FilteredBatch { events: filtered, sink })
            }
            Filtering::Decided(_) => {
                tracing::error!("event filter returned a wrong number of verdicts");
                self.ledger.record_dropped("filter-invalid", events.len());
                Outcome::Settled
            }
            Filtering::Lose { plugin } => {
                tracing::debug!(%plugin, "events dropped because their filter failed");
                self.ledger.record_dropped("filter-failed", events.len());
                Outcome::Settled
            }
            Filtering::Hold { .. } => Outcome::Undecided(HeldBatch { facts, events, sink }),
        }
    }

    fn hold(&self, batch: HeldBatch) {
        let mut held = self.lock();
        let kind = held.entry(batch.facts.request.facts.sdk).or_default();
        kind.push(batch);
        while kind.bytes > HOLD_BYTES {
            let Some(next) = kind.pop() else { break };
            self.ledger.record_dropped("hold-full", next.events.len());
        }
        drop(held);
        self.arrived.notify_one();
    }

    /// Takes the next held batch; kinds of callers alternate, beginning with the one after `last`.
    fn take_next(&self, last: &mut &'static str) -> Option<HeldBatch> {
        let mut held = self.lock();
        let (before, after): (Vec<_>, Vec<_>) =
            held.iter_mut().filter(|(_, it)| !it.batches.is_empty()).partition(|(kind, _)| *kind <= last);
        let (kind, next) = after.into_iter().chain(before).next()?;
        *last = kind;
        next.pop()
    }

    /// Puts a batch behind all others, so that one batch on which the filter always fails does not block the rest.
    fn put_back(&self, batch: HeldBatch) {
        self.lock().entry(batch.facts.request.facts.sdk).or_default().push(batch);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, Held>> {
        self.held.lock()
    }

    /// Retries held batches one after the other with growing delays, and at once after a change of plugins.
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
                // Order no longer matters for a held batch.
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
    /// Returns how many events passed.
    #[must_use]
    pub fn count(&self) -> usize {
        self.events.len()
    }

    /// Sends the events to their sink.
    pub fn forward(self) {
        (self.sink)(self.events);
    }
}

impl HeldBatch {
    fn size(&self) -> usize {
        let size = |event: &Event| event.body.len() + event.kind.as_deref().map_or(0, str::len) + size_of::<Event>();
        self.events.iter().map(size).sum()
    }
}

#[cfg(test)]
pub(super) mod tests;
