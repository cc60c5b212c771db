//! Configured keys whose environment is not known yet, for operators and for the response to unknown keys.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::{Mutex, MutexGuard};
use yardarm_core::EnvironmentLabel;
use yardarm_core::status::{ErrorKind, Status};
use yardarm_vendor::report::EnvironmentReport;

use crate::identity::{KeyHash, VENDOR};

/// Configured keys whose environment is not known yet. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Pending(Arc<Shared>);

#[derive(Default)]
struct Shared {
    keys: Mutex<BTreeMap<usize, PendingKey>>,
    /// Number of keys that upstream has neither accepted nor rejected.
    undecided: AtomicUsize,
}

struct PendingKey {
    name: String,
    hash: KeyHash,
    status: Status,
    is_rejected: bool,
}

impl Pending {
    /// Returns the configured keys in their order, each with a name for operators.
    pub(crate) fn new(keys: impl IntoIterator<Item = (String, KeyHash)>) -> Self {
        let key = |(name, hash)| PendingKey { name, hash, status: Status::new(), is_rejected: false };
        let keys: BTreeMap<_, _> = keys.into_iter().map(key).enumerate().collect();
        let undecided = AtomicUsize::new(keys.len());
        Self(Arc::new(Shared { keys: Mutex::new(keys), undecided }))
    }

    /// Returns whether there are keys that upstream has neither accepted nor rejected.
    pub(crate) fn has_undecided(&self) -> bool {
        self.0.undecided.load(Ordering::Relaxed) > 0
    }

    /// Returns whether this key is pending. Rejected keys are included, because upstream may accept them later.
    pub(crate) fn has(&self, key: &KeyHash) -> bool {
        self.lock().values().any(|it| it.hash == *key)
    }

    /// Returns whether the environments of all keys are known.
    pub(crate) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// Removes a key whose environment is known.
    pub(crate) fn resolve(&self, index: usize) {
        if self.lock().remove(&index).is_some_and(|it| !it.is_rejected) {
            self.0.undecided.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Notes a failure that will be retried.
    pub(crate) fn failed(&self, index: usize, kind: ErrorKind, message: &str) {
        if let Some(key) = self.lock().get(&index) {
            key.status.interrupted(kind, message);
        }
    }

    /// Notes that upstream rejects the key. That may change, but callers need not wait for it.
    pub(crate) fn refused(&self, index: usize, kind: ErrorKind, message: &str) {
        if let Some(key) = self.lock().get_mut(&index) {
            key.status.refused(kind, message);
            if !std::mem::replace(&mut key.is_rejected, true) {
                self.0.undecided.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }

    /// Returns the name and the status of a key whose environment is not known yet.
    pub(crate) fn status(&self, index: usize) -> Option<(String, Status)> {
        self.lock().get(&index).map(|it| (format!("{VENDOR}/{}", it.name), it.status.clone()))
    }

    /// Returns the reports for operators.
    pub(crate) fn reports(&self) -> Vec<EnvironmentReport> {
        let report = |key: &PendingKey| {
            let phase = if key.is_rejected { "rejected" } else { "starting" };
            EnvironmentReport::of(&EnvironmentLabel::new(VENDOR, key.name.as_str()), phase, &key.status)
        };
        self.lock().values().map(report).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<usize, PendingKey>> {
        self.0.keys.lock()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_is_counted_once() {
        let pending = Pending::new(["a", "b"].map(|it| (it.to_owned(), KeyHash::of(it))));
        let phases = || pending.reports().iter().map(|it| (it.name.clone(), it.phase)).collect::<Vec<_>>();
        pending.failed(0, ErrorKind::Network, "x");
        assert_eq!(phases(), [("a".to_owned(), "starting"), ("b".to_owned(), "starting")]);
        pending.refused(0, ErrorKind::Response(403), "answered 403");
        pending.refused(0, ErrorKind::Response(403), "answered 403");
        assert!(pending.has_undecided());
        assert!(pending.has(&KeyHash::of("a")) && !pending.has(&KeyHash::of("c")));
        assert_eq!(phases(), [("a".to_owned(), "rejected"), ("b".to_owned(), "starting")]);
        pending.resolve(1);
        pending.resolve(1);
        assert!(!pending.has_undecided());
        pending.resolve(0);
        assert!(phases().is_empty() && !pending.has_undecided());
    }
}
