//! Between the answer to an SDK and the outbox: the event filter, and a bounded place for batches it cannot judge.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;

use crate::backoff::Backoff;
use crate::hooks::{BatchFacts, Event, Filtering, Hooks, Verdict};
use crate::lifecycle::Lifecycle;
use crate::outbox::Ledger;

/// Bytes of held events per environment. When it is full the batch whose turn is next is dropped and counted.
const HOLD_BYTES: usize = 4 << 20;

/// Passes batches through the event filter of one environment.
pub struct Intake {
    hooks: Hooks,
    ledger: Arc<Ledger>,
    held: Mutex<Held>,
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
        lifecycle.spawn("event filter retries", Arc::clone(&intake).ask_again());
        intake
    }

    /// Filters a batch that is pending in the ledger. What may leave at once is given back, so that the caller decides
    /// in which order; what is held goes to `exit` later, or is dropped and counted.
    pub async fn pass(&self, facts: BatchFacts, events: Vec<Event>, exit: Exit) -> Option<Leaving> {
        match self.ask(HeldBatch { facts, events, exit }).await {
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
        let held = std::mem::take(&mut *self.held.lock().unwrap_or_else(PoisonError::into_inner));
        for batch in held.batches {
            self.ledger.lose("filter-unavailable", batch.events.len());
        }
    }

    async fn ask(&self, batch: HeldBatch) -> Asked {
        let HeldBatch { facts, events, exit } = batch;
        let filter = self.hooks.of(&facts.environment).event_filter.clone();
        let Some(filter) = filter else {
            return Asked::Leaving(Leaving { events: events.into_iter().map(|event| event.body).collect(), exit });
        };
        match filter.filter(&facts, &events).await {
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
                tracing::warn!(environment = %facts.environment, %plugin, "events dropped, their filter failed");
                self.ledger.lose("filter-failed", events.len());
                Asked::Over
            }
            Filtering::Hold { .. } => Asked::Undecided(HeldBatch { facts, events, exit }),
        }
    }

    fn hold(&self, batch: HeldBatch) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.bytes += batch.size();
        held.batches.push_back(batch);
        while held.bytes > HOLD_BYTES {
            let Some(next) = held.batches.pop_front() else { break };
            held.bytes -= next.size();
            self.ledger.lose("hold-full", next.events.len());
        }
        drop(held);
        self.arrived.notify_one();
    }

    fn take_next(&self) -> Option<HeldBatch> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let batch = held.batches.pop_front()?;
        held.bytes -= batch.size();
        Some(batch)
    }

    /// Behind all others: a batch that no filter can judge must not keep the rest from being asked about.
    fn put_back(&self, batch: HeldBatch) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.bytes += batch.size();
        held.batches.push_back(batch);
    }

    /// One after the other, with growing delays, at once after a change of plugins.
    async fn ask_again(self: Arc<Self>) {
        let mut backoff = Backoff::literal(Duration::from_secs(1), Duration::from_secs(60));
        let mut plans = self.hooks.changed();
        loop {
            let Some(batch) = self.take_next() else {
                self.arrived.notified().await;
                tokio::select! {
                    () = tokio::time::sleep(backoff.next_delay()) => (),
                    _ = plans.changed() => backoff.reset(),
                }
                continue;
            };
            match self.ask(batch).await {
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

impl Leaving {
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
