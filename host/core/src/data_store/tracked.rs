//! State that is kept on disk: the newest one, the one that was committed last, and what differs.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::changes::Changes;

/// The state of one owner, such as an environment, whose newest value is written to the store. A value that another one
/// replaces before it is written is never written. When this is dropped, the newest value is still written.
pub struct TrackedState<T> {
    state: Arc<State<T>>,
    wake: Arc<Notify>,
}

/// What the writer does with tracked state, whatever its type.
pub(super) trait Tracked: Send + Sync {
    /// Identifies the records of the state.
    fn scope(&self) -> &str;

    /// Whether there is something to write.
    fn is_dirty(&self) -> bool;

    /// Whether the state does not change any more.
    fn is_closed(&self) -> bool;

    /// Writes the difference between the committed state and the newest one.
    fn write(&self, changes: &mut Changes<'_>);

    /// Records that what was written last has been committed.
    fn mark_committed(&self);

    /// Records that it is not known what the database holds, so that everything is written again.
    fn forget(&self);
}

/// Writes what differs between the committed state and the newest one. Without a committed state, it first removes
/// whatever records there are.
type Difference<T> = Box<dyn Fn(Option<&T>, &T, &mut Changes<'_>) + Send + Sync>;

/// A version that no state has.
const UNKNOWN: u64 = u64::MAX;

struct State<T> {
    scope: String,
    newest: Mutex<Newest<T>>,
    progress: Mutex<Progress<T>>,
    difference: Difference<T>,
}

struct Newest<T> {
    value: T,
    /// Grows with each change.
    version: u64,
    is_closed: bool,
}

struct Progress<T> {
    /// The state on disk; `None` if it is not known.
    committed: Option<T>,
    committed_version: u64,
    /// The state that was written last, and its version, until it is known whether it was committed.
    written: Option<(T, u64)>,
}

impl<T: Clone + Send + Sync + 'static> TrackedState<T> {
    /// `value` is what the store holds. If `is_known` is off, the store may hold something else, and everything is
    /// written with the next change.
    pub(super) fn new(scope: String, value: T, is_known: bool, difference: Difference<T>, wake: Arc<Notify>) -> Self {
        let progress = Progress { committed: is_known.then(|| value.clone()), committed_version: 0, written: None };
        let newest = Newest { value, version: 0, is_closed: false };
        let state = State { scope, newest: Mutex::new(newest), progress: Mutex::new(progress), difference };
        Self { state: Arc::new(state), wake }
    }

    pub(super) fn tracked(&self) -> Arc<dyn Tracked> {
        Arc::clone(&self.state) as Arc<dyn Tracked>
    }

    /// Replaces the state and schedules a write.
    pub fn replace(&self, value: T) {
        self.change(|it| {
            *it = value;
            true
        });
    }

    /// Changes the state, and schedules a write if `change` returns true.
    pub fn change(&self, change: impl FnOnce(&mut T) -> bool) {
        let mut newest = self.state.newest.lock();
        if change(&mut newest.value) {
            newest.version += 1;
            drop(newest);
            self.wake.notify_one();
        }
    }
}

impl<T> Drop for TrackedState<T> {
    fn drop(&mut self) {
        self.state.newest.lock().is_closed = true;
        self.wake.notify_one();
    }
}

impl<T: Clone + Send + Sync + 'static> Tracked for State<T> {
    fn scope(&self) -> &str {
        &self.scope
    }

    fn is_dirty(&self) -> bool {
        self.progress.lock().committed_version != self.newest.lock().version
    }

    fn is_closed(&self) -> bool {
        self.newest.lock().is_closed
    }

    fn write(&self, changes: &mut Changes<'_>) {
        let mut progress = self.progress.lock();
        let (value, version) = {
            let newest = self.newest.lock();
            (newest.value.clone(), newest.version)
        };
        if version != progress.committed_version {
            (self.difference)(progress.committed.as_ref(), &value, changes);
        }
        progress.written = Some((value, version));
    }

    fn mark_committed(&self) {
        let mut progress = self.progress.lock();
        if let Some((value, version)) = progress.written.take() {
            (progress.committed, progress.committed_version) = (Some(value), version);
        }
    }

    fn forget(&self) {
        let mut progress = self.progress.lock();
        let has_content = progress.committed.is_some() || self.newest.lock().version > 0;
        (progress.committed, progress.written) = (None, None);
        if has_content {
            progress.committed_version = UNKNOWN;
        }
    }
}
