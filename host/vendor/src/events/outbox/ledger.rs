//! Accounting of the events of one environment, with rate-limited log lines about losses.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use yardarm_core::EnvironmentLabel;

/// Minimum time between two log lines about losses of the same cause.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// Accounting of the events of one environment. Delivered, filtered, dropped and pending add up to received and added.
#[derive(Debug, Default)]
pub struct Ledger {
    label: Option<EnvironmentLabel>,
    advice: Option<Advice>,
    received: AtomicU64,
    added: AtomicU64,
    delivered: AtomicU64,
    pending: AtomicU64,
    refused_posts: Mutex<Loss>,
    filtered: Mutex<BTreeMap<Arc<str>, u64>>,
    dropped: Mutex<BTreeMap<&'static str, Loss>>,
}

/// Returns what an operator can do about losses of a cause, such as a setting to change.
pub type Advice = fn(&'static str) -> Option<&'static str>;

/// Losses, or rejected posts, of one cause.
#[derive(Debug, Default)]
struct Loss {
    count: u64,
    /// Number since the last log line.
    unlogged: u64,
    logged_at: Option<Instant>,
}

/// Events that a task is processing. If the task ends without [`Unsettled::settle_elsewhere`], by a panic or the end of
/// the process, they are counted as lost.
#[must_use = "dropped, it counts its events as lost"]
pub struct Unsettled {
    ledger: Arc<Ledger>,
    count: usize,
}

/// The ledger at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LedgerReport {
    /// Events received from SDKs.
    pub received: u64,
    /// Events that plugins added, those included by which a split event became more.
    pub added: u64,
    /// Events delivered upstream.
    pub delivered: u64,
    /// Events that wait or are being sent.
    pub pending: u64,
    /// Events dropped by plugins, by plugin.
    pub filtered: BTreeMap<Arc<str>, u64>,
    /// Events lost, by reason.
    pub dropped: BTreeMap<&'static str, u64>,
    /// Posts rejected because too many were in progress; their events were not counted.
    pub refused_posts: u64,
}

impl Ledger {
    /// Creates an empty ledger. Log lines name the environment and what can be done about losses.
    #[must_use]
    pub fn new(label: EnvironmentLabel, advice: Advice) -> Self {
        Self { label: Some(label), advice: Some(advice), ..Self::default() }
    }

    /// Records received events.
    pub fn record_received(&self, count: usize) {
        self.received.fetch_add(count as u64, Ordering::Relaxed);
        self.pending.fetch_add(count as u64, Ordering::Relaxed);
    }

    /// Records events that a plugin added.
    pub fn record_added(&self, count: usize) {
        self.added.fetch_add(count as u64, Ordering::Relaxed);
        self.pending.fetch_add(count as u64, Ordering::Relaxed);
    }

    /// Records a post that was rejected before its events were counted.
    pub fn record_refused_post(&self) {
        let unlogged = self.refused_posts.lock().add(1);
        if let Some(count) = unlogged {
            let environment = self.label.as_ref().map(tracing::field::display);
            tracing::warn!(environment, count, "posts of events were refused, too much is under way");
        }
    }

    /// Records pending events that were dropped by a plugin.
    pub fn record_filtered(&self, plugin: &Arc<str>, count: usize) {
        self.settle(count);
        *self.filtered.lock().entry(Arc::clone(plugin)).or_default() += count as u64;
    }

    /// Records pending events that were lost. Logs the first loss of each cause, and then at most one line a minute.
    pub fn record_dropped(&self, reason: &'static str, count: usize) {
        if count == 0 {
            return;
        }
        self.settle(count);
        let unlogged = self.dropped.lock().entry(reason).or_default().add(count as u64);
        if let Some(count) = unlogged {
            let environment = self.label.as_ref().map(tracing::field::display);
            let advice = self.advice.and_then(|advice| advice(reason));
            tracing::warn!(environment, reason, count, advice, "events were dropped");
        }
    }

    /// Records pending events that were delivered upstream.
    pub fn record_delivered(&self, count: usize) {
        self.settle(count);
        self.delivered.fetch_add(count as u64, Ordering::Relaxed);
    }

    /// Guards pending events as long as a task processes them.
    pub fn guard(self: &Arc<Self>, count: usize) -> Unsettled {
        Unsettled { ledger: Arc::clone(self), count }
    }

    fn settle(&self, count: usize) {
        self.pending.fetch_sub(count as u64, Ordering::Relaxed);
    }

    /// Returns the current totals.
    #[must_use]
    pub fn report(&self) -> LedgerReport {
        LedgerReport {
            received: self.received.load(Ordering::Relaxed),
            added: self.added.load(Ordering::Relaxed),
            delivered: self.delivered.load(Ordering::Relaxed),
            pending: self.pending.load(Ordering::Relaxed),
            filtered: self.filtered.lock().clone(),
            dropped: self.dropped.lock().iter().map(|(reason, loss)| (*reason, loss.count)).collect(),
            refused_posts: self.refused_posts.lock().count,
        }
    }
}

impl Loss {
    /// Adds `count`; returns the number to log, if a log line is due.
    fn add(&mut self, count: u64) -> Option<u64> {
        self.count += count;
        self.unlogged += count;
        let is_due = self.logged_at.is_none_or(|it| it.elapsed() >= LOG_INTERVAL);
        is_due.then(|| {
            self.logged_at = Some(Instant::now());
            std::mem::take(&mut self.unlogged)
        })
    }
}

impl Unsettled {
    /// Releases the guard: the events are settled elsewhere.
    pub fn settle_elsewhere(mut self) {
        self.count = 0;
    }
}

impl Drop for Unsettled {
    fn drop(&mut self) {
        let reason = if std::thread::panicking() { super::INTERNAL_ERROR } else { "shutdown" };
        self.ledger.record_dropped(reason, self.count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Ledger {
        fn unlogged(&self, reason: &str) -> u64 {
            self.dropped.lock()[reason].unlogged
        }
    }

    #[tokio::test(start_paused = true)]
    async fn losses_are_counted_each_and_logged_once_a_minute_per_cause() {
        let ledger = Ledger::default();
        ledger.record_received(20);
        ledger.record_dropped("a", 0);
        assert!(ledger.report().dropped.is_empty());
        ledger.record_dropped("a", 1);
        assert_eq!(ledger.unlogged("a"), 0, "the first one is logged");
        ledger.record_dropped("a", 2);
        ledger.record_dropped("b", 4);
        assert_eq!((ledger.unlogged("a"), ledger.unlogged("b")), (2, 0), "by cause");
        tokio::time::advance(LOG_INTERVAL - Duration::from_millis(1)).await;
        ledger.record_dropped("a", 1);
        assert_eq!(ledger.unlogged("a"), 3);
        tokio::time::advance(Duration::from_millis(1)).await;
        ledger.record_dropped("a", 1);
        assert_eq!(ledger.unlogged("a"), 0);
        let report = ledger.report();
        assert_eq!((report.received, report.pending), (20, 11));
        assert_eq!(report.dropped, [("a", 5), ("b", 4)].into());
    }

    #[tokio::test]
    async fn events_lost_by_a_panic_are_counted() {
        let ledger = Arc::new(Ledger::default());
        ledger.record_received(5);
        ledger.guard(2).settle_elsewhere();
        assert_eq!(ledger.report().pending, 5);
        drop(ledger.guard(1));
        let guarded = Arc::clone(&ledger);
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
            let _guard = guarded.guard(2);
            panic!("on purpose");
        }));
        assert!(panicked.is_err());
        let report = ledger.report();
        assert_eq!((report.pending, report.dropped), (2, [("internal-error", 2), ("shutdown", 1)].into()));
        ledger.record_refused_post();
        assert_eq!(ledger.report().refused_posts, 1);
    }
}
