//! The upstream stream of one environment: connect, read, apply, report, again.

use std::sync::Arc;
use std::time::Duration;

use eventsource_stream::{Event, EventStreamError, Eventsource};
use futures_util::{Stream, StreamExt};
use http::StatusCode;
use reqwest_eventsource::{Error as SourceError, Event as SourceEvent, EventSource, retry};
use tokio::time::Instant;
use uuid::Uuid;
use yardarm_core::Backoff;
use yardarm_core::hooks::Hooks;
use yardarm_core::status::ErrorKind;

use super::HttpClients;
use super::apply::Applier;
use super::message::{self, MessageError};
use crate::config::Config;
use crate::dataset::Change;
use crate::environments::LdEnvironment;

/// A connection that was good for this long starts its backoff anew.
const HEALTHY: Duration = Duration::from_secs(60);
/// How soon a failed payload plugin is asked again.
const PAYLOAD_RETRY: Duration = Duration::from_secs(5);

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum StreamError {
    #[error("connection failed: {0}")]
    Network(String),
    #[error("stream answered {0}")]
    Status(StatusCode),
    #[error("`{event}` event: {source}; restarting the stream")]
    Message { event: String, source: MessageError },
}

/// The task that keeps one environment in sync.
pub(crate) struct StreamTask {
    environment: Arc<LdEnvironment>,
    applier: Applier,
    hooks: Hooks,
    http: HttpClients,
    url: String,
    instance_id: String,
    last_event_id: String,
    backoff: Backoff,
    /// For keys that upstream rejects: it may heal, but asking often would be rude.
    rejected_backoff: Backoff,
    is_rejected: bool,
    /// When the first event of the present connection came.
    healthy_since: Option<Instant>,
}

impl StreamTask {
    pub(crate) fn new(
        environment: Arc<LdEnvironment>,
        applier: Applier,
        hooks: Hooks,
        http: HttpClients,
        config: &Config,
    ) -> Self {
        let mut url = format!("{}/all", config.stream_uri);
        if !environment.filter.is_empty() {
            let filter: String = form_urlencoded(&environment.filter);
            url.push_str("?filter=");
            url.push_str(&filter);
        }
        let rejected = config.rejected_retry_interval;
        Self {
            environment,
            applier,
            hooks,
            http,
            url,
            instance_id: Uuid::new_v4().to_string(),
            last_event_id: String::new(),
            backoff: Backoff::literal(Duration::from_secs(1), Duration::from_secs(30)),
            rejected_backoff: Backoff::literal(rejected, rejected.saturating_mul(12)),
            is_rejected: false,
            healthy_since: None,
        }
    }

    /// Runs until dropped.
    pub(crate) async fn run(mut self) {
        let mut plans = self.hooks.changed();
        loop {
            let error = self.connect(&mut plans).await;
            self.report(&error);
            let delay = self.next_delay();
            tracing::info!(environment = %self.environment.label, seconds = format!("{:.4}", delay.as_secs_f64()), "reconnecting to upstream");
            let wake = Instant::now() + delay;
            loop {
                tokio::select! {
                    () = tokio::time::sleep_until(wake) => break,
                    _ = plans.changed() => self.applier.plan_changed().await,
                    () = tokio::time::sleep(PAYLOAD_RETRY), if self.applier.is_behind() => self.applier.plan_changed().await,
                }
            }
        }
    }

    /// One connection, from request to end.
    async fn connect(&mut self, plans: &mut tokio::sync::watch::Receiver<u64>) -> StreamError {
        self.healthy_since = None;
        let mut request = self
            .http
            .streams
            .get(&self.url)
            .header("authorization", self.environment.config.sdk_key.expose())
            .header("cache-control", "no-cache")
            .header("x-launchdarkly-instance-id", &self.instance_id);
        if !self.last_event_id.is_empty() {
            request = request.header("last-event-id", &self.last_event_id);
        }
        let Ok(mut source) = EventSource::new(request) else {
            return StreamError::Network("the request cannot be repeated".to_owned());
        };
        // Reconnecting is ours: the state, the jitter and the two curves are part of the protocol.
        source.set_retry_policy(Box::new(retry::Never));
        match source.next().await {
            Some(Ok(SourceEvent::Open)) => self.read(source.map(from_source), plans).await,
            // The reference does not look at the content type, so a service that sends none still works.
            Some(Err(SourceError::InvalidContentType(_, response))) => {
                self.read(response.bytes_stream().eventsource().map(from_stream), plans).await
            }
            Some(Err(error)) => failure(error),
            Some(Ok(SourceEvent::Message(_))) | None => StreamError::Network("stream ended".to_owned()),
        }
    }

    async fn read(
        &mut self,
        events: impl Stream<Item = Result<Option<Event>, StreamError>>,
        plans: &mut tokio::sync::watch::Receiver<u64>,
    ) -> StreamError {
        tracing::info!(environment = %self.environment.label, "connected to upstream");
        let mut events = std::pin::pin!(events);
        loop {
            tokio::select! {
                event = events.next() => match event {
                    Some(Ok(Some(event))) => if let Err(error) = self.process(event).await {
                        return error;
                    },
                    Some(Ok(None)) => (),
                    Some(Err(error)) => return error,
                    None => return StreamError::Network("stream ended".to_owned()),
                },
                _ = plans.changed() => self.applier.plan_changed().await,
                () = tokio::time::sleep(PAYLOAD_RETRY), if self.applier.is_behind() => self.applier.plan_changed().await,
            }
        }
    }

    async fn process(&mut self, event: Event) -> Result<(), StreamError> {
        self.last_event_id.clone_from(&event.id);
        if let Some(base) = event.retry {
            self.backoff.rebase(base);
        }
        let Event { event: name, data, .. } = event;
        let parsed = {
            let name = name.clone();
            // Megabytes of JSON take milliseconds that the serving threads have better uses for.
            let parse = move || message::parse(&name, &data);
            tokio::task::spawn_blocking(parse).await.map_err(|error| StreamError::Network(error.to_string()))?
        };
        let change = parsed.map_err(|source| StreamError::Message { event: name, source })?;
        let is_put = matches!(change, Some(Change::Put(_)));
        if let Some(change) = change {
            self.applier.apply(change).await;
        }
        if self.healthy_since.is_none() {
            self.healthy_since = Some(Instant::now());
        }
        if is_put {
            if !self.environment.status.report().has_received_data {
                tracing::info!(environment = %self.environment.label, "upstream stream is active");
            }
            self.environment.status.data_received();
        }
        self.environment.status.message_processed();
        Ok(())
    }

    fn report(&self, error: &StreamError) {
        let (kind, is_final) = match error {
            StreamError::Network(_) => (ErrorKind::Network, false),
            StreamError::Message { .. } => (ErrorKind::InvalidData, false),
            StreamError::Status(status) => (ErrorKind::Response(status.as_u16()), is_rejection(*status)),
        };
        let environment = &self.environment;
        if is_final {
            environment.status.refused(kind, &error.to_string());
            tracing::error!(environment = %environment.label, %error, "upstream rejected the SDK key; it will be tried again, seldom");
        } else {
            environment.status.interrupted(kind, &error.to_string());
            tracing::warn!(environment = %environment.label, %error, "upstream stream interrupted");
        }
    }

    fn next_delay(&mut self) -> Duration {
        if self.healthy_since.is_some_and(|since| since.elapsed() >= HEALTHY) {
            self.backoff.reset();
            self.rejected_backoff.reset();
            self.is_rejected = false;
        }
        if let Some(ErrorKind::Response(status)) = self.environment.status.report().last_error.map(|it| it.kind)
            && StatusCode::from_u16(status).is_ok_and(is_rejection)
        {
            // Stays so until a connection was good for a while, also if the next failure is an ordinary one.
            self.is_rejected = true;
        }
        if self.is_rejected { self.rejected_backoff.next_delay() } else { self.backoff.next_delay() }
    }
}

/// Statuses that do not heal by themselves: every 4xx but these three.
fn is_rejection(status: StatusCode) -> bool {
    status.is_client_error() && !matches!(status.as_u16(), 400 | 408 | 429)
}

fn from_source(item: Result<SourceEvent, SourceError>) -> Result<Option<Event>, StreamError> {
    match item {
        Ok(SourceEvent::Open) => Ok(None),
        Ok(SourceEvent::Message(event)) => Ok(Some(event)),
        Err(error) => Err(failure(error)),
    }
}

fn from_stream(item: Result<Event, EventStreamError<reqwest::Error>>) -> Result<Option<Event>, StreamError> {
    item.map(Some).map_err(|error| StreamError::Network(error.to_string()))
}

fn failure(error: SourceError) -> StreamError {
    match error {
        SourceError::InvalidStatusCode(status, _) => StreamError::Status(status),
        SourceError::StreamEnded => StreamError::Network("stream ended".to_owned()),
        SourceError::Transport(error) => StreamError::Network(chain(&error.without_url())),
        SourceError::Utf8(error) => StreamError::Network(error.to_string()),
        other => StreamError::Network(other.to_string()),
    }
}

/// An error with its causes on one line: the outermost text of HTTP libraries says little.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// Percent-encodes what a query value cannot hold.
fn form_urlencoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(char::from(byte)),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}
