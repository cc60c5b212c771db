//! Auto-configuration: a stream from LaunchDarkly with the list of environments.

use std::path::Path;
use std::time::Duration;

use http::header::{AUTHORIZATION, CACHE_CONTROL};
use tokio::time::{Instant, MissedTickBehavior};
use yardarm_core::readiness::ReadyLatch;
use yardarm_core::snapshot_writer::SnapshotWriter;
use yardarm_core::status::Status;
use yardarm_core::supervisor::blocking;
use yardarm_core::time::unix_ms;
use yardarm_core::{InternalError, Lifecycle, Secret, Supervised};
use yardarm_vendor::upstream::{self as outbound, ConnectionError, Events, ReconnectPolicy};

use super::assembly::EnvironmentAssembly;
use super::auto_config_state::{AutoConfigMessage, AutoConfigState};
use super::persisted_list::{self, PersistedList};
use crate::config::{CommonConfig, Config};
use crate::upstream::HttpClients;

/// The task that receives the list of environments.
pub(crate) struct AutoConfigTask {
    key: Secret,
    url: String,
    http: HttpClients,
    environments: AutoConfigState,
    assembly: EnvironmentAssembly,
    /// State of the stream, for operators.
    status: Status,
    reconnect: ReconnectPolicy,
    cleanup: tokio::time::Interval,
    /// Holds readiness back until the list is known.
    unlisted: Option<ReadyLatch>,
    /// Writes the list to disk, if there is a data folder.
    snapshot_writer: Option<SnapshotWriter<Option<PersistedList>>>,
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
        let interval = config.expired_credential_cleanup_interval;
        let mut cleanup = tokio::time::interval_at(Instant::now() + interval, interval);
        cleanup.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            key,
            // Version 2 of the protocol includes payload filters.
            url: format!("{}/relay_auto_config?rpacProtocolVersion=2", config.stream_uri),
            http,
            environments: AutoConfigState::new(common),
            assembly,
            status,
            reconnect: ReconnectPolicy::new(config.max_reconnect_delay, config.rejected_retry_interval)
                .with_shortest(config.min_reconnect_delay),
            cleanup,
            unlisted: Some(unlisted),
            snapshot_writer: None,
        }
    }

    /// Serves the list that an earlier process persisted in `folder`, marked stale, and persists the list there from now on.
    pub(crate) async fn restore(&mut self, folder: &Path, lifecycle: &Lifecycle) {
        let file = match persisted_list::file(folder, &self.key) {
            Ok(file) => file,
            Err(error) => {
                tracing::warn!(%error, "the list of environments is not persisted");
                return;
            }
        };
        let sealed = file.clone();
        let persisted = blocking("kept list", move || persisted_list::read(&sealed)).await.ok().flatten();
        self.snapshot_writer = Some(persisted_list::persist(file, persisted.clone(), lifecycle));
        let Some(persisted) = persisted else { return };
        self.environments.restore(persisted, unix_ms());
        // A list without environments serves no SDK, so it counts as none.
        if self.environments.len() > 0 {
            tracing::info!(
                environments = self.environments.len(),
                "serving the environments of the list kept on disk until LaunchDarkly answers"
            );
            self.assembly.reconcile(self.environments.variants()).await;
            self.assembly.settle();
            self.status.data_restored();
            self.unlisted = None;
        }
    }

    async fn open(&mut self) -> Result<Events, ConnectionError> {
        let request = self.http.streams.get(&self.url).header(AUTHORIZATION, self.key.expose());
        let opening = outbound::open(request.header(CACHE_CONTROL, "no-cache"), self.http.read_timeout);
        tokio::pin!(opening);
        loop {
            tokio::select! {
                opened = &mut opening => return opened,
                _ = self.cleanup.tick() => if self.environments.expire(unix_ms()) {
                    reconcile(&mut self.assembly, &self.environments, self.snapshot_writer.as_ref()).await;
                },
            }
        }
    }

    async fn read(&mut self, mut events: Events) -> ConnectionError {
        tracing::info!("connected to the auto-configuration stream");
        loop {
            tokio::select! {
                event = events.next() => {
                    if let Some(base) = events.take_reconnection_time() {
                        self.reconnect.rebase(base);
                    }
                    let event = match event {
                        Ok(event) => event,
                        Err(error) => return error,
                    };
                    let problem = match AutoConfigMessage::read(&event.event, &event.data) {
                        Ok(AutoConfigMessage::Reconnect) => return ConnectionError::Network("the service requested a reconnect".to_owned()),
                        Ok(message) => self.take(message).await,
                        Err(error) => Some(error.to_string()),
                    };
                    if let Some(problem) = problem {
                        return ConnectionError::message(&event.event, problem);
                    }
                    self.reconnect.mark_healthy();
                    self.status.message_processed();
                },
                _ = self.cleanup.tick() => self.clean_up().await,
            }
        }
    }

    /// Applies a message; after a contradictory one, the stream is reopened to receive all data again.
    async fn take(&mut self, message: AutoConfigMessage) -> Option<String> {
        let outcome = self.environments.apply(message, unix_ms());
        if outcome.is_complete || self.unlisted.is_none() {
            reconcile(&mut self.assembly, &self.environments, self.snapshot_writer.as_ref()).await;
        }
        if outcome.is_complete {
            self.status.data_received();
            self.assembly.settle();
            if self.unlisted.take().is_some() {
                tracing::info!("the list of environments is complete");
            }
        }
        outcome.contradiction.map(|error| error.to_string())
    }

    async fn clean_up(&mut self) {
        if self.environments.expire(unix_ms()) {
            reconcile(&mut self.assembly, &self.environments, self.snapshot_writer.as_ref()).await;
        }
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

impl Supervised for AutoConfigTask {
    /// Runs until dropped. Known environments stay during every interruption of the stream.
    async fn run(&mut self) {
        loop {
            self.reconnect.mark_connecting();
            let error = match self.open().await {
                Ok(events) => self.read(events).await,
                Err(error) => error,
            };
            let delay = self.reconnect.delay_after(&error);
            self.report(&error, delay);
            let pause = tokio::time::sleep(delay);
            tokio::pin!(pause);
            loop {
                tokio::select! {
                    () = &mut pause => break,
                    _ = self.cleanup.tick() => self.clean_up().await,
                }
            }
        }
    }

    fn recover(&mut self, error: &InternalError) {
        self.status.task_failed(error);
    }
}

/// Serves the list, and persists it if it has changed.
async fn reconcile(
    assembly: &mut EnvironmentAssembly,
    environments: &AutoConfigState,
    snapshot_writer: Option<&SnapshotWriter<Option<PersistedList>>>,
) {
    assembly.reconcile(environments.variants()).await;
    if let Some(snapshot_writer) = snapshot_writer {
        let newest = environments.to_persisted();
        snapshot_writer.change(|persisted| {
            let is_new = persisted.as_ref() != Some(&newest);
            if is_new {
                *persisted = Some(newest);
            }
            is_new
        });
    }
}
