//! The environments that a proxy key leads to: which are served, and with what.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use yardarm_core::Secret;
use yardarm_core::registry::EndReason;
use yardarm_core::status::ErrorKind;

use super::account::Listing;
use super::page::Listed;
use crate::data::persisted::PersistedEnvironment;
use crate::environments::{Applier, Connection, EnvironmentFactory, EnvironmentHandle, HarnessEnvironment};
use crate::identity::{Identity, KeyHash, Session, masked};

/// All environments of one proxy key.
pub(super) struct EnvironmentSet {
    factory: EnvironmentFactory,
    /// Hash of the key, by which kept data is found again.
    source: KeyHash,
    /// The key as metrics show it.
    masked: String,
    /// The newest token.
    session: Session,
    /// State of the stream, which is one for all.
    connection: Connection,
    served: BTreeMap<String, EnvironmentHandle>,
    /// Whether something of the last list could not be used.
    is_incomplete: bool,
    /// Whether all environments of the start are known.
    is_settled: bool,
}

impl EnvironmentSet {
    pub(super) fn new(factory: EnvironmentFactory, key: &Secret) -> Self {
        Self {
            factory,
            source: KeyHash::of(key.expose()),
            masked: masked(key),
            session: Session::remembered(Identity::default()),
            connection: Connection::Initializing,
            served: BTreeMap::new(),
            is_incomplete: false,
            is_settled: false,
        }
    }

    /// Serves what an earlier process kept; says whether there was something.
    pub(super) async fn restore(&mut self, all: Vec<PersistedEnvironment>) -> bool {
        for persisted in all {
            let session = Session::remembered(persisted.identity.clone());
            self.create(session, persisted).await;
        }
        self.served.values().any(|it| it.environment.data.has_data())
    }

    /// All environments of the start are known: readiness does not wait for those that come later.
    pub(super) fn settle(&mut self) {
        self.is_settled = true;
    }

    pub(super) fn session(&self) -> &Session {
        &self.session
    }

    /// Whether something of the newest data could not be used, so that another download is due.
    pub(super) fn is_incomplete(&self) -> bool {
        self.is_incomplete || self.served.values().any(|it| it.applier.has_skipped())
    }

    /// What is served may lack something; everything is to be downloaded again.
    pub(super) fn doubt(&mut self) {
        self.is_incomplete = true;
    }

    /// The environment of this ID, if it is one of these.
    pub(super) fn environment(&self, id: &str) -> Option<Arc<HarnessEnvironment>> {
        self.served.get(id).map(|it| Arc::clone(&it.environment))
    }

    /// The way in for data of an environment.
    pub(super) fn applier(&mut self, id: &str) -> Option<&mut Applier> {
        self.served.get_mut(id).map(|it| &mut it.applier)
    }

    /// The ways in for data of all environments.
    pub(super) fn appliers(&mut self) -> impl Iterator<Item = &mut Applier> {
        self.served.values_mut().map(|it| &mut it.applier)
    }

    /// Whether a payload plugin failed anywhere.
    pub(super) fn is_behind(&self) -> bool {
        self.served.values().any(|it| it.applier.is_behind())
    }

    /// There is a new token, which is every environment's.
    pub(super) fn renew(&mut self, session: Session) {
        for EnvironmentHandle { environment, .. } in self.served.values() {
            let Identity { account, cluster, .. } = session.identity.clone();
            let identity = Identity { account, cluster, ..environment.identity.clone() };
            environment.renew(Session { identity, token: session.token.clone() });
        }
        self.session = session;
    }

    /// Everything came anew. Environments that are not listed any more end.
    pub(super) async fn put_all(&mut self, listing: Listing) {
        self.is_incomplete = !listing.is_complete() || listing.environments.values().any(|it| it.items.is_err());
        if listing.is_complete() {
            let gone = self.served.keys().filter(|id| !listing.environments.contains_key(*id)).cloned();
            gone.collect::<Vec<_>>().iter().for_each(|id| self.remove(id));
        } else if listing.unreadable > 0 {
            tracing::error!(
                unreadable = listing.unreadable,
                "the list of environments has entries that cannot be read, those that are missing stay for now"
            );
        } else {
            tracing::warn!("the list of environments changed while it was read, those that are missing stay for now");
        }
        for listed in listing.environments.into_values() {
            self.put(listed).await;
        }
    }

    /// An environment came anew. Data is there before its keys are.
    pub(super) async fn put(&mut self, listed: Listed) {
        let Listed { id, environment, project, keys, items } = listed;
        if !self.served.contains_key(&id) {
            let identity = Identity { id: id.clone(), environment, project, ..self.session.identity.clone() };
            let persisted = PersistedEnvironment {
                source: Some(self.source.clone()),
                identity: identity.clone(),
                ..PersistedEnvironment::default()
            };
            let session = Session { identity, token: self.session.token.clone() };
            self.create(session, persisted).await;
        }
        let Some(EnvironmentHandle { environment, applier, .. }) = self.served.get_mut(&id) else { return };
        match items {
            Ok(items) => {
                applier.put(items).await;
                environment.status.data_received();
                environment.status.message_processed();
            }
            Err(problem) => {
                tracing::error!(environment = %environment.label, problem, "environment cannot be used, serving what was served before");
                environment.status.interrupted(ErrorKind::InvalidData, &problem);
                if !environment.data.has_data() {
                    environment.set_stream_state(Connection::Disconnected);
                }
                self.is_incomplete = true;
            }
        }
        match keys {
            Some(keys) => self.factory.accept_listed(environment, &keys),
            // Where there is nothing to list, some services leave lists out; that must not withdraw keys.
            None if self.factory.environments.keys_of(environment).is_empty() => (),
            None => {
                tracing::warn!(environment = %environment.label, "keys are not listed, those that are known stay");
                self.is_incomplete = true;
            }
        }
    }

    /// An environment ends, if it is one of these.
    pub(super) fn remove(&mut self, id: &str) {
        if let Some(EnvironmentHandle { environment, lifecycle, .. }) = self.served.remove(id) {
            self.factory.remove(&environment, &lifecycle);
        }
    }

    /// Changes the keys of an environment, if it is one of these; `change` says whether it did. What was opened with one
    /// that is gone ends; streams of other keys have no reason to.
    pub(super) fn change_keys(&self, id: &str, change: impl FnOnce(&mut BTreeSet<KeyHash>) -> bool) {
        if let Some(EnvironmentHandle { environment, .. }) = self.served.get(id) {
            let mut keys = self.factory.environments.keys_of(environment);
            if change(&mut keys) {
                self.factory.accept(environment, &keys);
            }
        }
    }

    /// Changes come in as they happen.
    pub(super) fn connect(&mut self) {
        self.set_connection(Connection::Connected);
    }

    /// While we only poll there are no events, so SDKs must poll too.
    pub(super) fn disconnect(&mut self) {
        self.set_connection(Connection::Disconnected);
        let labels: BTreeSet<_> = self.served.values().map(|it| &it.environment.label).collect();
        self.factory.parts.streams.end_where(EndReason::SourceLost, |facts| labels.contains(&facts.environment));
    }

    /// Notes a failure that concerns all environments.
    pub(super) fn note(&self, kind: ErrorKind, is_rejection: bool, problem: &str) {
        for EnvironmentHandle { environment, .. } in self.served.values() {
            if is_rejection {
                environment.status.refused(kind, problem);
            } else {
                environment.status.interrupted(kind, problem);
            }
        }
    }

    async fn create(&mut self, session: Session, persisted: PersistedEnvironment) {
        if let Some(created) = self.factory.create(None, session, persisted).await {
            created.environment.counters.uses_key(self.masked.clone());
            created.environment.set_stream_state(self.connection);
            created.hold_readiness(self.is_settled);
            self.served.insert(created.environment.identity.id.clone(), created);
        }
    }

    fn set_connection(&mut self, connection: Connection) {
        self.connection = connection;
        for EnvironmentHandle { environment, .. } in self.served.values() {
            // Where there is nothing to serve, there are no streams to announce changes on.
            let has_changes = environment.data.has_data() || connection != Connection::Connected;
            environment.set_stream_state(if has_changes { connection } else { Connection::Disconnected });
        }
    }
}
