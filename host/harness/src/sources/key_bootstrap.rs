//! The task of a configured API key: finds out which environment the key belongs to, has it served, and refreshes its lists of
//! keys and targets.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tracing::Instrument;
use yardarm_core::readiness::ReadyLatch;
use yardarm_core::ticket::Ticket;
use yardarm_core::{Lifecycle, Supervised};
use yardarm_vendor::upstream::ReconnectPolicy;

use super::api_key::ApiKeySource;
use super::environment_set::EnvironmentSet;
use super::sync_loop::SyncLoop;
use crate::config::EnvironmentConfig;
use crate::data::persisted::PersistedEnvironment;
use crate::environments::{EnvironmentFactory, HarnessEnvironment};
use crate::identity::{AuthTarget, Identity, KeyHash, ListedKeys, Session, masked};
use crate::upstream::fetch::Fetcher;
use crate::upstream::retry_delay::reconnect_policy;
use crate::upstream::{Admin, RequestError, open_session};

/// Shortest time between downloads of the list of keys that unknown keys cause.
const UNKNOWN_KEY_PAUSE: Duration = Duration::from_secs(10);

/// Longest wait for the exchange of the previous key: keys are exchanged in configured order, but none blocks the others.
const TICKET_TIMEOUT: Duration = Duration::from_secs(5);

/// The task of one configured key.
pub(crate) struct KeyBootstrap {
    /// Index in the configuration.
    pub(crate) index: usize,
    pub(crate) settings: EnvironmentConfig,
    /// Whether upstream has accepted it before.
    pub(crate) was_accepted: bool,
    /// Data that an earlier process persisted.
    pub(crate) persisted: Option<PersistedEnvironment>,
    pub(crate) admin: Admin,
    pub(crate) factory: EnvironmentFactory,
    pub(crate) ticket: Option<Ticket>,
    /// Holds readiness back until there is data.
    pub(crate) latch: Option<ReadyLatch>,
    /// The environment, once it is served.
    pub(crate) served: Option<ServedEnvironment>,
}

impl Supervised for KeyBootstrap {
    /// Runs until dropped. After a panic the key is exchanged again, and an environment that is served stays.
    async fn run(&mut self) {
        if self.served.is_none() {
            self.served = self.restore().await;
        }
        let (session, keys) = self.bootstrap().await;
        match &self.served {
            Some(served) if served.environment.identity.id == session.identity.id => {
                served.environment.renew(session);
                self.factory.accept_listed(&served.environment, &keys);
            }
            _ => {
                if let Some(ServedEnvironment { environment, lifecycle }) = self.served.take() {
                    tracing::warn!(environment = %environment.label, "a key belongs to another environment than before");
                    self.factory.remove(&environment, &lifecycle);
                }
                let persisted =
                    PersistedEnvironment { keys: keys.hashes().clone(), ..self.fresh_record(&session.identity) };
                self.served = self.join(session, persisted).await;
            }
        }
        self.factory.environments.pending().resolve(self.index);
        match self.served.as_ref().map(|it| Arc::clone(&it.environment)) {
            Some(environment) => self.refresh_loop(&environment).instrument(environment.label.span()).await,
            None => tracing::warn!("another configured key belongs to the same environment, one is not used"),
        }
    }
}

impl KeyBootstrap {
    /// Serves data that an earlier process persisted, until upstream responds.
    async fn restore(&mut self) -> Option<ServedEnvironment> {
        let persisted = self.persisted.take()?;
        let served = self.join(Session::remembered(persisted.identity.clone()), persisted).await?;
        self.factory.environments.pending().resolve(self.index);
        Some(served)
    }

    /// Exchanges the key and lists the keys of its environment, with retries until both succeed.
    async fn bootstrap(&mut self) -> (Session, ListedKeys) {
        let config = Arc::clone(&self.factory.config);
        let mut retries = reconnect_policy(config.rejected_retry_interval);
        if self.was_accepted {
            retries.mark_accepted();
        }
        loop {
            let (error, is_unusable) = match self.attempt().await {
                Ok(found) => return found,
                Err(failure) => failure,
            };
            let (kind, _) = error.kind();
            let pending = self.factory.environments.pending();
            if is_unusable {
                // The key is of no use for now, so callers need not wait for it.
                pending.refused(self.index, kind, &error.to_string());
            } else {
                pending.failed(self.index, kind, &error.to_string());
            }
            if !is_unusable && self.was_accepted {
                // The key itself is accepted, and a later failure may heal.
                retries.mark_accepted();
            }
            let delay = retries.retry_after_failure(error.is_rejection()).delay;
            let key = masked(&self.settings.api_key);
            tracing::warn!(key, %error, seconds = delay.as_secs(), "a Harness key cannot be used yet, retrying");
            tokio::time::sleep(delay).await;
        }
    }

    /// Makes one attempt. The error contains whether the key is of no use.
    async fn attempt(&mut self) -> Result<(Session, ListedKeys), (RequestError, bool)> {
        let ticket = self.ticket.take();
        if let Some(mut ticket) = ticket {
            let _ = tokio::time::timeout(TICKET_TIMEOUT, ticket.wait()).await;
            let opened = self.open().await;
            drop(ticket);
            return self.list(opened?).await;
        }
        let opened = self.open().await?;
        self.list(opened).await
    }

    async fn open(&self) -> Result<Session, (RequestError, bool)> {
        let EnvironmentFactory { http, config, .. } = &self.factory;
        let opened = open_session(http, &config.client_service, &self.settings.api_key, AuthTarget::Empty).await;
        let session = opened.map_err(|error| {
            let is_rejected = error.kind().1;
            (error, is_rejected)
        })?;
        let Identity { environment, project, .. } = &session.identity;
        if environment.is_empty() || project.is_empty() {
            let problem = "the token does not name project and environment".to_owned();
            return Err((RequestError::Malformed(problem), true));
        }
        Ok(session)
    }

    async fn list(&mut self, session: Session) -> Result<(Session, ListedKeys), (RequestError, bool)> {
        self.was_accepted = true;
        let keys = self.admin.keys(&session.identity).await.map_err(|error| (error, false))?;
        Ok((session, keys))
    }

    /// Serves the environment and keeps it in sync; `None` if it exists already.
    async fn join(&mut self, session: Session, persisted: PersistedEnvironment) -> Option<ServedEnvironment> {
        let factory = self.factory.clone();
        let name = self.settings.name.as_deref();
        let handle = factory.create(name, session, persisted).await?;
        let (environment, lifecycle) = (Arc::clone(&handle.environment), handle.lifecycle.clone());
        environment.counters.set_key(masked(&self.settings.api_key));
        let fetcher = Fetcher { http: factory.http.clone(), base: factory.config.sync_service.clone() };
        let source = ApiKeySource {
            environment: Arc::clone(&environment),
            key: self.settings.api_key.clone(),
            fetcher: fetcher.clone(),
        };
        let upstream = lifecycle.on(factory.parts.upstream_threads.next());
        let environments = EnvironmentSet::one(factory, handle);
        upstream.supervise("upstream stream", SyncLoop::new(source, environments, fetcher));
        if let Some(latch) = self.latch.take() {
            environment.hold_readiness(latch, &lifecycle);
        }
        Some(ServedEnvironment { environment, lifecycle })
    }

    fn fresh_record(&self, identity: &Identity) -> PersistedEnvironment {
        let source = Some(KeyHash::of(self.settings.api_key.expose()));
        PersistedEnvironment { source, identity: identity.clone(), ..PersistedEnvironment::default() }
    }

    /// Downloads the lists of keys and targets at intervals. If that fails, known keys and targets stay.
    async fn refresh_loop(&self, environment: &Arc<HarnessEnvironment>) {
        let config = &self.factory.config;
        let mut keys_due = Instant::now() + config.key_refresh_interval;
        let mut targets_due = Instant::now();
        let mut unknown_keys_after = Instant::now();
        let mut key_retries = reconnect_policy(config.rejected_retry_interval);
        let mut target_retries = reconnect_policy(config.rejected_retry_interval);
        loop {
            let polls_targets = config.target_poll_interval.is_some();
            tokio::select! {
                () = tokio::time::sleep_until(keys_due) => (),
                () = tokio::time::sleep_until(targets_due), if polls_targets => {
                    let is_read = self.read_targets(environment).await;
                    let interval = config.target_poll_interval.unwrap_or_default();
                    targets_due = Instant::now() + next_read(&mut target_retries, is_read, interval);
                    continue;
                }
                () = self.factory.environments.unknown_key(), if Instant::now() >= unknown_keys_after => (),
                () = tokio::time::sleep_until(unknown_keys_after), if Instant::now() < unknown_keys_after => continue,
            }
            let is_read = self.read_keys(environment).await;
            keys_due = Instant::now() + next_read(&mut key_retries, is_read, config.key_refresh_interval);
            unknown_keys_after = Instant::now() + UNKNOWN_KEY_PAUSE.min(config.key_refresh_interval);
        }
    }

    /// Returns whether the list could be read.
    async fn read_keys(&self, environment: &Arc<HarnessEnvironment>) -> bool {
        match self.admin.keys(&environment.identity).await {
            Err(error) => {
                tracing::warn!(%error, "list of keys could not be read, those that are known stay");
                false
            }
            Ok(keys) => {
                self.factory.accept_listed(environment, &keys);
                true
            }
        }
    }

    /// Returns whether the list could be read.
    async fn read_targets(&self, environment: &Arc<HarnessEnvironment>) -> bool {
        match self.admin.targets(&environment.identity).await {
            Ok(targets) => {
                environment.persist_targets(&targets);
                environment.targets.replace_listed(&targets);
                environment.targets.mark_polled();
                true
            }
            Err(error) => {
                tracing::warn!(%error, "targets could not be read, those that are known stay");
                false
            }
        }
    }
}

/// An environment that is served, and the owner of its tasks.
pub(crate) struct ServedEnvironment {
    environment: Arc<HarnessEnvironment>,
    lifecycle: Lifecycle,
}

/// Returns the time until a list is read again. After a failure it is no longer than the interval.
fn next_read(retries: &mut ReconnectPolicy, is_read: bool, interval: Duration) -> Duration {
    if is_read {
        retries.mark_succeeded();
        return interval;
    }
    // Rejections need no long backoff here, because the interval limits the delay.
    retries.retry_after_failure(false).delay.min(interval)
}
