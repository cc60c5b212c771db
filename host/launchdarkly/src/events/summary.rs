//! Summarising for SDKs that cannot do it themselves: PHP, which keeps no state between requests, and very old ones.
//!
//! One task per credential receives events that passed the event filter, has them [processed](processor) off the
//! asynchronous threads, and moves a batch per [queue](QueueKey) to the outbox, on a timer or when a processor is full.
//! L197 to L210 define the output.

mod counters;
mod processor;
mod read;
mod seen;
mod terms;
mod write;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior};
use yardarm_core::budget::{Account, ByTrust, Charge, Trust};
use yardarm_core::time::unix_ms;
use yardarm_core::{Environment, Lifecycle, Supervised};
use yardarm_vendor::events::outbox::{Batch, Ledger, Outbox, OutboxSettings, QueueKey as _};
use yardarm_vendor::events::spool::{Ack, SpooledPost};

use self::processor::{Loss, MOST_OF_ONE, Moment, Processor};
use self::read::ReadError;
use super::limits::Limits;
use super::post::{Poster, QueueKey};
use crate::data::{FlagData, Items};

/// Posts that wait to be processed, per credential. In practice their memory bounds them.
const MAX_WAITING: usize = 16 << 10;
/// Approximate memory of a processor besides its events.
const PROCESSOR_COST: usize = 1024;
/// Processors at once, per credential. Keys contain texts from callers, so their number must be bounded; the processor
/// that has been idle for longest is closed, and its events are sent early.
const MAX_PROCESSORS: usize = 1000;
/// A processor without events for this time is closed, unless it is the only one (L197 to L210).
const MAX_IDLE: Duration = Duration::from_secs(3600);

/// Receives events that have to be summarised.
pub(super) struct Summaries {
    /// Channels to the tasks.
    jobs: ByTrust<mpsc::Sender<Job>>,
    ledger: Arc<Ledger>,
}

/// Dependencies of the tasks.
#[derive(Clone)]
pub(super) struct SummaryParts {
    pub(super) settings: OutboxSettings,
    /// For properties that old events do not have.
    pub(super) data: Environment<FlagData>,
    /// Knows the clock of the events service.
    pub(super) poster: Poster,
    pub(super) outbox: Arc<Outbox<QueueKey, Poster>>,
    pub(super) ledger: Arc<Ledger>,
    pub(super) limits: Limits,
}

enum Job {
    Process(Arrival),
    /// Replies with everything that was collected.
    Flush(oneshot::Sender<Vec<Summary>>),
}

/// A batch of a queue, with the parts of posts on disk that it stands for.
type Summary = (QueueKey, Batch, Vec<Ack>);

/// Events of one post.
struct Arrival {
    key: QueueKey,
    events: Vec<Bytes>,
    /// Memory of the post, which bounds waiting posts.
    _charge: Charge,
    /// The post on disk.
    on_disk: Option<SpooledPost>,
}

struct Summariser {
    parts: SummaryParts,
    trust: Trust,
    memory: Arc<Account>,
    processors: HashMap<QueueKey, Open>,
}

/// A processor that is in use.
struct Open {
    processor: Processor,
    used: Instant,
    /// Memory that it takes.
    charge: Charge,
    /// The posts on disk whose events it has taken.
    acks: Vec<Ack>,
}

/// The result of processing one post, besides the state of the processor.
#[derive(Default)]
struct Processed {
    /// Batches that were taken because the processor was full.
    batches: Vec<(Batch, Vec<Ack>)>,
    lost: BTreeMap<&'static str, usize>,
    /// The first error, for the log.
    malformed: Option<ReadError>,
}

impl Summaries {
    /// Starts the tasks.
    pub(super) fn start(parts: &SummaryParts, lifecycle: &Lifecycle) -> Self {
        let jobs = ByTrust::from_fn(|trust| {
            let (jobs, queue) = mpsc::channel(MAX_WAITING);
            let summariser = Summariser::new(parts.clone(), trust);
            lifecycle.supervise("event summaries", SummaryTask { summariser, queue });
            jobs
        });
        Self { jobs, ledger: Arc::clone(&parts.ledger) }
    }

    /// Queues events of a post that are pending in the ledger, with their memory; drops and counts them if too many posts
    /// wait.
    pub(super) fn push(&self, key: QueueKey, events: Vec<Bytes>, charge: Charge, on_disk: Option<SpooledPost>) {
        let count = events.len();
        let jobs = self.jobs.get(key.trust());
        if jobs.try_send(Job::Process(Arrival { key, events, _charge: charge, on_disk })).is_err() {
            self.ledger.record_dropped("summaries-too-slow", count);
        }
    }

    /// Takes everything that was collected, after all queued posts have been processed.
    pub(super) async fn take(&self) -> Vec<Summary> {
        let mut all = Vec::new();
        for trust in Trust::ALL {
            let (reply, batches) = oneshot::channel();
            if self.jobs.get(trust).send(Job::Flush(reply)).await.is_ok() {
                all.extend(batches.await.unwrap_or_default());
            }
        }
        all
    }
}

/// The task of a [`Summariser`].
struct SummaryTask {
    summariser: Summariser,
    queue: mpsc::Receiver<Job>,
}

impl Supervised for SummaryTask {
    async fn run(&mut self) {
        self.summariser.run(&mut self.queue).await;
    }
}

impl Summariser {
    fn new(parts: SummaryParts, trust: Trust) -> Self {
        let memory = parts.limits.outbox.memory(trust).account();
        Self { parts, trust, memory, processors: HashMap::new() }
    }

    async fn run(&mut self, queue: &mut mpsc::Receiver<Job>) {
        let mut timer = tokio::time::interval(self.parts.settings.flush_interval);
        timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        timer.tick().await;
        loop {
            tokio::select! {
                job = queue.recv() => match job {
                    Some(Job::Process(arrival)) => self.process(arrival).await,
                    // The receiver is gone if the drain time is over.
                    Some(Job::Flush(reply)) => drop(reply.send(self.take())),
                    None => return,
                },
                _ = timer.tick() => {
                    for (key, batch, acks) in self.take() {
                        self.parts.outbox.dispatch(key, batch, acks);
                    }
                    self.close_idle();
                }
            }
        }
    }

    /// Has a post processed off the serving threads, because it may have thousands of events.
    async fn process(&mut self, arrival: Arrival) {
        let Arrival { key, events, _charge, on_disk } = arrival;
        let count = events.len();
        let Some(mut open) = self.open(&key) else {
            self.parts.ledger.record_dropped("memory-full", count);
            return;
        };
        let at_stake = open.processor.taken() + count;
        let snapshot = self.parts.data.snapshot();
        let moment =
            Moment { unix_ms: unix_ms(), upstream_ms: self.parts.poster.upstream_ms(), instant: Instant::now() };
        let work = move || {
            let nothing = Items::default();
            let flags = snapshot.as_ref().map_or(&nothing, |it| it.data().items());
            let mut processed = Processed::default();
            let take_on = |open: &mut Open| open.acks.extend(on_disk.as_ref().map(SpooledPost::ack));
            take_on(&mut open);
            for event in &events {
                if open.processor.is_full() {
                    processed.batches.push(open.flush());
                    take_on(&mut open);
                }
                if let Err(loss) = open.processor.take(event, flags, moment) {
                    processed.lose(loss);
                }
            }
            (open, processed)
        };
        let Some((mut open, processed)) = self.parts.limits.offload(self.trust, work).await else {
            tracing::error!("summarising failed, events were dropped");
            self.parts.ledger.record_dropped("summarising-failed", at_stake);
            return;
        };
        open.used = moment.instant;
        for (reason, count) in processed.lost {
            self.parts.ledger.record_dropped(reason, count);
        }
        if let Some(error) = processed.malformed {
            tracing::debug!(%error, "events of a post could not be read and were dropped");
        }
        for (batch, acks) in processed.batches {
            self.parts.outbox.dispatch(key.clone(), batch, acks);
        }
        if open.account_for() {
            self.processors.insert(key, open);
        } else {
            // Without memory for its state, the next post starts with a new processor.
            let (batch, acks) = open.flush();
            self.parts.outbox.dispatch(key, batch, acks);
        }
    }

    /// Takes the processor of a queue out of the map, or makes one; `None` if there is no memory for one.
    fn open(&mut self, key: &QueueKey) -> Option<Open> {
        if let Some(open) = self.processors.remove(key) {
            return Some(open);
        }
        if self.processors.len() >= MAX_PROCESSORS {
            let idle = self.processors.iter().min_by_key(|(_, open)| (!open.processor.is_empty(), open.used));
            if let Some(longest) = idle.map(|(key, _)| key.clone())
                && let Some(mut open) = self.processors.remove(&longest)
            {
                let (batch, acks) = open.flush();
                self.parts.outbox.dispatch(longest, batch, acks);
            }
        }
        let used = Instant::now();
        // It is emptied at its capacity, and must have room for everything that the last event before that produces.
        let capacity = self.parts.settings.capacity + MOST_OF_ONE - 1;
        let processor = Processor::new(key.schema, capacity, used);
        let charge = self.memory.charge(PROCESSOR_COST + key.heap_bytes())?;
        Some(Open { processor, used, charge, acks: Vec::new() })
    }

    fn take(&mut self) -> Vec<Summary> {
        let batches = self.processors.iter_mut().map(|(key, open)| {
            let (batch, acks) = open.flush();
            open.account_for();
            (key.clone(), batch, acks)
        });
        let has_events = |(_, batch, acks): &Summary| !batch.events.is_empty() || !acks.is_empty();
        batches.filter(has_events).collect()
    }

    fn close_idle(&mut self) {
        if self.processors.len() > 1 {
            // All of them have just been emptied.
            self.processors.retain(|_, open| open.used.elapsed() < MAX_IDLE);
        }
    }
}

impl Open {
    /// Takes what was collected.
    fn flush(&mut self) -> (Batch, Vec<Ack>) {
        (self.processor.flush(), std::mem::take(&mut self.acks))
    }

    /// Adjusts the charge to the memory of the processor; `false` if there is not enough.
    fn account_for(&mut self) -> bool {
        let (held, charged) = (self.processor.bytes(), self.charge.amount().saturating_sub(PROCESSOR_COST));
        self.charge.shrink(charged.saturating_sub(held));
        self.charge.grow(held.saturating_sub(charged))
    }
}

impl Processed {
    fn lose(&mut self, loss: Loss) {
        *self.lost.entry(loss.reason()).or_default() += 1;
        if let Loss::Malformed(error) = loss {
            self.malformed = self.malformed.take().or(Some(error));
        }
    }
}

#[cfg(fuzzing)]
pub(super) fn fuzz(event: Bytes) {
    let mut processor = Processor::new(1, 3, Instant::now());
    let moment = Moment { unix_ms: 1, upstream_ms: 2, instant: Instant::now() };
    let _ = processor.take(&event, &Items::default(), moment);
    for event in processor.flush().events {
        assert!(serde_json::from_slice::<&serde_json::value::RawValue>(&event).is_ok(), "what leaves is JSON");
    }
}

#[cfg(test)]
mod tests;
