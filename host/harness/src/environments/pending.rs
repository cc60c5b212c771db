//! Configured keys that have led to no environment yet, for operators and for the answer to unknown keys.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use yardarm_core::EnvironmentLabel;
use yardarm_core::report::EnvironmentReport;
use yardarm_core::status::{ErrorKind, Status};

use crate::identity::{KeyHash, VENDOR};

/// Configured keys that have led to no environment yet. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Pending(Arc<Shared>);

#[derive(Default)]
struct Shared {
    keys: Mutex<BTreeMap<usize, PendingKey>>,
    /// Those of which nothing at all is known, not even that upstream wants nothing of them.
    unheard: AtomicUsize,
}

struct PendingKey {
    name: String,
    hash: KeyHash,
    status: Status,
    is_heard: bool,
}

impl Pending {
    /// Keys in configured order, each with a name for people.
    pub(crate) fn new(keys: impl IntoIterator<Item = (String, KeyHash)>) -> Self {
        let key = |(name, hash)| PendingKey { name, hash, status: Status::new(), is_heard: false };
        let keys: BTreeMap<_, _> = keys.into_iter().map(key).enumerate().collect();
        let unheard = AtomicUsize::new(keys.len());
        Self(Arc::new(Shared { keys: Mutex::new(keys), unheard }))
    }

    /// Whether the environment of a key may become known any moment.
    pub(crate) fn are_some_unheard(&self) -> bool {
        self.0.unheard.load(Ordering::Relaxed) > 0
    }

    /// Whether this key is one of them, rejected ones included: what upstream rejects now it may accept again.
    pub(crate) fn has(&self, key: &KeyHash) -> bool {
        self.lock().values().any(|it| it.hash == *key)
    }

    /// Whether every key has led to an environment.
    pub(crate) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// What the key belongs to is known.
    pub(crate) fn resolve(&self, index: usize) {
        if self.lock().remove(&index).is_some_and(|it| !it.is_heard) {
            self.0.unheard.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Something failed and will be tried again.
    pub(crate) fn failed(&self, index: usize, kind: ErrorKind, message: &str) {
        if let Some(key) = self.lock().get(&index) {
            key.status.interrupted(kind, message);
        }
    }

    /// Upstream wants nothing of the key; that may change, but nobody needs to wait for it.
    pub(crate) fn refused(&self, index: usize, kind: ErrorKind, message: &str) {
        if let Some(key) = self.lock().get_mut(&index) {
            key.status.refused(kind, message);
            if !std::mem::replace(&mut key.is_heard, true) {
                self.0.unheard.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }

    /// State of a key that has led to no environment yet, with its name.
    pub(crate) fn status(&self, index: usize) -> Option<(String, Status)> {
        self.lock().get(&index).map(|it| (format!("{VENDOR}/{}", it.name), it.status.clone()))
    }

    /// What operators are shown.
    pub(crate) fn reports(&self) -> Vec<EnvironmentReport> {
        let report = |key: &PendingKey| {
            let phase = if key.is_heard { "rejected" } else { "starting" };
            EnvironmentReport::of(&EnvironmentLabel::new(VENDOR, key.name.as_str()), phase, &key.status)
        };
        self.lock().values().map(report).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<usize, PendingKey>> {
        self.0.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_is_heard_of_once() {
        let pending = Pending::new(["a", "b"].map(|it| (it.to_owned(), KeyHash::of(it))));
        let phases = || pending.reports().iter().map(|it| (it.name.clone(), it.phase)).collect::<Vec<_>>();
        pending.failed(0, ErrorKind::Network, "x");
        assert_eq!(phases(), [("a".to_owned(), "starting"), ("b".to_owned(), "starting")]);
        pending.refused(0, ErrorKind::Response(403), "answered 403");
        pending.refused(0, ErrorKind::Response(403), "answered 403");
        assert!(pending.are_some_unheard());
        assert!(pending.has(&KeyHash::of("a")) && !pending.has(&KeyHash::of("c")));
        assert_eq!(phases(), [("a".to_owned(), "rejected"), ("b".to_owned(), "starting")]);
        pending.resolve(1);
        pending.resolve(1);
        assert!(!pending.are_some_unheard());
        pending.resolve(0);
        assert!(phases().is_empty() && !pending.are_some_unheard());
    }
}
