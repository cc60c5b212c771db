//! What is still to be written: never more than everything once.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::data::{Item, Items};

/// Single changes that wait. With more of them, everything is written instead, which is one transaction.
const PATCHES: usize = 256;

/// Between the applier, which never waits, and the writer.
#[derive(Default)]
pub(super) struct WriteQueue {
    state: Mutex<QueueState>,
    wake: Notify,
}

#[derive(Default)]
struct QueueState {
    newest: Option<Items>,
    /// Whether `newest` was said by upstream in this process, so that it may replace what is in the database.
    is_fresh: bool,
    work: Work,
    /// Whether the writer has taken work and not said what became of it.
    is_taken: bool,
}

/// What there is to do.
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
    /// Upstream has replaced everything.
    pub(super) fn put(&self, items: Items) {
        let mut state = self.lock();
        state.work = Work::Everything(items.clone());
        state.newest = Some(items);
        state.is_fresh = true;
        self.wake.notify_one();
    }

    /// Upstream has changed one item; `items` is everything.
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

    /// There is data that did not come from upstream.
    pub(super) fn restored(&self, items: Items) {
        let mut state = self.lock();
        if !state.is_fresh {
            state.newest = Some(items);
        }
    }

    /// Other gateways wrote something newer into the database, which is part of `items` now. It is there already, so
    /// nothing is to be written; but what waits to be written must not take it back.
    pub(super) fn taken_over(&self, items: Items) {
        let mut state = self.lock();
        if let Work::Everything(waiting) = &mut state.work {
            waiting.clone_from(&items);
        }
        state.newest = Some(items);
    }

    /// Waits until there is something to do. Safe to be dropped while it waits.
    pub(super) async fn filled(&self) {
        loop {
            if !matches!(self.lock().work, Work::Nothing) {
                return;
            }
            self.wake.notified().await;
        }
    }

    /// Whether everything is still to be written.
    pub(super) fn waits_with_everything(&self) -> bool {
        matches!(self.lock().work, Work::Everything(_))
    }

    /// Takes what there is to do; [`Self::done`] must follow when it is done.
    pub(super) fn take(&self) -> Work {
        let mut state = self.lock();
        state.is_taken = true;
        std::mem::take(&mut state.work)
    }

    /// What was taken is done.
    pub(super) fn done(&self) {
        self.lock().is_taken = false;
    }

    /// What was taken was not done, or only half: then everything is to be done.
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

    /// Writes again what upstream said in this process and is newer than `stored`; nothing else, because the database
    /// may hold something that upstream sent to another gateway later.
    pub(super) fn rewrite_newer(&self, stored: &Items) {
        let mut state = self.lock();
        if let Some(newest) = state.newest.as_ref().filter(|_| state.is_fresh) {
            let newer = newest.newer_than(stored);
            state.work = if newer.is_empty() { Work::Nothing } else { Work::Patches(newer) };
        }
    }

    /// The database is there again. What upstream said is written again as a whole; what was only restored is written
    /// if the database holds nothing, because otherwise it may hold something newer.
    pub(super) fn rewrite(&self, is_complete: bool) {
        let mut state = self.lock();
        if let Some(items) = state.newest.clone()
            && (state.is_fresh || !is_complete)
        {
            state.work = Work::Everything(items);
        }
    }

    fn lock(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
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
    fn everything_waits_from_a_put_until_it_is_taken() {
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
    fn too_many_items_become_everything() {
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
