//! The bounded queue of a signal, and the task that exports from it in batches.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use opentelemetry_sdk::error::OTelSdkResult;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use yardarm_core::Lifecycle;
use yardarm_vendor::upstream::LogThrottle;

use super::LONGEST_EXPORT;

/// Items that wait at most; further ones are dropped. The number is the one of the standard.
const CAPACITY: usize = 2048;
/// Items per export at most.
const LARGEST_BATCH: usize = 512;
/// Longest time that an item waits for others.
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// Shortest time between two log lines about exports of a signal.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// What became of the items of a signal.
#[derive(Debug)]
pub(super) struct SignalCounts {
    signal: &'static str,
    exported: AtomicU64,
    queue_full: AtomicU64,
    refused: AtomicU64,
    log: LogThrottle,
}

/// Sends the items of a signal to the collector.
pub(super) trait Exporter<T>: Send + Sync + 'static {
    fn export(&self, batch: Vec<T>) -> impl Future<Output = OTelSdkResult> + Send;
}

/// The queue of a signal. Cheap to clone.
#[derive(Debug)]
pub(super) struct Queue<T> {
    sender: mpsc::Sender<Entry<T>>,
    counts: Arc<SignalCounts>,
}

#[derive(Debug)]
enum Entry<T> {
    Item(T),
    /// Answered once everything before it was exported.
    Flush(oneshot::Sender<()>),
}

impl SignalCounts {
    pub(super) fn new(signal: &'static str) -> Self {
        let log = LogThrottle::new(LOG_INTERVAL);
        Self { signal, exported: AtomicU64::new(0), queue_full: AtomicU64::new(0), refused: AtomicU64::new(0), log }
    }

    /// Returns the number of items that the collector took.
    pub(super) fn exported(&self) -> u64 {
        self.exported.load(Ordering::Relaxed)
    }

    /// Returns the numbers of dropped items, by reason.
    pub(super) fn dropped(&self) -> [(&'static str, u64); 2] {
        let counts = [("queue-full", &self.queue_full), ("export-failed", &self.refused)];
        counts.map(|(reason, count)| (reason, count.load(Ordering::Relaxed)))
    }

    /// Counts the items of an export, and logs failures, at most once a minute.
    pub(super) fn record(&self, items: usize, result: Result<OTelSdkResult, tokio::time::error::Elapsed>) {
        let error = match result {
            Ok(Ok(())) => {
                self.exported.fetch_add(items as u64, Ordering::Relaxed);
                return;
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "the collector did not answer in time".to_owned(),
        };
        self.refused.fetch_add(items as u64, Ordering::Relaxed);
        if let Some(suppressed) = self.log.next_line() {
            tracing::warn!(signal = self.signal, error, items, suppressed, "telemetry cannot be exported by OTLP");
        }
    }
}

impl<T> Clone for Queue<T> {
    fn clone(&self) -> Self {
        Self { sender: self.sender.clone(), counts: Arc::clone(&self.counts) }
    }
}

impl<T: Send + 'static> Queue<T> {
    /// Starts the task that exports.
    pub(super) fn start(signal: &'static str, exporter: impl Exporter<T>, lifecycle: &Lifecycle) -> Self {
        let (sender, receiver) = mpsc::channel(CAPACITY);
        let counts = Arc::new(SignalCounts::new(signal));
        lifecycle.spawn("OTLP export", run(receiver, exporter, Arc::clone(&counts)));
        Self { sender, counts }
    }

    /// Queues an item, or drops and counts it. Never waits.
    pub(super) fn push(&self, item: T) {
        if self.sender.try_send(Entry::Item(item)).is_err() {
            self.counts.queue_full.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until everything that was queued before has been exported or dropped.
    pub(super) async fn flush(&self) {
        let (sender, flushed) = oneshot::channel();
        if self.sender.send(Entry::Flush(sender)).await.is_ok() {
            // An error means that the task has ended.
            let _ = flushed.await;
        }
    }

    pub(super) fn counts(&self) -> Arc<SignalCounts> {
        Arc::clone(&self.counts)
    }
}

async fn run<T: Send>(mut receiver: mpsc::Receiver<Entry<T>>, exporter: impl Exporter<T>, counts: Arc<SignalCounts>) {
    let mut batch = Vec::new();
    while let Some(first) = receiver.recv().await {
        let deadline = Instant::now() + LONGEST_WAIT;
        let mut next = Some(first);
        let mut flushed = None;
        while let Some(entry) = next {
            match entry {
                Entry::Item(item) => batch.push(item),
                Entry::Flush(sender) => {
                    flushed = Some(sender);
                    break;
                }
            }
            if batch.len() >= LARGEST_BATCH {
                break;
            }
            next = tokio::time::timeout_at(deadline, receiver.recv()).await.ok().flatten();
        }
        if !batch.is_empty() {
            let items = batch.len();
            let export = exporter.export(std::mem::take(&mut batch));
            counts.record(items, tokio::time::timeout(LONGEST_EXPORT, export).await);
        }
        // Dropping it has the same effect: the one who waits is gone.
        flushed.map(|it| it.send(()));
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry_sdk::error::OTelSdkError;
    use parking_lot::Mutex;
    use tokio::sync::Semaphore;

    use super::*;

    /// Keeps the sizes of batches; refuses those with an odd first number.
    #[derive(Clone)]
    struct Kept(Arc<Mutex<Vec<usize>>>, Arc<Semaphore>);

    impl Exporter<u32> for Kept {
        async fn export(&self, batch: Vec<u32>) -> OTelSdkResult {
            let _permit = self.1.acquire().await;
            self.0.lock().push(batch.len());
            if batch[0] % 2 == 1 { Err(OTelSdkError::InternalFailure("odd".to_owned())) } else { Ok(()) }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn items_travel_in_batches_and_failures_are_counted() {
        let (kept, lifecycle) = (Kept(Arc::default(), Arc::new(Semaphore::new(1))), Lifecycle::new());
        let queue = Queue::start("test", kept.clone(), &lifecycle);
        for number in 0..600 {
            queue.push(number);
        }
        queue.flush().await;
        queue.push(1);
        queue.flush().await;
        assert_eq!(*kept.0.lock(), [512, 88, 1]);
        assert_eq!((queue.counts.exported(), queue.counts.dropped()), (600, [("queue-full", 0), ("export-failed", 1)]));
        // Without a flush, an item waits for a second.
        queue.push(2);
        tokio::time::sleep(LONGEST_WAIT + Duration::from_millis(1)).await;
        assert_eq!(kept.0.lock().len(), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn a_collector_that_hangs_costs_items_and_nothing_else() {
        let (kept, lifecycle) = (Kept(Arc::default(), Arc::new(Semaphore::new(0))), Lifecycle::new());
        let queue = Queue::start("test", kept, &lifecycle);
        for number in 0..5000 {
            queue.push(number);
            tokio::task::yield_now().await;
        }
        let [(_, queue_full), _] = queue.counts.dropped();
        assert!(queue_full >= 5000 - CAPACITY as u64 - LARGEST_BATCH as u64, "{queue_full}");
        tokio::time::sleep(LONGEST_EXPORT + Duration::from_secs(1)).await;
        assert_eq!(queue.counts.dropped()[1].1, LARGEST_BATCH as u64);
        assert!(lifecycle.stop(Duration::from_secs(1)).await);
    }
}
