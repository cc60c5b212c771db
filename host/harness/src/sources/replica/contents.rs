//! Serves everything that the database contains.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::time::Instant;
use yardarm_store::StoreError;

use super::{ReplicaTask, UNTIL_COMPLETE};
use crate::data::persisted::PersistedEnvironment;
use crate::environments::EnvironmentFactory;
use crate::identity::tokens::SigningKey;
use crate::identity::{Identity, KeyHash, Session};
use crate::shared_store::{Contents, ControlState, StoredEnvironment, read};
use crate::upstream::retry_delay::jittered;

/// The cluster that SDKs send along; the database does not contain it.
const CLUSTER: &str = "1";

impl ReplicaTask {
    /// Reads everything but lists that have not changed, and serves it.
    pub(super) async fn read(&mut self) -> Result<(), StoreError> {
        let contents = read(&self.store, &mut self.known).await?;
        let state = contents.health.as_deref().and_then(ControlState::of_record);
        let is_usable = !contents.environments.is_empty() && state.is_some();
        self.serve(contents).await;
        if let Some(state) = state.filter(|it| *it != ControlState::Initializing) {
            self.set_state(state);
        }
        let interval = if is_usable && !self.environments.is_incomplete() {
            jittered(self.environments.factory.config.flag_poll_interval)
        } else {
            UNTIL_COMPLETE
        };
        self.next_read = Instant::now() + interval;
        Ok(())
    }

    async fn serve(&mut self, contents: Contents) {
        if contents.environments.is_empty() {
            // An emptied database removes nothing: its primary writes everything again.
            let problem = "the shared Redis contains no environments";
            tracing::debug!(problem, "waiting for the primary");
            return;
        }
        if contents.is_complete {
            let ids = self.environments.all().map(|it| it.identity.id.clone());
            let gone: Vec<_> = ids.filter(|it| !contents.environments.contains_key(it)).collect();
            for id in gone {
                self.environments.remove(&id);
                self.known.digests.remove(&id);
            }
        }
        self.environments.set_incomplete(false);
        for (id, stored) in contents.environments {
            self.serve_one(&id, stored, &contents.missing_keys).await;
        }
        if self.environments.all().next().is_some() {
            self.environments.settle();
        }
    }

    /// Serves an environment. Its data is in place before its keys are accepted.
    async fn serve_one(&mut self, id: &str, stored: StoredEnvironment, missing: &BTreeSet<KeyHash>) {
        let is_known = self.environments.get(id).is_some();
        let has_news = stored.items.is_some();
        if !is_known {
            if !has_news {
                // It is about to be written.
                return self.environments.set_incomplete(true);
            }
            self.create(id, &stored).await;
        }
        if let Some(items) = stored.items {
            self.environments.put(id, items).await;
            self.known.digests.insert(id.to_owned(), stored.digests);
        }
        let Some(environment) = self.environments.get(id).map(Arc::clone) else { return };
        let factory = &self.environments.factory;
        let mut keys = stored.keys;
        // A key that is about to be written again stays.
        keys.extend(factory.environments.keys_of(&environment).into_iter().filter(|it| missing.contains(it)));
        factory.accept(&environment, &keys);
        environment.status.message_processed();
    }

    async fn create(&mut self, id: &str, stored: &StoredEnvironment) {
        let identity = Identity {
            id: id.to_owned(),
            environment: stored.environment.clone(),
            project: stored.project.clone(),
            cluster: CLUSTER.to_owned(),
            ..Identity::default()
        };
        let config = &self.environments.factory.config;
        // The primary derives the same secret from the same key.
        let derived = stored.proxy_key.as_ref().filter(|_| config.auth_secret.is_none()).map(SigningKey::derived);
        if derived.is_none() && config.auth_secret.is_none() {
            tracing::error!(
                id,
                "`harness.auth_secret` is not set, and the shared Redis has no inventory to derive one from, so SDKs get no tokens"
            );
        }
        let factory = EnvironmentFactory { signing: derived, ..self.environments.factory.clone() };
        let persisted = PersistedEnvironment { identity: identity.clone(), ..PersistedEnvironment::default() };
        if let Some(created) = factory.create(None, Session::remembered(identity), persisted).await {
            self.environments.insert(created);
        }
    }
}
