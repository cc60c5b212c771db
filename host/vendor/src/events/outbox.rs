//! Delivery of events to the vendor: bounded queues, batches that are sent on a timer or once full, one retry, and a
//! count of every loss. Batches of posts that are on disk are sent until upstream takes them.
//!
//! Each environment has one lane (`outbox/lane.rs`) per [`Trust`], as there is one credential of each kind: a lane has
//! its own queues, posts and memory, and never uses those of another. As long as upstream answers, events are dropped
//! only for lack of memory; while it does not, a queue holds no more than its capacity.

mod lane;
mod ledger;
mod retry;

use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{Notify, Semaphore, SemaphorePermit};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use yardarm_core::budget::{Budget, ByTrust, Charge, Trust};
use yardarm_core::hooks::HookFuture;
use yardarm_core::supervisor::fault_point;
use yardarm_core::workers::{ThreadError, Workers};
use yardarm_core::{Background, Lifecycle, trace};

use self::lane::{EVENT_COST, Lane, Outgoing, Queued};
pub use self::ledger::{Advice, Ledger, LedgerReport, Unsettled};
use super::spool::{Ack, SpooledPost};

/// Delay between a failed delivery and the only retry, as in LaunchDarkly's SDKs.
const RETRY_DELAY: Duration = Duration::from_secs(1);
/// Maximum number of concurrent posts per kind of credential, over all environments.
const MAX_POSTS: ByTrust<usize> = ByTrust { secret: 96, embedded: 48, public: 48 };
/// Size of a batch in bytes, including [`EVENT_COST`] per event, from which a batch for [`Trust::Secret`] is prepared
/// off the serving threads. Batches of other kinds always are.
const LARGE_BATCH: usize = 16 << 10;
/// Time after which [`Outbox::room`] looks again.
const ROOM_INTERVAL: Duration = Duration::from_millis(100);
/// Number of threads that send the posts of untrusted callers. Sending is less work than preparing.
const SENDERS: usize = 1;

/// Name of the span of a post. Its events come from many requests, so it begins a trace of its own.
const DISPATCH: &str = "relay.events.dispatch";

/// Reason for events that were lost because of a panic.
pub const INTERNAL_ERROR: &str = "internal-error";

/// Settings of an outbox.
#[derive(Debug, Clone)]
pub struct OutboxSettings {
    /// Number of events per post. A queue that reaches it is posted at once; while upstream does not answer, it holds
    /// no more.
    pub capacity: usize,
    /// Time between flushes.
    pub flush_interval: Duration,
}

/// Limits that the outboxes of all environments share. Cheap to clone.
#[derive(Debug, Clone)]
pub struct SharedLimits {
    memory: ByTrust<Budget>,
    posts: ByTrust<Arc<Semaphore>>,
    /// `None` in some tests.
    threads: Option<Threads>,
}

#[derive(Debug, Clone)]
struct Threads {
    preparers: ByTrust<Workers>,
    senders: Background,
}

/// The key of a queue. Events with the same key are sent together.
pub trait QueueKey: Hash + Eq + Clone + Send + Sync + std::fmt::Debug + 'static {
    /// Returns how well the credential of the events is guarded.
    fn trust(&self) -> Trust;

    /// Returns the bytes that the key owns on the heap; bytes shared between clones count in full.
    fn heap_bytes(&self) -> usize;
}

/// Sends the batches of a queue.
pub trait Delivery<K>: Send + Sync + 'static {
    /// A batch ready to be sent; a retry sends the same one again.
    type Prepared: Send + Sync + 'static;

    /// Builds a request from events. Called once per batch; a large batch is prepared off the serving threads.
    fn prepare(&self, key: &K, events: Vec<Bytes>) -> Self::Prepared;

    /// Sends the request.
    fn send<'a>(&'a self, key: &'a K, batch: &'a Self::Prepared) -> HookFuture<'a, Sent>;
}

/// Events that are sent together, and the number of received events that they account for.
///
/// The numbers differ where the vendor's protocol requires the gateway to summarize events: many received events become
/// one, or one becomes two.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// The events to send.
    pub events: Vec<Bytes>,
    /// Number of events pending in the ledger that are settled with the batch.
    pub stands_for: usize,
}

/// The outcome of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// The batch was delivered.
    Delivered,
    /// The attempt failed and one retry is worthwhile. The text is the reason for the counters.
    Later(&'static str),
    /// The batch was rejected for good. The text is the reason for the counters.
    Refused(&'static str),
}

/// The queues of one environment.
pub struct Outbox<K, D: Delivery<K>> {
    settings: OutboxSettings,
    delivery: Arc<D>,
    ledger: Arc<Ledger>,
    lanes: ByTrust<Mutex<Lane<K>>>,
    limits: SharedLimits,
    /// Notified when a post has ended, or a batch need not be sent again.
    ended: Notify,
    /// Cancelled from the last flush on: batches that upstream does not take stay on disk.
    closing: CancellationToken,
    lifecycle: Lifecycle,
}

/// A post in progress; ends it in its lane when dropped, including by a panic.
struct UnderWay<K: QueueKey, D: Delivery<K>> {
    outbox: Arc<Outbox<K, D>>,
    trust: Trust,
    is_answered: bool,
}

impl SharedLimits {
    /// Divides `memory` bytes for events that wait or are being sent between the kinds of credentials. Batches are
    /// prepared by `workers`.
    ///
    /// # Errors
    /// When the system refuses a thread.
    pub fn new(memory: usize, workers: &ByTrust<Workers>) -> Result<Self, ThreadError> {
        let preparers = ByTrust::from_fn(|trust| workers.get(trust).queue());
        let senders = Background::start("yardarm-send", SENDERS)?;
        Ok(Self { threads: Some(Threads { preparers, senders }), ..Self::without_threads(memory) })
    }

    /// Creates limits under which batches are prepared and sent on the current runtime. For tests with a paused clock,
    /// which does not advance while threads work.
    fn without_threads(memory: usize) -> Self {
        let posts = ByTrust::from_fn(|trust| Arc::new(Semaphore::new(*MAX_POSTS.get(trust))));
        Self { memory: Budget::by_trust(memory), posts, threads: None }
    }

    /// Returns the memory for events of one kind of credential.
    #[must_use]
    pub fn memory(&self, trust: Trust) -> &Budget {
        self.memory.get(trust)
    }

    /// Starts a task that sends events of one kind of credential, like [`Lifecycle::spawn_graceful`]. All kinds but
    /// [`Trust::Secret`] share a separate runtime, and must not share connections with other tasks.
    pub fn spawn_sender<F>(&self, trust: Trust, lifecycle: &Lifecycle, name: &'static str, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        match &self.threads {
            Some(threads) if trust != Trust::Secret => {
                lifecycle.on(threads.senders.handle()).spawn_graceful(name, task);
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
            closing: CancellationToken::new(),
            lifecycle: lifecycle.clone(),
        });
        let timer = Arc::clone(&outbox);
        lifecycle.supervise("outbox", move || Arc::clone(&timer).flush_on_timer());
        outbox
    }

    /// Queues events that are pending in the ledger, and posts full batches; events that do not fit are dropped and
    /// counted. `charge` is memory that already covers the events, in which they wait for space while upstream keeps
    /// up.
    pub fn push(self: &Arc<Self>, key: &K, events: Vec<Bytes>, charge: Option<Charge>) {
        self.push_queued(key, events.into_iter().map(Queued::from).collect(), charge);
    }

    /// Queues events of a post that is on disk. While upstream does not answer, they wait in memory, however many there
    /// are: ask [`Self::has_room`] before.
    pub fn push_spooled(self: &Arc<Self>, key: &K, events: Vec<Bytes>, charge: Charge, post: &SpooledPost) {
        let queued = events.into_iter().map(|body| Queued { body, ack: Some(post.ack()) }).collect();
        self.push_queued(key, queued, Some(charge));
    }

    /// Returns whether events of one kind of credential would be sent soon: no batch waits for upstream to come back, and
    /// there is room in the queues.
    #[must_use]
    pub fn has_room(&self, trust: Trust) -> bool {
        self.lane(trust).has_room(&self.settings)
    }

    /// Waits until there is room. Cancel-safe.
    pub async fn room(&self, trust: Trust) {
        loop {
            let ended = self.ended.notified();
            if self.has_room(trust) {
                return;
            }
            // What upstream keeps up with also depends on the time.
            let _ = tokio::time::timeout(ROOM_INTERVAL, ended).await;
        }
    }

    fn push_queued(self: &Arc<Self>, key: &K, events: Vec<Queued>, charge: Option<Charge>) {
        let (mut events, mut charge) = (events.into_iter(), charge);
        while events.len() > 0 {
            self.lane(key.trust()).push(key, &mut events, &mut charge, &self.settings, &self.ledger);
            self.post_ready(key.trust());
        }
    }

    /// Sends a batch that was built elsewhere, in order; drops and counts it if it does not fit. `acks` are the parts of
    /// posts on disk that it stands for.
    pub fn dispatch(self: &Arc<Self>, key: K, batch: Batch, acks: Vec<Ack>) {
        if batch.events.is_empty() {
            // Events that are settled without a post are settled by the caller, which knows the reason.
            debug_assert_eq!(batch.stands_for, 0, "an empty batch stands for nothing");
            return acks.into_iter().for_each(Ack::settle);
        }
        let trust = key.trust();
        self.lane(trust).push_batch(key, batch, acks, &self.ledger);
        self.post_ready(trust);
    }

    /// Sends all queued events, and waits until they are delivered or dropped, or stay on disk. From now on, nothing is
    /// sent again and again.
    pub async fn flush(self: &Arc<Self>) {
        self.closing.cancel();
        self.ended.notify_waiters();
        loop {
            let ended = self.ended.notified();
            tokio::pin!(ended);
            // From here on, a notification is received even before the await.
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

    /// Starts as many posts as there are batches and free slots.
    fn post_ready(self: &Arc<Self>, trust: Trust) {
        loop {
            // The lane must not be locked while a task is started.
            let next = self.lane(trust).next(&self.settings, &self.ledger);
            let Some(outgoing) = next else { return };
            let post = UnderWay { outbox: Arc::clone(self), trust, is_answered: false };
            // Not dropped on shutdown: what was taken from a queue is delivered within the drain time.
            self.limits.spawn_sender(trust, &self.lifecycle, "event delivery", post.run(outgoing));
        }
    }

    /// Sends a batch, with one retry, and settles its events. A batch of posts on disk is sent until upstream takes it.
    /// Returns whether upstream answered with a final status.
    async fn deliver(&self, outgoing: Outgoing<K>) -> bool {
        let Outgoing { key, batch: Batch { events, stands_for }, acks, number, charge: _charge } = outgoing;
        let unsettled = self.ledger.guard(stands_for);
        if !acks.is_empty() && self.is_left_on_disk(key.trust()) {
            unsettled.settle_elsewhere();
            return false;
        }
        fault_point("event sender");
        // One kind of credential never uses the slots of another, and environments alternate.
        let slot = self.slot(key.trust()).await;
        let Some(batch) = self.prepare(&key, events).await else {
            unsettled.settle_elsewhere();
            self.ledger.record_dropped(INTERNAL_ERROR, stands_for);
            acks.into_iter().for_each(Ack::settle);
            return false;
        };
        let mut outcome = trace::in_root(DISPATCH, self.delivery.send(&key, &batch)).await;
        drop(slot);
        if let Sent::Later(reason) = outcome {
            tracing::debug!(reason, "event delivery failed, will retry once");
            tokio::time::sleep(RETRY_DELAY).await;
            outcome = self.send(&key, &batch).await;
        }
        if let Sent::Later(reason) = outcome
            && !acks.is_empty()
        {
            match self.retry(&key, &batch, number, reason).await {
                Some(sent) => outcome = sent,
                None => {
                    unsettled.settle_elsewhere();
                    return false;
                }
            }
        }
        unsettled.settle_elsewhere();
        match outcome {
            Sent::Delivered => self.ledger.record_delivered(stands_for),
            Sent::Later(reason) | Sent::Refused(reason) => self.ledger.record_dropped(reason, stands_for),
        }
        acks.into_iter().for_each(Ack::settle);
        !matches!(outcome, Sent::Later(_))
    }

    async fn send(&self, key: &K, batch: &D::Prepared) -> Sent {
        let _slot = self.slot(key.trust()).await;
        trace::in_root(DISPATCH, self.delivery.send(key, batch)).await
    }

    /// Waits until one more post of such credentials may be in progress.
    async fn slot(&self, trust: Trust) -> Option<SemaphorePermit<'_>> {
        // The semaphore is never closed.
        self.limits.posts.get(trust).acquire().await.ok()
    }

    async fn prepare(&self, key: &K, events: Vec<Bytes>) -> Option<D::Prepared> {
        let is_small = events.iter().map(|it| EVENT_COST + it.len()).sum::<usize>() < LARGE_BATCH;
        // Untrusted callers may send thousands of small batches.
        let is_quick = is_small && key.trust() == Trust::Secret;
        let Some(threads) = self.limits.threads.as_ref().filter(|_| !is_quick) else {
            return Some(self.delivery.prepare(key, events));
        };
        let (delivery, owned) = (Arc::clone(&self.delivery), key.clone());
        threads.preparers.get(key.trust()).run("event batch", move || delivery.prepare(&owned, events)).await.ok()
    }

    fn lane(&self, trust: Trust) -> MutexGuard<'_, Lane<K>> {
        self.lanes.get(trust).lock()
    }
}

impl<K: QueueKey, D: Delivery<K>> UnderWay<K, D> {
    async fn run(mut self, outgoing: Outgoing<K>) {
        let (outbox, trust) = (Arc::clone(&self.outbox), self.trust);
        self.is_answered = outbox.deliver(outgoing).await;
        drop(self);
        outbox.post_ready(trust);
    }
}

impl<K: QueueKey, D: Delivery<K>> Drop for UnderWay<K, D> {
    fn drop(&mut self) {
        self.outbox.lane(self.trust).end_post(self.is_answered);
        self.outbox.ended.notify_waiters();
    }
}

#[cfg(test)]
mod tests;
