//! The queue of targets to be registered: each once, in its newest version, within a bound of bytes.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use bytes::Bytes;
use sha2::{Digest, Sha256};
use tokio::time::Instant;

/// Bytes of waiting targets. Targets beyond are dropped; SDKs present them again later.
const MAX_BYTES: usize = 16 << 20;
/// Approximate bytes that a waiting target takes besides its text.
const OVERHEAD: usize = 512;
/// Time in which a registered target is not registered again in the same version.
const REMEMBERED: Duration = Duration::from_secs(600);
/// Registered targets that are remembered; beyond, the older half is forgotten.
const MAX_REMEMBERED: usize = 100_000;

/// Digest of environment and identifier, which can be long.
type Key = [u8; 32];

/// A target to be registered.
#[derive(Clone)]
pub(super) struct QueuedTarget {
    key: Key,
    /// Digest of the whole target.
    content: [u8; 32],
    /// Body of the request. It contains an API key.
    pub(super) body: Bytes,
    /// Failed attempts.
    pub(super) attempts: u32,
}

/// The result of adding a target.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Added {
    Waiting,
    /// The same target was registered a short time ago, or waits already.
    Known,
    /// The queue is full.
    Full,
}

/// Targets that wait, those being sent, and those registered lately.
#[derive(Default)]
pub(super) struct Queue {
    entries: HashMap<Key, QueuedTarget>,
    /// Ordered by the time at which they are due.
    due: BTreeSet<(Instant, u64, Key)>,
    sequence: u64,
    bytes: usize,
    /// Targets that are being sent, with the digest of the version that is sent.
    in_flight: HashMap<Key, [u8; 32]>,
    remembered: [HashMap<Key, ([u8; 32], Instant)>; 2],
}

impl QueuedTarget {
    pub(super) fn new(environment: &str, identifier: &str, target: &str, body: Bytes) -> Self {
        let mut key = Sha256::new();
        key.update((environment.len() as u64).to_be_bytes());
        key.update(environment);
        key.update(identifier);
        Self { key: key.finalize().into(), content: Sha256::digest(target).into(), body, attempts: 0 }
    }

    fn size(&self) -> usize {
        self.body.len() + OVERHEAD
    }
}

impl Queue {
    /// Adds a target, or replaces an older version of it.
    pub(super) fn add(&mut self, entry: QueuedTarget, now: Instant) -> Added {
        let is_same = |known: &[u8; 32]| *known == entry.content;
        let is_waiting = self.entries.get(&entry.key).is_some_and(|it| is_same(&it.content));
        if is_waiting || self.in_flight.get(&entry.key).is_some_and(is_same) {
            return Added::Known;
        }
        let known = self.remembered.iter().find_map(|it| it.get(&entry.key));
        if known.is_some_and(|(content, at)| is_same(content) && now.duration_since(*at) < REMEMBERED) {
            return Added::Known;
        }
        if let Some(older) = self.entries.get_mut(&entry.key) {
            self.bytes = self.bytes + entry.size() - older.size();
            *older = entry;
            return Added::Waiting;
        }
        if self.bytes + entry.size() > MAX_BYTES {
            return Added::Full;
        }
        self.push(entry, now);
        Added::Waiting
    }

    /// Takes out a target that is due; otherwise returns the time at which the next one is, if there is any.
    pub(super) fn take(&mut self, now: Instant) -> Result<QueuedTarget, Option<Instant>> {
        loop {
            let Some((at, _, key)) = self.due.first().copied() else { return Err(None) };
            if at > now {
                return Err(Some(at));
            }
            self.due.pop_first();
            if let Some(entry) = self.entries.remove(&key) {
                self.bytes -= entry.size();
                self.in_flight.insert(key, entry.content);
                return Ok(entry);
            }
        }
    }

    /// Notes that a target that was taken out is registered.
    pub(super) fn register(&mut self, entry: &QueuedTarget, now: Instant) {
        self.in_flight.remove(&entry.key);
        if self.remembered[0].len() >= MAX_REMEMBERED / 2 {
            self.remembered.swap(0, 1);
            self.remembered[0].clear();
        }
        self.remembered[0].insert(entry.key, (entry.content, now));
    }

    /// Drops a target that was taken out.
    pub(super) fn discard(&mut self, entry: &QueuedTarget) {
        self.in_flight.remove(&entry.key);
    }

    /// Puts back a target that was taken out, unless there is a newer version of it.
    pub(super) fn put_back(&mut self, entry: QueuedTarget, at: Instant) {
        self.in_flight.remove(&entry.key);
        if !self.entries.contains_key(&entry.key) {
            self.push(entry, at);
        }
    }

    /// Makes all waiting targets due now.
    pub(super) fn make_due(&mut self, now: Instant) {
        let due = std::mem::take(&mut self.due);
        self.due = due.into_iter().map(|(at, number, key)| (at.min(now), number, key)).collect();
    }

    /// Returns the number of targets that wait or are being sent.
    pub(super) fn len(&self) -> usize {
        self.entries.len() + self.in_flight.len()
    }

    fn push(&mut self, entry: QueuedTarget, at: Instant) {
        self.bytes += entry.size();
        self.sequence += 1;
        self.due.insert((at, self.sequence, entry.key));
        self.entries.insert(entry.key, entry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(identifier: &str, content: &str) -> QueuedTarget {
        QueuedTarget::new("e", identifier, content, Bytes::from(content.to_owned()))
    }

    #[tokio::test(start_paused = true)]
    async fn each_target_is_registered_once_in_its_newest_version() {
        let mut queue = Queue::default();
        let now = Instant::now();
        assert_eq!(queue.add(entry("a", "1"), now), Added::Waiting);
        assert_eq!(queue.add(entry("a", "1"), now), Added::Known);
        assert_eq!(queue.add(entry("a", "2"), now), Added::Waiting);
        let taken = queue.take(now).ok().unwrap();
        assert_eq!((&taken.body[..], queue.len()), (&b"2"[..], 1));
        assert_eq!(queue.add(entry("a", "2"), now), Added::Known, "it is on its way");
        assert_eq!(queue.add(entry("a", "3"), now), Added::Waiting);
        queue.put_back(taken, now);
        let taken = queue.take(now).ok().unwrap();
        assert_eq!(&taken.body[..], b"3", "not the older version again");
        queue.register(&taken, now);
        assert_eq!(queue.add(entry("a", "3"), now), Added::Known);
        assert_eq!(queue.add(entry("a", "3"), now + REMEMBERED), Added::Waiting);
        assert_eq!(queue.add(entry("b", "3"), now), Added::Waiting);
    }

    #[tokio::test(start_paused = true)]
    async fn failures_wait_until_they_are_due_and_the_queue_is_bounded() {
        let mut queue = Queue::default();
        let now = Instant::now();
        queue.add(entry("a", "1"), now);
        let taken = queue.take(now).ok().unwrap();
        let later = now + Duration::from_secs(5);
        queue.put_back(taken, later);
        assert_eq!(queue.take(now).err(), Some(Some(later)));
        queue.make_due(now);
        let taken = queue.take(now).ok().unwrap();
        queue.discard(&taken);
        assert_eq!((queue.len(), queue.bytes), (0, 0));
        let long = "x".repeat(1 << 20);
        let fitting = (0..100).filter(|it| queue.add(entry(&it.to_string(), &long), now) == Added::Waiting).count();
        assert_eq!(fitting, 15);
        assert_eq!(queue.add(entry("0", "short"), now), Added::Waiting, "in place of a long one");
        assert_eq!(queue.add(entry("one more", &long), now), Added::Waiting);
    }
}
