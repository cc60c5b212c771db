//! Keeps everything that a proxy key leads to in sync: one token, one list, one stream for all environments (section 6).

mod account;
mod fleet;
mod page;

use std::sync::Arc;

use tokio::sync::Notify;
use yardarm_core::readiness::ReadyLatch;
use yardarm_core::{Secret, Supervised};
use yardarm_outbound::{ConnectionError, Events};

use self::account::Account;
use self::fleet::Fleet;
use self::page::Listed;
use super::RequestError;
use super::fetch::Fetcher;
use super::message::{self, Message, Scope};
use super::patience::{Next, Patience, changed_item};
use super::rounds::{RoundError, Rounds, Upstream};
use crate::config::Config;
use crate::environments::Pending;
use crate::founder::Founder;
use crate::kept::Kept;
use crate::received::Fetched;

/// Place of the key among what is pending; there is no other.
const INDEX: usize = 0;

/// The task of a proxy key.
pub(crate) struct ProxyTask {
    account: Account,
    fleet: Fleet,
    fetcher: Fetcher,
    pending: Pending,
    /// Whether it is known which environments there are.
    is_known: bool,
    /// What an earlier process knew.
    kept: Vec<Kept>,
    /// Holds readiness back until that is known.
    latch: Option<ReadyLatch>,
    hooks: yardarm_core::hooks::Hooks,
    config: Arc<Config>,
    token_refused: Arc<Notify>,
}

impl ProxyTask {
    pub(crate) fn new(key: Secret, founder: Founder, kept: Vec<Kept>, latch: ReadyLatch) -> Self {
        let (http, base) = (founder.http.clone(), founder.config.client_service.clone());
        Self {
            fetcher: Fetcher { http: http.clone(), base: base.clone() },
            pending: founder.environments.pending().clone(),
            is_known: false,
            kept,
            latch: Some(latch),
            hooks: founder.parts.hooks.clone(),
            config: Arc::clone(&founder.config),
            token_refused: Arc::clone(&founder.token_refused),
            fleet: Fleet::new(founder, &key),
            account: Account { http, base, key },
        }
    }

    /// The task in the order of its rounds.
    pub(crate) fn in_rounds(self) -> impl Supervised {
        let (hooks, config, token_refused) =
            (self.hooks.clone(), Arc::clone(&self.config), Arc::clone(&self.token_refused));
        Rounds::new(self, &hooks, &config, token_refused)
    }

    fn is_known(&mut self) {
        self.is_known = true;
        self.pending.is_known(INDEX);
        self.fleet.settle();
        self.latch = None;
    }

    async fn rescope(&mut self, scope: Scope) -> Result<(), RoundError> {
        match scope {
            Scope::Added(ids) => self.add(ids).await?,
            Scope::Removed(ids) => ids.iter().for_each(|id| self.fleet.remove(id)),
            Scope::KeyAdded(ids, key) => {
                for id in ids {
                    self.fleet.change_keys(&id, |keys| keys.insert(key.clone()));
                }
            }
            Scope::KeyRemoved(ids, key) => {
                for id in ids {
                    self.fleet.change_keys(&id, |keys| keys.remove(&key));
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
                Some(listed) => self.fleet.put(listed).await,
                None => tracing::warn!(id, "an environment was added that the proxy key does not lead to"),
            }
        }
        Ok(())
    }

    /// One environment, with some patience.
    async fn listed(&mut self, id: &str) -> Result<Option<Listed>, RequestError> {
        let mut patience = Patience::new();
        loop {
            let error = match self.account.one(self.fleet.session(), id).await {
                Ok(listed) => return Ok(listed),
                Err(error) => error,
            };
            tracing::warn!(id, %error, "added environment could not be fetched");
            match patience.after(&error) {
                Next::GiveUp => return Err(error),
                Next::Renew => self.authenticate().await?,
                Next::Wait(delay) => tokio::time::sleep(delay).await,
            }
        }
    }
}

impl Upstream for ProxyTask {
    const POLLS_WITH_NEW_TOKEN: bool = true;

    /// What an earlier process knew is served until upstream answers.
    async fn prepare(&mut self) {
        let kept = std::mem::take(&mut self.kept);
        if self.fleet.restore(kept).await {
            self.is_known();
        }
    }

    fn fetcher(&self) -> &Fetcher {
        &self.fetcher
    }

    async fn authenticate(&mut self) -> Result<(), RequestError> {
        let session = self.account.session().await?;
        self.fleet.renew(session);
        Ok(())
    }

    async fn download(&mut self) -> Result<(), RequestError> {
        let listing = self.account.everything(self.fleet.session()).await?;
        self.fleet.put_all(listing).await;
        self.is_known();
        Ok(())
    }

    fn has_data(&self) -> bool {
        self.is_known
    }

    fn is_incomplete(&self) -> bool {
        self.fleet.is_incomplete()
    }

    async fn open(&mut self) -> Result<Events, ConnectionError> {
        self.account.open(self.fleet.session()).await
    }

    fn connected(&mut self) {
        self.fleet.connect();
        tracing::info!("upstream stream of the proxy key is active");
    }

    /// Fetches what an event names. SDKs hear of it when it can be fetched here, and not before.
    async fn process(&mut self, data: &str) -> Result<(), RoundError> {
        let (id, notice) = match Message::read(data) {
            Message::Item { environment: Some(id), notice } => (id, notice),
            Message::Item { environment: None, .. } => {
                self.fleet.doubt();
                if let Some(suppressed) = message::UNKNOWN.pass() {
                    tracing::warn!(
                        suppressed,
                        "event of the upstream stream names no environment, downloading everything instead soon"
                    );
                }
                return Ok(());
            }
            Message::Scope(scope) => return self.rescope(scope).await,
            Message::NoJson => {
                self.fleet.doubt();
                if let Some(suppressed) = message::UNKNOWN.pass() {
                    tracing::warn!(
                        suppressed,
                        "event of the upstream stream is no JSON, downloading everything instead soon"
                    );
                }
                return Ok(());
            }
            Message::Unknown(what) => {
                if let Some(suppressed) = message::UNKNOWN.pass() {
                    tracing::warn!(what, suppressed, "event of the upstream stream is ignored");
                }
                return Ok(());
            }
        };
        let Some(environment) = self.fleet.environment(&id) else {
            tracing::debug!(id, "event of an environment that the proxy key does not lead to");
            return Ok(());
        };
        if notice.event == "delete" {
            if let Some(applier) = self.fleet.applier(&id) {
                applier.delete(notice).await;
            }
        } else {
            match (changed_item(self, &environment, &notice).await?, self.fleet.applier(&id)) {
                (Fetched::Item(item), Some(applier)) => {
                    let is_doubtful = item.version() < notice.version;
                    applier.patch(item, notice).await;
                    if is_doubtful {
                        self.fleet.doubt();
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
        self.fleet.disconnect();
    }

    fn was_accepted(&self) -> bool {
        self.is_known
    }

    fn lost(&mut self, error: &RoundError, is_lasting: bool) {
        self.fleet.disconnect();
        let ((kind, is_rejection), problem) = (error.kind(), error.to_string());
        self.fleet.note(kind, is_lasting, &problem);
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
        for applier in self.fleet.appliers() {
            applier.plan_changed().await;
        }
    }

    fn is_behind(&self) -> bool {
        self.fleet.is_behind()
    }
}

#[cfg(fuzzing)]
pub(super) fn fuzz(text: &str) {
    if let Ok(page) = page::Page::read(text) {
        let _ = page.entries(0);
    }
}
