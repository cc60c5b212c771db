//! One event stream from the vendor: opened, read, and judged when it ends.

use std::pin::Pin;
use std::time::Duration;

use eventsource_stream::{Event, EventStreamError, Eventsource};
use futures_util::{Stream, StreamExt};
use http::StatusCode;
use reqwest_eventsource::{Error as SourceError, Event as SourceEvent, EventSource, retry};
use tokio::time::Instant;
use yardarm_core::Backoff;
use yardarm_core::status::ErrorKind;

/// A connection that was good for this long starts its backoff anew.
const HEALTHY: Duration = Duration::from_secs(60);

/// Events of an open connection.
pub(crate) type Events = Pin<Box<dyn Stream<Item = Result<Event, ConnectionError>> + Send>>;

/// Why there is no connection, or none any more.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectionError {
    #[error("connection failed: {0}")]
    Network(String),
    #[error("stream answered {0}")]
    Status(StatusCode),
    /// It said something that cannot be used.
    #[error("`{event}` event: {problem}; restarting the stream")]
    Message { event: String, problem: String },
}

/// How soon to try again: at once slowly growing, and seldom for keys that the vendor rejects, because that may heal
/// but asking often would be rude.
pub(crate) struct Pace {
    usual: Backoff,
    rejected: Backoff,
    is_rejected: bool,
    healthy_since: Option<Instant>,
}

/// Sends `request` and waits for the head of the answer.
pub(crate) async fn open(request: reqwest::RequestBuilder) -> Result<Events, ConnectionError> {
    let Ok(mut source) = EventSource::new(request) else {
        return Err(ConnectionError::Network("the request cannot be repeated".to_owned()));
    };
    // Reconnecting is ours: the state, the jitter and the two curves are part of the protocol.
    source.set_retry_policy(Box::new(retry::Never));
    match source.next().await {
        Some(Ok(SourceEvent::Open)) => Ok(Box::pin(source.filter_map(|it| async { from_source(it) }))),
        // The reference does not look at the content type, so a service that sends none still works.
        Some(Err(SourceError::InvalidContentType(_, response))) => {
            Ok(Box::pin(response.bytes_stream().eventsource().map(from_stream)))
        }
        Some(Err(error)) => Err(failure(error)),
        Some(Ok(SourceEvent::Message(_))) | None => Err(ConnectionError::Network("stream ended".to_owned())),
    }
}

impl ConnectionError {
    /// The kind for the status, and whether it does not heal by itself.
    pub(crate) fn kind(&self) -> (ErrorKind, bool) {
        match self {
            Self::Network(_) => (ErrorKind::Network, false),
            Self::Message { .. } => (ErrorKind::InvalidData, false),
            Self::Status(status) => (ErrorKind::Response(status.as_u16()), self.is_rejection()),
        }
    }

    /// Whether trying again soon would be of no use.
    pub(crate) fn is_rejection(&self) -> bool {
        matches!(self, Self::Status(it) if is_rejection(*it))
    }
}

impl Pace {
    /// The usual curve, and one that begins with `rejected` for keys that were rejected.
    pub(crate) fn new(rejected: Duration) -> Self {
        Self {
            usual: Backoff::literal(Duration::from_secs(1), Duration::from_secs(30)),
            rejected: Backoff::literal(rejected, rejected.saturating_mul(12)),
            is_rejected: false,
            healthy_since: None,
        }
    }

    /// A connection is being opened.
    pub(crate) fn connecting(&mut self) {
        self.healthy_since = None;
    }

    /// The connection said something useful.
    pub(crate) fn is_healthy(&mut self) {
        self.healthy_since.get_or_insert_with(Instant::now);
    }

    /// The service asked for another first delay.
    pub(crate) fn rebase(&mut self, base: Duration) {
        self.usual.rebase(base);
    }

    /// A new key starts anew.
    pub(crate) fn reset(&mut self) {
        self.usual.reset();
        self.rejected.reset();
        self.is_rejected = false;
    }

    /// How long to wait after `error`.
    pub(crate) fn delay_after(&mut self, error: &ConnectionError) -> Duration {
        if self.healthy_since.is_some_and(|since| since.elapsed() >= HEALTHY) {
            self.reset();
        }
        // Stays so until a connection was good for a while, also if the next failure is an ordinary one.
        self.is_rejected |= error.is_rejection();
        if self.is_rejected { self.rejected.next_delay() } else { self.usual.next_delay() }
    }
}

/// Statuses that do not heal by themselves: every 4xx but these three.
pub(crate) fn is_rejection(status: StatusCode) -> bool {
    status.is_client_error() && !matches!(status.as_u16(), 400 | 408 | 429)
}

fn from_source(item: Result<SourceEvent, SourceError>) -> Option<Result<Event, ConnectionError>> {
    match item {
        Ok(SourceEvent::Open) => None,
        Ok(SourceEvent::Message(event)) => Some(Ok(event)),
        Err(error) => Some(Err(failure(error))),
    }
}

fn from_stream(item: Result<Event, EventStreamError<reqwest::Error>>) -> Result<Event, ConnectionError> {
    item.map_err(|error| ConnectionError::Network(error.to_string()))
}

fn failure(error: SourceError) -> ConnectionError {
    match error {
        SourceError::InvalidStatusCode(status, _) => ConnectionError::Status(status),
        SourceError::StreamEnded => ConnectionError::Network("stream ended".to_owned()),
        SourceError::Transport(error) => ConnectionError::Network(chain(&error.without_url())),
        SourceError::Utf8(error) => ConnectionError::Network(error.to_string()),
        other => ConnectionError::Network(other.to_string()),
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
