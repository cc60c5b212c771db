//! What has gone to and fro between Harness and the SDKs of one environment.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counts of one environment since it was found.
#[derive(Debug, Default)]
pub(crate) struct EnvironmentCounters {
    key: OnceLock<String>,
    published: AtomicU64,
    closed: AtomicU64,
    arrived: AtomicU64,
    failed: AtomicU64,
}

impl EnvironmentCounters {
    /// The environment is kept in sync with this key, of which only a mask is told.
    pub(crate) fn uses_key(&self, masked: String) {
        // It is the same for as long as the environment is.
        let _ = self.key.set(masked);
    }

    /// Streams of SDKs are told of a change.
    pub(crate) fn publish(&self) {
        self.published.fetch_add(1, Ordering::Relaxed);
    }

    /// Harness' stream was open and has ended.
    pub(crate) fn close(&self) {
        self.closed.fetch_add(1, Ordering::Relaxed);
    }

    /// Metrics were posted.
    pub(crate) fn posted(&self, has_arrived: bool) {
        let counter = if has_arrived { &self.arrived } else { &self.failed };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// The mask of the key; empty where there is no key.
    pub(crate) fn key(&self) -> &str {
        self.key.get().map_or("", String::as_str)
    }

    pub(crate) fn published(&self) -> u64 {
        self.published.load(Ordering::Relaxed)
    }

    pub(crate) fn closed(&self) -> u64 {
        self.closed.load(Ordering::Relaxed)
    }

    /// Posts that arrived, and those that did not.
    pub(crate) fn posts(&self) -> (u64, u64) {
        (self.arrived.load(Ordering::Relaxed), self.failed.load(Ordering::Relaxed))
    }
}
