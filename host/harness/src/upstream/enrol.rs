//! From a configured key to an environment: what does the key belong to, and which other keys belong to the same?

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use yardarm_core::readiness::ReadyLatch;
use yardarm_core::turns::Turn;
use yardarm_core::{Lifecycle, Supervised};

use super::admin::Admin;
use super::fetch::Fetcher;
use super::retry_delay::RetryDelay;
use super::rounds::Rounds;
use super::session::Presents;
use super::sync::SyncTask;
use super::{RequestError, Session, masked};
use crate::config::EnvironmentConfig;
use crate::credential::{KeyHash, ListedKeys};
use crate::environments::{HarnessEnvironment, Identity};
use crate::founder::{Founded, Founder};
use crate::kept::Kept;

/// How soon strangers may cause another look at the list of keys.
const STRANGER_PAUSE: Duration = Duration::from_secs(10);

/// How long a key waits for the one before it to be sent: they go out in configured order, but none holds the rest up.
const TURN_PATIENCE: Duration = Duration::from_secs(5);

/// The task of one configured key.
pub(crate) struct EnrolTask {
    /// Place in the configuration.
    pub(crate) index: usize,
    pub(crate) settings: EnvironmentConfig,
    /// Whether upstream has accepted it before.
    pub(crate) was_accepted: bool,
    /// What an earlier process knew of it.
    pub(crate) kept: Option<Kept>,
    pub(crate) admin: Admin,
    pub(crate) founder: Founder,
    pub(crate) turn: Option<Turn>,
    /// Holds readiness back until there is data.
    pub(crate) latch: Option<ReadyLatch>,
    /// The environment, once it is served.
    pub(crate) known: Option<Known>,
}

impl Supervised for EnrolTask {
    /// Runs until dropped. After a panic the key is presented again, and an environment that is served stays.
    async fn run(&mut self) {
        if self.known.is_none() {
            self.known = self.remember().await;
        }
        let (session, keys) = self.enrolled().await;
        match &self.known {
            Some(known) if known.environment.identity.id == session.identity.id => {
                known.environment.renew(session);
                self.founder.accept_listed(&known.environment, &keys);
            }
            _ => {
                if let Some(Known { environment, lifecycle }) = self.known.take() {
                    tracing::warn!(environment = %environment.label, "a key belongs to another environment than it used to");
                    self.founder.dissolve(&environment, &lifecycle);
                }
                let kept = Kept { keys: keys.hashes().clone(), ..self.unkept(&session.identity) };
                self.known = self.join(session, kept).await;
            }
        }
        self.founder.environments.pending().is_known(self.index);
        match self.known.as_ref().map(|it| Arc::clone(&it.environment)) {
            Some(environment) => self.look_after(&environment).await,
            None => tracing::warn!("another configured key belongs to the same environment, one is not used"),
        }
    }
}

impl EnrolTask {
    /// What an earlier process knew of this key is served until upstream answers.
    async fn remember(&mut self) -> Option<Known> {
        let kept = self.kept.take()?;
        let known = self.join(Session::remembered(kept.identity.clone()), kept).await?;
        self.founder.environments.pending().is_known(self.index);
        Some(known)
    }

    /// Asks until there is an answer.
    async fn enrolled(&mut self) -> (Session, ListedKeys) {
        let config = Arc::clone(&self.founder.config);
        let mut retries = RetryDelay::new(config.rejected_retry_interval, self.was_accepted);
        loop {
            let (error, is_useless) = match self.enrol().await {
                Ok(found) => return found,
                Err(failure) => failure,
            };
            let (kind, _) = error.kind();
            let pending = self.founder.environments.pending();
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
    async fn enrol(&mut self) -> Result<(Session, ListedKeys), (RequestError, bool)> {
        let turn = self.turn.take();
        if let Some(mut turn) = turn {
            let _ = tokio::time::timeout(TURN_PATIENCE, turn.comes()).await;
            let opened = self.open().await;
            drop(turn);
            return self.list(opened?).await;
        }
        let opened = self.open().await?;
        self.list(opened).await
    }

    async fn open(&self) -> Result<Session, (RequestError, bool)> {
        let Founder { http, config, .. } = &self.founder;
        let opened = Session::open(http, &config.client_service, &self.settings.api_key, Presents::EmptyTarget).await;
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
    async fn join(&mut self, session: Session, kept: Kept) -> Option<Known> {
        let founder = self.founder.clone();
        let name = self.settings.name.as_deref();
        let Founded { environment, applier, lifecycle } = founder.found(name, session, kept).await?;
        environment.tally.uses_key(masked(&self.settings.api_key));
        let (key, streams) = (self.settings.api_key.clone(), founder.parts.streams.clone());
        let fetcher = Fetcher { http: founder.http.clone(), base: founder.config.sync_service.clone() };
        let task = SyncTask::new(Arc::clone(&environment), applier, streams, key, fetcher);
        let rounds = Rounds::new(task, &founder.parts.hooks, &founder.config, founder.token_refused);
        lifecycle.supervise("upstream stream", rounds);
        if let Some(latch) = self.latch.take() {
            environment.hold_readiness(latch, &lifecycle);
        }
        Some(Known { environment, lifecycle })
    }

    fn unkept(&self, identity: &Identity) -> Kept {
        let source = Some(KeyHash::of(self.settings.api_key.expose()));
        Kept { source, identity: identity.clone(), ..Kept::default() }
    }

    /// Reads the lists of keys and targets again and again. Whatever happens, those that are known stay.
    async fn look_after(&self, environment: &Arc<HarnessEnvironment>) {
        let config = &self.founder.config;
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
                () = self.founder.environments.stranger(), if Instant::now() >= strangers_after => (),
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
                self.founder.accept_listed(environment, &keys);
                true
            }
        }
    }

    /// Says whether they could be read.
    async fn read_targets(&self, environment: &Arc<HarnessEnvironment>) -> bool {
        match self.admin.targets(&environment.identity).await {
            Ok(targets) => {
                environment.keep_targets(&targets);
                environment.targets.polled(&targets);
                environment.targets.were_polled();
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
