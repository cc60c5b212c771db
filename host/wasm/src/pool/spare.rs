//! The next instance of a binding whose calls each have a new one, created before a call needs it.
//!
//! It has not been called yet, so it is as new to its caller as one that is created during the call. Only `init` ran
//! earlier, at most [`LONGEST_WAIT`] ago.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::runtime::guest::Instance;

/// Age from which an instance is not given to a call: what `init` read (the time, a key, a shared value) should be recent.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// At most one instance that waits for its call.
#[derive(Default)]
pub(crate) struct Spare(Arc<Shared>);

#[derive(Default)]
struct Shared {
    instance: Mutex<Option<Instance>>,
    is_reserved: AtomicBool,
}

/// The right to create the next instance. One caller has it at a time, so that instances that end together under load
/// do not keep theirs until all of them have a successor.
pub(crate) struct Reservation(Arc<Shared>);

impl Spare {
    /// Takes the instance, unless it is too old; then it is dropped.
    pub(crate) fn take(&self, now: Instant) -> Option<Instance> {
        let instance = self.0.instance.lock().take();
        instance.filter(|it| now.saturating_duration_since(it.born) <= LONGEST_WAIT)
    }

    /// Returns whether an instance waits.
    pub(crate) fn is_waiting(&self) -> bool {
        self.0.instance.lock().is_some()
    }

    /// Reserves the place for the next instance; returns `None` if it is reserved or taken.
    pub(crate) fn reserve(&self) -> Option<Reservation> {
        if self.is_waiting() || self.0.is_reserved.swap(true, Ordering::AcqRel) {
            return None;
        }
        Some(Reservation(Arc::clone(&self.0)))
    }
}

impl Reservation {
    /// Keeps `instance` for the next call.
    pub(crate) fn fill(self, instance: Instance) {
        *self.0.instance.lock() = Some(instance);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.0.is_reserved.store(false, Ordering::Release);
    }
}
