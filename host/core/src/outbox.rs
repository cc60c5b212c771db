//! Events on their way out: bounded queues, batches on a timer or as soon as one is full, delivery with one retry, a
//! count for every loss.
//!
//! Each [`Trust`] has a lane (`outbox/lane.rs`) of its own in each environment, for there is one credential of each
//! kind: queues, places for posts and memory. What one does never costs another anything. As long as upstream answers,
//! events are lost for lack of memory only; while it does not, a queue holds its capacity.

mod lane;
mod ledger;

use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, Semaphore};
use tokio::time::MissedTickBehavior;

use self::lane::{EVENT_COST, Lane};
pub use self::ledger::{Advice, Ledger, LedgerReport, Unsettled};
use crate::budget::{Budget, ByTrust, Charge, Trust};
use crate::hooks::HookFuture;
use crate::supervisor::fault_point;
use crate::workers::{ThreadError, Workers};
use crate::{Background, Lifecycle};

/// How long the first failure of a delivery is waited out before the only retry, as LaunchDarkly's SDKs do it.
const RETRY_DELAY: Duration = Duration::from_secs(1);
/// Posts under way at once, by kind of credential, for all environments together.
const MAX_POSTS: ByTrust<usize> = ByTrust { secret: 96, embedded: 48, public: 48 };
/// Bytes of events, with [`EVENT_COST`] for each, from which on a batch for [`Trust::Secret`] is prepared off the serving
/// threads; others always are.
const LARGE_BATCH: usize = 16 << 10;
/// Threads that send what callers post that anybody can be: less work than preparing it.
const SENDERS: usize = 1;

/// Reason for events that were lost because of a panic.
pub const INTERNAL_ERROR: &str = "internal-error";

/// Settings of an outbox.
#[derive(Debug, Clone)]
pub struct OutboxSettings {
    /// Events per post. A queue that has so many is posted at once; while upstream does not answer it holds no more.
    pub capacity: usize,
    /// Time between flushes.
    pub flush_interval: Duration,
}

/// Limits that the outboxes of all environments share. Cheap to clone.
#[derive(Debug, Clone)]
pub struct SharedLimits {
    memory: ByTrust<Budget>,
    posts: ByTrust<Arc<Semaphore>>,
    /// Absent in some tests.
    threads: Option<Threads>,
}

#[derive(Debug, Clone)]
struct Threads {
    preparers: ByTrust<Workers>,
    senders: Background,
}

/// What a queue is found by. Events with the same key travel together.
pub trait QueueKey: Hash + Eq + Clone + Send + Sync + std::fmt::Debug + 'static {
    /// How well the credential is guarded that the events came with.
    fn trust(&self) -> Trust;

    /// Bytes that the key owns on the heap; clones that share them count in full.
    fn heap_bytes(&self) -> usize;
}

/// Knows how to send one batch of a queue.
pub trait Delivery<K>: Send + Sync + 'static {
    /// A batch ready to be sent; the same one is sent again on a retry.
    type Prepared: Send + Sync + 'static;

    /// Makes a request out of events. Done once per batch; a large one is prepared off the serving threads.
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

/// The queues of one environment.
pub struct Outbox<K, D: Delivery<K>> {
    settings: OutboxSettings,
    delivery: Arc<D>,
    ledger: Arc<Ledger>,
    lanes: ByTrust<Mutex<Lane<K>>>,
    limits: SharedLimits,
    /// A post has ended.
    ended: Notify,
    lifecycle: Lifecycle,
}

/// A post under way: ends it in its lane when dropped, also by a panic.
struct UnderWay<K: QueueKey, D: Delivery<K>> {
    outbox: Arc<Outbox<K, D>>,
    trust: Trust,
    is_answered: bool,
}

impl SharedLimits {
    /// Divides `memory` bytes for events that wait or are under way between kinds of credentials. Batches are prepared by
    /// `workers`.
    ///
    /// # Errors
    /// When the system refuses a thread.
    pub fn new(memory: usize, workers: &ByTrust<Workers>) -> Result<Self, ThreadError> {
        let preparers = ByTrust::from_fn(|trust| workers.get(trust).queue());
        let senders = Background::start("yardarm-send", SENDERS)?;
        Ok(Self { threads: Some(Threads { preparers, senders }), ..Self::without_threads(memory) })
    }

    /// Prepares and sends where events are queued. For tests whose clock is paused, because that does not wait for threads.
    fn without_threads(memory: usize) -> Self {
        let posts = ByTrust::from_fn(|trust| Arc::new(Semaphore::new(*MAX_POSTS.get(trust))));
        Self { memory: Budget::by_trust(memory), posts, threads: None }
    }

    /// Memory for events of one kind of credential.
    #[must_use]
    pub fn memory(&self, trust: Trust) -> &Budget {
        self.memory.get(trust)
    }

    /// Starts a task that sends what was posted with such a credential, as [`Lifecycle::spawn_graceful`] does. All but
    /// [`Trust::Secret`] share a runtime of their own, and must not share connections with others.
    pub fn spawn_sender<F>(&self, trust: Trust, lifecycle: &Lifecycle, name: &'static str, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        match &self.threads {
            Some(threads) if trust != Trust::Secret => {
                lifecycle.spawn_graceful_on(threads.senders.handle(), name, task);
            }
            _ => lifecycle.spawn_graceful(name, task),
        }
    }
}

impl<K: QueueKey, D: Delivery<K>> Outbox<K, D> {
    /// Starts the flush timer under `lifecycle`.
    #[must_use]
    pub fn start(
        settings: OutboxSettings,
        limits: &SharedLimits,
        delivery: D,
        ledger: Arc<Ledger>,
        lifecycle: &Lifecycle,
    ) -> Arc<Self> {
        let outbox = Arc::new(Self {
            settings,
            delivery: Arc::new(delivery),
            ledger,
            lanes: ByTrust::from_fn(|trust| Mutex::new(Lane::new(limits.memory(trust).account()))),
            limits: limits.clone(),
            ended: Notify::new(),
            lifecycle: lifecycle.clone(),
        });
        let timer = Arc::clone(&outbox);
        lifecycle.supervise("outbox", move || Arc::clone(&timer).flush_on_timer());
        outbox
    }

    /// Queues events that are pending in the ledger, and posts full batches; counts what finds no room. `charge` is memory
    /// that the events have from elsewhere, in which they wait for room while upstream keeps up.
    pub fn push(self: &Arc<Self>, key: &K, events: Vec<Bytes>, charge: Option<Charge>) {
        let (mut events, mut charge) = (events.into_iter(), charge);
        while events.len() > 0 {
            self.lane(key.trust()).push(key, &mut events, &mut charge, &self.settings, &self.ledger);
            self.post_ready(key.trust());
        }
    }

    /// Sends a batch that was collected elsewhere, in its turn; counts it if it finds no room.
    pub fn dispatch(self: &Arc<Self>, key: K, batch: Batch) {
        if batch.events.is_empty() {
            // What is to be settled without a word to upstream, the caller settles: it knows why.
            debug_assert_eq!(batch.stands_for, 0, "an empty batch stands for nothing");
            return;
        }
        let trust = key.trust();
        self.lane(trust).push_batch(key, batch, &self.ledger);
        self.post_ready(trust);
    }

    /// Sends what waits, and waits until it has arrived or is lost.
    pub async fn flush(self: &Arc<Self>) {
        loop {
            let ended = self.ended.notified();
            tokio::pin!(ended);
            // From here on an end is noticed, also one before the wait.
            ended.as_mut().enable();
            self.post_all();
            if Trust::ALL.iter().all(|trust| self.lane(*trust).is_idle()) {
                return;
            }
            ended.await;
        }
    }

    async fn flush_on_timer(self: Arc<Self>) {
        let mut timer = tokio::time::interval(self.settings.flush_interval);
        timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        timer.tick().await;
        loop {
            timer.tick().await;
            self.post_all();
        }
    }

    fn post_all(self: &Arc<Self>) {
        for trust in Trust::ALL {
            self.lane(trust).make_due(&self.settings, &self.ledger);
            self.post_ready(trust);
        }
    }

    /// Starts as many posts as there is something to post and places for.
    fn post_ready(self: &Arc<Self>, trust: Trust) {
        loop {
            // The lane must not be locked while a task is started.
            let next = self.lane(trust).next(&self.settings, &self.ledger);
            let Some((key, batch, charge)) = next else { return };
            let post = UnderWay { outbox: Arc::clone(self), trust, is_answered: false };
            // Not dropped on shutdown: what was taken from a queue is delivered within the drain time.
            self.limits.spawn_sender(trust, &self.lifecycle, "event delivery", post.run(key, batch, charge));
        }
    }

    /// Sends a batch, with one retry, and settles its events. Returns whether upstream gave an answer that is final.
    async fn deliver(&self, key: &K, batch: Batch) -> bool {
        let Batch { events, stands_for } = batch;
        let unsettled = self.ledger.guard(stands_for);
        fault_point("event sender");
        let Some(batch) = self.prepare(key, events).await else {
            unsettled.settle_elsewhere();
            self.ledger.record_dropped(INTERNAL_ERROR, stands_for);
            return false;
        };
        let mut outcome = self.delivery.send(key, &batch).await;
        if let Sent::Later(reason) = outcome {
            tracing::debug!(reason, "event delivery failed, will retry once");
            tokio::time::sleep(RETRY_DELAY).await;
            outcome = self.delivery.send(key, &batch).await;
        }
        unsettled.settle_elsewhere();
        match outcome {
            Sent::Delivered => self.ledger.record_delivered(stands_for),
            Sent::Later(reason) | Sent::Refused(reason) => self.ledger.record_dropped(reason, stands_for),
        }
        !matches!(outcome, Sent::Later(_))
    }

    async fn prepare(&self, key: &K, events: Vec<Bytes>) -> Option<D::Prepared> {
        let is_small = events.iter().map(|it| EVENT_COST + it.len()).sum::<usize>() < LARGE_BATCH;
        // Of callers that anybody can be there may be thousands of small ones.
        let is_quick = is_small && key.trust() == Trust::Secret;
        let Some(threads) = self.limits.threads.as_ref().filter(|_| !is_quick) else {
            return Some(self.delivery.prepare(key, events));
        };
        let (delivery, owned) = (Arc::clone(&self.delivery), key.clone());
        threads.preparers.get(key.trust()).run("event batch", move || delivery.prepare(&owned, events)).await.ok()
    }

    fn lane(&self, trust: Trust) -> std::sync::MutexGuard<'_, Lane<K>> {
        lock(self.lanes.get(trust))
    }
}

impl<K: QueueKey, D: Delivery<K>> UnderWay<K, D> {
    async fn run(mut self, key: K, batch: Batch, charge: Charge) {
        let (outbox, trust) = (Arc::clone(&self.outbox), self.trust);
        // One kind of credential never takes the places of another, and environments take turns. Never closed.
        let place = outbox.limits.posts.get(trust).acquire().await;
        self.is_answered = outbox.deliver(&key, batch).await;
        drop((place, charge, self));
        outbox.post_ready(trust);
    }
}

impl<K: QueueKey, D: Delivery<K>> Drop for UnderWay<K, D> {
    fn drop(&mut self) {
        self.outbox.lane(self.trust).end_post(self.is_answered);
        self.outbox.ended.notify_waiters();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
