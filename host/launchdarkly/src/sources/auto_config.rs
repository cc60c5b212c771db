//! Auto-configuration: a stream from LaunchDarkly with the list of environments.

mod following;
mod served_list;

use std::time::Duration;

use http::header::{AUTHORIZATION, CACHE_CONTROL};
use tokio::sync::{oneshot, watch};
use tracing::Instrument;
use yardarm_core::readiness::ReadyLatch;
use yardarm_core::status::Status;
use yardarm_core::supervisor::blocking;
use yardarm_core::time::unix_ms;
use yardarm_core::{DataStore, InternalError, Lifecycle, Secret, Supervised};
use yardarm_fleet::Source;
use yardarm_vendor::upstream::{self, ConnectionError, Events, ReconnectPolicy, connection_span};

use self::served_list::ServedList;
use super::assembly::EnvironmentAssembly;
use super::auto_config_state::{AutoConfigMessage, AutoConfigState};
use super::list_cache::{ListCacheTask, ListCipher};
use super::persisted_list;
use crate::config::{CommonConfig, Config, ListCacheConfig, StoreConfig};
use crate::store::open_item_set;
use crate::upstream::HttpClients;

/// The task that receives the list of environments.
pub(crate) struct AutoConfigTask {
    key: Secret,
    url: String,
    http: HttpClients,
    list: ServedList,
    /// State of the stream, for operators.
    status: Status,
    reconnect: ReconnectPolicy,
    /// The list as a source that gateways share; `None` without a fleet.
    source: Option<Source>,
}

impl AutoConfigTask {
    pub(crate) fn new(
        key: Secret,
        common: CommonConfig,
        config: &Config,
        http: HttpClients,
        assembly: EnvironmentAssembly,
        status: Status,
        unlisted: ReadyLatch,
    ) -> Self {
        let cleanup_interval = config.expired_credential_cleanup_interval;
        Self {
            key,
            // Version 2 of the protocol includes payload filters.
            url: format!("{}/relay_auto_config?rpacProtocolVersion=2", config.stream_uri),
            http,
            list: ServedList::new(AutoConfigState::new(common), assembly, (status.clone(), unlisted), cleanup_interval),
            status,
            reconnect: ReconnectPolicy::new(config.max_reconnect_delay, config.rejected_retry_interval)
                .with_shortest(config.min_reconnect_delay),
            source: None,
        }
    }

    /// Serves the list that an earlier process persisted in `store`, marked stale, and persists the list there from now on.
    pub(crate) async fn restore(&mut self, store: &DataStore) {
        let seal = match persisted_list::seal(&self.key) {
            Ok(seal) => seal,
            Err(error) => {
                tracing::warn!(%error, "the list of environments is not persisted");
                return;
            }
        };
        let (reading, opening) = (store.clone(), seal.clone());
        let persisted = blocking("kept list", move || persisted_list::read(&reading, &opening)).await.ok().flatten();
        self.list.persisted = Some(persisted_list::persist(store, seal, persisted.clone()));
        let Some(persisted) = persisted else { return };
        self.list.state.restore(persisted, unix_ms());
        self.list.serve_restored("on disk").await;
    }

    /// Reads the list that gateways and relays keep in the database, and keeps it there from now on.
    pub(crate) fn use_cache(&mut self, cache: &ListCacheConfig, config: &StoreConfig, lifecycle: &Lifecycle) {
        // Configuration without such a database is refused, and the library takes every key of this length.
        let Some(set) = open_item_set(config, &cache.name) else { return };
        let Ok(cipher) = ListCipher::new(&cache.secret) else { return };
        let (newest, lists) = watch::channel(None);
        let (found, cached) = oneshot::channel();
        (self.list.cache, self.list.cached) = (Some(newest), Some(cached));
        lifecycle.supervise("cached list of environments", ListCacheTask::new(set, cipher, lists, found));
    }

    /// One connection, from request to end.
    async fn connect(&mut self) -> ConnectionError {
        match self.open().await {
            Ok(events) => self.read(events).await,
            Err(error) => error,
        }
    }

    async fn open(&mut self) -> Result<Events, ConnectionError> {
        let request = self.http.streams.get(&self.url).header(AUTHORIZATION, self.key.expose());
        let opening = upstream::open(request.header(CACHE_CONTROL, "no-cache"), self.http.read_timeout);
        self.list.clean_up_until(opening).await
    }

    async fn read(&mut self, mut events: Events) -> ConnectionError {
        tracing::info!("connected to the auto-configuration stream");
        loop {
            let event = self.list.clean_up_until(events.next()).await;
            if let Some(base) = events.take_reconnection_time() {
                self.reconnect.rebase(base);
            }
            let event = match event {
                Ok(event) => event,
                Err(error) => return error,
            };
            let problem = match AutoConfigMessage::read(&event.event, &event.data) {
                Ok(AutoConfigMessage::Reconnect) => {
                    return ConnectionError::Closed("the service requested a reconnect");
                }
                Ok(message) => self.take(message).await,
                Err(error) => Some(error.to_string()),
            };
            if let Some(problem) = problem {
                return ConnectionError::message(&event.event, problem);
            }
            self.reconnect.mark_healthy();
            self.status.message_processed();
        }
    }

    /// Applies a message; after a contradictory one, the stream is reopened to receive all data again.
    async fn take(&mut self, message: AutoConfigMessage) -> Option<String> {
        let outcome = self.list.state.apply(message, unix_ms());
        if outcome.is_complete || self.list.unlisted.is_none() {
            self.list.reconcile().await;
        }
        if outcome.is_complete {
            self.status.data_received();
            self.list.complete("LaunchDarkly");
        }
        outcome.contradiction.map(|error| error.to_string())
    }

    fn report(&self, error: &ConnectionError, delay: Duration) {
        let (kind, is_final) = error.kind();
        let seconds = delay.as_secs();
        if is_final {
            self.status.refused(kind, &error.to_string());
            tracing::error!(%error, seconds, "the auto-configuration key was rejected, check it; retrying with increasing delays");
        } else {
            self.status.interrupted(kind, &error.to_string());
            tracing::warn!(%error, seconds, "auto-configuration stream interrupted, reconnecting");
        }
    }
}

impl AutoConfigTask {
    /// Keeps the stream open until dropped. Known environments stay during every interruption.
    async fn stay_connected(&mut self) {
        loop {
            self.reconnect.mark_connecting();
            let span = connection_span(&self.url);
            let error = self.connect().instrument(span.clone()).await;
            let delay = self.reconnect.delay_after(&error);
            span.in_scope(|| self.report(&error, delay));
            self.list.clean_up_until(tokio::time::sleep(delay)).await;
        }
    }
}

impl Supervised for AutoConfigTask {
    /// Runs until dropped.
    async fn run(&mut self) {
        if self.source.is_some() {
            self.share().await;
        } else {
            self.stay_connected().await;
        }
    }

    fn recover(&mut self, error: &InternalError) {
        self.status.task_failed(error);
    }
}
