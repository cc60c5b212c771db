//! Requests for the upstream stream, and its events.

use http::HeaderValue;
use yardarm_core::supervisor::blocking;
use yardarm_vendor::upstream::{self as outbound, ConnectionError, Event, Events};

use crate::data::message::{self, Message};
use crate::identity::SdkKey;
use crate::upstream::HttpClients;

/// Builds requests for the stream.
#[derive(Clone)]
pub(super) struct Requests {
    pub(super) http: HttpClients,
    pub(super) url: String,
    pub(super) instance_id: String,
    pub(super) last_event_id: Option<HeaderValue>,
}

impl Requests {
    pub(super) async fn open(self, key: SdkKey) -> Result<Events, ConnectionError> {
        let mut request = self
            .http
            .streams
            .get(&self.url)
            .header("authorization", key.expose())
            .header("cache-control", "no-cache")
            .header("x-launchdarkly-instance-id", &self.instance_id);
        if let Some(id) = self.last_event_id {
            request = request.header("last-event-id", id);
        }
        outbound::open(request, self.http.read_timeout).await
    }
}

pub(super) async fn parse(event: Event) -> Result<Message, ConnectionError> {
    let Event { event: name, data, .. } = event;
    let parse = {
        let name = name.clone();
        move || message::parse(&name, &data)
    };
    // Megabytes of JSON take milliseconds, so they are parsed off the serving threads.
    let parsed = blocking("upstream parser", parse).await.map_err(|it| ConnectionError::Network(it.to_string()))?;
    parsed.map_err(|error| ConnectionError::message(&name, error.to_string()))
}

/// Percent-encodes a query value.
pub(super) fn form_urlencoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(char::from(byte)),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}
