//! Keeps everything that a proxy key leads to in sync: one token, one list, one stream for all environments (section 6).

mod account;
mod environment_set;
mod page;

use std::sync::Arc;

use tokio::sync::Notify;
use yardarm_core::readiness::ReadyLatch;
use yardarm_core::{Secret, Supervised};
use yardarm_outbound::{ConnectionError, Events};

use self::account::Account;
use self::environment_set::EnvironmentSet;
use self::page::Listed;
use super::retry::{RetryAction, RetryBudget, changed_item};
use super::sync_loop::{RoundError, SyncLoop, SyncSource};
use crate::config::Config;
use crate::data::persisted::PersistedEnvironment;
use crate::data::received::Fetched;
use crate::environments::{EnvironmentFactory, Pending};
use crate::upstream::RequestError;
use crate::upstream::fetch::Fetcher;
use crate::upstream::message::{self, Message, Scope};

/// Place of the key among what is pending; there is no other.
const INDEX: usize = 0;

/// The task of a proxy key.
pub(crate) struct ProxyTask {
    account: Account,
    environments: EnvironmentSet,
    fetcher: Fetcher,
    pending: Pending,
    /// Whether it is known which environments there are.
    is_known: bool,
    /// What an earlier process knew.
    persisted: Vec<PersistedEnvironment>,
    /// Holds readiness back until that is known.
    latch: Option<ReadyLatch>,
    hooks: yardarm_core::hooks::Hooks,
    config: Arc<Config>,
    token_refused: Arc<Notify>,
}

impl ProxyTask {
    pub(crate) fn new(
        key: Secret,
        factory: EnvironmentFactory,
        persisted: Vec<PersistedEnvironment>,
        latch: ReadyLatch,
    ) -> Self {
        let (http, base) = (factory.http.clone(), factory.config.client_service.clone());
        Self {
            fetcher: Fetcher { http: http.clone(), base: base.clone() },
            pending: factory.environments.pending().clone(),
            is_known: false,
            persisted,
            latch: Some(latch),
            hooks: factory.parts.hooks.clone(),
            config: Arc::clone(&factory.config),
            token_refused: Arc::clone(&factory.token_refused),
            environments: EnvironmentSet::new(factory, &key),
            account: Account { http, base, key },
        }
    }

    /// The task in the order of its rounds.
    pub(crate) fn in_rounds(self) -> impl Supervised {
        let (hooks, config, token_refused) =
            (self.hooks.clone(), Arc::clone(&self.config), Arc::clone(&self.token_refused));
        SyncLoop::new(self, &hooks, &config, token_refused)
    }

    fn mark_known(&mut self) {
        self.is_known = true;
        self.pending.resolve(INDEX);
        self.environments.settle();
        self.latch = None;
    }

    async fn rescope(&mut self, scope: Scope) -> Result<(), RoundError> {
        match scope {
            Scope::Added(ids) => self.add(ids).await?,
            Scope::Removed(ids) => ids.iter().for_each(|id| self.environments.remove(id)),
            Scope::KeyAdded(ids, key) => {
                for id in ids {
                    self.environments.change_keys(&id, |keys| keys.insert(key.clone()));
                }
            }
            Scope::KeyRemoved(ids, key) => {
                for id in ids {
                    self.environments.change_keys(&id, |keys| keys.remove(&key));
                }
            }
            // Whether that is so is seen when the key is presented again. What was served is served on: a mistake in an
            // account must not switch off everybody's flags.
            Scope::Deleted => {
                let problem = "the proxy key was deleted".to_owned();
                return Err(ConnectionError::Message { event: "proxyKeyDeleted".to_owned(), problem }.into());
            }
        }
        Ok(())
    }

    async fn add(&mut self, ids: Vec<String>) -> Result<(), RoundError> {
        // The old token does not lead to them.
        self.authenticate().await?;
        for id in ids {
            match self.listed(&id).await? {
                Some(listed) => self.environments.put(listed).await,
                None => tracing::warn!(id, "an environment was added that the proxy key does not lead to"),
            }
        }
        Ok(())
    }

    /// One environment, with some patience.
    async fn listed(&mut self, id: &str) -> Result<Option<Listed>, RequestError> {
        let mut budget = RetryBudget::new();
        loop {
            let error = match self.account.one(self.environments.session(), id).await {
                Ok(listed) => return Ok(listed),
                Err(error) => error,
            };
            tracing::warn!(id, %error, "added environment could not be fetched");
            match budget.after(&error) {
                RetryAction::GiveUp => return Err(error),
                RetryAction::Renew => self.authenticate().await?,
                RetryAction::Wait(delay) => tokio::time::sleep(delay).await,
            }
        }
    }
}

impl SyncSource for ProxyTask {
    const POLLS_WITH_NEW_TOKEN: bool = true;

    /// What an earlier process knew is served until upstream answers.
    async fn prepare(&mut self) {
        let persisted = std::mem::take(&mut self.persisted);
        if self.environments.restore(persisted).await {
            self.mark_known();
        }
    }

    fn fetcher(&self) -> &Fetcher {
        &self.fetcher
    }

    async fn authenticate(&mut self) -> Result<(), RequestError> {
        let session = self.account.session().await?;
        self.environments.renew(session);
        Ok(())
    }

    async fn download(&mut self) -> Result<(), RequestError> {
        let listing = self.account.everything(self.environments.session()).await?;
        self.environments.put_all(listing).await;
        self.mark_known();
        Ok(())
    }

    fn has_data(&self) -> bool {
        self.is_known
    }

    fn is_incomplete(&self) -> bool {
        self.environments.is_incomplete()
    }

    async fn open(&mut self) -> Result<Events, ConnectionError> {
        self.account.open(self.environments.session()).await
    }

    fn connected(&mut self) {
        self.environments.connect();
        tracing::info!("upstream stream of the proxy key is active");
    }

    /// Fetches what an event names. SDKs hear of it when it can be fetched here, and not before.
    async fn process(&mut self, data: &str) -> Result<(), RoundError> {
        let (id, event) = match Message::read(data) {
            Message::Item { environment: Some(id), event } => (id, event),
            Message::Item { environment: None, .. } => {
                self.environments.doubt();
                if let Some(suppressed) = message::UNKNOWN.next_line() {
                    tracing::warn!(
                        suppressed,
                        "event of the upstream stream names no environment, downloading everything instead soon"
                    );
                }
                return Ok(());
            }
            Message::Scope(scope) => return self.rescope(scope).await,
            Message::NoJson => {
                self.environments.doubt();
                if let Some(suppressed) = message::UNKNOWN.next_line() {
                    tracing::warn!(
                        suppressed,
                        "event of the upstream stream is no JSON, downloading everything instead soon"
                    );
                }
                return Ok(());
            }
            Message::Unknown(what) => {
                if let Some(suppressed) = message::UNKNOWN.next_line() {
                    tracing::warn!(what, suppressed, "event of the upstream stream is ignored");
                }
                return Ok(());
            }
        };
        let Some(environment) = self.environments.environment(&id) else {
            tracing::debug!(id, "event of an environment that the proxy key does not lead to");
            return Ok(());
        };
        if event.event == "delete" {
            if let Some(applier) = self.environments.applier(&id) {
                applier.delete(event).await;
            }
        } else {
            match (changed_item(self, &environment, &event).await?, self.environments.applier(&id)) {
                (Fetched::Item(item), Some(applier)) => {
                    let is_doubtful = item.version() < event.version;
                    applier.patch(item, event).await;
                    if is_doubtful {
                        self.environments.doubt();
                    }
                }
                (Fetched::Unreadable(unreadable), Some(applier)) => applier.skip(&unreadable),
                // Deleted since; that event is on its way.
                _ => (),
            }
        }
        environment.status.message_processed();
        Ok(())
    }

    fn polled(&mut self) {
        self.environments.disconnect();
    }

    fn was_accepted(&self) -> bool {
        self.is_known
    }

    fn lost(&mut self, error: &RoundError, is_lasting: bool) {
        self.environments.disconnect();
        let ((kind, is_rejection), problem) = (error.kind(), error.to_string());
        self.environments.note(kind, is_lasting, &problem);
        if is_rejection && !self.is_known {
            // Known to be of no use for now; nobody must wait for it.
            self.pending.refused(INDEX, kind, &problem);
        } else {
            self.pending.failed(INDEX, kind, &problem);
        }
        if is_lasting {
            tracing::error!(%error, "upstream rejected the proxy key; it will be tried again, seldom");
        } else {
            tracing::warn!(%error, "upstream stream of the proxy key interrupted");
        }
    }

    async fn plan_changed(&mut self) {
        for applier in self.environments.appliers() {
            applier.plan_changed().await;
        }
    }

    fn is_behind(&self) -> bool {
        self.environments.is_behind()
    }
}

#[cfg(fuzzing)]
pub(super) fn fuzz(text: &str) {
    if let Ok(page) = page::Page::read(text) {
        let _ = page.entries(0);
    }
}
