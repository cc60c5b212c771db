//! FDv2: objects are transferred by poll and by stream, in states that clients continue from.

use std::collections::{BTreeMap, HashMap, VecDeque};

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::StreamExt;
use http::header::CONTENT_TYPE;
use http::{StatusCode, Uri};
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};
use tokio::sync::broadcast;
use tokio_stream::wrappers::BroadcastStream;

use super::{Environment, FakeLaunchDarkly, Sent, event};

/// Path of polls.
const POLL: &str = "/sdk/poll";
/// Path of streams.
const STREAM: &str = "/sdk/stream";

/// States of one environment, and how they follow each other.
pub(super) struct States {
    /// Number of the present state.
    version: u64,
    /// Number of the state that the oldest change leads from.
    oldest: u64,
    /// Events of changes, each with the number of the state that it is a part of.
    changes: Vec<(u64, &'static str, Value)>,
    streams: broadcast::Sender<Sent>,
}

/// Scripted responses.
#[derive(Default)]
pub(super) struct Script {
    next: HashMap<String, VecDeque<TransferAnswer>>,
    /// Status of every stream request.
    stream_refusal: Option<u16>,
}

/// The response to an FDv2 request.
#[derive(Debug, Clone)]
pub struct TransferAnswer {
    /// The status. Other statuses than 200 have no body.
    pub status: u16,
    /// Further headers.
    pub headers: Vec<(&'static str, String)>,
    /// The body of a poll, or the first bytes of a stream, in place of the usual ones.
    pub body: Option<String>,
}

impl TransferAnswer {
    /// A response with this status.
    #[must_use]
    pub fn status(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: None }
    }

    /// A 200 with these first bytes.
    #[must_use]
    pub fn body(body: impl Into<String>) -> Self {
        Self { body: Some(body.into()), ..Self::status(200) }
    }

    /// The same with one more header.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

impl FakeLaunchDarkly {
    /// Answers the next requests to `/sdk/poll` or `/sdk/stream` in this way, one each.
    pub fn answers_transfers_with(&self, path: &str, answers: impl IntoIterator<Item = TransferAnswer>) {
        self.lock().transfers.next.entry(path.to_owned()).or_default().extend(answers);
    }

    /// Answers every request to `/sdk/stream` with this status, until `None`, and ends the open streams.
    pub fn refuses_transfer_streams(&self, status: Option<u16>) {
        let mut cloud = self.lock();
        cloud.transfers.stream_refusal = status;
        cloud.environments.values().filter(|_| status.is_some()).for_each(|it| it.states.close());
    }

    /// Changes several flags in one change set of FDv2, and one by one in FDv1.
    ///
    /// # Panics
    /// When a flag has no key.
    pub fn patches_together(&self, sdk_key: &str, flags: &[Value]) {
        self.with(sdk_key, |environment| {
            let mut changes = Vec::new();
            for flag in flags {
                let key = flag["key"].as_str().expect("a flag has a key").to_owned();
                environment.send(event("patch", &json!({"path": format!("/flags/{key}"), "data": flag})));
                environment.flags.insert(key.clone(), flag.clone());
                changes.push(("flag", key, Some(flag.clone())));
            }
            environment.states.change(changes);
        });
    }

    /// Sends bytes unchanged on open FDv2 streams.
    pub fn sends_transfer_bytes(&self, sdk_key: &str, bytes: impl AsRef<[u8]>) {
        self.with(sdk_key, |environment| environment.states.send(Bytes::copy_from_slice(bytes.as_ref())));
    }

    /// Returns the number of open FDv2 streams.
    #[must_use]
    pub fn open_transfer_streams(&self, sdk_key: &str) -> usize {
        self.lock().environments.get(sdk_key).map_or(0, |it| it.states.streams.receiver_count())
    }

    /// Returns the name of the present state.
    #[must_use]
    pub fn state(&self, sdk_key: &str) -> String {
        self.lock().environments.get(sdk_key).map(|it| it.states.name()).unwrap_or_default()
    }
}

impl Default for States {
    fn default() -> Self {
        Self { version: 0, oldest: 0, changes: Vec::new(), streams: broadcast::channel(4096).0 }
    }
}

impl States {
    fn name(&self) -> String {
        format!("(p:fake:{})", self.version)
    }

    /// Enters a state with other objects.
    pub(super) fn replace(&mut self, flags: &BTreeMap<String, Value>, segments: &BTreeMap<String, Value>) {
        self.version += 1;
        self.oldest = self.version;
        self.changes.clear();
        self.send(sse(&self.everything(flags, segments)));
    }

    /// Enters a state in which objects have changed: kind, key, and the object or nothing for a deleted one.
    pub(super) fn change(&mut self, changes: Vec<(&'static str, String, Option<Value>)>) {
        self.version += 1;
        let version = self.version;
        let mut events: Vec<_> = changes
            .into_iter()
            .map(|(kind, key, object)| match object {
                Some(it) => ("put-object", json!({"version": version, "kind": kind, "key": key, "object": it})),
                None => ("delete-object", json!({"version": version, "kind": kind, "key": key})),
            })
            .collect();
        self.changes.extend(events.iter().map(|(name, data)| (version, *name, data.clone())));
        events.push(self.end());
        self.send(sse(&events));
    }

    pub(super) fn close(&self) {
        let _ = self.streams.send(Sent::Close);
    }

    fn send(&self, bytes: Bytes) {
        // It is fine if no stream is open.
        let _ = self.streams.send(Sent::Bytes(bytes));
    }

    /// The events for a client in the state `basis`.
    fn events(&self, basis: &str, environment: &Environment) -> Vec<(&'static str, Value)> {
        let number = basis.strip_prefix("(p:fake:").and_then(|it| it.strip_suffix(')')?.parse::<u64>().ok());
        match number {
            Some(number) if number == self.version => vec![self.intent("none", "up-to-date")],
            Some(number) if (self.oldest..self.version).contains(&number) => {
                let mut events = vec![self.intent("xfer-changes", "stale")];
                let later = self.changes.iter().filter(|it| it.0 > number);
                events.extend(later.map(|(_, name, data)| (*name, data.clone())));
                events.push(self.end());
                events
            }
            _ => self.everything(&environment.flags, &environment.segments),
        }
    }

    fn everything(
        &self,
        flags: &BTreeMap<String, Value>,
        segments: &BTreeMap<String, Value>,
    ) -> Vec<(&'static str, Value)> {
        let put = |kind: &str, (key, object): (&String, &Value)| {
            ("put-object", json!({"version": self.version, "kind": kind, "key": key, "object": object}))
        };
        let mut events = vec![self.intent("xfer-full", "payload-missing")];
        events.extend(segments.iter().map(|it| put("segment", it)));
        events.extend(flags.iter().map(|it| put("flag", it)));
        events.push(self.end());
        events
    }

    fn intent(&self, code: &str, reason: &str) -> (&'static str, Value) {
        let payload = json!({"id": "fake", "target": self.version, "intentCode": code, "reason": reason});
        ("server-intent", json!({"payloads": [payload]}))
    }

    fn end(&self) -> (&'static str, Value) {
        ("payload-transferred", json!({"state": self.name(), "version": self.version}))
    }
}

/// Answers a request to one of the two paths.
pub(super) fn answer(cloud: &FakeLaunchDarkly, credential: &str, uri: &Uri) -> Response {
    let mut locked = cloud.lock();
    let path = if uri.path().ends_with(POLL) { POLL } else { STREAM };
    let scripted = locked.transfers.next.get_mut(path).and_then(VecDeque::pop_front);
    let refusal = locked.transfers.stream_refusal.filter(|_| path == STREAM);
    let refusal = refusal.or(locked.is_down.then_some(503)).filter(|_| scripted.is_none());
    let scripted = scripted.unwrap_or_else(|| TransferAnswer::status(refusal.unwrap_or(200)));
    let respond = |content_type: &str, body: Body| {
        let mut response = Response::builder().status(scripted.status).header(CONTENT_TYPE, content_type);
        for (name, value) in &scripted.headers {
            response = response.header(*name, value);
        }
        response.body(body).unwrap_or_else(|_| StatusCode::INTERNAL_SERVER_ERROR.into_response())
    };
    if scripted.status != 200 {
        return respond("text/plain", Body::empty());
    }
    let Some(environment) = locked.environments.get(credential) else {
        return StatusCode::UNAUTHORIZED.into_response();
    };
    let basis = uri.query().unwrap_or_default().split('&').find_map(|it| it.strip_prefix("basis="));
    let basis = basis.map(|it| percent_decode_str(it).decode_utf8_lossy().into_owned()).unwrap_or_default();
    let events = if environment.has_data { environment.states.events(&basis, environment) } else { Vec::new() };
    if path == POLL {
        let events: Vec<_> = events.into_iter().map(|(name, data)| json!({"event": name, "data": data})).collect();
        let body = scripted.body.clone().unwrap_or_else(|| json!({"events": events}).to_string());
        return respond("application/json", body.into());
    }
    let first = scripted.body.clone().map_or_else(|| sse(&events), Bytes::from);
    let later = BroadcastStream::new(environment.states.streams.subscribe()).map(|sent| sent.unwrap_or(Sent::Close));
    let bytes = futures_util::stream::iter([Sent::Bytes(first)]).chain(later).scan((), |(), sent| async {
        match sent {
            Sent::Bytes(bytes) => Some(Ok::<_, std::convert::Infallible>(bytes)),
            Sent::Close => None,
        }
    });
    respond("text/event-stream", Body::from_stream(bytes))
}

fn sse(events: &[(&'static str, Value)]) -> Bytes {
    events.iter().flat_map(|(name, data)| event(name, data)).collect()
}
