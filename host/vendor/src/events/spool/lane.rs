//! The spooled posts of one kind of credential of an environment.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use yardarm_core::budget::{Account, Charge};
use yardarm_core::data_store::Key;
use yardarm_core::time::unix_ms;

use super::post::SpooledPost;
use super::record::{Entry, Header, Record, RecordError};
use super::{POSTS, Shared, SpoolError};
use crate::upstream::LogThrottle;

/// Longest time for which a response waits for the disk. Then the post is kept in memory only.
const DISK_TIMEOUT: Duration = Duration::from_secs(3);

/// The posts of one kind of credential of an environment, in the order of their acceptance.
pub struct SpoolLane {
    shared: Arc<Shared>,
    scope: Key,
    room: Arc<Account>,
    /// Posts whose events are not in memory.
    deferred: Mutex<VecDeque<SpooledPost>>,
    arrived: Notify,
    /// Whether the process, or the environment, ends.
    is_closing: Arc<AtomicBool>,
    refusals: LogThrottle,
}

impl SpoolLane {
    /// Opens a lane with the posts that an earlier process left in it, by number.
    pub(super) fn open(shared: Arc<Shared>, scope: Key, room: Arc<Account>, left: Vec<(u64, Header)>) -> Arc<Self> {
        let lane = Self {
            shared,
            scope,
            room,
            deferred: Mutex::default(),
            arrived: Notify::new(),
            is_closing: Arc::default(),
            refusals: LogThrottle::new(Duration::from_secs(60)),
        };
        for (number, header) in left {
            // What is on disk already counts, even beyond a size that was lowered since.
            let Some(room) = lane.room.charge(header.bytes).or_else(|| lane.room.charge(0)) else { continue };
            lane.defer(lane.post(number, header.events, room));
        }
        Arc::new(lane)
    }

    /// Schedules a post to be written. `None` if there is no space, or too much waits for the disk, which is logged: the
    /// post is in memory only. Takes time in proportion to the size of the post.
    #[must_use]
    pub fn put(&self, entry: &Entry) -> Option<SpooledPost> {
        let Some(room) = self.room.charge(entry.size()) else {
            self.refuse("the space for waiting events is used up");
            return None;
        };
        let post = self.post(self.shared.next.fetch_add(1, Ordering::Relaxed), entry.events.len(), room);
        let record = Record::new(entry, unix_ms(), self.shared.seal.as_ref()).map_err(SpoolError::from);
        let put = record.and_then(|record| Ok(self.shared.store.put(POSTS, post.key(), &record)?));
        put.inspect_err(|error| self.refuse(&error.to_string())).ok().map(|()| post)
    }

    /// Waits until a post is on disk. `None` if the disk cannot be written, which is logged. Dropping the future removes the
    /// post.
    pub async fn written(&self, post: SpooledPost) -> Option<SpooledPost> {
        if tokio::time::timeout(DISK_TIMEOUT, self.shared.store.committed()).await.is_err() {
            self.refuse("the disk cannot be written");
            return None;
        }
        Some(post)
    }

    fn refuse(&self, reason: &str) {
        if let Some(suppressed) = self.refusals.next_line() {
            tracing::warn!(reason, suppressed, "events are kept in memory only, and lost with the process");
        }
    }

    /// Leaves a post on disk until [`Self::first_deferred`] returns it.
    pub fn defer(&self, post: SpooledPost) {
        self.deferred.lock().push_back(post);
        self.arrived.notify_one();
    }

    /// Whether posts are on disk only. Later posts must be deferred too, or they would overtake these.
    #[must_use]
    pub fn has_deferred(&self) -> bool {
        !self.deferred.lock().is_empty()
    }

    /// Returns the number of events of posts that are on disk only.
    #[must_use]
    pub fn deferred_events(&self) -> usize {
        self.deferred.lock().iter().map(SpooledPost::events).sum()
    }

    /// Waits for the first post that is on disk only. It stays the first until [`Self::remove_first`]. Cancel-safe.
    pub async fn first_deferred(&self) -> SpooledPost {
        loop {
            let arrived = self.arrived.notified();
            if let Some(first) = self.deferred.lock().front() {
                return first.clone();
            }
            arrived.await;
        }
    }

    /// Records that the events of the first post are in memory again, or lost.
    pub fn remove_first(&self) {
        let first = self.deferred.lock().pop_front();
        // Dropped without the lock, because this may remove the post from the disk.
        drop(first);
    }

    /// Reads the content of a post. Blocks.
    ///
    /// # Errors
    /// When it was encrypted with another key, or cannot be read.
    pub fn read(&self, post: &SpooledPost) -> Result<Entry, RecordError> {
        let record = self.shared.store.get(POSTS, post.key()).ok().flatten().ok_or(RecordError::Format)?;
        record.open(self.shared.seal.as_ref())
    }

    /// Leaves posts on disk from now on that have unsettled events when they are dropped.
    pub fn close(&self) {
        self.is_closing.store(true, Ordering::Relaxed);
    }

    /// Returns the bytes on disk.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.room.used() as u64
    }

    fn post(&self, number: u64, events: usize, room: Charge) -> SpooledPost {
        let key = self.scope.with(number.to_be_bytes());
        SpooledPost::new((&self.shared, &self.is_closing), key, events, room)
    }
}
