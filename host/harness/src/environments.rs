//! Which environments exist, what is known of each, and how a key finds its environment.

mod announced;
mod applier;
mod counters;
mod factory;
mod metrics_poster;
mod pending;
mod report;
mod skipped;

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use tokio::sync::Notify;
use yardarm_core::readiness::ReadyLatch;
use yardarm_core::report::RecentChanges;
use yardarm_core::snapshot_writer::SnapshotWriter;
use yardarm_core::status::Status;
use yardarm_core::time::unix_ms;
use yardarm_core::{Environment, EnvironmentLabel, Lifecycle};
use yardarm_harness_eval::model::Target;

use self::announced::Announced;
pub(crate) use self::applier::Applier;
use self::counters::EnvironmentCounters;
pub use self::factory::Parts;
pub(crate) use self::factory::{EnvironmentFactory, EnvironmentHandle};
pub(crate) use self::metrics_poster::MetricsPoster;
pub(crate) use self::pending::Pending;
pub use self::report::Incomplete;
pub(crate) use self::report::{completeness, of as report};
use self::skipped::SkippedItems;
use crate::data::dataset::{FlagData, Items};
use crate::data::persisted::{self, PersistedEnvironment};
use crate::data::received::Unreadable;
use crate::data::targets::{LearntBudget, Targets};
use crate::identity::tokens::SigningKey;
use crate::identity::{Identity, KeyHash, Session};
use crate::metrics::MetricsPort;

/// One environment.
pub(crate) struct HarnessEnvironment {
    pub(crate) label: EnvironmentLabel,
    pub(crate) identity: Identity,
    /// What tokens for it are signed with, unless one secret signs all.
    pub(crate) signing: Option<SigningKey>,
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
    /// Changes that streams which open now may have missed.
    pub(crate) announced: Announced,
    /// Items that cannot be read; the last good versions of them are served.
    pub(crate) skipped: SkippedItems,
    /// Whether a target was accepted that Harness itself refuses.
    pub(crate) has_unusual_targets: AtomicBool,
    pub(crate) recent: RecentChanges,
    pub(crate) counters: EnvironmentCounters,
    snapshot_writer: Option<SnapshotWriter<PersistedEnvironment>>,
    token_refused: Arc<Notify>,
}

/// What an environment is made of.
pub(crate) struct EnvironmentParts {
    pub(crate) label: EnvironmentLabel,
    pub(crate) status: Status,
    pub(crate) session: Session,
    pub(crate) data: Environment<FlagData>,
    pub(crate) metrics: MetricsPort,
    pub(crate) snapshot_writer: Option<SnapshotWriter<PersistedEnvironment>>,
    pub(crate) token_refused: Arc<Notify>,
    pub(crate) learnt: Arc<LearntBudget>,
    pub(crate) signing: Option<SigningKey>,
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
    pending: Pending,
    /// Somebody presented a key that nobody knows.
    unknown_keys: Notify,
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
    pub(crate) fn new(parts: EnvironmentParts) -> Self {
        let EnvironmentParts { label, status, session, data, metrics, snapshot_writer, token_refused, learnt, signing } =
            parts;
        Self {
            label,
            signing,
            identity: session.identity.clone(),
            session: ArcSwap::from_pointee(session),
            data,
            status,
            stream: Mutex::new(StreamState { connection: Connection::Initializing, since: unix_ms() / 1000 }),
            targets: Targets::new(&learnt),
            metrics,
            is_behind: AtomicBool::new(false),
            announced: Announced::default(),
            skipped: SkippedItems::default(),
            has_unusual_targets: AtomicBool::new(false),
            recent: RecentChanges::default(),
            counters: EnvironmentCounters::default(),
            snapshot_writer,
            token_refused,
        }
    }

    /// Makes readiness wait until this environment has data, or is gone.
    pub(crate) fn hold_readiness(self: &Arc<Self>, latch: ReadyLatch, lifecycle: &Lifecycle) {
        latch.follow(self.label.to_string(), &self.status);
        let (environment, latch) = (Arc::clone(self), Arc::new(latch));
        lifecycle.supervise("first data", move || wait_for_data(Arc::clone(&environment), Arc::clone(&latch)));
    }

    pub(crate) fn session(&self) -> Arc<Session> {
        self.session.load_full()
    }

    /// The key was exchanged again.
    pub(crate) fn renew(&self, session: Session) {
        self.session.store(Arc::new(session));
    }

    /// Upstream does not accept the token any more.
    pub(crate) fn request_token_refresh(&self) {
        self.token_refused.notify_one();
    }

    pub(crate) fn stream(&self) -> StreamState {
        *self.stream.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes the state of the upstream stream; says whether that is news.
    pub(crate) fn set_stream_state(&self, connection: Connection) -> bool {
        let mut stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
        let is_news = stream.connection != connection;
        if is_news {
            if stream.connection == Connection::Connected {
                self.counters.close();
                self.announced.lose();
            }
            if connection == Connection::Connected {
                self.announced.restore();
            }
            *stream = StreamState { connection, since: unix_ms() / 1000 };
        }
        is_news
    }

    /// Keeps flags and segments, as upstream said them, on disk.
    pub(crate) fn persist_items(&self, items: &Items) {
        self.persist(|persisted| {
            persisted.items = Some(items.clone());
            true
        });
    }

    /// Replaces what cannot be read of the newest data.
    pub(crate) fn skip(&self, unreadable: Vec<Unreadable>) {
        self.skipped.replace(&self.label, &self.status, unreadable);
    }

    /// Keeps targets on disk.
    pub(crate) fn persist_targets(&self, targets: &[Target]) {
        if self.snapshot_writer.is_none() {
            return;
        }
        let texts = persisted::texts(targets);
        self.persist(|persisted| {
            let is_news = persisted.targets != texts;
            persisted.targets = texts;
            is_news
        });
    }

    /// Nothing of this environment is kept on disk any more.
    pub(crate) fn clear_persisted(&self) {
        self.persist(|persisted| {
            *persisted = PersistedEnvironment::default();
            true
        });
    }

    fn persist(&self, change: impl FnOnce(&mut PersistedEnvironment) -> bool) {
        if let Some(snapshot_writer) = &self.snapshot_writer {
            snapshot_writer.change(change);
        }
    }

    /// Remembers a change for people.
    pub(crate) fn remember(&self, text: String) {
        self.recent.remember(self.data.snapshot().map_or(0, |it| it.seq()), text);
    }
}

/// Readiness waits until there is something to serve.
async fn wait_for_data(environment: Arc<HarnessEnvironment>, latch: Arc<ReadyLatch>) {
    let mut changes = environment.status.changes();
    while !environment.data.has_data() {
        if changes.changed().await.is_err() {
            return;
        }
    }
    latch.release();
}

impl Environments {
    /// None yet; what is `pending` is still to say which there are.
    pub(crate) fn expecting(pending: Pending) -> Self {
        Self(Arc::new(Shared {
            index: ArcSwap::default(),
            changing: Mutex::default(),
            pending,
            unknown_keys: Notify::new(),
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
        self.0.unknown_keys.notify_waiters();
        if self.may_be_known_soon(key) { Lookup::NotYet } else { Lookup::Unknown }
    }

    /// Whether some configured keys have not said yet what they belong to.
    pub(crate) fn are_incomplete(&self) -> bool {
        self.0.pending.are_some_unheard()
    }

    /// Whether a key that is unknown now may belong to something that is not known yet, or that upstream rejects for a while.
    fn may_be_known_soon(&self, key: &KeyHash) -> bool {
        self.are_incomplete() || self.0.pending.has(key) || self.has_none_yet()
    }

    /// Whether there is no environment at all, although there are keys that should lead to some.
    fn has_none_yet(&self) -> bool {
        self.0.index.load().all.is_empty() && !self.0.pending.is_empty()
    }

    /// Whether an environment that is unknown now may come.
    pub(crate) fn may_come(&self, id: &str) -> bool {
        self.by_id(id).is_none() && (self.are_incomplete() || self.has_none_yet())
    }

    /// Configured keys that have led to no environment yet.
    pub(crate) fn pending(&self) -> &Pending {
        &self.0.pending
    }

    /// Whether a key belongs to this environment.
    pub(crate) fn accepts(&self, key: &KeyHash, id: &str) -> bool {
        self.0.index.load().by_key.get(key).is_some_and(|it| it.identity.id == id)
    }

    /// Wakes when somebody presents a key that nobody knows.
    pub(crate) async fn unknown_key(&self) {
        self.0.unknown_keys.notified().await;
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
        environment.persist(|persisted| {
            let is_news = persisted.keys != *keys;
            persisted.keys.clone_from(keys);
            is_news
        });
        gone
    }

    /// The keys of an environment, in order.
    pub(crate) fn keys_of(&self, environment: &Arc<HarnessEnvironment>) -> BTreeSet<KeyHash> {
        let index = self.0.index.load();
        let mine = index.by_key.iter().filter(|(_, it)| Arc::ptr_eq(it, environment));
        mine.map(|(key, _)| key.clone()).collect()
    }

    /// Removes an environment and its keys.
    pub(crate) fn remove(&self, environment: &Arc<HarnessEnvironment>) {
        let _guard = self.0.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut index = Index::clone(&self.0.index.load());
        let is_other = |it: &Arc<HarnessEnvironment>| !Arc::ptr_eq(it, environment);
        index.all.retain(is_other);
        index.by_id.retain(|_, it| is_other(it));
        index.by_key.retain(|_, it| is_other(it));
        self.0.index.store(Arc::new(index));
    }

    /// Whether a label is taken by another environment.
    pub(crate) fn is_taken(&self, label: &EnvironmentLabel, id: &str) -> bool {
        self.0.index.load().all.iter().any(|it| it.label == *label && it.identity.id != id)
    }
}
