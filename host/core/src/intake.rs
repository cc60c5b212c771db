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
pub struct Intake {
    hooks: Hooks,
    ledger: Arc<Ledger>,
    /// By kind of caller.
    held: Mutex<BTreeMap<&'static str, Held>>,
    arrived: Notify,
}

/// Where events go that may leave.
pub type Exit = Box<dyn FnOnce(Vec<Bytes>) + Send>;

struct HeldBatch {
    facts: BatchFacts,
    events: Vec<Event>,
    exit: Exit,
}

/// What became of a batch that a filter was asked about.
enum Asked {
    /// These may leave.
    Leaving(Leaving),
    /// None of it goes any further, and all of it is counted.
    Over,
    /// Nobody could say.
    Undecided(HeldBatch),
}

/// What may leave, and where to.
#[must_use = "events that nobody lets out are lost and not counted"]
pub struct Leaving {
    events: Vec<Bytes>,
    exit: Exit,
}

#[derive(Default)]
struct Held {
    batches: VecDeque<HeldBatch>,
    bytes: usize,
}

impl Intake {
    /// Starts the task that asks again about held batches.
    #[must_use]
    pub fn start(hooks: Hooks, ledger: Arc<Ledger>, lifecycle: &Lifecycle) -> Arc<Self> {
        let intake = Arc::new(Self { hooks, ledger, held: Mutex::default(), arrived: Notify::new() });
        let retries = Arc::clone(&intake);
        lifecycle.supervise("event filter retries", move || Arc::clone(&retries).ask_again());
        intake
    }

    /// Filters a batch that is pending in the ledger. What may leave at once is given back, so that the caller decides
    /// in which order; what is held goes to `exit` later, or is dropped and counted.
    pub async fn pass(&self, facts: BatchFacts, events: Vec<Event>, exit: Exit) -> Option<Leaving> {
        match self.ask_safely(HeldBatch { facts, events, exit }).await {
            Asked::Leaving(leaving) => Some(leaving),
            Asked::Over => None,
            Asked::Undecided(batch) => {
                self.hold(batch);
                None
            }
        }
    }

    /// Gives up on what is still held, counted. For the end of the process.
    pub fn close(&self) {
        let held = std::mem::take(&mut *self.lock());
        for batch in held.into_values().flat_map(|it| it.batches) {
            self.ledger.lose("filter-unavailable", batch.events.len());
        }
    }

    /// A batch whose filtering panics is lost and counted.
    async fn ask_safely(&self, batch: HeldBatch) -> Asked {
        let count = batch.events.len();
        supervisor::catch(self.ask(batch)).await.unwrap_or_else(|_| {
            self.ledger.lose(INTERNAL_ERROR, count);
            Asked::Over
        })
    }

    async fn ask(&self, batch: HeldBatch) -> Asked {
        fault_point("event filter");
        let HeldBatch { facts, events, exit } = batch;
        let filter = self.hooks.of(&facts.environment).event_filter.clone();
        let Some(filter) = filter else {
            return Asked::Leaving(Leaving { events: events.into_iter().map(|event| event.body).collect(), exit });
        };
        let unsettled = self.ledger.guard(events.len());
        let filtering = filter.filter(&facts, &events).await;
        unsettled.keep();
        match filtering {
            Filtering::Decided(verdicts) if verdicts.len() == events.len() => {
                let mut leaving = Vec::with_capacity(events.len());
                for (event, verdict) in events.into_iter().zip(verdicts) {
                    match verdict {
                        Verdict::Keep => leaving.push(event.body),
                        Verdict::Replace(body) => leaving.push(body),
                        Verdict::Drop { plugin } => self.ledger.filter(&plugin, 1),
                    }
                }
                Asked::Leaving(Leaving { events: leaving, exit })
            }
            Filtering::Decided(_) => {
                tracing::error!(environment = %facts.environment, "event filter answered with a wrong number of verdicts");
                self.ledger.lose("filter-invalid", events.len());
                Asked::Over
            }
            Filtering::Lose { plugin } => {
                tracing::debug!(environment = %facts.environment, %plugin, "events dropped, their filter failed");
                self.ledger.lose("filter-failed", events.len());
                Asked::Over
            }
            Filtering::Hold { .. } => Asked::Undecided(HeldBatch { facts, events, exit }),
        }
    }

    fn hold(&self, batch: HeldBatch) {
        let mut held = self.lock();
        let kind = held.entry(batch.facts.sdk).or_default();
        kind.push(batch);
        while kind.bytes > HOLD_BYTES {
            let Some(next) = kind.pop() else { break };
            self.ledger.lose("hold-full", next.events.len());
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
    async fn ask_again(self: Arc<Self>) {
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
            match self.ask_safely(batch).await {
                Asked::Undecided(batch) => {
                    self.put_back(batch);
                    tokio::select! {
                        () = tokio::time::sleep(backoff.next_delay()) => (),
                        _ = plans.changed() => backoff.reset(),
                    }
                    continue;
                }
                // Its turn is long over; it goes when it can.
                Asked::Leaving(leaving) => leaving.go(),
                Asked::Over => (),
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

impl Leaving {
    /// How many events may leave.
    #[must_use]
    pub fn count(&self) -> usize {
        self.events.len()
    }

    /// Lets the events out.
    pub fn go(self) {
        (self.exit)(self.events);
    }
}

impl HeldBatch {
    fn size(&self) -> usize {
        self.events.iter().map(|event| event.body.len() + event.kind.len() + size_of::<Event>()).sum()
    }
}

#[cfg(test)]
mod tests;
