//! The metrics of one environment: accepted within limits, filtered, summed up, and handed over to be posted.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use yardarm_core::hooks::{AdmittedRequest, BatchFacts, Hooks};
use yardarm_core::supervisor;
use yardarm_core::{Lifecycle, Workers};
use yardarm_vendor::events::ordered_posts::OrderedPosts;
use yardarm_vendor::events::outbox::{Ledger, LedgerReport};
use yardarm_vendor::events::pipeline::{EventPipeline, FilteredBatch};

use super::post::{Post, written_entry};
use super::sums::{Batch, Sums};

/// KiB of accepted posts that have not been summed up yet, per environment. Posts beyond are rejected with 503.
const MAX_UNREAD_KIB: usize = 32 << 10;
/// Largest post that is read on the thread that serves the request, in bytes.
const MAX_INLINE: usize = 16 << 10;
/// Large posts that are read concurrently, per environment.
const MAX_READERS: usize = 2;
/// Attempts to post a batch before it is dropped.
const MAX_ATTEMPTS: u32 = 5;

/// Accepts and sums up the metrics of one environment. Cheap to clone.
#[derive(Clone)]
pub(crate) struct MetricsPort(Arc<Port>);

struct Port {
    pipeline: Arc<EventPipeline>,
    ledger: Arc<Ledger>,
    ordered: OrderedPosts,
    sums: Arc<Mutex<Sums>>,
    /// The batch that could not be posted yet, with the number of attempts.
    failed: Mutex<Option<(Batch, u32)>>,
    unread: Arc<Semaphore>,
    /// Limits the large posts that are read concurrently.
    readers: Semaphore,
    workers: Workers,
    /// Notified when enough has been summed up to be posted before its time.
    is_large: Arc<Notify>,
    /// Whether metrics are posted upstream at all.
    is_forwarded: bool,
}

/// Memory for a post that has not been summed up yet.
pub(crate) struct Reservation {
    port: MetricsPort,
    permit: Option<OwnedSemaphorePermit>,
    bytes: usize,
}

/// Why a post is not accepted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotTaken {
    /// Too many bytes wait to be summed up.
    #[error("too much is waiting")]
    Busy,
    /// The post cannot be read.
    #[error("malformed metrics: {0}")]
    Malformed(#[from] serde_json::Error),
}

/// The outcome of a post to upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PostOutcome {
    Delivered,
    /// It failed and may succeed later.
    Later,
    /// It was rejected and would be again.
    Refused,
}

impl MetricsPort {
    /// Starts the port; `workers` read large posts.
    pub(crate) fn start(hooks: Hooks, workers: Workers, is_forwarded: bool, lifecycle: &Lifecycle) -> Self {
        let ledger = Arc::new(Ledger::default());
        Self(Arc::new(Port {
            pipeline: EventPipeline::start(hooks, Arc::clone(&ledger), lifecycle),
            ordered: OrderedPosts::new("metrics intake", Arc::clone(&ledger), lifecycle),
            sums: Arc::default(),
            failed: Mutex::default(),
            ledger,
            unread: Arc::new(Semaphore::new(MAX_UNREAD_KIB)),
            readers: Semaphore::new(MAX_READERS),
            workers,
            is_large: Arc::default(),
            is_forwarded,
        }))
    }

    /// Returns a reservation of no bytes, for a post that is about to be read.
    pub(crate) fn reserve(&self) -> Reservation {
        Reservation { port: self.clone(), permit: None, bytes: 0 }
    }

    /// Reads a post, a large one off the serving threads.
    ///
    /// # Errors
    /// When the post is malformed, or too many are being read.
    pub(crate) async fn read(&self, body: Bytes) -> Result<Post, NotTaken> {
        if body.len() <= MAX_INLINE {
            return Ok(Post::read(&body)?);
        }
        let Ok(_permit) = self.0.readers.acquire().await else { return Err(NotTaken::Busy) };
        let read = self.0.workers.run("metrics reader", move || Post::read(&body)).await;
        Ok(read.map_err(|_| NotTaken::Busy)??)
    }

    /// Accepts a post. It is filtered and summed up after the response; `reservation` is held until then.
    pub(crate) fn accept(&self, post: Post, reservation: Reservation, request: AdmittedRequest) {
        if !self.0.is_forwarded || post.received() == 0 {
            return;
        }
        self.0.ledger.record_received(post.received());
        self.0.ledger.record_dropped("malformed", post.malformed);
        self.0.ledger.record_dropped("too-many-entries", post.excess);
        let facts = BatchFacts { request, schema: None, read: written_entry };
        let port = Arc::clone(&self.0);
        // Not the port itself, which would own itself while a batch is held.
        let (sums, ledger, is_large) = (Arc::clone(&port.sums), Arc::clone(&port.ledger), Arc::clone(&port.is_large));
        let add = move |entries: Vec<Bytes>| {
            for entry in entries {
                // Locked for one entry at a time, so that a flush can come in between.
                let mut sums = sums.lock();
                if let Err(reason) = sums.add(&entry) {
                    ledger.record_dropped(reason, 1);
                }
                if sums.is_large() {
                    is_large.notify_one();
                }
            }
        };
        let (count, bytes, workers) = (post.events.len(), reservation.bytes, self.0.workers.clone());
        let filter = async move { port.pipeline.pass(facts, post.events, Box::new(add)).await };
        let forward = async move |filtered: FilteredBatch| {
            // Thousands of entries take a while to be parsed.
            if bytes <= MAX_INLINE {
                filtered.forward();
            } else if let Err(error) = workers.run("metrics sums", move || filtered.forward()).await {
                tracing::error!(%error, "metrics could not be summed up");
            }
        };
        self.0.ordered.accept(count, reservation, filter, forward);
    }

    /// Sums up a post of another gateway, whose plugins have filtered it. Takes a while if there are thousands of entries.
    pub(crate) fn absorb(&self, post: Post) {
        if !self.0.is_forwarded {
            return;
        }
        self.0.ledger.record_received(post.received());
        self.0.ledger.record_dropped("malformed", post.malformed);
        self.0.ledger.record_dropped("too-many-entries", post.excess);
        for event in post.events {
            let mut sums = self.0.sums.lock();
            if let Err(reason) = sums.add(&event.body) {
                self.0.ledger.record_dropped(reason, 1);
            }
            if sums.is_large() {
                self.0.is_large.notify_one();
            }
        }
    }

    /// Waits until enough has been summed up to be posted before its time. While a failed batch waits there is no such moment:
    /// a failing upstream must not get more requests than usual.
    pub(crate) async fn wait_for_threshold(&self) {
        loop {
            self.0.is_large.notified().await;
            if self.lock_failed().is_none() {
                return;
            }
        }
    }

    fn lock_failed(&self) -> MutexGuard<'_, Option<(Batch, u32)>> {
        self.0.failed.lock()
    }

    /// Posts what has been summed up, with `post`. A failed batch is posted first; while that fails, the rest goes on being
    /// summed up.
    pub(crate) async fn flush<F: Future<Output = PostOutcome>>(&self, post: impl Fn(Bytes) -> F) {
        let retried = self.lock_failed().take();
        if let Some((batch, attempts)) = retried {
            self.send(batch, attempts, &post).await;
        }
        if self.lock_failed().is_some() {
            return;
        }
        let fresh = self.0.sums.lock().take();
        if let Some(batch) = fresh {
            self.send(batch, 0, &post).await;
        }
    }

    async fn send<F: Future<Output = PostOutcome>>(&self, batch: Batch, attempts: u32, post: &impl Fn(Bytes) -> F) {
        // Megabytes of JSON take a while to be written.
        let write = move || (serde_json::to_vec(&batch), batch);
        let Ok((Ok(body), batch)) = self.0.workers.run("metrics writer", write).await else {
            return tracing::error!("metrics could not be written");
        };
        let outcome = supervisor::catch(post(body.into())).await;
        match outcome.unwrap_or(PostOutcome::Later) {
            PostOutcome::Delivered => self.0.ledger.record_delivered(batch.entry_count),
            PostOutcome::Refused => self.0.ledger.record_dropped("rejected", batch.entry_count),
            PostOutcome::Later if attempts + 1 >= MAX_ATTEMPTS => {
                self.0.ledger.record_dropped("upstream-error", batch.entry_count);
            }
            PostOutcome::Later => *self.lock_failed() = Some((batch, attempts + 1)),
        }
    }

    /// Waits until every accepted post has been summed up, and drops what plugins hold back. Used at the end of the process.
    pub(crate) async fn settle(&self) {
        let _ = self.0.unread.acquire_many(u32::try_from(MAX_UNREAD_KIB).unwrap_or(u32::MAX)).await;
        self.0.pipeline.close();
    }

    /// Returns the counts of accepted, delivered, filtered and dropped entries.
    pub(crate) fn report(&self) -> LedgerReport {
        self.0.ledger.report()
    }
}

impl Reservation {
    /// Makes the reservation cover `bytes`, which only grow; returns `false` if too many bytes wait to be summed up.
    pub(crate) fn cover(&mut self, bytes: usize) -> bool {
        let more = bytes.div_ceil(1024).saturating_sub(self.bytes.div_ceil(1024));
        self.bytes = bytes;
        let Ok(more) = u32::try_from(more) else { return false };
        let Ok(more) = Arc::clone(&self.port.0.unread).try_acquire_many_owned(more) else { return false };
        match &mut self.permit {
            Some(permit) => permit.merge(more),
            None => self.permit = Some(more),
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use yardarm_core::EnvironmentLabel;
    use yardarm_core::hooks::RequestFacts;

    use super::*;

    fn port(lifecycle: &Lifecycle) -> MetricsPort {
        MetricsPort::start(Hooks::none(), Workers::start("test", 1).unwrap(), true, lifecycle)
    }

    async fn posts(port: &MetricsPort, outcome: PostOutcome) -> usize {
        let count = AtomicUsize::new(0);
        port.flush(|_| {
            count.fetch_add(1, Ordering::Relaxed);
            std::future::ready(outcome)
        })
        .await;
        count.into_inner()
    }

    #[tokio::test]
    async fn waiting_bytes_are_bounded() {
        let lifecycle = Lifecycle::new();
        let port = port(&lifecycle);
        let mut reservations: Vec<_> = (0..32).map(|_| port.reserve()).collect();
        assert!(reservations.iter_mut().all(|it| it.cover(1 << 20)));
        assert!(!port.reserve().cover(1));
        reservations.pop();
        assert!(port.reserve().cover(1 << 20));
        assert!(!port.reserve().cover(usize::MAX / 2));
    }

    #[tokio::test]
    async fn an_outage_loses_nothing_and_causes_no_more_requests() {
        // D8
        let lifecycle = Lifecycle::new();
        let port = port(&lifecycle);
        let large = |name: &str| {
            let text = "x".repeat(1 << 20);
            Bytes::from(serde_json::json!({"targetData": [{"identifier": name, "x": text}]}).to_string())
        };
        let accept = async |name: &str| {
            let (body, mut reservation) = (large(name), port.reserve());
            assert!(reservation.cover(body.len()));
            let request = RequestFacts::new(EnvironmentLabel::new("v", "e"), "r", "server").into();
            port.accept(port.read(body).await.unwrap(), reservation, request);
            let _ = port.0.unread.acquire_many(MAX_UNREAD_KIB as u32).await.unwrap();
        };
        accept("a").await;
        tokio::time::timeout(Duration::from_secs(10), port.wait_for_threshold()).await.unwrap();
        assert_eq!(posts(&port, PostOutcome::Later).await, 1);
        accept("b").await;
        let early = tokio::time::timeout(Duration::from_millis(50), port.wait_for_threshold()).await;
        assert!(early.is_err(), "a failed batch waits for its time");
        assert_eq!(posts(&port, PostOutcome::Later).await, 1, "only the failed one");
        assert_eq!(posts(&port, PostOutcome::Delivered).await, 2);
        let report = port.report();
        assert_eq!((report.delivered, report.dropped.len()), (2, 0));
    }
}
