//! From a configured key to an environment: what does the key belong to, and which other keys belong to the same?

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use yardarm_core::lifecycle::ReadyLatch;
use yardarm_core::registry::EndReason;
use yardarm_core::{EnvironmentLabel, environment};
use yardarm_outbound::{ConnectionError, Pace};

use super::admin::Admin;
use super::session::Presents;
use super::sync::SyncTask;
use super::{Applier, HttpClients, MAX_DELAY, MetricsPoster, RequestError, Session};
use crate::Parts;
use crate::config::{Config, EnvironmentConfig};
use crate::credential::KeyHash;
use crate::environments::{Environments, HarnessEnvironment, Identity, VENDOR};
use crate::metrics::MetricsPort;

/// How soon strangers may cause another look at the list of keys.
const STRANGER_PAUSE: Duration = Duration::from_secs(10);

/// The task of one configured key.
pub(crate) struct EnrolTask {
    pub(crate) settings: EnvironmentConfig,
    pub(crate) config: Arc<Config>,
    pub(crate) http: HttpClients,
    pub(crate) parts: Parts,
    pub(crate) environments: Environments,
    /// Holds readiness back until there is data, or the key is of no use.
    pub(crate) latch: Option<ReadyLatch>,
}

impl EnrolTask {
    /// Runs until dropped.
    pub(crate) async fn run(mut self) {
        let admin = Admin {
            http: self.http.clone(),
            base: self.config.admin_service.clone(),
            account: self.config.account.clone(),
            organization: self.config.organization.clone(),
            token: self.config.admin_token.clone(),
        };
        let mut pace = Pace::new(MAX_DELAY, self.config.rejected_retry_interval);
        let (session, keys) = loop {
            match self.enrol(&admin).await {
                Ok(found) => break found,
                Err(error) => {
                    // One that is rejected is known to be of no use for now, and must not keep others waiting.
                    if error.kind().1 {
                        self.latch = None;
                    }
                    let delay = pace.delay_after(&judged(&error));
                    tracing::warn!(%error, seconds = delay.as_secs(), "a Harness key cannot be used yet, trying again");
                    tokio::time::sleep(delay).await;
                }
            }
        };
        let environment = self.add(&session);
        let Some(environment) = environment else {
            self.environments.one_is_known();
            return tracing::warn!(
                id = session.identity.id,
                "another configured key belongs to the same environment, this one is not used"
            );
        };
        self.environments.set_keys(&environment, &keys);
        self.environments.one_is_known();
        self.look_after(&admin, &environment).await;
    }

    async fn enrol(&self, admin: &Admin) -> Result<(Session, BTreeSet<KeyHash>), RequestError> {
        let base = &self.config.client_service;
        let session = Session::open(&self.http, base, &self.settings.api_key, Presents::EmptyTarget).await?;
        let Identity { environment, project, .. } = &session.identity;
        if environment.is_empty() || project.is_empty() {
            return Err(RequestError::Malformed("the token does not name project and environment".to_owned()));
        }
        let keys = admin.keys(&session.identity).await?;
        Ok((session, keys))
    }

    /// Adds the environment and starts to keep it in sync; `None` if it is there already.
    fn add(&mut self, session: &Session) -> Option<Arc<HarnessEnvironment>> {
        let label = self.label(&session.identity);
        let lifecycle = &self.parts.lifecycle;
        let (writer, data) = environment();
        let hooks = self.parts.hooks.clone();
        let is_forwarded = self.config.metric_post_interval.is_some();
        let metrics = MetricsPort::start(label.clone(), hooks.clone(), is_forwarded, lifecycle);
        let environment = Arc::new(HarnessEnvironment::new(label, session.clone(), data, metrics));
        if !self.environments.add(&environment) {
            return None;
        }
        tracing::info!(environment = %environment.label, id = environment.identity.id, "environment added");
        let applier = Applier::new(Arc::clone(&environment), writer, hooks.clone());
        let (key, streams) = (self.settings.api_key.clone(), self.parts.streams.clone());
        let task = SyncTask::new(Arc::clone(&environment), applier, streams, &hooks, &self.http, key, &self.config);
        lifecycle.spawn("upstream stream", task.run());
        lifecycle.spawn("first data", wait_for_data(Arc::clone(&environment), self.latch.take()));
        if let Some(interval) = self.config.metric_post_interval {
            let poster = MetricsPoster { http: self.http.clone(), base: self.config.metric_service.clone() };
            lifecycle.spawn("metrics", poster.run(Arc::clone(&environment), interval));
        }
        lifecycle.spawn("heartbeat", beat(Arc::clone(&environment), self.config.heartbeat_interval));
        Some(environment)
    }

    fn label(&self, identity: &Identity) -> EnvironmentLabel {
        let name = self.settings.name.as_deref().unwrap_or(&identity.environment);
        let label = EnvironmentLabel::new(VENDOR, name);
        if self.environments.is_taken(&label, &identity.id) {
            // Environments of two projects may have one name; IDs are different in any case.
            return EnvironmentLabel::new(VENDOR, identity.id.as_str());
        }
        label
    }

    /// Reads the lists of keys and targets again and again. Whatever happens, those that are known stay.
    async fn look_after(&self, admin: &Admin, environment: &Arc<HarnessEnvironment>) {
        let mut keys_due = Instant::now() + self.config.key_refresh_interval;
        let mut targets_due = Instant::now();
        let mut strangers_after = Instant::now();
        loop {
            let polls_targets = self.config.target_poll_interval.is_some();
            tokio::select! {
                () = tokio::time::sleep_until(keys_due) => (),
                () = tokio::time::sleep_until(targets_due), if polls_targets => {
                    self.read_targets(admin, environment).await;
                    targets_due = Instant::now() + self.config.target_poll_interval.unwrap_or_default();
                    continue;
                }
                () = self.environments.stranger(), if Instant::now() >= strangers_after => (),
                () = tokio::time::sleep_until(strangers_after), if Instant::now() < strangers_after => continue,
            }
            self.read_keys(admin, environment).await;
            keys_due = Instant::now() + self.config.key_refresh_interval;
            strangers_after = Instant::now() + STRANGER_PAUSE.min(self.config.key_refresh_interval);
        }
    }

    async fn read_keys(&self, admin: &Admin, environment: &Arc<HarnessEnvironment>) {
        match admin.keys(&environment.identity).await {
            Err(error) => {
                tracing::warn!(environment = %environment.label, %error, "list of keys could not be read, those that are known stay");
            }
            Ok(keys) => {
                for gone in self.environments.set_keys(environment, &keys) {
                    tracing::info!(environment = %environment.label, "a key is no longer accepted");
                    self.parts.streams.end_where(EndReason::CredentialWithdrawn, |facts| {
                        let is_it = |it: &yardarm_core::Secret| KeyHash::of(it.expose()) == gone;
                        facts.environment == environment.label && facts.credential.as_ref().is_some_and(is_it)
                    });
                }
            }
        }
    }

    async fn read_targets(&self, admin: &Admin, environment: &Arc<HarnessEnvironment>) {
        match admin.targets(&environment.identity).await {
            Ok(targets) => environment.targets.polled(targets),
            Err(error) => tracing::warn!(environment = %environment.label, %error, "targets could not be read"),
        }
    }
}

fn judged(error: &RequestError) -> ConnectionError {
    match error {
        RequestError::Status(status) if error.kind().1 => ConnectionError::Status(*status),
        other => ConnectionError::Network(other.to_string()),
    }
}

async fn wait_for_data(environment: Arc<HarnessEnvironment>, latch: Option<ReadyLatch>) {
    let mut changes = environment.status.changes();
    while !environment.data.has_data() && changes.changed().await.is_ok() {}
    drop(latch);
}

async fn beat(environment: Arc<HarnessEnvironment>, interval: Duration) {
    let mut timer = tokio::time::interval(interval);
    timer.tick().await;
    loop {
        timer.tick().await;
        environment.data.beat();
    }
}
