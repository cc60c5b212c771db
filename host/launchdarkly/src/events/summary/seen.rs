//! Contexts that were recently reported to the events service.

use std::time::Duration;

use lru::LruCache;
use sha2::{Digest, Sha256};
use tokio::time::Instant;

/// Contexts that are remembered, as in the vendor's SDKs (`userKeysCapacity`); the least recently seen is evicted.
const CAPACITY: usize = 1000;
/// Interval after which all contexts are dropped, as in the vendor's SDKs (`userKeysFlushInterval`).
const LIFETIME: Duration = Duration::from_secs(300);

/// The hash of the canonical key of a context, which is kept in its place because keys may be long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Mark([u8; 32]);

/// The contexts that need no `index` event.
pub(super) struct Seen {
    since: Instant,
    /// Bounded by hand: a cache with a capacity allocates for all of it at once.
    marks: LruCache<Mark, ()>,
}

impl Mark {
    pub(super) fn of(canonical_key: &str) -> Self {
        Self(Sha256::digest(canonical_key.as_bytes()).into())
    }
}

impl Seen {
    pub(super) fn new(now: Instant) -> Self {
        Self { since: now, marks: LruCache::unbounded() }
    }

    /// Drops all contexts after the interval.
    pub(super) fn keep_fresh(&mut self, now: Instant) {
        if now.saturating_duration_since(self.since) >= LIFETIME {
            *self = Self::new(now);
        }
    }

    /// Approximate bytes that are held.
    pub(super) fn bytes(&self) -> usize {
        self.marks.len() * 160
    }

    /// Whether a context is remembered; if so, it is marked as seen.
    pub(super) fn recalls(&mut self, mark: Mark) -> bool {
        self.marks.get(&mark).is_some()
    }

    /// Remembers a context.
    pub(super) fn remember(&mut self, mark: Mark) {
        self.marks.put(mark, ());
        if self.marks.len() > CAPACITY {
            self.marks.pop_lru();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(n: usize) -> Mark {
        Mark::of(&n.to_string())
    }

    #[tokio::test(start_paused = true)]
    async fn the_least_recently_seen_is_evicted() {
        let mut seen = Seen::new(Instant::now());
        (0..CAPACITY).for_each(|n| seen.remember(mark(n)));
        assert!(seen.recalls(mark(0)), "met again");
        seen.remember(mark(CAPACITY));
        assert!(seen.recalls(mark(0)) && seen.recalls(mark(2)) && seen.recalls(mark(CAPACITY)));
        assert!(!seen.recalls(mark(1)));
        assert_eq!(seen.marks.len(), CAPACITY);
    }

    #[tokio::test(start_paused = true)]
    async fn after_five_minutes_every_context_is_new() {
        let mut seen = Seen::new(Instant::now());
        seen.remember(mark(1));
        tokio::time::advance(LIFETIME - Duration::from_millis(1)).await;
        seen.keep_fresh(Instant::now());
        assert!(seen.recalls(mark(1)));
        tokio::time::advance(Duration::from_millis(1)).await;
        seen.keep_fresh(Instant::now());
        assert!(!seen.recalls(mark(1)), "being met again does not prolong it");
    }
}
