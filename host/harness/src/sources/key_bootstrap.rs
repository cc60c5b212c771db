//! From a configured key to an environment: what does the key belong to, and which other keys belong to the same?

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use yardarm_core::readiness::ReadyLatch;
use yardarm_core::ticket::Ticket;
use yardarm_core::{Lifecycle, Supervised};

use super::api_key::ApiKeySource;
use super::environment_set::EnvironmentSet;
use super::sync_loop::SyncLoop;
use crate::config::EnvironmentConfig;
use crate::data::persisted::PersistedEnvironment;
use crate::environments::{EnvironmentFactory, HarnessEnvironment};
use crate::identity::{AuthTarget, Identity, KeyHash, ListedKeys, Session, masked};
use crate::upstream::fetch::Fetcher;
use crate::upstream::retry_delay::RetryDelay;
use crate::upstream::{Admin, RequestError, open_session};

/// How soon strangers may cause another look at the list of keys.
const STRANGER_PAUSE: Duration = Duration::from_secs(10);

/// How long a key waits for the one before it to be sent: they go out in configured order, but none holds the rest up.
const TICKET_TIMEOUT: Duration = Duration::from_secs(5);

/// The task of one configured key.
pub(crate) struct KeyBootstrap {
    /// Place in the configuration.
    pub(crate) index: usize,
    pub(crate) settings: EnvironmentConfig,
    /// Whether upstream has accepted it before.
    pub(crate) was_accepted: bool,
    /// What an earlier process knew of it.
    pub(crate) persisted: Option<PersistedEnvironment>,
    pub(crate) admin: Admin,
    pub(crate) factory: EnvironmentFactory,
    pub(crate) ticket: Option<Ticket>,
    /// Holds readiness back until there is data.
    pub(crate) latch: Option<ReadyLatch>,
    /// The environment, once it is served.
    pub(crate) known: Option<Known>,
}

impl Supervised for KeyBootstrap {
    /// Runs until dropped. After a panic the key is presented again, and an environment that is served stays.
    async fn run(&mut self) {
        if self.known.is_none() {
            self.known = self.remember().await;
        }
        let (session, keys) = self.bootstrap().await;
        match &self.known {
            Some(known) if known.environment.identity.id == session.identity.id => {
                known.environment.renew(session);
                self.factory.accept_listed(&known.environment, &keys);
            }
            _ => {
                if let Some(Known { environment, lifecycle }) = self.known.take() {
                    tracing::warn!(environment = %environment.label, "a key belongs to another environment than it used to");
                    self.factory.remove(&environment, &lifecycle);
                }
                let persisted = PersistedEnvironment { keys: keys.hashes().clone(), ..self.unkept(&session.identity) };
                self.known = self.join(session, persisted).await;
            }
        }
        self.factory.environments.pending().resolve(self.index);
        match self.known.as_ref().map(|it| Arc::clone(&it.environment)) {
            Some(environment) => self.refresh_loop(&environment).await,
            None => tracing::warn!("another configured key belongs to the same environment, one is not used"),
        }
    }
}

impl KeyBootstrap {
    /// What an earlier process knew of this key is served until upstream answers.
    async fn remember(&mut self) -> Option<Known> {
        let persisted = self.persisted.take()?;
        let known = self.join(Session::remembered(persisted.identity.clone()), persisted).await?;
        self.factory.environments.pending().resolve(self.index);
        Some(known)
    }

    /// Asks until there is an answer.
    async fn bootstrap(&mut self) -> (Session, ListedKeys) {
        let config = Arc::clone(&self.factory.config);
        let mut retries = RetryDelay::new(config.rejected_retry_interval, self.was_accepted);
        loop {
            let (error, is_useless) = match self.attempt().await {
                Ok(found) => return found,
                Err(failure) => failure,
            };
            let (kind, _) = error.kind();
            let pending = self.factory.environments.pending();
            if is_useless {
                // Known to be of no use for now; nobody must wait for it.
                pending.refused(self.index, kind, &error.to_string());
            } else {
                pending.failed(self.index, kind, &error.to_string());
            }
            if !is_useless && self.was_accepted {
                // The key itself is good, and what fails after it may heal.
                retries.accept();
            }
            let delay = retries.after_failure(error.is_rejection()).delay;
            let key = masked(&self.settings.api_key);
            tracing::warn!(key, %error, seconds = delay.as_secs(), "a Harness key cannot be used yet, trying again");
            tokio::time::sleep(delay).await;
        }
    }

    /// One attempt; with a failure comes whether upstream wants nothing of the key.
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

    /// Serves the environment and keeps it in sync; `None` if it is there already.
    async fn join(&mut self, session: Session, persisted: PersistedEnvironment) -> Option<Known> {
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
        let environments = EnvironmentSet::one(factory, handle);
        lifecycle.supervise("upstream stream", SyncLoop::new(source, environments, fetcher));
        if let Some(latch) = self.latch.take() {
            environment.hold_readiness(latch, &lifecycle);
        }
        Some(Known { environment, lifecycle })
    }

    fn unkept(&self, identity: &Identity) -> PersistedEnvironment {
        let source = Some(KeyHash::of(self.settings.api_key.expose()));
        PersistedEnvironment { source, identity: identity.clone(), ..PersistedEnvironment::default() }
    }

    /// Reads the lists of keys and targets again and again. Whatever happens, those that are known stay.
    async fn refresh_loop(&self, environment: &Arc<HarnessEnvironment>) {
        let config = &self.factory.config;
        let mut keys_due = Instant::now() + config.key_refresh_interval;
        let mut targets_due = Instant::now();
        let mut strangers_after = Instant::now();
        let mut key_retries = RetryDelay::new(config.rejected_retry_interval, true);
        let mut target_retries = RetryDelay::new(config.rejected_retry_interval, true);
        loop {
            let polls_targets = config.target_poll_interval.is_some();
            tokio::select! {
                () = tokio::time::sleep_until(keys_due) => (),
                () = tokio::time::sleep_until(targets_due), if polls_targets => {
                    let is_read = self.read_targets(environment).await;
                    let interval = config.target_poll_interval.unwrap_or_default();
                    targets_due = Instant::now() + again(&mut target_retries, is_read, interval);
                    continue;
                }
                () = self.factory.environments.unknown_key(), if Instant::now() >= strangers_after => (),
                () = tokio::time::sleep_until(strangers_after), if Instant::now() < strangers_after => continue,
            }
            let is_read = self.read_keys(environment).await;
            keys_due = Instant::now() + again(&mut key_retries, is_read, config.key_refresh_interval);
            strangers_after = Instant::now() + STRANGER_PAUSE.min(config.key_refresh_interval);
        }
    }

    /// Says whether they could be read.
    async fn read_keys(&self, environment: &Arc<HarnessEnvironment>) -> bool {
        match self.admin.keys(&environment.identity).await {
            Err(error) => {
                tracing::warn!(environment = %environment.label, %error, "list of keys could not be read, those that are known stay");
                false
            }
            Ok(keys) => {
                self.factory.accept_listed(environment, &keys);
                true
            }
        }
    }

    /// Says whether they could be read.
    async fn read_targets(&self, environment: &Arc<HarnessEnvironment>) -> bool {
        match self.admin.targets(&environment.identity).await {
            Ok(targets) => {
                environment.persist_targets(&targets);
                environment.targets.replace_listed(&targets);
                environment.targets.mark_polled();
                true
            }
            Err(error) => {
                tracing::warn!(environment = %environment.label, %error, "targets could not be read, those that are known stay");
                false
            }
        }
    }
}

/// An environment, and the owner of its tasks.
pub(crate) struct Known {
    environment: Arc<HarnessEnvironment>,
    lifecycle: Lifecycle,
}

/// How soon a list is read again: what failed is tried sooner than usual, and never later.
fn again(retries: &mut RetryDelay, is_read: bool, interval: Duration) -> Duration {
    if is_read {
        retries.succeed();
        return interval;
    }
    // Whether that was a rejection makes no difference, for there is an interval in any case.
    retries.after_failure(false).delay.min(interval)
}
