//! Event streams: `event: *`, one line of data, an empty line; each in its own chunk.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{iter, unfold};
use http::StatusCode;
use http::header::{CONNECTION, CONTENT_TYPE};
use serde_json::Value;
use tokio::sync::broadcast;

use super::token::Holder;
use super::{Cloud, FakeHarness, Sent, answers};

const HEARTBEAT: Bytes = Bytes::from_static(b":\n\n");

impl FakeHarness {
    /// Sends one event on the open streams of an environment, or of a proxy key. Nothing is stored.
    pub fn sends_event(&self, name: &str, event: &Value) {
        self.sends_bytes(name, Bytes::from(format!("event: *\ndata: {event}\n\n")));
    }

    /// Sends bytes unchanged, in one chunk, on the open streams of an environment, or of a proxy key.
    pub fn sends_bytes(&self, name: &str, bytes: impl Into<Bytes>) {
        self.sends(name, Sent::Bytes(bytes.into()));
    }

    /// Ends the open streams of an environment, or of a proxy key.
    pub fn closes_streams(&self, name: &str) {
        self.sends(name, Sent::Close);
    }

    /// Returns the number of open streams of an environment, or of a proxy key.
    #[must_use]
    pub fn open_streams(&self, name: &str) -> usize {
        self.lock().events(name).map_or(0, broadcast::Sender::receiver_count)
    }

    /// Makes streams opened from now on available at `/client/env/{id}/stream`, with `/stream` answered 404; or the
    /// other way round.
    pub fn lists_streams(&self, are_listed: bool) {
        self.lock().streams_are_listed = are_listed;
    }

    /// Sets the interval of heartbeats of streams opened from now on, the first of which is sent at once; `None`
    /// disables them.
    pub fn beats(&self, beat: Option<std::time::Duration>) {
        self.lock().beat = beat;
    }

    pub(super) fn sends_to_all(&self, id: &str, event: Option<Value>) {
        let Some(mut event) = event else { return };
        self.sends_event(id, &event);
        event["environment"] = id.into();
        let proxies = self.lock().proxies_of(id);
        for proxy in proxies {
            self.sends_event(&proxy, &event);
        }
    }

    fn sends(&self, name: &str, sent: Sent) {
        if let Some(events) = self.lock().events(name) {
            // It is fine if no stream is open.
            let _ = events.send(sent);
        }
    }
}

impl Cloud {
    fn events(&self, name: &str) -> Option<&broadcast::Sender<Sent>> {
        let environment = self.environments.get(name).map(|it| &it.events);
        environment.or_else(|| self.proxies.get(name).map(|it| &it.events))
    }

    pub(super) fn opens(&self, listed: Option<&str>, holder: Option<&Holder>, api_key: Option<&str>) -> Response {
        if listed.is_some() != self.streams_are_listed {
            return answers::error(StatusCode::NOT_FOUND, "no such path");
        }
        if self.streams_are_down {
            return answers::error(StatusCode::SERVICE_UNAVAILABLE, "streams are down");
        }
        // Token and key must match, and so must the path if it contains an ID.
        let name = match holder {
            Some(Holder::Environment(id)) if self.keys.get(api_key.unwrap_or_default()) == Some(id) => id,
            Some(Holder::Proxy(key)) if api_key == Some(key) => key,
            _ => return answers::error(StatusCode::UNAUTHORIZED, "not your stream"),
        };
        let is_here = |listed: &str| listed == name || self.proxies_of(listed).contains(name);
        let Some(events) = self.events(name).filter(|_| listed.is_none_or(is_here)) else {
            return answers::error(StatusCode::NOT_FOUND, "no such stream");
        };
        let beat = self.beat;
        let later = unfold(events.subscribe(), move |mut events| async move {
            let sent = match beat {
                Some(beat) => tokio::time::timeout(beat, events.recv()).await,
                None => Ok(events.recv().await),
            };
            let bytes = match sent {
                Err(_) => HEARTBEAT,
                Ok(Ok(Sent::Bytes(bytes))) => bytes,
                // A client that cannot keep up loses the connection, never a message midway.
                Ok(Ok(Sent::Close) | Err(_)) => return None,
            };
            Some((bytes, events))
        });
        let bytes = iter(beat.map(|_| HEARTBEAT)).chain(later).map(Ok::<_, std::convert::Infallible>);
        // The connection ends with the stream: the vendor's Python SDK detects nothing less.
        ([(CONTENT_TYPE, "text/event-stream"), (CONNECTION, "close")], Body::from_stream(bytes)).into_response()
    }
}
