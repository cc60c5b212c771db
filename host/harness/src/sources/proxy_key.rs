//! What is requested with a proxy key: one token, one list and one stream for all of its environments (F113, F114).

mod account;
mod page;

use std::collections::BTreeSet;
use std::time::Duration;

use yardarm_core::readiness::ReadyLatch;
use yardarm_core::{InternalError, Secret, Supervised};
use yardarm_vendor::upstream::{ConnectionError, Events};

use self::account::{Account, Listing};
use self::page::Listed;
use super::environment_set::EnvironmentSet;
use super::retry::{RetryAction, RetryBudget};
use super::sync_loop::SyncLoop;
use super::sync_source::{RoundError, SyncSource};
use crate::data::persisted::PersistedEnvironment;
use crate::environments::EnvironmentFactory;
use crate::identity::{Identity, KeyHash, Session, masked};
use crate::shared_store::{self, Known, SharedStore};
use crate::upstream::RequestError;
use crate::upstream::fetch::Fetcher;
use crate::upstream::message::Scope;

/// Longest wait for the shared database at the start.
const SHARED_TIMEOUT: Duration = Duration::from_secs(5);

/// The task of a proxy key.
pub(crate) struct ProxyKeyTask {
    sync: SyncLoop<ProxyKeySource>,
    /// What an earlier process persisted, until it is restored.
    persisted: Vec<PersistedEnvironment>,
    /// Database that is read at the start, unless something was persisted.
    shared: Option<SharedStore>,
}

/// A proxy key, and the newest token.
struct ProxyKeySource {
    account: Account,
    /// Hash of the key, by which persisted data is found again.
    hash: KeyHash,
    /// The key as metrics show it.
    masked: String,
    session: Session,
}

impl ProxyKeyTask {
    pub(crate) fn new(
        key: Secret,
        factory: EnvironmentFactory,
        persisted: Vec<PersistedEnvironment>,
        shared: Option<SharedStore>,
        latch: ReadyLatch,
    ) -> Self {
        let (http, base) = (factory.http.clone(), factory.config.client_service.clone());
        let fetcher = Fetcher { http: http.clone(), base: base.clone() };
        let source = ProxyKeySource {
            hash: KeyHash::of(key.expose()),
            masked: masked(&key),
            session: Session::remembered(Identity::default()),
            account: Account { http, base, key },
        };
        Self { sync: SyncLoop::new(source, EnvironmentSet::many(factory, Some(latch)), fetcher), persisted, shared }
    }
}

impl Supervised for ProxyKeyTask {
    /// Serves what an earlier process persisted until upstream answers, and keeps it in sync.
    async fn run(&mut self) {
        let mut persisted = std::mem::take(&mut self.persisted);
        if let Some(store) = self.shared.take().filter(|_| persisted.is_empty()) {
            persisted = shared(&store, &self.sync.source).await;
        }
        let SyncLoop { source, environments, .. } = &mut self.sync;
        for persisted in persisted {
            let session = Session::remembered(persisted.identity.clone());
            source.create(environments, session, persisted).await;
        }
        if environments.all().any(|it| it.data.has_data()) {
            environments.settle();
        }
        self.sync.run().await;
    }

    fn recover(&mut self, error: &InternalError) {
        self.sync.recover(error);
    }
}

/// Returns what the shared database holds of the environments of a proxy key. Upstream may be down, and then this is the
/// newest data there is.
async fn shared(store: &SharedStore, source: &ProxyKeySource) -> Vec<PersistedEnvironment> {
    let mut known = Known::default();
    let contents = match tokio::time::timeout(SHARED_TIMEOUT, shared_store::read(store, &mut known)).await {
        Ok(Ok(contents)) => contents,
        Ok(Err(error)) => {
            tracing::warn!(%error, "shared Redis cannot be read, waiting for upstream");
            return Vec::new();
        }
        Err(_) => return Vec::new(),
    };
    let mine = contents.environments.into_iter().filter_map(|(id, stored)| {
        let is_mine = stored.proxy_key.as_ref().is_some_and(|it| KeyHash::of(it.expose()) == source.hash);
        let items = stored.items.filter(|_| is_mine)?.ok()?.complete(None).0;
        let identity = Identity { id, environment: stored.environment, project: stored.project, ..Identity::default() };
        let (source, keys, items) = (Some(source.hash.clone()), stored.keys, Some(items));
        Some(PersistedEnvironment { source, identity, keys, items, ..PersistedEnvironment::default() })
    });
    mine.collect()
}

impl ProxyKeySource {
    async fn create(&self, environments: &mut EnvironmentSet, session: Session, persisted: PersistedEnvironment) {
        let factory = environments.factory.clone();
        if let Some(created) = factory.create(None, session, persisted).await {
            created.environment.counters.set_key(self.masked.clone());
            environments.insert(created);
        }
    }

    /// Serves a list of all environments. Those that it does not contain end.
    async fn put_all(&self, environments: &mut EnvironmentSet, listing: Listing) {
        let is_usable = listing.is_complete() && listing.environments.values().all(|it| it.items.is_ok());
        environments.set_incomplete(!is_usable);
        if listing.is_complete() {
            let ids = environments.all().map(|it| it.identity.id.clone());
            let gone: Vec<_> = ids.filter(|id| !listing.environments.contains_key(id)).collect();
            gone.iter().for_each(|id| environments.remove(id));
        } else if listing.unreadable > 0 {
            tracing::error!(
                unreadable = listing.unreadable,
                "the list of environments has entries that cannot be read, those that are missing stay for now"
            );
        } else {
            tracing::warn!("the list of environments changed while it was read, those that are missing stay for now");
        }
        let is_complete = listing.is_complete();
        for listed in listing.environments.into_values() {
            self.put(environments, listed).await;
        }
        if is_complete {
            environments.factory.environments.mark_listed();
        }
    }

    /// Serves a listed environment. Its data is in place before its keys are accepted.
    async fn put(&self, environments: &mut EnvironmentSet, listed: Listed) {
        let Listed { id, environment, project, keys, items } = listed;
        if environments.get(&id).is_none() {
            let identity = Identity { id: id.clone(), environment, project, ..self.session.identity.clone() };
            let persisted = PersistedEnvironment {
                source: Some(self.hash.clone()),
                identity: identity.clone(),
                ..PersistedEnvironment::default()
            };
            self.create(environments, Session { identity, token: self.session.token.clone() }, persisted).await;
        }
        environments.put(&id, items).await;
        let Some(environment) = environments.get(&id) else { return };
        let factory = &environments.factory;
        match keys {
            Some(keys) => factory.accept_listed(environment, &keys),
            // Where there is nothing to list, some services leave lists out; that must not withdraw keys.
            None if factory.environments.keys_of(environment).is_empty() => (),
            None => {
                tracing::warn!(environment = %environment.label, "keys are not listed, those that are known stay");
                environments.set_incomplete(true);
            }
        }
    }

    async fn add(&mut self, environments: &mut EnvironmentSet, ids: Vec<String>) -> Result<(), RoundError> {
        // The old token does not lead to them.
        self.authenticate(environments).await?;
        for id in ids {
            match self.listed(environments, &id).await? {
                Some(listed) => self.put(environments, listed).await,
                None => tracing::warn!(id, "an environment was added that the proxy key does not lead to"),
            }
        }
        Ok(())
    }

    /// Fetches one environment, with a few retries.
    async fn listed(&mut self, environments: &mut EnvironmentSet, id: &str) -> Result<Option<Listed>, RequestError> {
        let mut budget = RetryBudget::new();
        loop {
            let error = match self.account.one(&self.session, id).await {
                Ok(listed) => return Ok(listed),
                Err(error) => error,
            };
            tracing::warn!(id, %error, "added environment could not be fetched");
            match budget.after(&error) {
                RetryAction::GiveUp => return Err(error),
                RetryAction::Renew => self.authenticate(environments).await?,
                RetryAction::Wait(delay) => tokio::time::sleep(delay).await,
            }
        }
    }
}

impl SyncSource for ProxyKeySource {
    const POLLS_WITH_NEW_TOKEN: bool = true;

    /// The new token is that of every environment.
    async fn authenticate(&mut self, environments: &mut EnvironmentSet) -> Result<(), RequestError> {
        let session = self.account.session().await?;
        for environment in environments.all() {
            let Identity { account, cluster, .. } = session.identity.clone();
            let identity = Identity { account, cluster, ..environment.identity.clone() };
            environment.renew(Session { identity, token: session.token.clone() });
        }
        self.session = session;
        Ok(())
    }

    async fn download(&mut self, environments: &mut EnvironmentSet) -> Result<(), RequestError> {
        let listing = self.account.everything(&self.session).await?;
        self.put_all(environments, listing).await;
        environments.settle();
        Ok(())
    }

    async fn open(&mut self) -> Result<Events, ConnectionError> {
        self.account.open(&self.session).await
    }

    async fn rescope(&mut self, scope: Scope, environments: &mut EnvironmentSet) -> Result<(), RoundError> {
        match scope {
            Scope::Added(ids) => self.add(environments, ids).await?,
            Scope::Removed(ids) => ids.iter().for_each(|id| environments.remove(id)),
            Scope::KeyAdded(ids, key) => {
                ids.iter().for_each(|id| change_keys(environments, id, |keys| keys.insert(key.clone())));
            }
            Scope::KeyRemoved(ids, key) => {
                ids.iter().for_each(|id| change_keys(environments, id, |keys| keys.remove(&key)));
            }
            // The next exchange of the key shows whether that is so. The environments are served on: a mistake in an account
            // must not switch off the flags of all SDKs.
            Scope::Deleted => {
                let problem = "the proxy key was deleted".to_owned();
                return Err(ConnectionError::Message { event: "proxyKeyDeleted".to_owned(), problem }.into());
            }
        }
        Ok(())
    }
}

/// Changes the keys of an environment, if it is in the set; `change` returns whether it did. Streams that were opened with a
/// removed key end; streams of other keys go on.
fn change_keys(environments: &EnvironmentSet, id: &str, change: impl FnOnce(&mut BTreeSet<KeyHash>) -> bool) {
    if let Some(environment) = environments.get(id) {
        let mut keys = environments.factory.environments.keys_of(environment);
        if change(&mut keys) {
            environments.factory.accept(environment, &keys);
        }
    }
}

#[cfg(fuzzing)]
pub(super) fn fuzz(text: &str) {
    if let Ok(page) = page::Page::read(text) {
        let _ = page.entries(0);
    }
}
