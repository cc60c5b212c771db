//! Events on their way out: bounded queues, batches on a timer, delivery with one retry, a count for every loss.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Semaphore;
use tokio::time::MissedTickBehavior;

use crate::Lifecycle;
use crate::hooks::HookFuture;

/// How long the first failure of a delivery is waited out before the only retry, as LaunchDarkly's SDKs do it.
const RETRY_DELAY: Duration = Duration::from_secs(1);
/// Deliveries under way at once. More would only queue in the network; a batch that finds no place is dropped.
const MAX_DELIVERIES: usize = 64;
/// Queues at once. Keys contain what callers send, so their number must be bounded; events beyond are dropped.
const MAX_QUEUES: usize = 256;

/// Settings of an outbox.
#[derive(Debug, Clone)]
pub struct OutboxSettings {
    /// Events per queue. What does not fit is dropped and counted.
    pub capacity: usize,
    /// Time between flushes.
    pub flush_interval: Duration,
}

/// Knows how to send one batch of a queue.
pub trait Delivery<K>: Send + Sync + 'static {
    /// A batch ready to be sent; the same one is sent again on a retry.
    type Prepared: Send + Sync;

    /// Makes a request out of events. Done once per batch, off the request path.
    fn prepare(&self, key: &K, events: Vec<Bytes>) -> Self::Prepared;

    /// Sends it.
    fn send<'a>(&'a self, key: &'a K, batch: &'a Self::Prepared) -> HookFuture<'a, Sent>;
}

/// Events that leave together, and how many of the received events leave with them.
///
/// The two numbers differ where a vendor's protocol has the gateway condense events: many that were received become one
/// that is sent, or one becomes two.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// What is sent.
    pub events: Vec<Bytes>,
    /// How many events that are pending in the ledger are settled with it.
    pub stands_for: usize,
}

/// What became of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// Arrived.
    Delivered,
    /// Not now; worth one more attempt. The text is the reason for the counters.
    Later(&'static str),
    /// Never. The text is the reason for the counters.
    Refused(&'static str),
}

/// Where events of one environment stand. Delivered, filtered, dropped and pending add up to received.
#[derive(Debug, Default)]
pub struct Ledger {
    received: AtomicU64,
    delivered: AtomicU64,
    pending: AtomicU64,
    filtered: Mutex<BTreeMap<Arc<str>, u64>>,
    dropped: Mutex<BTreeMap<&'static str, u64>>,
}

/// The ledger at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LedgerReport {
    /// Events that SDKs handed over.
    pub received: u64,
    /// Events that arrived upstream.
    pub delivered: u64,
    /// Events that wait or are under way.
    pub pending: u64,
    /// Events that plugins dropped, by plugin.
    pub filtered: BTreeMap<Arc<str>, u64>,
    /// Events that were lost, by reason.
    pub dropped: BTreeMap<&'static str, u64>,
}

/// The queues of one environment.
pub struct Outbox<K, D: Delivery<K>> {
    settings: OutboxSettings,
    delivery: Arc<D>,
    ledger: Arc<Ledger>,
    queues: Mutex<HashMap<K, Queue>>,
    places: Arc<Semaphore>,
    lifecycle: Lifecycle,
}

#[derive(Default)]
struct Queue {
    events: Vec<Bytes>,
    /// One warning per overflow episode, not one per event.
    is_overflowing: bool,
}

impl Ledger {
    /// Events came in.
    pub fn receive(&self, count: usize) {
        self.received.fetch_add(count as u64, Ordering::Relaxed);
        self.pending.fetch_add(count as u64, Ordering::Relaxed);
    }

    /// Pending events were dropped by a plugin.
    pub fn filter(&self, plugin: &Arc<str>, count: usize) {
        self.settle(count);
        *lock(&self.filtered).entry(Arc::clone(plugin)).or_default() += count as u64;
    }

    /// Pending events were lost.
    pub fn lose(&self, reason: &'static str, count: usize) {
        if count > 0 {
            self.settle(count);
            *lock(&self.dropped).entry(reason).or_default() += count as u64;
        }
    }

    /// Pending events arrived upstream.
    pub fn deliver(&self, count: usize) {
        self.settle(count);
        self.delivered.fetch_add(count as u64, Ordering::Relaxed);
    }

    fn settle(&self, count: usize) {
        self.pending.fetch_sub(count as u64, Ordering::Relaxed);
    }

    /// The ledger of this moment.
    #[must_use]
    pub fn report(&self) -> LedgerReport {
        LedgerReport {
            received: self.received.load(Ordering::Relaxed),
            delivered: self.delivered.load(Ordering::Relaxed),
            pending: self.pending.load(Ordering::Relaxed),
            filtered: lock(&self.filtered).clone(),
            dropped: lock(&self.dropped).clone(),
        }
    }
}

impl<K, D> Outbox<K, D>
where
    K: Hash + Eq + Clone + Send + Sync + std::fmt::Debug + 'static,
    D: Delivery<K>,
{
    /// Starts the flush timer under `lifecycle`.
    #[must_use]
    pub fn start(settings: OutboxSettings, delivery: D, ledger: Arc<Ledger>, lifecycle: &Lifecycle) -> Arc<Self> {
        let outbox = Arc::new(Self {
            settings,
            delivery: Arc::new(delivery),
            ledger,
            queues: Mutex::default(),
            places: Arc::new(Semaphore::new(MAX_DELIVERIES)),
            lifecycle: lifecycle.clone(),
        });
        lifecycle.spawn("outbox", Arc::clone(&outbox).flush_on_timer());
        outbox
    }

    /// Queues events that are pending in the ledger; drops and counts what does not fit.
    pub fn push(&self, key: &K, events: impl IntoIterator<Item = Bytes>) {
        let mut events = events.into_iter();
        let mut queues = lock(&self.queues);
        if queues.len() >= MAX_QUEUES && !queues.contains_key(key) {
            drop(queues);
            self.ledger.lose("too-many-queues", events.count());
            return;
        }
        let queue = queues.entry(key.clone()).or_default();
        let room = self.settings.capacity.saturating_sub(queue.events.len());
        queue.events.extend(events.by_ref().take(room));
        let lost = events.count();
        let is_new_episode = lost > 0 && !queue.is_overflowing;
        queue.is_overflowing |= lost > 0;
        drop(queues);
        self.ledger.lose("queue-full", lost);
        if is_new_episode {
            tracing::warn!(
                capacity = self.settings.capacity,
                "event queue is full, dropping events until the next flush"
            );
        }
    }

    /// Sends a batch that was collected elsewhere; drops and counts it if too many are under way.
    pub fn dispatch(self: &Arc<Self>, key: K, batch: Batch) {
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            self.ledger.lose("upstream-too-slow", batch.stands_for);
            return;
        };
        let outbox = Arc::clone(self);
        // A slow upstream must not hold back the next flush, so each batch is on its own. Not dropped on shutdown: what
        // was taken from a queue is delivered within the drain time.
        self.lifecycle.spawn_graceful("event delivery", async move {
            outbox.deliver(key, batch).await;
            drop(place);
        });
    }

    /// Sends a batch at once, and waits until it has arrived or is lost.
    pub async fn deliver(&self, key: K, batch: Batch) {
        let Batch { events, stands_for } = batch;
        if events.is_empty() {
            // What is to be settled without a word to upstream, the caller settles: it knows why.
            debug_assert_eq!(stands_for, 0, "an empty batch stands for nothing");
            return;
        }
        let batch = self.delivery.prepare(&key, events);
        let mut outcome = self.delivery.send(&key, &batch).await;
        if let Sent::Later(reason) = outcome {
            tracing::warn!(reason, "event delivery failed, will retry once");
            tokio::time::sleep(RETRY_DELAY).await;
            outcome = self.delivery.send(&key, &batch).await;
        }
        match outcome {
            Sent::Delivered => self.ledger.deliver(stands_for),
            Sent::Later(reason) | Sent::Refused(reason) => {
                tracing::warn!(reason, count = stands_for, "events were dropped");
                self.ledger.lose(reason, stands_for);
            }
        }
    }

    /// Sends what waits, and waits until it has arrived or is lost.
    pub async fn flush(&self) {
        let batches = self.take();
        futures_util::future::join_all(batches.into_iter().map(|(key, batch)| self.deliver(key, batch))).await;
        // Deliveries that the timer had started.
        let _ = self.places.acquire_many(u32::try_from(MAX_DELIVERIES).unwrap_or(u32::MAX)).await;
    }

    async fn flush_on_timer(self: Arc<Self>) {
        let mut timer = tokio::time::interval(self.settings.flush_interval);
        timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        timer.tick().await;
        loop {
            timer.tick().await;
            for (key, batch) in self.take() {
                self.dispatch(key, batch);
            }
        }
    }

    fn take(&self) -> Vec<(K, Batch)> {
        let queues = std::mem::take(&mut *lock(&self.queues));
        let batch = |events: Vec<Bytes>| Batch { stands_for: events.len(), events };
        queues.into_iter().map(|(key, queue)| (key, batch(queue.events))).collect()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
