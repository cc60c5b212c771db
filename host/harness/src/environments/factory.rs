//! Creates environments, with all of their tasks, and removes them.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::Notify;
use yardarm_core::change_log::LogLimits;
use yardarm_core::registry::EndReason;
use yardarm_core::status::Status;
use yardarm_core::{EnvironmentLabel, Lifecycle, Secret, Workers, environment_with};
use yardarm_vendor::environment::send_heartbeats;
use yardarm_vendor::side::Parts;

use super::announced::MAX_ANNOUNCED;
use super::applier::Applier;
use super::environment::{EnvironmentParts, HarnessEnvironment};
use super::index::Environments;
use super::metrics_poster::MetricsPoster;
use crate::config::Config;
use crate::data::persisted::{self, PersistedEnvironment};
use crate::data::targets::TargetBudget;
use crate::identity::tokens::SigningKey;
use crate::identity::{Identity, KeyHash, ListedKeys, Session, VENDOR};
use crate::metrics::MetricsPort;
use crate::upstream::HttpClients;

/// The change log holds every change that a stream may have missed, and a few more. A change takes about a hundred bytes,
/// because it only names an item.
const LOG: LogLimits = LogLimits { changes: MAX_ANNOUNCED + 384, ..LogLimits::LARGE };

/// Creates and removes environments. Cheap to clone.
#[derive(Clone)]
pub(crate) struct EnvironmentFactory {
    pub(crate) config: Arc<Config>,
    pub(crate) http: HttpClients,
    pub(crate) parts: Parts,
    pub(crate) environments: Environments,
    /// Memory for targets that SDKs present.
    pub(crate) target_budget: Arc<TargetBudget>,
    /// Threads that read large bodies.
    pub(crate) readers: Workers,
    /// Signs tokens for the environments of this factory; `None` if one secret signs the tokens of all environments.
    pub(crate) signing: Option<SigningKey>,
    /// Notified when upstream has rejected the token of an environment of this factory.
    pub(crate) token_refused: Arc<Notify>,
    /// Where metrics are posted to.
    pub(crate) poster: MetricsPoster,
}

/// An environment that is served.
pub(crate) struct EnvironmentHandle {
    pub(crate) environment: Arc<HarnessEnvironment>,
    /// Applies changes to its data.
    pub(crate) applier: Applier,
    /// Owner of its tasks.
    pub(crate) lifecycle: Lifecycle,
}

impl EnvironmentHandle {
    /// Holds readiness back until there is data. An environment that came after the start (`is_late`) does so only while no other
    /// is served.
    pub(crate) fn hold_readiness(&self, is_late: bool) {
        let (readiness, label) = (self.lifecycle.readiness(), self.environment.label.to_string());
        let latch = if is_late {
            readiness.latch_late_data(label, &self.environment.status)
        } else {
            readiness.latch_data(label, &self.environment.status)
        };
        self.environment.hold_readiness(latch, &self.lifecycle);
    }
}

impl EnvironmentFactory {
    /// Creates an environment and serves it, with its persisted data; `None` if its ID exists already.
    pub(crate) async fn create(
        &self,
        name: Option<&str>,
        session: Session,
        persisted: PersistedEnvironment,
    ) -> Option<EnvironmentHandle> {
        let label = self.label(name, &session.identity);
        let status = Status::new();
        let lifecycle = self.parts.lifecycle.for_environment(label.clone(), status.clone()).child();
        let (writer, data) = environment_with(LOG);
        let hooks = self.parts.hooks.clone();
        let is_offline = self.config.is_offline();
        let is_forwarded = self.config.metric_post_interval.is_some() && !is_offline;
        let metrics = MetricsPort::start(hooks.clone(), self.readers.clone(), is_forwarded, &lifecycle);
        let store = self.parts.store.as_ref().filter(|_| !is_offline);
        let tracked = store.map(|store| persisted::persist(store, &session.identity.id, persisted.clone()));
        let environment = Arc::new(HarnessEnvironment::new(EnvironmentParts {
            label,
            status,
            session,
            data,
            metrics,
            persisted: tracked,
            token_refused: Arc::clone(&self.token_refused),
            changed: Arc::clone(self.environments.changed()),
            target_budget: Arc::clone(&self.target_budget),
            signing: self.signing.clone(),
        }));
        if !self.environments.add(&environment) {
            lifecycle.token().cancel();
            return None;
        }
        let unfinished = Unfinished(Some((self.environments.clone(), Arc::clone(&environment), lifecycle.clone())));
        tracing::info!(environment = %environment.label, id = environment.identity.id, "environment added");
        let mut applier = Applier::new(Arc::clone(&environment), writer, hooks, self.config.and_rules);
        environment.targets.replace_listed(&persisted.read_targets());
        if let Some(items) = persisted.items {
            applier.restore(items).await;
        }
        // This comes last: callers with an accepted key must find the data.
        self.environments.set_keys(&environment, &persisted.keys);
        if let Some(interval) = self.config.metric_post_interval.filter(|_| is_forwarded) {
            let poster = self.poster.clone();
            let posting = Arc::clone(&environment);
            lifecycle.supervise("metrics", move || poster.clone().run(Arc::clone(&posting), interval));
        }
        send_heartbeats(&environment.data, self.config.heartbeat_interval, &lifecycle);
        unfinished.finish();
        Some(EnvironmentHandle { environment, applier, lifecycle })
    }

    /// Replaces the keys of an environment. Streams that were opened with a removed key end.
    pub(crate) fn accept(&self, environment: &Arc<HarnessEnvironment>, keys: &BTreeSet<KeyHash>) {
        for gone in self.environments.set_keys(environment, keys) {
            tracing::info!(environment = %environment.label, "a key is no longer accepted");
            self.parts.streams.end_where(EndReason::CredentialWithdrawn, |facts| {
                let is_it = |it: &Secret| KeyHash::of(it.expose()) == gone;
                facts.environment == environment.label && facts.credential.as_ref().is_some_and(is_it)
            });
        }
    }

    /// Replaces the keys of an environment by a list. If an entry of the list could not be read, keys that are missing from it
    /// stay.
    pub(crate) fn accept_listed(&self, environment: &Arc<HarnessEnvironment>, listed: &ListedKeys) {
        let mut keys = listed.hashes().clone();
        if !listed.is_complete() {
            keys.extend(self.environments.keys_of(environment));
        }
        self.accept(environment, &keys);
    }

    /// Removes an environment: its keys are not accepted any more, its streams end, its tasks stop.
    pub(crate) fn remove(&self, environment: &Arc<HarnessEnvironment>, lifecycle: &Lifecycle) {
        self.environments.remove(environment);
        self.parts.streams.end_where(EndReason::CredentialWithdrawn, |facts| facts.environment == environment.label);
        environment.clear_persisted();
        lifecycle.token().cancel();
        tracing::info!(environment = %environment.label, "environment removed");
        let poster = self.poster.clone();
        let environment = Arc::clone(environment);
        // Metrics that were accepted are still delivered.
        self.parts.lifecycle.spawn("last metrics", async move {
            environment.metrics.settle().await;
            poster.flush(&environment).await;
        });
    }

    fn label(&self, name: Option<&str>, identity: &Identity) -> EnvironmentLabel {
        let name = name.or(Some(&identity.environment)).filter(|it| !it.is_empty()).unwrap_or(&identity.id);
        let label = EnvironmentLabel::new(VENDOR, name);
        if self.environments.is_taken(&label, &identity.id) {
            // Environments of two projects may have the same name; IDs are unique.
            return EnvironmentLabel::new(VENDOR, identity.id.as_str());
        }
        label
    }
}

/// Removes an environment whose creation was not finished, so that another attempt can create it.
struct Unfinished(Option<(Environments, Arc<HarnessEnvironment>, Lifecycle)>);

impl Unfinished {
    fn finish(mut self) {
        self.0 = None;
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some((environments, environment, lifecycle)) = self.0.take() {
            environments.remove(&environment);
            lifecycle.token().cancel();
        }
    }
}
