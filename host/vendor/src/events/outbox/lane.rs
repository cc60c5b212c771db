//! The queues, ready batches and posts in progress of one credential.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;
use yardarm_core::budget::{Account, Charge};

use super::{Batch, Ledger, OutboxSettings, QueueKey};
use crate::events::spool::Ack;

/// Maximum number of concurrent posts per credential. More would only queue in the network.
pub(super) const MAX_POSTS: usize = 24;
/// Maximum number of queues per credential. Keys contain data of callers, so their number must be bounded.
pub(super) const MAX_QUEUES: usize = 10_000;
/// Number of queues from which on all of them are posted early.
pub(super) const MANY_QUEUES: usize = 1_000;
/// Maximum bytes of events in one post, unless a single event is larger.
pub(super) const MAX_POST_BYTES: usize = 4 << 20;
/// Number of events that are queued before the lock of the lane is released for others.
const PUSHED_AT_ONCE: usize = 1000;
/// Approximate overhead of an event in bytes: a handle and an allocation.
pub(super) const EVENT_COST: usize = 64;
/// Approximate overhead of a queue in bytes, without the heap bytes of its key.
pub(super) const QUEUE_COST: usize = 512;
/// Upstream keeps up if it has answered a post within this time, or no post is in progress. While it keeps up, queues
/// may exceed their capacity.
pub(super) const STALL_TIME: Duration = Duration::from_secs(2);

/// The queues of one credential.
pub(super) struct Lane<K> {
    memory: Arc<Account>,
    queues: HashMap<K, Queue>,
    /// Keys of the queues that are due, in order, each at most once.
    ready: VecDeque<K>,
    /// Events for which there was no memory while upstream kept up, with the charge that covers them meanwhile.
    backlog: VecDeque<(K, std::vec::IntoIter<Queued>, Charge)>,
    /// Batches that were built elsewhere.
    batches: VecDeque<(K, Batch, Vec<Ack>, Charge)>,
    posts: usize,
    /// Number of the next batch.
    next_number: u64,
    /// Batches that upstream did not take and that are sent again. Nothing else is sent meanwhile.
    pub(super) failing: BTreeSet<u64>,
    /// Whether upstream did not take a batch in the last flush.
    pub(super) is_down: bool,
    /// When upstream answered last, or the first post after a pause was started.
    answered_at: Instant,
}

/// An event in a queue.
pub(super) struct Queued {
    pub(super) body: Bytes,
    /// The part of a post on disk that it is.
    pub(super) ack: Option<Ack>,
}

/// A batch to be sent now.
pub(super) struct Outgoing<K> {
    pub(super) key: K,
    pub(super) batch: Batch,
    pub(super) acks: Vec<Ack>,
    /// Its place in the order of the batches of the credential.
    pub(super) number: u64,
    /// Memory that it takes.
    pub(super) charge: Charge,
}

struct Queue {
    events: VecDeque<Queued>,
    /// Bytes of events.
    bytes: usize,
    charge: Charge,
    is_ready: bool,
    /// Whether all of its events are due, not only full batches.
    is_due: bool,
}

impl<K: QueueKey> Lane<K> {
    pub(super) fn new(memory: Arc<Account>) -> Self {
        Self {
            memory,
            queues: HashMap::new(),
            ready: VecDeque::new(),
            backlog: VecDeque::new(),
            batches: VecDeque::new(),
            posts: 0,
            next_number: 0,
            failing: BTreeSet::new(),
            is_down: false,
            answered_at: Instant::now(),
        }
    }

    /// Queues some of the events, which are pending in `ledger`, and counts those that are dropped. While upstream
    /// keeps up, events that are covered by `charge` wait in the backlog for space. The events left in `events` are for
    /// the next call.
    pub(super) fn push(
        &mut self,
        key: &K,
        events: &mut std::vec::IntoIter<Queued>,
        charge: &mut Option<Charge>,
        settings: &OutboxSettings,
        ledger: &Ledger,
    ) {
        // The backlog goes first.
        if self.backlog.is_empty() && self.enqueue(key, events, PUSHED_AT_ONCE, settings, ledger) {
            return;
        }
        let rest = std::mem::take(events);
        let is_spooled = rest.as_slice().first().is_some_and(|it| it.ack.is_some());
        match charge.take() {
            _ if rest.len() == 0 => (),
            Some(charge) if is_spooled || self.keeps_up() => self.backlog.push_back((key.clone(), rest, charge)),
            _ => lose(rest, "memory-full", ledger),
        }
        let is_early = self.queues.len() >= MANY_QUEUES || self.memory.is_crowded();
        if is_early && self.ready.len() < self.queues.len() {
            self.make_all_due();
        }
    }

    /// Queues the events of the backlog that fit now.
    fn refill(&mut self, settings: &OutboxSettings, ledger: &Ledger) {
        while let Some((key, mut events, charge)) = self.backlog.pop_front() {
            self.enqueue(&key, &mut events, usize::MAX, settings, ledger);
            let is_stuck = self.posts == 0 && self.queues.is_empty() && self.batches.is_empty();
            if events.len() > 0 && is_stuck {
                // The event is larger than all memory of the lane.
                lose(events.next(), "memory-full", ledger);
            }
            if events.len() > 0 {
                self.backlog.push_front((key, events, charge));
                if !is_stuck {
                    self.make_all_due();
                    return;
                }
            }
        }
    }

    /// Moves at most `most` events into their queue, until there is no memory; drops and counts those that exceed its
    /// capacity or the number of queues. Returns whether `most` was the limit.
    fn enqueue(
        &mut self,
        key: &K,
        events: &mut std::vec::IntoIter<Queued>,
        most: usize,
        settings: &OutboxSettings,
        ledger: &Ledger,
    ) -> bool {
        let last = events.len().saturating_sub(most);
        let keeps_up = self.keeps_up();
        if !self.queues.contains_key(key) {
            if self.queues.len() >= MAX_QUEUES {
                lose(events.by_ref(), "too-many-queues", ledger);
                return false;
            }
            let Some(charge) = self.memory.charge(QUEUE_COST + key.heap_bytes()) else { return false };
            let events = VecDeque::new();
            self.queues.insert(key.clone(), Queue { events, bytes: 0, charge, is_ready: false, is_due: false });
        }
        let Some(queue) = self.queues.get_mut(key) else { return false };
        while events.len() > last
            && let Some(event) = events.as_slice().first()
        {
            if !keeps_up && queue.events.len() >= settings.capacity {
                // Events of posts on disk wait for space.
                if event.ack.is_none() {
                    lose(events.by_ref(), "queue-full", ledger);
                }
                break;
            }
            if !queue.charge.grow(EVENT_COST + event.body.len()) {
                break;
            }
            queue.bytes += event.body.len();
            queue.events.extend(events.next());
        }
        if queue.is_large(settings) && !queue.is_ready {
            queue.is_ready = true;
            self.ready.push_back(key.clone());
        }
        if queue.events.is_empty() {
            self.queues.remove(key);
        }
        last > 0 && events.len() == last
    }

    /// Queues a batch that was built elsewhere; drops and counts it if it does not fit.
    pub(super) fn push_batch(&mut self, key: K, batch: Batch, acks: Vec<Ack>, ledger: &Ledger) {
        let cost = QUEUE_COST + key.heap_bytes() + batch.events.iter().map(|it| EVENT_COST + it.len()).sum::<usize>();
        match self.memory.charge(cost) {
            Some(charge) => self.batches.push_back((key, batch, acks, charge)),
            None => {
                ledger.record_dropped("memory-full", batch.stands_for);
                acks.into_iter().for_each(Ack::settle);
            }
        }
    }

    /// Marks everything that waits now as due, including the part of the backlog that fits.
    pub(super) fn make_due(&mut self, settings: &OutboxSettings, ledger: &Ledger) {
        self.refill(settings, ledger);
        self.make_all_due();
    }

    fn make_all_due(&mut self) {
        for (key, queue) in &mut self.queues {
            queue.is_due = true;
            if !queue.is_ready {
                queue.is_ready = true;
                self.ready.push_back(key.clone());
            }
        }
    }

    /// Returns the next batch to post, if one more post may be in progress. Queues alternate.
    pub(super) fn next(&mut self, settings: &OutboxSettings, ledger: &Ledger) -> Option<Outgoing<K>> {
        self.refill(settings, ledger);
        if self.posts >= MAX_POSTS || !self.failing.is_empty() {
            return None;
        }
        let (key, batch, acks, charge) = match self.batches.pop_front() {
            Some(batch) => batch,
            None => self.next_of_queues(settings)?,
        };
        let number = self.next_number;
        self.next_number += 1;
        if self.posts == 0 {
            self.answered_at = Instant::now();
        }
        self.posts += 1;
        Some(Outgoing { key, batch, acks, number, charge })
    }

    fn next_of_queues(&mut self, settings: &OutboxSettings) -> Option<(K, Batch, Vec<Ack>, Charge)> {
        let key = self.ready.pop_front()?;
        let queue = self.queues.get_mut(&key)?;
        let (queued, charge) = queue.take(settings.capacity);
        let (events, acks): (Vec<_>, Vec<_>) = queued.into_iter().map(|it| (it.body, it.ack)).unzip();
        queue.is_ready = !queue.events.is_empty() && (queue.is_due || queue.is_large(settings));
        if queue.is_ready {
            self.ready.push_back(key.clone());
        } else if queue.events.is_empty() {
            self.queues.remove(&key);
        }
        Some((key, Batch { stands_for: events.len(), events }, acks.into_iter().flatten().collect(), charge))
    }

    /// Records the end of a post; `is_answered` if upstream answered with a final status.
    pub(super) fn end_post(&mut self, is_answered: bool) {
        self.posts -= 1;
        if is_answered {
            self.answered_at = Instant::now();
        }
    }

    /// Returns whether no event waits and no post is in progress.
    pub(super) fn is_idle(&self) -> bool {
        self.posts == 0 && self.queues.is_empty() && self.batches.is_empty() && self.backlog.is_empty()
    }

    /// Returns whether events would be sent soon.
    pub(super) fn has_room(&self, settings: &OutboxSettings) -> bool {
        let has_space = || self.queues.values().all(|queue| queue.events.len() < settings.capacity);
        self.failing.is_empty() && self.backlog.is_empty() && (self.keeps_up() || has_space())
    }

    fn keeps_up(&self) -> bool {
        self.posts == 0 || self.answered_at.elapsed() < STALL_TIME
    }
}

/// Drops events and counts them.
fn lose(events: impl IntoIterator<Item = Queued>, reason: &'static str, ledger: &Ledger) {
    let mut count = 0;
    for event in events {
        count += 1;
        if let Some(ack) = event.ack {
            ack.settle();
        }
    }
    ledger.record_dropped(reason, count);
}

impl From<Bytes> for Queued {
    fn from(body: Bytes) -> Self {
        Self { body, ack: None }
    }
}

impl Queue {
    fn is_large(&self, settings: &OutboxSettings) -> bool {
        self.events.len() >= settings.capacity || self.bytes >= MAX_POST_BYTES
    }

    /// Takes the events of one post and their cost.
    fn take(&mut self, capacity: usize) -> (Vec<Queued>, Charge) {
        let (mut count, mut bytes) = (0, 0);
        for event in self.events.iter().take(capacity) {
            if count > 0 && bytes + event.body.len() > MAX_POST_BYTES {
                break;
            }
            count += 1;
            bytes += event.body.len();
        }
        self.bytes -= bytes;
        let charge = self.charge.split(bytes + count * EVENT_COST);
        (self.events.drain(..count).collect(), charge)
    }
}

#[cfg(test)]
impl<K: QueueKey> Lane<K> {
    pub(super) fn posts(&self) -> usize {
        self.posts
    }

    pub(super) fn queues(&self) -> usize {
        self.queues.len()
    }

    pub(super) fn memory(&self) -> usize {
        self.memory.used()
    }
}
