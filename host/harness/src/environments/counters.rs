//! Counts of the traffic between Harness and the SDKs of one environment.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counts of one environment since it was added.
#[derive(Debug, Default)]
pub(crate) struct EnvironmentCounters {
    key: OnceLock<String>,
    published: AtomicU64,
    closed: AtomicU64,
    arrived: AtomicU64,
    failed: AtomicU64,
}

impl EnvironmentCounters {
    /// Sets the masked key that the environment is kept in sync with.
    pub(crate) fn set_key(&self, masked: String) {
        // The key of an environment never changes.
        let _ = self.key.set(masked);
    }

    /// Counts an event that was sent to streams of SDKs.
    pub(crate) fn record_published(&self) {
        self.published.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts an end of Harness' stream.
    pub(crate) fn record_closed(&self) {
        self.closed.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a post of metrics.
    pub(crate) fn record_post(&self, has_arrived: bool) {
        let counter = if has_arrived { &self.arrived } else { &self.failed };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the masked key; empty if there is none.
    pub(crate) fn key(&self) -> &str {
        self.key.get().map_or("", String::as_str)
    }

    pub(crate) fn published(&self) -> u64 {
        self.published.load(Ordering::Relaxed)
    }

    pub(crate) fn closed(&self) -> u64 {
        self.closed.load(Ordering::Relaxed)
    }

    /// Returns the number of posts that arrived, and of those that failed.
    pub(crate) fn posts(&self) -> (u64, u64) {
        (self.arrived.load(Ordering::Relaxed), self.failed.load(Ordering::Relaxed))
    }
}
