//! Contexts that the events service was told about lately.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::time::Instant;

/// Contexts that are remembered, as in the vendor's SDKs (`userKeysCapacity`); the one not met for longest goes first.
const CAPACITY: usize = 1000;
/// After so long everything is forgotten, as in the vendor's SDKs (`userKeysFlushInterval`).
const LIFETIME: Duration = Duration::from_secs(300);

/// A context by the hash of its canonical key: keys are as long as callers want, and this is what is kept of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Mark([u8; 32]);

/// The contexts that need no `index` event.
pub(super) struct Seen {
    since: Instant,
    /// When each was met last, counted in meetings.
    meetings: HashMap<Mark, u64>,
    /// The same the other way round, so that the oldest is found.
    order: BTreeMap<u64, Mark>,
    next: u64,
}

impl Mark {
    pub(super) fn of(canonical_key: &str) -> Self {
        Self(Sha256::digest(canonical_key.as_bytes()).into())
    }
}

impl Seen {
    pub(super) fn new(now: Instant) -> Self {
        Self { since: now, meetings: HashMap::new(), order: BTreeMap::new(), next: 0 }
    }

    /// Forgets everybody if it is time.
    pub(super) fn keep_fresh(&mut self, now: Instant) {
        if now.saturating_duration_since(self.since) >= LIFETIME {
            *self = Self::new(now);
        }
    }

    /// Bytes that are held, roughly.
    pub(super) fn bytes(&self) -> usize {
        self.meetings.len() * 160
    }

    /// Whether a context is remembered; if so, it counts as met.
    pub(super) fn recalls(&mut self, mark: Mark) -> bool {
        let is_known = self.meetings.contains_key(&mark);
        if is_known {
            self.remember(mark);
        }
        is_known
    }

    /// Remembers that a context was met.
    pub(super) fn remember(&mut self, mark: Mark) {
        if let Some(earlier) = self.meetings.insert(mark, self.next) {
            self.order.remove(&earlier);
        }
        self.order.insert(self.next, mark);
        self.next += 1;
        if self.meetings.len() > CAPACITY
            && let Some((_, oldest)) = self.order.pop_first()
        {
            self.meetings.remove(&oldest);
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
    async fn the_one_not_met_for_longest_goes_first() {
        let mut seen = Seen::new(Instant::now());
        (0..CAPACITY).for_each(|n| seen.remember(mark(n)));
        assert!(seen.recalls(mark(0)), "met again");
        seen.remember(mark(CAPACITY));
        assert!(seen.recalls(mark(0)) && seen.recalls(mark(2)) && seen.recalls(mark(CAPACITY)));
        assert!(!seen.recalls(mark(1)));
        assert_eq!((seen.meetings.len(), seen.order.len()), (CAPACITY, CAPACITY));
    }

    #[tokio::test(start_paused = true)]
    async fn after_five_minutes_everybody_is_new() {
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
