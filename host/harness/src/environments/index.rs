//! All environments, and how a key finds its environment.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::Notify;
use yardarm_core::EnvironmentLabel;

use super::environment::HarnessEnvironment;
use super::pending::Pending;
use crate::identity::KeyHash;

/// All environments, by key and by ID. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Environments(Arc<Shared>);

struct Shared {
    index: ArcSwap<Index>,
    /// Serialises changes of the index, which are rare.
    changing: Mutex<()>,
    /// Configured keys whose environment, or whose list of keys, is not known yet.
    pending: Pending,
    /// Notified when a caller presents an unknown key.
    unknown_keys: Notify,
    /// Notified when something has changed that gateways share.
    changed: Arc<Notify>,
    /// Whether upstream has listed all environments to this process.
    are_listed: AtomicBool,
}

#[derive(Default, Clone)]
struct Index {
    all: Vec<Arc<HarnessEnvironment>>,
    by_id: HashMap<Box<str>, Arc<HarnessEnvironment>>,
    by_key: HashMap<KeyHash, Arc<HarnessEnvironment>>,
}

/// The result of looking up a key.
pub(crate) enum Lookup {
    Found(Arc<HarnessEnvironment>),
    Unknown,
    /// It is unknown, but not all keys are known yet.
    NotYet,
}

impl Environments {
    /// Returns an empty index; environments of `pending` keys will be added.
    pub(crate) fn expecting(pending: Pending) -> Self {
        Self(Arc::new(Shared {
            index: ArcSwap::default(),
            changing: Mutex::default(),
            pending,
            unknown_keys: Notify::new(),
            changed: Arc::default(),
            are_listed: AtomicBool::new(false),
        }))
    }

    /// Returns all environments, in order of label.
    pub(crate) fn all(&self) -> Vec<Arc<HarnessEnvironment>> {
        self.0.index.load().all.clone()
    }

    /// Returns the environment of this ID.
    pub(crate) fn by_id(&self, id: &str) -> Option<Arc<HarnessEnvironment>> {
        self.0.index.load().by_id.get(id).cloned()
    }

    /// Returns the environment of this configured name.
    pub(crate) fn by_name(&self, name: &str) -> Option<Arc<HarnessEnvironment>> {
        self.0.index.load().all.iter().find(|it| **it.label.name() == *name).cloned()
    }

    /// Returns the environment that a key belongs to. An unknown key causes the lists of keys to be read again soon.
    pub(crate) fn by_key(&self, key: &KeyHash) -> Lookup {
        if let Some(found) = self.0.index.load().by_key.get(key) {
            return Lookup::Found(Arc::clone(found));
        }
        self.0.unknown_keys.notify_waiters();
        if self.may_be_known_soon(key) { Lookup::NotYet } else { Lookup::Unknown }
    }

    /// Returns whether the environments of some configured keys are not known yet, and upstream has not rejected them.
    pub(crate) fn are_incomplete(&self) -> bool {
        self.0.pending.has_undecided()
    }

    /// Returns whether an unknown key may belong to an environment that is not known yet, or is a key that upstream rejects for
    /// now.
    fn may_be_known_soon(&self, key: &KeyHash) -> bool {
        self.are_incomplete() || self.0.pending.has(key) || self.has_none_yet()
    }

    /// Returns whether there is no environment, although there are pending keys.
    fn has_none_yet(&self) -> bool {
        self.0.index.load().all.is_empty() && !self.0.pending.is_empty()
    }

    /// Returns whether an unknown environment may be added later.
    pub(crate) fn may_come(&self, id: &str) -> bool {
        self.by_id(id).is_none() && (self.are_incomplete() || self.has_none_yet())
    }

    /// Returns the configured keys whose environment is not known yet.
    pub(crate) fn pending(&self) -> &Pending {
        &self.0.pending
    }

    /// Returns whether a key belongs to this environment.
    pub(crate) fn accepts(&self, key: &KeyHash, id: &str) -> bool {
        self.0.index.load().by_key.get(key).is_some_and(|it| it.identity.id == id)
    }

    /// Waits until a caller presents an unknown key.
    pub(crate) async fn unknown_key(&self) {
        self.0.unknown_keys.notified().await;
    }

    /// Returns what is notified when something has changed that gateways share.
    pub(crate) fn changed(&self) -> &Arc<Notify> {
        &self.0.changed
    }

    /// Notes that upstream has listed all environments.
    pub(crate) fn mark_listed(&self) {
        if !self.0.are_listed.swap(true, Ordering::Relaxed) {
            self.0.changed.notify_one();
        }
    }

    /// Returns whether upstream has listed all environments to this process, so that no other exists.
    pub(crate) fn are_listed(&self) -> bool {
        self.0.are_listed.load(Ordering::Relaxed)
    }

    /// Adds an environment; returns `false` if its ID exists already.
    pub(crate) fn add(&self, environment: &Arc<HarnessEnvironment>) -> bool {
        let _guard = self.0.changing.lock();
        let mut index = Index::clone(&self.0.index.load());
        if index.by_id.contains_key(environment.identity.id.as_str()) {
            return false;
        }
        index.by_id.insert(environment.identity.id.as_str().into(), Arc::clone(environment));
        index.all.push(Arc::clone(environment));
        index.all.sort_by(|left, right| left.label.cmp(&right.label));
        self.0.index.store(Arc::new(index));
        true
    }

    /// Replaces the keys of an environment; returns those that are no longer accepted.
    pub(crate) fn set_keys(&self, environment: &Arc<HarnessEnvironment>, keys: &BTreeSet<KeyHash>) -> Vec<KeyHash> {
        let _guard = self.0.changing.lock();
        let mut index = Index::clone(&self.0.index.load());
        let is_mine = |it: &Arc<HarnessEnvironment>| it.identity.id == environment.identity.id;
        let removed: Vec<_> = index
            .by_key
            .iter()
            .filter(|(key, it)| is_mine(it) && !keys.contains(*key))
            .map(|(key, _)| key.clone())
            .collect();
        removed.iter().for_each(|key| {
            index.by_key.remove(key);
        });
        for key in keys {
            index.by_key.insert(key.clone(), Arc::clone(environment));
        }
        self.0.index.store(Arc::new(index));
        environment.persist_keys(keys);
        self.0.changed.notify_one();
        removed
    }

    /// Returns the keys of an environment, in order.
    pub(crate) fn keys_of(&self, environment: &Arc<HarnessEnvironment>) -> BTreeSet<KeyHash> {
        let index = self.0.index.load();
        let mine = index.by_key.iter().filter(|(_, it)| Arc::ptr_eq(it, environment));
        mine.map(|(key, _)| key.clone()).collect()
    }

    /// Removes an environment and its keys.
    pub(crate) fn remove(&self, environment: &Arc<HarnessEnvironment>) {
        let _guard = self.0.changing.lock();
        let mut index = Index::clone(&self.0.index.load());
        let is_other = |it: &Arc<HarnessEnvironment>| !Arc::ptr_eq(it, environment);
        index.all.retain(is_other);
        index.by_id.retain(|_, it| is_other(it));
        index.by_key.retain(|_, it| is_other(it));
        self.0.index.store(Arc::new(index));
        self.0.changed.notify_one();
    }

    /// Returns whether another environment has this label.
    pub(crate) fn is_taken(&self, label: &EnvironmentLabel, id: &str) -> bool {
        self.0.index.load().all.iter().any(|it| it.label == *label && it.identity.id != id)
    }
}
