//! Which environments exist, what is known of each, and how a key finds its environment.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use yardarm_core::report::RecentChanges;
use yardarm_core::status::Status;
use yardarm_core::time::unix_ms;
use yardarm_core::{Environment, EnvironmentLabel};

use crate::credential::KeyHash;
use crate::dataset::FlagData;
use crate::metrics::MetricsPort;
use crate::targets::Targets;
use crate::upstream::Session;

/// Name of the vendor in labels.
pub(crate) const VENDOR: &str = "harness";

/// One environment.
pub(crate) struct HarnessEnvironment {
    pub(crate) label: EnvironmentLabel,
    pub(crate) identity: Identity,
    /// The newest token, and what it says.
    session: ArcSwap<Session>,
    pub(crate) data: Environment<FlagData>,
    pub(crate) status: Status,
    /// Whether changes come in as they happen. SDKs may stream only then: while we poll there are no events.
    stream: Mutex<StreamState>,
    pub(crate) targets: Targets,
    pub(crate) metrics: MetricsPort,
    /// What is served lacks something that upstream said, because a payload plugin failed.
    pub(crate) is_behind: AtomicBool,
    pub(crate) recent: RecentChanges,
}

/// What Harness calls an environment, as far as it says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    /// UUID.
    pub(crate) id: String,
    pub(crate) environment: String,
    pub(crate) project: String,
    pub(crate) account: String,
    /// What upstream wants to find in every query.
    pub(crate) cluster: String,
}

/// Whether the upstream stream is connected, and since when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StreamState {
    pub(crate) connection: Connection,
    /// Unix seconds.
    pub(crate) since: u64,
}

/// States of the upstream stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Connection {
    Initializing,
    Connected,
    Disconnected,
}

/// All environments, found by key and by ID. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Environments(Arc<Shared>);

struct Shared {
    index: ArcSwap<Index>,
    /// Guards changes of the index, which are rare.
    changing: Mutex<()>,
    /// Configured keys whose environment, or whose list of keys, is not known yet.
    unknown: AtomicUsize,
    /// Somebody presented a key that nobody knows.
    strangers: Notify,
}

#[derive(Default, Clone)]
struct Index {
    all: Vec<Arc<HarnessEnvironment>>,
    by_id: HashMap<Box<str>, Arc<HarnessEnvironment>>,
    by_key: HashMap<KeyHash, Arc<HarnessEnvironment>>,
}

/// What a key leads to.
pub(crate) enum Lookup {
    Found(Arc<HarnessEnvironment>),
    Unknown,
    /// Unknown, but not all keys are known yet.
    NotYet,
}

impl HarnessEnvironment {
    pub(crate) fn new(
        label: EnvironmentLabel,
        session: Session,
        data: Environment<FlagData>,
        metrics: MetricsPort,
    ) -> Self {
        Self {
            label,
            identity: session.identity.clone(),
            session: ArcSwap::from_pointee(session),
            data,
            status: Status::new(),
            stream: Mutex::new(StreamState { connection: Connection::Initializing, since: unix_ms() / 1000 }),
            targets: Targets::default(),
            metrics,
            is_behind: AtomicBool::new(false),
            recent: RecentChanges::default(),
        }
    }

    pub(crate) fn session(&self) -> Arc<Session> {
        self.session.load_full()
    }

    /// The key was exchanged again.
    pub(crate) fn renew(&self, session: Session) {
        self.session.store(Arc::new(session));
    }

    pub(crate) fn stream(&self) -> StreamState {
        *self.stream.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes the state of the upstream stream; says whether that is news.
    pub(crate) fn stream_is(&self, connection: Connection) -> bool {
        let mut stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
        let is_news = stream.connection != connection;
        if is_news {
            *stream = StreamState { connection, since: unix_ms() / 1000 };
        }
        is_news
    }

    /// Remembers a change for people.
    pub(crate) fn remember(&self, text: String) {
        self.recent.remember(self.data.snapshot().map_or(0, |it| it.seq()), text);
    }
}

impl Environments {
    /// None yet; `configured` keys are still to say which there are.
    pub(crate) fn expecting(configured: usize) -> Self {
        Self(Arc::new(Shared {
            index: ArcSwap::default(),
            changing: Mutex::default(),
            unknown: AtomicUsize::new(configured),
            strangers: Notify::new(),
        }))
    }

    /// Every environment, in order of label.
    pub(crate) fn all(&self) -> Vec<Arc<HarnessEnvironment>> {
        self.0.index.load().all.clone()
    }

    /// The environment of this ID.
    pub(crate) fn by_id(&self, id: &str) -> Option<Arc<HarnessEnvironment>> {
        self.0.index.load().by_id.get(id).cloned()
    }

    /// The environment that a key belongs to. A stranger makes the lists of keys be read again, soon.
    pub(crate) fn by_key(&self, key: &KeyHash) -> Lookup {
        if let Some(found) = self.0.index.load().by_key.get(key) {
            return Lookup::Found(Arc::clone(found));
        }
        self.0.strangers.notify_waiters();
        if self.are_incomplete() { Lookup::NotYet } else { Lookup::Unknown }
    }

    /// Whether some configured keys have not said yet what they belong to.
    pub(crate) fn are_incomplete(&self) -> bool {
        self.0.unknown.load(Ordering::Relaxed) > 0
    }

    /// Whether a key belongs to this environment.
    pub(crate) fn accepts(&self, key: &KeyHash, id: &str) -> bool {
        self.0.index.load().by_key.get(key).is_some_and(|it| it.identity.id == id)
    }

    /// Wakes when somebody presents a key that nobody knows.
    pub(crate) async fn stranger(&self) {
        self.0.strangers.notified().await;
    }

    /// One configured key has said what it can say for now.
    pub(crate) fn one_is_known(&self) {
        // Never below zero: each key says so once.
        let _ = self.0.unknown.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |it| it.checked_sub(1));
    }

    /// Adds an environment; says whether there was none of this ID.
    pub(crate) fn add(&self, environment: &Arc<HarnessEnvironment>) -> bool {
        let _guard = self.0.changing.lock().unwrap_or_else(PoisonError::into_inner);
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

    /// Replaces the keys of an environment; gives those that are no longer accepted.
    pub(crate) fn set_keys(&self, environment: &Arc<HarnessEnvironment>, keys: &BTreeSet<KeyHash>) -> Vec<KeyHash> {
        let _guard = self.0.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut index = Index::clone(&self.0.index.load());
        let is_mine = |it: &Arc<HarnessEnvironment>| it.identity.id == environment.identity.id;
        let gone: Vec<_> = index
            .by_key
            .iter()
            .filter(|(key, it)| is_mine(it) && !keys.contains(*key))
            .map(|(key, _)| key.clone())
            .collect();
        gone.iter().for_each(|key| {
            index.by_key.remove(key);
        });
        for key in keys {
            index.by_key.insert(key.clone(), Arc::clone(environment));
        }
        self.0.index.store(Arc::new(index));
        gone
    }

    /// Whether a label is taken by another environment.
    pub(crate) fn is_taken(&self, label: &EnvironmentLabel, id: &str) -> bool {
        self.0.index.load().all.iter().any(|it| it.label == *label && it.identity.id != id)
    }
}
