//! One event stream: opened, read, and judged when it ends.

use eventsource_stream::{Event, EventStreamError, Eventsource};
use futures_util::{Stream, StreamExt};
use http::StatusCode;
use reqwest_eventsource::{Error as SourceError, Event as SourceEvent, EventSource, retry};
use std::pin::Pin;
use yardarm_core::status::ErrorKind;

/// Events of an open connection.
pub type Events = Pin<Box<dyn Stream<Item = Result<Event, ConnectionError>> + Send>>;

/// Why there is no connection, or none any more.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// The connection could not be made or broke.
    #[error("connection failed: {0}")]
    Network(String),
    /// It was answered with another status than success.
    #[error("stream answered {0}")]
    Status(StatusCode),
    /// It said something that cannot be used.
    #[error("`{event}` event: {problem}; restarting the stream")]
    Message {
        /// Name of the event.
        event: String,
        /// What is wrong with it.
        problem: String,
    },
}

/// Sends `request` and waits for the head of the answer.
///
/// # Errors
/// When there is no connection, or the answer is no stream.
pub async fn open(request: reqwest::RequestBuilder) -> Result<Events, ConnectionError> {
    let Ok(mut source) = EventSource::new(request) else {
        return Err(ConnectionError::Network("the request cannot be repeated".to_owned()));
    };
    // Reconnecting is ours: the state, the jitter and the two curves are part of the protocol.
    source.set_retry_policy(Box::new(retry::Never));
    match source.next().await {
        Some(Ok(SourceEvent::Open)) => Ok(Box::pin(source.filter_map(|it| async { from_source(it) }))),
        // Vendors' own relays do not look at the content type, so a service that sends none still works.
        Some(Err(SourceError::InvalidContentType(_, response))) => {
            Ok(Box::pin(response.bytes_stream().eventsource().map(from_stream)))
        }
        Some(Err(error)) => Err(failure(error)),
        Some(Ok(SourceEvent::Message(_))) | None => Err(ConnectionError::Network("stream ended".to_owned())),
    }
}

impl ConnectionError {
    /// The kind for the status, and whether it does not heal by itself.
    #[must_use]
    pub fn kind(&self) -> (ErrorKind, bool) {
        match self {
            Self::Network(_) => (ErrorKind::Network, false),
            Self::Message { .. } => (ErrorKind::InvalidData, false),
            Self::Status(status) => (ErrorKind::Response(status.as_u16()), self.is_rejection()),
        }
    }

    /// Whether trying again soon would be of no use.
    #[must_use]
    pub fn is_rejection(&self) -> bool {
        matches!(self, Self::Status(it) if is_rejection(*it))
    }
}

/// Statuses that do not heal by themselves: every 4xx but these three.
#[must_use]
pub fn is_rejection(status: StatusCode) -> bool {
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
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
