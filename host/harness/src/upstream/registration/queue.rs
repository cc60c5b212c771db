//! Targets that wait to be registered: each once, in its newest form, within a bound of bytes.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use bytes::Bytes;
use sha2::{Digest, Sha256};
use tokio::time::Instant;

/// Bytes of targets that wait. Those that find no place are not registered this time; they will present themselves again.
const MAX_BYTES: usize = 16 << 20;
/// Bytes besides its text that a waiting target takes, about.
const OVERHEAD: usize = 512;
/// For how long a target that was registered is not registered again in the same form.
const REMEMBERED: Duration = Duration::from_secs(600);
/// Targets that are remembered; beyond, the older half is forgotten.
const MAX_REMEMBERED: usize = 100_000;

/// What identifies a target: a digest of its environment and identifier, which can be long.
type Key = [u8; 32];

/// A target to be registered.
#[derive(Clone)]
pub(super) struct Entry {
    key: Key,
    /// Digest of all that the target says of itself.
    content: [u8; 32],
    /// The request. It holds an API key.
    pub(super) body: Bytes,
    /// Attempts that have failed.
    pub(super) attempts: u32,
}

/// What became of a target that presented itself.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Added {
    Waiting,
    /// The same was registered a moment ago, or waits already.
    Known,
    /// There is no place.
    Full,
}

/// The queue.
#[derive(Default)]
pub(super) struct Queue {
    entries: HashMap<Key, Entry>,
    /// In the order in which they are due.
    due: BTreeSet<(Instant, u64, Key)>,
    sequence: u64,
    bytes: usize,
    /// Being sent at this moment, with the form that is sent.
    under_way: HashMap<Key, [u8; 32]>,
    remembered: [HashMap<Key, ([u8; 32], Instant)>; 2],
}

impl Entry {
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
    /// Adds a target that presented itself, in place of an older form of it.
    pub(super) fn add(&mut self, entry: Entry, now: Instant) -> Added {
        let is_same = |known: &[u8; 32]| *known == entry.content;
        let is_waiting = self.entries.get(&entry.key).is_some_and(|it| is_same(&it.content));
        if is_waiting || self.under_way.get(&entry.key).is_some_and(is_same) {
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

    /// Takes a target out that is due; otherwise gives the moment when the next one is, if there is any.
    pub(super) fn take(&mut self, now: Instant) -> Result<Entry, Option<Instant>> {
        loop {
            let Some((at, _, key)) = self.due.first().copied() else { return Err(None) };
            if at > now {
                return Err(Some(at));
            }
            self.due.pop_first();
            if let Some(entry) = self.entries.remove(&key) {
                self.bytes -= entry.size();
                self.under_way.insert(key, entry.content);
                return Ok(entry);
            }
        }
    }

    /// A target that was taken out is registered.
    pub(super) fn register(&mut self, entry: &Entry, now: Instant) {
        self.under_way.remove(&entry.key);
        if self.remembered[0].len() >= MAX_REMEMBERED / 2 {
            self.remembered.swap(0, 1);
            self.remembered[0].clear();
        }
        self.remembered[0].insert(entry.key, (entry.content, now));
    }

    /// A target that was taken out is given up.
    pub(super) fn give_up(&mut self, entry: &Entry) {
        self.under_way.remove(&entry.key);
    }

    /// A target that was taken out is to be tried again, unless there is a newer form of it by now.
    pub(super) fn put_back(&mut self, entry: Entry, at: Instant) {
        self.under_way.remove(&entry.key);
        if !self.entries.contains_key(&entry.key) {
            self.push(entry, at);
        }
    }

    /// Makes all that wait due now.
    pub(super) fn hurry(&mut self, now: Instant) {
        let due = std::mem::take(&mut self.due);
        self.due = due.into_iter().map(|(at, number, key)| (at.min(now), number, key)).collect();
    }

    /// Targets that wait, and those under way.
    pub(super) fn len(&self) -> usize {
        self.entries.len() + self.under_way.len()
    }

    fn push(&mut self, entry: Entry, at: Instant) {
        self.bytes += entry.size();
        self.sequence += 1;
        self.due.insert((at, self.sequence, entry.key));
        self.entries.insert(entry.key, entry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(identifier: &str, content: &str) -> Entry {
        Entry::new("e", identifier, content, Bytes::from(content.to_owned()))
    }

    #[tokio::test(start_paused = true)]
    async fn each_target_is_registered_once_in_its_newest_form() {
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
        assert_eq!(&taken.body[..], b"3", "not the older form again");
        queue.register(&taken, now);
        assert_eq!(queue.add(entry("a", "3"), now), Added::Known);
        assert_eq!(queue.add(entry("a", "3"), now + REMEMBERED), Added::Waiting);
        assert_eq!(queue.add(entry("b", "3"), now), Added::Waiting);
    }

    #[tokio::test(start_paused = true)]
    async fn failures_wait_for_their_time_and_nothing_grows_without_end() {
        let mut queue = Queue::default();
        let now = Instant::now();
        queue.add(entry("a", "1"), now);
        let taken = queue.take(now).ok().unwrap();
        let later = now + Duration::from_secs(5);
        queue.put_back(taken, later);
        assert_eq!(queue.take(now).err(), Some(Some(later)));
        queue.hurry(now);
        let taken = queue.take(now).ok().unwrap();
        queue.give_up(&taken);
        assert_eq!((queue.len(), queue.bytes), (0, 0));
        let long = "x".repeat(1 << 20);
        let fitting = (0..100).filter(|it| queue.add(entry(&it.to_string(), &long), now) == Added::Waiting).count();
        assert_eq!(fitting, 15);
        assert_eq!(queue.add(entry("0", "short"), now), Added::Waiting, "in place of a long one");
        assert_eq!(queue.add(entry("one more", &long), now), Added::Waiting);
    }
}
