//! One environment: its identifiers, session, data, metrics and status.

use std::collections::BTreeSet;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::Notify;
use yardarm_core::data_store::TrackedState;
use yardarm_core::readiness::ReadyLatch;
use yardarm_core::status::Status;
use yardarm_core::time::unix_ms;
use yardarm_core::{Environment, EnvironmentLabel, Lifecycle};
use yardarm_harness_eval::model::Target;
use yardarm_vendor::environment::{self, EnvironmentBase};

use super::announced::Announced;
use super::counters::EnvironmentCounters;
use super::skipped::SkippedItems;
use crate::data::dataset::FlagData;
use crate::data::items::Items;
use crate::data::persisted::{self, PersistedEnvironment};
use crate::data::received::Unreadable;
use crate::data::targets::{TargetBudget, Targets};
use crate::identity::tokens::SigningKey;
use crate::identity::{Identity, KeyHash, Session};
use crate::metrics::MetricsPort;

/// One environment. It dereferences to the part that does not depend on the vendor.
pub(crate) struct HarnessEnvironment {
    base: EnvironmentBase<FlagData>,
    pub(crate) identity: Identity,
    /// Signs tokens for it; `None` if one secret signs the tokens of all environments.
    pub(crate) signing: Option<SigningKey>,
    /// The newest session with upstream.
    session: ArcSwap<Session>,
    /// State of the upstream stream. SDKs may stream only while it is connected: polling causes no events.
    stream: Mutex<StreamState>,
    pub(crate) targets: Targets,
    pub(crate) metrics: MetricsPort,
    /// Changes that streams which open now may have missed.
    pub(crate) announced: Announced,
    /// Items that cannot be read; their last good versions are served.
    pub(crate) skipped: SkippedItems,
    /// Whether a target was accepted that Harness itself rejects.
    pub(crate) has_unusual_targets: AtomicBool,
    pub(crate) counters: EnvironmentCounters,
    persisted: Option<TrackedState<PersistedEnvironment>>,
    token_refused: Arc<Notify>,
    /// The newest data that upstream has sent to this process, before plugins.
    confirmed: Mutex<Option<Items>>,
    /// Notified when something has changed that gateways share.
    changed: Arc<Notify>,
}

/// The parts of an environment.
pub(crate) struct EnvironmentParts {
    pub(crate) label: EnvironmentLabel,
    pub(crate) status: Status,
    pub(crate) session: Session,
    pub(crate) data: Environment<FlagData>,
    pub(crate) metrics: MetricsPort,
    pub(crate) persisted: Option<TrackedState<PersistedEnvironment>>,
    pub(crate) token_refused: Arc<Notify>,
    pub(crate) changed: Arc<Notify>,
    pub(crate) target_budget: Arc<TargetBudget>,
    pub(crate) signing: Option<SigningKey>,
}

/// State of the upstream stream, and since when.
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

impl HarnessEnvironment {
    pub(crate) fn new(parts: EnvironmentParts) -> Self {
        let EnvironmentParts {
            label,
            status,
            session,
            data,
            metrics,
            persisted,
            token_refused,
            changed,
            target_budget,
            signing,
        } = parts;
        Self {
            base: EnvironmentBase::new(label, data, status),
            signing,
            identity: session.identity.clone(),
            session: ArcSwap::from_pointee(session),
            stream: Mutex::new(StreamState { connection: Connection::Initializing, since: unix_ms() / 1000 }),
            targets: Targets::new(&target_budget),
            metrics,
            announced: Announced::default(),
            skipped: SkippedItems::default(),
            has_unusual_targets: AtomicBool::new(false),
            counters: EnvironmentCounters::default(),
            persisted,
            token_refused,
            confirmed: Mutex::default(),
            changed,
        }
    }

    /// Holds readiness back until this environment has data, or ends.
    pub(crate) fn hold_readiness(&self, latch: ReadyLatch, lifecycle: &Lifecycle) {
        latch.follow(self.label.to_string(), &self.status);
        environment::hold_readiness(&self.base, latch, lifecycle);
    }

    pub(crate) fn session(&self) -> Arc<Session> {
        self.session.load_full()
    }

    /// Replaces the session.
    pub(crate) fn renew(&self, session: Session) {
        self.session.store(Arc::new(session));
    }

    /// Requests a new token, because upstream has rejected the present one.
    pub(crate) fn request_token_refresh(&self) {
        self.token_refused.notify_one();
    }

    pub(crate) fn stream(&self) -> StreamState {
        *self.stream.lock()
    }

    /// Sets the state of the upstream stream; returns whether it changed.
    pub(crate) fn set_stream_state(&self, connection: Connection) -> bool {
        let mut stream = self.stream.lock();
        let has_changed = stream.connection != connection;
        if has_changed {
            if stream.connection == Connection::Connected {
                self.counters.record_closed();
                self.announced.lose();
            }
            if connection == Connection::Connected {
                self.announced.restore();
            }
            *stream = StreamState { connection, since: unix_ms() / 1000 };
            self.changed.notify_one();
        }
        has_changed
    }

    /// Returns the newest data that upstream has sent to this process, before plugins; `None` before the first download.
    pub(crate) fn confirmed(&self) -> Option<Items> {
        self.confirmed.lock().clone()
    }

    /// Sets the newest data that upstream has sent.
    pub(crate) fn confirm(&self, items: &Items) {
        *self.confirmed.lock() = Some(items.clone());
        self.changed.notify_one();
    }

    /// Persists flags and segments, as upstream sent them.
    pub(crate) fn persist_items(&self, items: &Items) {
        self.persist(|persisted| {
            persisted.items = Some(items.clone());
            true
        });
    }

    /// Replaces the items that cannot be read.
    pub(crate) fn skip(&self, unreadable: Vec<Unreadable>) {
        self.skipped.replace(&self.status, unreadable);
    }

    /// Persists targets.
    pub(crate) fn persist_targets(&self, targets: &[Target]) {
        if self.persisted.is_none() {
            return;
        }
        let texts = persisted::texts(targets);
        self.persist(|persisted| {
            let has_changed = persisted.targets != texts;
            persisted.targets = texts;
            has_changed
        });
    }

    /// Persists keys.
    pub(super) fn persist_keys(&self, keys: &BTreeSet<KeyHash>) {
        self.persist(|persisted| {
            let has_changed = persisted.keys != *keys;
            persisted.keys.clone_from(keys);
            has_changed
        });
    }

    /// Removes what is persisted of this environment.
    pub(crate) fn clear_persisted(&self) {
        self.persist(|persisted| {
            *persisted = PersistedEnvironment::default();
            true
        });
    }

    fn persist(&self, change: impl FnOnce(&mut PersistedEnvironment) -> bool) {
        if let Some(persisted) = &self.persisted {
            persisted.change(change);
        }
    }
}

impl Deref for HarnessEnvironment {
    type Target = EnvironmentBase<FlagData>;

    fn deref(&self) -> &EnvironmentBase<FlagData> {
        &self.base
    }
}
