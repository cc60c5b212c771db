//! An event stream: opening and reading it, and classifying its end.

use std::pin::Pin;
use std::time::Duration;

use eventsource_stream::{Event, EventKind, EventStreamError, Eventsource, MAX_ID_SIZE};
use futures_util::{Stream, StreamExt};
use http::{HeaderValue, StatusCode};
use reqwest::RequestBuilder;
use reqwest_eventsource::{Error as SourceError, Event as SourceEvent, EventSource, retry};
use tokio::time::Instant;
use yardarm_core::InternalError;
use yardarm_core::status::ErrorKind;

use super::network_error::NetworkError;
use super::redirect::{self, MAX_REDIRECTS, RedirectError, SendError};

/// Maximum length of a text from upstream in errors, in characters.
const SHOWN: usize = 200;

/// Messages of an open connection.
pub struct Events {
    source: Pin<Box<dyn Stream<Item = Result<Event, ConnectionError>> + Send>>,
    /// Time without a message or comment after which the connection counts as dead.
    silence: Duration,
    /// When the last message or comment arrived.
    alive_at: Instant,
    has_heartbeat: bool,
    reconnection_time: Option<Duration>,
    last_event_id: String,
}

/// Why a connection could not be opened, or has ended.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// The connection could not be opened or broke.
    #[error("connection failed: {0}")]
    Network(#[from] NetworkError),
    /// The connection was given up, for a reason that is not an error.
    #[error("connection closed: {0}")]
    Closed(&'static str),
    /// A panic while the connection was read.
    #[error(transparent)]
    Internal(#[from] InternalError),
    /// The response has another status than success.
    #[error("stream answered {0}")]
    Status(StatusCode),
    /// The service redirected to an address that is not followed.
    #[error("stream {0}")]
    Redirect(#[from] RedirectError),
    /// The response is not a usable event stream.
    #[error("unusable event stream: {0}; restarting the stream")]
    Protocol(String),
    /// An invalid event arrived.
    #[error("`{event}` event: {problem}; restarting the stream")]
    Message {
        /// Name of the event, shortened.
        event: String,
        /// Why the event is invalid.
        problem: String,
    },
}

/// Sends `request` and waits for the head of the response. Follows redirects to the same host.
///
/// A connection without a message or comment for `silence` counts as dead. Other bytes do not keep it alive.
///
/// # Errors
/// When the connection fails, or the response is not an event stream.
pub async fn open(mut request: RequestBuilder, silence: Duration) -> Result<Events, ConnectionError> {
    for _ in 0..=MAX_REDIRECTS {
        let again = request.try_clone().ok_or(NetworkError::NotRepeatable)?;
        let mut source = EventSource::new(request).map_err(|_| NetworkError::NotRepeatable)?;
        // Reconnects are handled by the caller: the state, the jitter and the two backoff curves are part of the
        // protocol.
        source.set_retry_policy(Box::new(retry::Never));
        let source: Pin<Box<dyn Stream<Item = _> + Send>> = match source.next().await {
            Some(Ok(SourceEvent::Open)) => Box::pin(source.filter_map(|it| async { from_source(it) })),
            // The vendors' own relays ignore the content type, so a service that sends none must work here as well.
            Some(Err(SourceError::InvalidContentType(_, response))) => {
                Box::pin(response.bytes_stream().eventsource().map(from_stream))
            }
            Some(Err(SourceError::InvalidStatusCode(status, response))) if redirect::is_redirect(status) => {
                request = redirect::follow(again, &response)?;
                continue;
            }
            Some(Err(error)) => return Err(failure(error)),
            Some(Ok(SourceEvent::Message(_))) | None => return Err(ended()),
        };
        return Ok(Events::new(source, silence));
    }
    Err(RedirectError::TooMany.into())
}

impl Events {
    /// Creates the events of a response whose status was checked. For protocols with facts in the head of the response;
    /// others use [`open`].
    #[must_use]
    pub fn of_response(response: reqwest::Response, silence: Duration) -> Self {
        Self::new(Box::pin(response.bytes_stream().eventsource().map(from_stream)), silence)
    }

    fn new(source: Pin<Box<dyn Stream<Item = Result<Event, ConnectionError>> + Send>>, silence: Duration) -> Self {
        Self {
            source,
            silence,
            alive_at: Instant::now(),
            has_heartbeat: false,
            reconnection_time: None,
            last_event_id: String::new(),
        }
    }

    /// Waits for the next message. Cancel safe.
    ///
    /// # Errors
    /// When the connection has ended, for whatever reason.
    pub async fn next(&mut self) -> Result<Event, ConnectionError> {
        loop {
            let deadline = self.alive_at + self.silence;
            let event = match tokio::time::timeout_at(deadline, self.source.next()).await {
                Ok(Some(event)) => event?,
                Ok(None) => return Err(ended()),
                Err(_) => return Err(NetworkError::Silent(self.silence).into()),
            };
            self.reconnection_time = event.retry.or(self.reconnection_time);
            if self.last_event_id != event.id {
                self.last_event_id.clone_from(&event.id);
            }
            match event.kind {
                EventKind::Settings => continue,
                EventKind::Comment => self.has_heartbeat = true,
                EventKind::Progress | EventKind::Message => (),
            }
            self.alive_at = Instant::now();
            if event.kind == EventKind::Message {
                return Ok(event);
            }
        }
    }

    /// Returns whether a comment has arrived, which services send to show that an idle connection works.
    #[must_use]
    pub fn has_heartbeat(&self) -> bool {
        self.has_heartbeat
    }

    /// Takes the reconnect delay that the service requested since the last call, if any.
    pub fn take_reconnection_time(&mut self) -> Option<Duration> {
        self.reconnection_time.take()
    }

    /// Returns the last event ID for the next request; `None` if there is none, or it is not a valid header value.
    #[must_use]
    pub fn last_event_id(&self) -> Option<HeaderValue> {
        let id = self.last_event_id.as_bytes();
        HeaderValue::from_bytes(id).ok().filter(|_| (1..=MAX_ID_SIZE).contains(&id.len()))
    }
}

impl ConnectionError {
    /// Creates the error for an invalid event.
    #[must_use]
    pub fn message(event: &str, problem: impl Into<String>) -> Self {
        Self::Message { event: shortened(event), problem: problem.into() }
    }

    /// Returns the kind for the status, and whether the error is permanent.
    #[must_use]
    pub fn kind(&self) -> (ErrorKind, bool) {
        match self {
            Self::Network(_) | Self::Closed(_) => (ErrorKind::Network, false),
            Self::Internal(_) => (ErrorKind::Unknown, false),
            Self::Protocol(_) | Self::Message { .. } => (ErrorKind::InvalidData, false),
            Self::Redirect(error) => (ErrorKind::Response(error.status()), false),
            Self::Status(status) => (ErrorKind::Response(status.as_u16()), self.is_rejection()),
        }
    }

    /// Returns whether retrying soon is pointless.
    #[must_use]
    pub fn is_rejection(&self) -> bool {
        matches!(self, Self::Status(it) if is_rejection(*it))
    }
}

impl From<SendError> for ConnectionError {
    fn from(error: SendError) -> Self {
        match error {
            SendError::Network(error) => error.into(),
            SendError::Redirect(error) => error.into(),
        }
    }
}

/// Returns whether a status is permanent: every 4xx but these three.
#[must_use]
pub fn is_rejection(status: StatusCode) -> bool {
    status.is_client_error() && !matches!(status.as_u16(), 400 | 408 | 429)
}

/// Shortens a text from upstream for logs and status: no control characters, at most 200 characters.
#[must_use]
pub fn shortened(text: &str) -> String {
    let mut shown: String = text.chars().take(SHOWN).flat_map(char::escape_debug).collect();
    if text.chars().nth(SHOWN).is_some() {
        shown.push('…');
    }
    shown
}

fn ended() -> ConnectionError {
    NetworkError::Ended.into()
}

fn from_source(item: Result<SourceEvent, SourceError>) -> Option<Result<Event, ConnectionError>> {
    match item {
        Ok(SourceEvent::Open) => None,
        Ok(SourceEvent::Message(event)) => Some(Ok(event)),
        Err(error) => Some(Err(failure(error))),
    }
}

fn from_stream(item: Result<Event, EventStreamError<reqwest::Error>>) -> Result<Event, ConnectionError> {
    item.map_err(|error| failure(error.into()))
}

fn failure(error: SourceError) -> ConnectionError {
    match error {
        SourceError::InvalidStatusCode(status, _) => ConnectionError::Status(status),
        SourceError::StreamEnded => ended(),
        SourceError::Transport(error) => NetworkError::from(error).into(),
        SourceError::Parser(error) => ConnectionError::Protocol(error.input),
        other => NetworkError::EventSource(Box::new(other)).into(),
    }
}

/// Formats an error with its causes on one line: the outermost message of HTTP libraries is rarely informative.
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

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::*;

    fn events(all: Vec<Event>) -> Events {
        let source = stream::iter(all.into_iter().map(Ok)).chain(stream::pending());
        Events::new(Box::pin(source), Duration::from_secs(10))
    }

    fn event(kind: EventKind, id: &str) -> Event {
        Event { kind, id: id.to_owned(), ..Event::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn only_messages_are_returned_and_other_events_update_the_state() {
        let retry = Event { retry: Some(Duration::from_secs(7)), ..event(EventKind::Settings, "") };
        let mut events = events(vec![retry, event(EventKind::Settings, "5"), event(EventKind::Message, "5")]);
        assert_eq!(events.next().await.unwrap().kind, EventKind::Message);
        assert_eq!(events.take_reconnection_time(), Some(Duration::from_secs(7)));
        assert_eq!(events.take_reconnection_time(), None);
        assert_eq!(events.last_event_id().unwrap(), "5");
        assert!(!events.has_heartbeat());
    }

    #[tokio::test(start_paused = true)]
    async fn only_events_and_comments_keep_a_connection_alive() {
        let started = Instant::now();
        let pause = |event| async move {
            tokio::time::sleep(Duration::from_secs(6)).await;
            Ok(event)
        };
        for (kind, lasts) in [(EventKind::Settings, 10), (EventKind::Comment, 28), (EventKind::Progress, 28)] {
            let three = stream::iter(vec![event(kind, ""); 3]).then(pause).chain(stream::pending());
            let mut events = Events::new(Box::pin(three), Duration::from_secs(10));
            let opened = Instant::now();
            let error = events.next().await.unwrap_err();
            assert_eq!(error.to_string(), "connection failed: no event and no comment for 10 s");
            assert_eq!(opened.elapsed().as_secs(), lasts, "{kind:?}");
            assert_eq!(events.has_heartbeat(), kind == EventKind::Comment);
        }
        assert!(started.elapsed() > Duration::from_secs(60));
    }

    #[tokio::test(start_paused = true)]
    async fn an_id_that_fits_in_no_header_is_not_sent() {
        for (id, is_sent) in [("", false), ("a\u{1}b", false), ("\u{7f}", false), ("7", true), ("é\u{fffd}", true)] {
            let mut events = events(vec![event(EventKind::Message, id)]);
            events.next().await.unwrap();
            assert_eq!(events.last_event_id().is_some(), is_sent, "{id:?}");
        }
        let mut events = events(vec![event(EventKind::Message, &"x".repeat(MAX_ID_SIZE + 1))]);
        events.next().await.unwrap();
        assert_eq!(events.last_event_id(), None);
    }

    #[test]
    fn an_event_that_is_too_large_is_invalid_data() {
        let error = from_stream(Err(eventsource_stream::EventTooLarge { limit: 128 << 20 }.into())).unwrap_err();
        assert_eq!(error.to_string(), "unusable event stream: event larger than 128 MiB; restarting the stream");
        assert_eq!(error.kind(), (ErrorKind::InvalidData, false));
    }

    #[test]
    fn names_of_events_are_shown_shortened() {
        let error = ConnectionError::message(&format!("a\u{1b}{}", "x".repeat(1000)), "no JSON");
        let expected = format!("`a\\u{{1b}}{}…` event: no JSON; restarting the stream", "x".repeat(198));
        assert_eq!(error.to_string(), expected);
    }
}
