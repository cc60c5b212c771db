//! Summarising for SDKs that cannot do it themselves: PHP, which forgets everything between requests, and very old ones.
//!
//! One task per environment takes what the event filter has let through, has it [processed](processor) off the
//! asynchronous threads, and hands a batch per [queue](QueueKey) to the outbox on a timer. Section 10.5 of the
//! compatibility page says what must come out.

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
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior};
use yardarm_core::outbox::{Batch, Ledger, Outbox, OutboxSettings};
use yardarm_core::time::unix_ms;
use yardarm_core::{Environment, EnvironmentLabel, Lifecycle};

use self::processor::{Loss, Moment, Processor};
use self::read::ReadError;
use super::post::{Poster, QueueKey};
use crate::dataset::{FlagData, Items};

/// Schema of everything that is summarised here.
pub(super) const SCHEMA: u32 = 4;
/// Bytes of events that wait to be processed, per environment. A post that does not fit is dropped and counted.
const MAX_WAITING_KIB: usize = 64 << 10;
/// Processors at once, per environment. Keys contain what callers send, so their number must be bounded; the one that
/// has been idle for longest makes room, and if none is, the events are dropped and counted.
const MAX_PROCESSORS: usize = 64;
/// A processor that saw no event for so long is closed, unless it is the only one (section 10.5).
const MAX_IDLE: Duration = Duration::from_secs(3600);

/// Where events go that have to be summarised.
pub(super) struct Summaries {
    jobs: mpsc::Sender<Job>,
    room: Arc<Semaphore>,
    ledger: Arc<Ledger>,
}

/// What the task needs to know.
pub(super) struct Parts {
    pub(super) label: EnvironmentLabel,
    pub(super) settings: OutboxSettings,
    /// For what old events do not say.
    pub(super) data: Environment<FlagData>,
    /// Knows the clock of the events service.
    pub(super) poster: Poster,
    pub(super) outbox: Arc<Outbox<QueueKey, Poster>>,
    pub(super) ledger: Arc<Ledger>,
}

enum Job {
    Process(Arrival),
    /// Everything that was collected is handed over.
    Flush(oneshot::Sender<Vec<(QueueKey, Batch)>>),
}

/// Events of one post.
struct Arrival {
    key: QueueKey,
    events: Vec<Bytes>,
    /// Its share of the bytes that may wait.
    _room: OwnedSemaphorePermit,
}

struct Summariser {
    parts: Parts,
    processors: HashMap<QueueKey, Open>,
}

/// A processor that is in use.
struct Open {
    processor: Processor,
    used: Instant,
    /// One warning per overflow episode, not one per post.
    is_overflowing: bool,
}

/// What was lost of one post.
#[derive(Default)]
struct Losses {
    by_reason: BTreeMap<&'static str, usize>,
    has_overflowed: bool,
    /// The first one, for people.
    malformed: Option<ReadError>,
}

impl Summaries {
    /// Starts the task.
    pub(super) fn start(parts: Parts, lifecycle: &Lifecycle) -> Self {
        // Each job but a flush holds at least one of the permits, so there is always room for it.
        let (jobs, queue) = mpsc::channel(MAX_WAITING_KIB + 1);
        let ledger = Arc::clone(&parts.ledger);
        let summariser = Summariser { parts, processors: HashMap::new() };
        lifecycle.spawn("event summaries", summariser.run(queue));
        Self { jobs, room: Arc::new(Semaphore::new(MAX_WAITING_KIB)), ledger }
    }

    /// Queues events that are pending in the ledger; drops and counts what does not fit.
    pub(super) fn push(&self, key: QueueKey, events: Vec<Bytes>) {
        let count = events.len();
        let kib = events.iter().map(Bytes::len).sum::<usize>() / 1024 + 1;
        let room = Arc::clone(&self.room).try_acquire_many_owned(u32::try_from(kib).unwrap_or(u32::MAX));
        let is_queued =
            room.is_ok_and(|_room| self.jobs.try_send(Job::Process(Arrival { key, events, _room })).is_ok());
        if !is_queued {
            self.ledger.lose("summaries-too-slow", count);
        }
    }

    /// Takes everything that was collected, after what is queued has been processed.
    pub(super) async fn take(&self) -> Vec<(QueueKey, Batch)> {
        let (reply, batches) = oneshot::channel();
        if self.jobs.send(Job::Flush(reply)).await.is_err() {
            return Vec::new();
        }
        batches.await.unwrap_or_default()
    }
}

impl Summariser {
    async fn run(mut self, mut queue: mpsc::Receiver<Job>) {
        let mut timer = tokio::time::interval(self.parts.settings.flush_interval);
        timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        timer.tick().await;
        loop {
            tokio::select! {
                job = queue.recv() => match job {
                    Some(Job::Process(arrival)) => self.process(arrival).await,
                    // Nobody waits for the answer any more if the drain time is over.
                    Some(Job::Flush(reply)) => drop(reply.send(self.take())),
                    None => return,
                },
                _ = timer.tick() => {
                    for (key, batch) in self.take() {
                        self.parts.outbox.dispatch(key, batch);
                    }
                    self.close_idle();
                }
            }
        }
    }

    /// Has a post processed where it delays nobody, for it may have thousands of events.
    async fn process(&mut self, arrival: Arrival) {
        let Arrival { key, events, _room } = arrival;
        let count = events.len();
        let Some(mut open) = self.open(&key) else {
            self.parts.ledger.lose("too-many-queues", count);
            return;
        };
        let at_stake = open.processor.taken() + count;
        let snapshot = self.parts.data.snapshot();
        let moment =
            Moment { unix_ms: unix_ms(), upstream_ms: self.parts.poster.upstream_ms(), instant: Instant::now() };
        let work = move || {
            let nothing = Items::default();
            let flags = snapshot.as_ref().map_or(&nothing, |it| it.data().items());
            let mut losses = Losses::default();
            for event in &events {
                if let Err(loss) = open.processor.take(event, flags, moment) {
                    losses.add(loss);
                }
            }
            (open, losses)
        };
        let Ok((mut open, losses)) = tokio::task::spawn_blocking(work).await else {
            tracing::error!(environment = %self.parts.label, "summarising failed, events were dropped");
            self.parts.ledger.lose("summarising-failed", at_stake);
            return;
        };
        let is_new_episode = losses.has_overflowed && !open.is_overflowing;
        open.is_overflowing |= losses.has_overflowed;
        open.used = moment.instant;
        self.processors.insert(key, open);
        self.tell(losses, is_new_episode);
    }

    fn tell(&self, losses: Losses, is_new_episode: bool) {
        let Parts { label, settings, ledger, .. } = &self.parts;
        for (reason, count) in losses.by_reason {
            ledger.lose(reason, count);
        }
        if let Some(error) = losses.malformed {
            tracing::warn!(environment = %label, %error, "events of a post could not be read and were dropped");
        }
        if is_new_episode {
            tracing::warn!(environment = %label, capacity = settings.capacity, "event queue or summary is full, dropping events until the next flush");
        }
    }

    /// Takes the processor of a queue out of the map, or makes one if there is room.
    fn open(&mut self, key: &QueueKey) -> Option<Open> {
        if let Some(open) = self.processors.remove(key) {
            return Some(open);
        }
        if self.processors.len() >= MAX_PROCESSORS {
            let idle = self.processors.iter().filter(|(_, open)| open.processor.is_empty());
            let longest = idle.min_by_key(|(_, open)| open.used).map(|(key, _)| key.clone())?;
            self.processors.remove(&longest);
        }
        let used = Instant::now();
        let processor = Processor::new(key.schema, self.parts.settings.capacity, used);
        Some(Open { processor, used, is_overflowing: false })
    }

    fn take(&mut self) -> Vec<(QueueKey, Batch)> {
        let batches = self.processors.iter_mut().map(|(key, open)| {
            open.is_overflowing = false;
            (key.clone(), open.processor.flush())
        });
        batches.filter(|(_, batch)| !batch.events.is_empty()).collect()
    }

    fn close_idle(&mut self) {
        if self.processors.len() > 1 {
            // All of them have just been emptied.
            self.processors.retain(|_, open| open.used.elapsed() < MAX_IDLE);
        }
    }
}

impl Losses {
    fn add(&mut self, loss: Loss) {
        *self.by_reason.entry(loss.reason()).or_default() += 1;
        match loss {
            Loss::Malformed(error) => self.malformed = self.malformed.take().or(Some(error)),
            Loss::QueueFull | Loss::SummaryFull => self.has_overflowed = true,
            Loss::NothingToSend => (),
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
