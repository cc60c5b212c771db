//! Keeps one environment in sync: download, stream, fetch what an event names; poll while there is no stream.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use http::StatusCode;
use http::header::{ACCEPT, CACHE_CONTROL};
use serde::Deserialize;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};
use yardarm_core::Secret;
use yardarm_core::hooks::Hooks;
use yardarm_core::registry::{EndReason, Streams};
use yardarm_outbound::{ConnectionError, Event, Events, Pace};

use super::fetch::Fetcher;
use super::session::Presents;
use super::{Applier, HttpClients, MAX_DELAY, RequestError, Session, identification, url};
use crate::config::Config;
use crate::dataset::{Domain, Notice};
use crate::environments::{Connection, HarnessEnvironment};

/// How soon a failed payload plugin is asked again.
const PLUGIN_RETRY: Duration = Duration::from_secs(5);
/// How often the item that an event names is asked for before everything is downloaded instead.
const ATTEMPTS: u32 = 4;

/// The task that keeps one environment in sync.
pub(super) struct SyncTask {
    environment: Arc<HarnessEnvironment>,
    applier: Applier,
    streams: Streams,
    key: Secret,
    fetcher: Fetcher,
    http: HttpClients,
    base: String,
    plans: watch::Receiver<u64>,
    pace: Pace,
    poll_interval: Duration,
    stream_enabled: bool,
    /// Whether the listed path of the stream is used, because the real one is not there.
    uses_listed_path: bool,
}

/// What an event of the stream says; more properties may come.
#[derive(Deserialize)]
struct Message {
    #[serde(default)]
    event: String,
    #[serde(default)]
    domain: String,
    #[serde(default)]
    identifier: String,
    #[serde(default)]
    version: i64,
}

impl SyncTask {
    pub(super) fn new(
        environment: Arc<HarnessEnvironment>,
        applier: Applier,
        streams: Streams,
        hooks: &Hooks,
        http: &HttpClients,
        key: Secret,
        config: &Config,
    ) -> Self {
        Self {
            environment,
            applier,
            streams,
            key,
            fetcher: Fetcher { http: http.clone(), base: config.sync_service.clone() },
            http: http.clone(),
            base: config.sync_service.clone(),
            plans: hooks.changed(),
            pace: Pace::new(MAX_DELAY, config.rejected_retry_interval),
            poll_interval: config.flag_poll_interval,
            stream_enabled: config.stream_enabled,
            uses_listed_path: false,
        }
    }

    /// Runs until dropped.
    pub(super) async fn run(mut self) {
        loop {
            self.pace.connecting();
            let error = self.connect().await;
            self.lost(&error);
            let delay = if self.stream_enabled { self.pace.delay_after(&error) } else { self.poll_interval };
            self.pause(delay).await;
        }
    }

    /// One round: authenticate, download, stream until it ends. Without a stream a round ends after the download.
    async fn connect(&mut self) -> ConnectionError {
        if let Err(error) = self.authenticate().await {
            return failed(&error);
        }
        if !self.stream_enabled {
            return match self.download().await {
                Ok(()) => ConnectionError::Network("streaming is switched off".to_owned()),
                Err(error) => failed(&error),
            };
        }
        // Without data yet, flags come before the stream, so that a stream that cannot be opened holds nothing back.
        if !self.environment.data.has_data()
            && let Err(error) = self.download().await
        {
            return failed(&error);
        }
        let events = match self.open().await {
            Ok(events) => events,
            Err(error) => return error,
        };
        // What changed while there was no stream; what changes from here on comes down the open one.
        if let Err(error) = self.download().await {
            return failed(&error);
        }
        self.environment.stream_is(Connection::Connected);
        tracing::info!(environment = %self.environment.label, "upstream stream is active");
        self.read(events).await
    }

    async fn authenticate(&mut self) -> Result<(), RequestError> {
        let session = Session::open(&self.http, &self.base, &self.key, Presents::NoTarget).await?;
        if session.identity.id != self.environment.identity.id {
            return Err(RequestError::Malformed("the key belongs to another environment now".to_owned()));
        }
        self.environment.renew(session);
        Ok(())
    }

    async fn download(&mut self) -> Result<(), RequestError> {
        let mut answer = self.fetcher.everything(&self.environment.session()).await;
        if matches!(answer, Err(RequestError::Status(StatusCode::UNAUTHORIZED))) {
            self.authenticate().await?;
            answer = self.fetcher.everything(&self.environment.session()).await;
        }
        self.applier.put(answer?).await;
        self.environment.status.data_received();
        self.environment.status.message_processed();
        Ok(())
    }

    async fn open(&mut self) -> Result<Events, ConnectionError> {
        let opened = self.open_at(self.uses_listed_path).await;
        match opened {
            // The vendor's own list names another path than its code uses.
            Err(ConnectionError::Status(StatusCode::NOT_FOUND)) => {
                self.uses_listed_path = !self.uses_listed_path;
                self.open_at(self.uses_listed_path).await
            }
            other => other,
        }
    }

    async fn open_at(&self, listed_path: bool) -> Result<Events, ConnectionError> {
        let session = self.environment.session();
        let id = session.identity.id.as_str();
        let path: &[&str] = if listed_path { &["client", "env", id, "stream"] } else { &["stream"] };
        let request = self.http.streams.get(url(&self.base, path)).headers(identification(&session));
        let request = request.query(&[("cluster", &session.identity.cluster)]);
        let request = request.bearer_auth(session.token.expose()).header("api-key", self.key.expose());
        yardarm_outbound::open(request.header(ACCEPT, "text/event-stream").header(CACHE_CONTROL, "no-cache")).await
    }

    async fn read(&mut self, mut events: Events) -> ConnectionError {
        loop {
            tokio::select! {
                event = events.next() => match event {
                    Some(Ok(event)) => {
                        if let Err(error) = self.process(&event).await {
                            return error;
                        }
                        self.pace.is_healthy();
                        self.environment.status.message_processed();
                    }
                    Some(Err(error)) => return error,
                    None => return ConnectionError::Network("stream ended".to_owned()),
                },
                _ = self.plans.changed() => self.applier.plan_changed().await,
                () = tokio::time::sleep(PLUGIN_RETRY), if self.applier.is_behind() => self.applier.plan_changed().await,
            }
        }
    }

    /// Fetches what an event names. SDKs hear of it when it can be fetched here, and not before.
    async fn process(&mut self, event: &Event) -> Result<(), ConnectionError> {
        let Ok(message) = serde_json::from_str::<Message>(&event.data) else {
            tracing::warn!(environment = %self.environment.label, "event of the upstream stream is no JSON and is ignored");
            return Ok(());
        };
        let domain = match message.domain.as_str() {
            "flag" => Domain::Flag,
            "target-segment" => Domain::TargetSegment,
            other => {
                tracing::debug!(environment = %self.environment.label, domain = other, "event for somebody else");
                return Ok(());
            }
        };
        let Message { event: kind, identifier, version, .. } = message;
        let notice = Notice { event: kind, domain, identifier, version };
        if notice.event == "delete" {
            self.applier.delete(notice).await;
            return Ok(());
        }
        match self.fetch(&notice).await {
            Ok(Some(item)) => self.applier.patch(item, notice).await,
            // Deleted since; that event is on its way.
            Ok(None) => (),
            Err(error) => return Err(failed(&error)),
        }
        Ok(())
    }

    /// One item, with some patience. Whoever gives up here connects again and downloads everything.
    async fn fetch(&mut self, notice: &Notice) -> Result<Option<crate::dataset::Item>, RequestError> {
        let mut delay = Duration::from_millis(250);
        for attempt in 1.. {
            let error = match self.fetcher.one(&self.environment.session(), notice.domain, &notice.identifier).await {
                Ok(item) => return Ok(item),
                Err(error) => error,
            };
            if attempt >= ATTEMPTS {
                return Err(error);
            }
            tracing::warn!(environment = %self.environment.label, item = notice.identifier, %error, "changed item could not be fetched, trying again");
            if matches!(error, RequestError::Status(StatusCode::UNAUTHORIZED)) {
                self.authenticate().await?;
            } else {
                tokio::time::sleep(delay).await;
                delay *= 2;
            }
        }
        Ok(None)
    }

    /// While we only poll there are no events, so SDKs must poll too.
    fn lost(&self, error: &ConnectionError) {
        let environment = &self.environment;
        if environment.stream_is(Connection::Disconnected) || !self.stream_enabled {
            let label = &environment.label;
            self.streams.end_where(EndReason::SourceLost, |facts| facts.environment == *label);
        }
        if !self.stream_enabled
            && !matches!(error, ConnectionError::Status(_))
            && environment.status.report().has_received_data
        {
            return;
        }
        let (kind, _) = error.kind();
        if error.is_rejection() {
            environment.status.refused(kind, &error.to_string());
            tracing::error!(environment = %environment.label, %error, "upstream rejected the key; it will be tried again, seldom");
        } else {
            environment.status.interrupted(kind, &error.to_string());
            tracing::warn!(environment = %environment.label, %error, "upstream stream interrupted");
        }
    }

    /// Polls while it waits.
    async fn pause(&mut self, delay: Duration) {
        let wake = tokio::time::sleep(delay);
        tokio::pin!(wake);
        let mut polls = tokio::time::interval_at(Instant::now() + self.poll_interval, self.poll_interval);
        polls.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = &mut wake => return,
                _ = polls.tick() => if let Err(error) = self.download().await {
                    tracing::warn!(environment = %self.environment.label, %error, "poll failed");
                },
                _ = self.plans.changed() => self.applier.plan_changed().await,
                () = tokio::time::sleep(PLUGIN_RETRY), if self.applier.is_behind() => self.applier.plan_changed().await,
            }
        }
    }
}

/// A failed request ends a round like a failed stream.
fn failed(error: &RequestError) -> ConnectionError {
    match error {
        RequestError::Status(status) => ConnectionError::Status(*status),
        RequestError::Network(text) => ConnectionError::Network(text.clone()),
        RequestError::NotJson | RequestError::Malformed(_) => {
            ConnectionError::Message { event: "download".to_owned(), problem: error.to_string() }
        }
    }
}

#[cfg(fuzzing)]
pub(super) fn fuzz(text: &str) {
    let _ = serde_json::from_str::<Message>(text);
}
