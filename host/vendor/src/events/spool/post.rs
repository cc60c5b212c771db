//! A post on disk, and what its events owe to it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use yardarm_core::budget::Charge;
use yardarm_core::data_store::Key;

use super::{POSTS, Shared};

/// Approximate memory of an event besides its text, in bytes.
const EVENT_COST: usize = 128;

/// A post that is on disk. It is removed from there once the last clone is dropped, unless the process ends: then it
/// stays, if some of its events are not settled. Cheap to clone.
#[derive(Clone)]
pub struct SpooledPost(Arc<OnDisk>);

struct OnDisk {
    shared: Arc<Shared>,
    /// Whether the process, or the environment, ends.
    is_closing: Arc<AtomicBool>,
    key: Key,
    events: usize,
    /// Whether its events have been handed over to be sent.
    is_handed_over: AtomicBool,
    /// Whether it stays on disk in any case.
    is_left: AtomicBool,
    /// Parts that were handed over and are not settled.
    unsettled: AtomicUsize,
    room: Charge,
}

/// A part of a post that was handed over to be sent, such as an event.
#[must_use = "dropped, it leaves its post on disk when the process ends"]
pub struct Ack(SpooledPost);

impl SpooledPost {
    pub(super) fn new(
        (shared, is_closing): (&Arc<Shared>, &Arc<AtomicBool>),
        key: Key,
        events: usize,
        room: Charge,
    ) -> Self {
        let (shared, is_closing) = (Arc::clone(shared), Arc::clone(is_closing));
        let (is_handed_over, is_left, unsettled) =
            (AtomicBool::new(false), AtomicBool::new(false), AtomicUsize::new(0));
        Self(Arc::new(OnDisk { shared, is_closing, key, events, is_handed_over, is_left, unsettled, room }))
    }

    pub(super) fn key(&self) -> &Key {
        &self.0.key
    }

    /// Returns the number of its events.
    #[must_use]
    pub fn events(&self) -> usize {
        self.0.events
    }

    /// Returns the approximate memory of its content in bytes.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.0.room.amount() + self.0.events * EVENT_COST
    }

    /// Leaves the post on disk for a later process, because this one cannot read it.
    pub fn leave(&self) {
        self.0.is_left.store(true, Ordering::Relaxed);
    }

    /// Hands over a part of the post.
    pub fn ack(&self) -> Ack {
        self.0.is_handed_over.store(true, Ordering::Relaxed);
        self.0.unsettled.fetch_add(1, Ordering::Relaxed);
        Ack(self.clone())
    }
}

impl Ack {
    /// Records that the part is settled: it was delivered, or is lost and counted.
    pub fn settle(self) {
        self.0.0.unsettled.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for OnDisk {
    fn drop(&mut self) {
        let is_settled = self.is_handed_over.load(Ordering::Relaxed) && self.unsettled.load(Ordering::Relaxed) == 0;
        if self.is_left.load(Ordering::Relaxed) {
            return;
        }
        if is_settled || !self.is_closing.load(Ordering::Relaxed) {
            // Refused only if too much waits for the disk. The events of the post are sent twice then.
            let _ = self.shared.store.remove(POSTS, &self.key);
        }
    }
}
