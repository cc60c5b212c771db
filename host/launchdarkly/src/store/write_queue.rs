//! Pending writes: at most the whole data once.

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

use crate::data::{Item, Items};

/// Single changes that may wait. With more of them, all data is written instead, in one transaction.
const PATCHES: usize = 256;

/// Pending writes between the applier, which never waits, and the writer.
#[derive(Default)]
pub(super) struct WriteQueue {
    state: Mutex<QueueState>,
    wake: Notify,
}

#[derive(Default)]
struct QueueState {
    newest: Option<Items>,
    /// Whether `newest` came from upstream in this process, so that it may replace the data in the database.
    is_fresh: bool,
    work: Work,
    /// Whether the writer has taken work and not reported its result.
    is_taken: bool,
}

/// Work for the writer.
#[derive(Default)]
pub(super) enum Work {
    /// Nothing.
    #[default]
    Nothing,
    /// These items, in order.
    Patches(Vec<Item>),
    /// Everything.
    Everything(Items),
}

impl WriteQueue {
    /// Records a full set from upstream.
    pub(super) fn put(&self, items: Items) {
        let mut state = self.lock();
        state.work = Work::Everything(items.clone());
        state.newest = Some(items);
        state.is_fresh = true;
        self.wake.notify_one();
    }

    /// Records a change of one item from upstream; `items` is all data.
    pub(super) fn patch(&self, item: Item, items: Items) {
        let mut state = self.lock();
        match &mut state.work {
            Work::Nothing => state.work = Work::Patches(vec![item]),
            Work::Patches(patches) if patches.len() < PATCHES => patches.push(item),
            Work::Patches(_) | Work::Everything(_) => state.work = Work::Everything(items.clone()),
        }
        state.newest = Some(items);
        self.wake.notify_one();
    }

    /// Records data that did not come from upstream.
    pub(super) fn restored(&self, items: Items) {
        let mut state = self.lock();
        if !state.is_fresh {
            state.newest = Some(items);
        }
    }

    /// Records items that other gateways wrote into the database and that are part of `items` now. They need not be
    /// written, and pending writes must not overwrite them with older versions.
    pub(super) fn taken_over(&self, items: Items) {
        let mut state = self.lock();
        if let Work::Everything(waiting) = &mut state.work {
            waiting.clone_from(&items);
        }
        state.newest = Some(items);
    }

    /// Waits until there is work. Cancel-safe.
    pub(super) async fn filled(&self) {
        loop {
            if !matches!(self.lock().work, Work::Nothing) {
                return;
            }
            self.wake.notified().await;
        }
    }

    /// Whether all data is still pending.
    pub(super) fn waits_with_everything(&self) -> bool {
        matches!(self.lock().work, Work::Everything(_))
    }

    /// Takes the pending work; [`Self::done`] must follow when it is written.
    pub(super) fn take(&self) -> Work {
        let mut state = self.lock();
        state.is_taken = true;
        std::mem::take(&mut state.work)
    }

    /// Marks the taken work as written.
    pub(super) fn done(&self) {
        self.lock().is_taken = false;
    }

    /// Makes all data pending, because the taken work was written partly or not at all.
    pub(super) fn requeue(&self) {
        let mut state = self.lock();
        if state.is_taken {
            state.is_taken = false;
            state.work = state.newest.clone().map_or(Work::Nothing, Work::Everything);
        }
    }

    /// Whether there is any data.
    pub(super) fn has_data(&self) -> bool {
        self.lock().newest.is_some()
    }

    /// The newest data, if there is any.
    pub(super) fn newest(&self) -> Option<Items> {
        self.lock().newest.clone()
    }

    /// Rewrites items from upstream in this process that are newer than `stored`, and no others, because the database
    /// may hold items that upstream sent to another gateway later.
    pub(super) fn rewrite_newer(&self, stored: &Items) {
        let mut state = self.lock();
        if let Some(newest) = state.newest.as_ref().filter(|_| state.is_fresh) {
            let newer = newest.newer_than(stored);
            state.work = if newer.is_empty() { Work::Nothing } else { Work::Patches(newer) };
        }
    }

    /// Makes data pending after an outage. Data from upstream is rewritten as a whole; restored data is written only if
    /// the database is empty, because otherwise it may hold newer data.
    pub(super) fn rewrite(&self, is_complete: bool) {
        let mut state = self.lock();
        if let Some(items) = state.newest.clone()
            && (state.is_fresh || !is_complete)
        {
            state.work = Work::Everything(items);
        }
    }

    fn lock(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use yardarm_launchdarkly_eval::model::Flag;

    fn deleted(key: &str) -> Item {
        Item::Flag(std::sync::Arc::new(Flag::tombstone(key, 1)))
    }

    #[test]
    fn all_data_is_pending_from_a_put_until_it_is_taken() {
        let queue = WriteQueue::default();
        assert!(!queue.waits_with_everything());
        queue.patch(deleted("a"), Items::default());
        assert!(!queue.waits_with_everything(), "one item");
        queue.put(Items::default());
        assert!(queue.waits_with_everything());
        queue.patch(deleted("a"), Items::default());
        assert!(queue.waits_with_everything(), "an item joins everything");
        assert!(matches!(queue.take(), Work::Everything(_)));
        assert!(!queue.waits_with_everything());
        queue.requeue();
        assert!(queue.waits_with_everything(), "it was not written");
    }

    #[test]
    fn too_many_items_become_a_full_write() {
        let queue = WriteQueue::default();
        for number in 0..PATCHES {
            queue.patch(deleted(&number.to_string()), Items::default());
        }
        let Work::Patches(patches) = queue.take() else { panic!("one by one") };
        assert_eq!(patches.len(), PATCHES);
        queue.done();
        for number in 0..=PATCHES {
            queue.patch(deleted(&number.to_string()), Items::default());
        }
        assert!(matches!(queue.take(), Work::Everything(_)));
        queue.done();
        queue.requeue();
        assert!(matches!(queue.take(), Work::Nothing), "it was written");
    }
}
