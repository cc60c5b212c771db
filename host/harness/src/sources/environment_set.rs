//! The environments that one key leads to: exactly one for an API key, any number for a proxy key.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tracing::Instrument;
use yardarm_core::readiness::ReadyLatch;
use yardarm_core::registry::EndReason;
use yardarm_core::status::ErrorKind;

use crate::data::received::Received;
use crate::environments::{Applier, Connection, EnvironmentFactory, EnvironmentHandle, HarnessEnvironment};

/// Index of a proxy key among the pending keys; it is the only one.
const PROXY_KEY_INDEX: usize = 0;

/// All environments of one key.
pub(super) struct EnvironmentSet {
    pub(super) factory: EnvironmentFactory,
    served: BTreeMap<String, EnvironmentHandle>,
    /// ID of the environment that every event is about; `None` where each event names one.
    only: Option<String>,
    /// State of the stream, which all of them share.
    connection: Connection,
    /// Whether something of the newest data could not be used.
    is_incomplete: bool,
    /// Whether all environments of the start are known.
    is_settled: bool,
    /// Holds readiness back until they are.
    latch: Option<ReadyLatch>,
}

impl EnvironmentSet {
    /// Returns the set of an API key.
    pub(super) fn one(factory: EnvironmentFactory, handle: EnvironmentHandle) -> Self {
        let id = handle.environment.identity.id.clone();
        Self {
            served: BTreeMap::from([(id.clone(), handle)]),
            only: Some(id),
            is_settled: true,
            latch: None,
            ..Self::many(factory, None)
        }
    }

    /// Returns the set of a proxy key, which is empty at first. `latch` is released when its environments are known.
    pub(super) fn many(factory: EnvironmentFactory, latch: Option<ReadyLatch>) -> Self {
        Self {
            factory,
            served: BTreeMap::new(),
            only: None,
            connection: Connection::Initializing,
            is_incomplete: false,
            is_settled: false,
            latch,
        }
    }

    /// Returns the environment of an API key; `None` for the set of a proxy key.
    pub(super) fn only(&self) -> Option<&Arc<HarnessEnvironment>> {
        self.served.get(self.only.as_ref()?).map(|it| &it.environment)
    }

    /// Returns the environment that an event is about, where `named` is the one that it names; `None` if it is not in the set.
    pub(super) fn addressed(&self, named: Option<&str>) -> Option<Arc<HarnessEnvironment>> {
        let id = self.only.as_deref().or(named)?;
        self.served.get(id).map(|it| Arc::clone(&it.environment))
    }

    /// Returns the environment of this ID.
    pub(super) fn get(&self, id: &str) -> Option<&Arc<HarnessEnvironment>> {
        self.served.get(id).map(|it| &it.environment)
    }

    /// Returns all environments, in order of ID.
    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<HarnessEnvironment>> {
        self.served.values().map(|it| &it.environment)
    }

    /// Returns the applier of an environment.
    pub(super) fn applier(&mut self, id: &str) -> Option<&mut Applier> {
        self.served.get_mut(id).map(|it| &mut it.applier)
    }

    /// Adds an environment, and holds readiness back until it has data.
    pub(super) fn insert(&mut self, handle: EnvironmentHandle) {
        handle.environment.set_stream_state(self.connection);
        handle.hold_readiness(self.is_settled);
        self.served.insert(handle.environment.identity.id.clone(), handle);
    }

    /// Removes an environment, if it is in the set.
    pub(super) fn remove(&mut self, id: &str) {
        if let Some(EnvironmentHandle { environment, lifecycle, .. }) = self.served.remove(id) {
            self.factory.remove(&environment, &lifecycle);
        }
    }

    /// Serves what was downloaded for an environment, or keeps what is served if that cannot be used.
    pub(super) async fn put(&mut self, id: &str, items: Result<Received, String>) {
        let Some(EnvironmentHandle { environment, applier, .. }) = self.served.get_mut(id) else { return };
        let span = environment.label.span();
        match items {
            Ok(items) => {
                applier.put(items).instrument(span).await;
                environment.status.data_received();
                environment.status.message_processed();
            }
            Err(problem) => {
                let _span = span.entered();
                tracing::error!(problem, "environment cannot be used, serving what was served before");
                environment.status.interrupted(ErrorKind::InvalidData, &problem);
                if !environment.data.has_data() {
                    environment.set_stream_state(Connection::Disconnected);
                }
                self.is_incomplete = true;
            }
        }
    }

    /// Returns whether there is data, so that the stream may be opened before the first download.
    pub(super) fn has_data(&self) -> bool {
        self.only().map_or(self.is_settled, |it| it.data.has_data())
    }

    /// Returns whether all environments of the start are known.
    pub(super) fn is_settled(&self) -> bool {
        self.is_settled
    }

    /// Notes that all environments of a proxy key are known. Readiness does not wait for those that are added later.
    pub(super) fn settle(&mut self) {
        self.is_settled = true;
        self.factory.environments.pending().resolve(PROXY_KEY_INDEX);
        self.latch = None;
    }

    /// Returns whether something of the newest data could not be used, so that another download is due.
    pub(super) fn is_incomplete(&self) -> bool {
        self.is_incomplete || self.served.values().any(|it| it.applier.has_skipped())
    }

    /// Notes whether the served data may lack something.
    pub(super) fn set_incomplete(&mut self, is_incomplete: bool) {
        self.is_incomplete = is_incomplete;
    }

    /// Notes that the stream is open.
    pub(super) fn connect(&mut self) {
        self.connection = Connection::Connected;
        for environment in self.all() {
            // Without data, an environment of a proxy key has no streams to announce changes on.
            let has_changes = self.only.is_some() || environment.data.has_data();
            environment.set_stream_state(if has_changes { Connection::Connected } else { Connection::Disconnected });
        }
    }

    /// Notes that there is no stream, and ends the streams of SDKs: without events they must poll.
    pub(super) fn disconnect(&mut self) {
        self.connection = Connection::Disconnected;
        let mut labels = BTreeSet::new();
        for environment in self.all() {
            environment.set_stream_state(Connection::Disconnected);
            labels.insert(environment.label.clone());
        }
        self.factory.parts.streams.end_where(EndReason::SourceLost, |facts| labels.contains(&facts.environment));
    }

    /// Notes a failure that concerns all environments. `is_lasting` rejections are retried with long backoff.
    pub(super) fn note_failure(&self, (kind, is_rejection): (ErrorKind, bool), is_lasting: bool, problem: &str) {
        for environment in self.all() {
            if is_lasting {
                environment.status.refused(kind, problem);
            } else {
                environment.status.interrupted(kind, problem);
            }
        }
        if self.only.is_some() {
            return;
        }
        let pending = self.factory.environments.pending();
        if is_rejection && !self.is_settled {
            // The key is of no use for now, so callers need not wait for it.
            pending.refused(PROXY_KEY_INDEX, kind, problem);
        } else {
            pending.failed(PROXY_KEY_INDEX, kind, problem);
        }
    }

    /// Applies a change of plugins to all environments.
    pub(super) async fn plan_changed(&mut self) {
        for handle in self.served.values_mut() {
            handle.applier.plan_changed().instrument(handle.environment.label.span()).await;
        }
    }

    /// Returns whether a payload plugin failed for any environment.
    pub(super) fn is_behind(&self) -> bool {
        self.served.values().any(|it| it.applier.is_behind())
    }
}
