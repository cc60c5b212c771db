//! The two services for Big Segments: revisions to poll, and a stream of them.

use std::collections::HashMap;

use axum::body::Body;
use axum::extract::Query;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::StreamExt;
use http::header::CONTENT_TYPE;
use http::{StatusCode, Uri};
use serde_json::{Value, json};
use tokio::sync::broadcast;
use tokio_stream::wrappers::BroadcastStream;

use super::{FakeLaunchDarkly, Sent};

/// Maximum number of revisions in the response to one poll.
const PAGE: usize = 2;

/// Revisions of one environment.
pub(super) struct Revisions {
    /// In order; each follows the one before it.
    all: Vec<Value>,
    streams: broadcast::Sender<Sent>,
    /// Status of every response, while requests are rejected.
    refusal: Option<StatusCode>,
}

impl Default for Revisions {
    fn default() -> Self {
        Self { all: Vec::new(), streams: broadcast::channel(64).0, refusal: None }
    }
}

impl FakeLaunchDarkly {
    /// Publishes a revision in polls and on open streams.
    pub fn revises(&self, sdk_key: &str, patch: &Value) {
        self.revises_silently(sdk_key, patch);
        self.sends_revision_event(sdk_key, &json!([patch]));
    }

    /// Publishes a revision in polls only.
    pub fn revises_silently(&self, sdk_key: &str, patch: &Value) {
        self.lock().big_segments.entry(sdk_key.to_owned()).or_default().all.push(patch.clone());
    }

    /// Sends data on open streams of revisions, without publishing it.
    pub fn sends_revision_event(&self, sdk_key: &str, data: &Value) {
        // The name of the event is arbitrary.
        self.sends_to_revision_streams(sdk_key, format!("event: whatever\ndata: {data}\n\n"));
    }

    /// Sends bytes unchanged on open streams of revisions.
    pub fn sends_to_revision_streams(&self, sdk_key: &str, bytes: impl Into<Bytes>) {
        let mut locked = self.lock();
        let revisions = locked.big_segments.entry(sdk_key.to_owned()).or_default();
        // It is fine if no stream is open.
        let _ = revisions.streams.send(Sent::Bytes(bytes.into()));
    }

    /// Sets whether the services for Big Segments answer 503; if so, ends their streams.
    pub fn fails_revisions(&self, sdk_key: &str, is_down: bool) {
        self.refuses_revisions(sdk_key, is_down.then_some(503));
    }

    /// Sets the status with which the services for Big Segments reject every request, if they do; ends their streams.
    ///
    /// # Panics
    /// When it is not a valid status.
    pub fn refuses_revisions(&self, sdk_key: &str, status: Option<u16>) {
        let mut locked = self.lock();
        let revisions = locked.big_segments.entry(sdk_key.to_owned()).or_default();
        revisions.refusal = status.map(|it| StatusCode::from_u16(it).expect("a status"));
        if revisions.refusal.is_some() {
            let _ = revisions.streams.send(Sent::Close);
        }
    }

    /// Returns the number of open streams of revisions.
    #[must_use]
    pub fn open_revision_streams(&self, sdk_key: &str) -> usize {
        self.lock().big_segments.get(sdk_key).map_or(0, |it| it.streams.receiver_count())
    }

    /// Returns paths and queries of the requests for Big Segments, in order.
    #[must_use]
    pub fn revision_requests(&self) -> Vec<String> {
        self.requests().into_iter().map(|it| it.path).filter(|it| it.contains("/big-segments")).collect()
    }
}

pub(super) fn poll(cloud: &FakeLaunchDarkly, sdk_key: &str, uri: &Uri) -> Response {
    let mut locked = cloud.lock();
    if !locked.environments.contains_key(sdk_key) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let revisions = locked.big_segments.entry(sdk_key.to_owned()).or_default();
    if let Some(status) = revisions.refusal {
        return status.into_response();
    }
    let query = Query::<HashMap<String, String>>::try_from_uri(uri).map(|it| it.0).unwrap_or_default();
    let after = query.get("after").and_then(|after| revisions.all.iter().position(|it| it["version"] == **after));
    let rest = after.map_or(0, |index| index + 1);
    let page: Vec<_> = revisions.all[rest..].iter().take(PAGE).cloned().collect();
    ([(CONTENT_TYPE, "application/json")], Value::Array(page).to_string()).into_response()
}

pub(super) fn stream(cloud: &FakeLaunchDarkly, sdk_key: &str) -> Response {
    let mut locked = cloud.lock();
    if !locked.environments.contains_key(sdk_key) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let revisions = locked.big_segments.entry(sdk_key.to_owned()).or_default();
    if let Some(status) = revisions.refusal {
        return status.into_response();
    }
    let events = BroadcastStream::new(revisions.streams.subscribe());
    let bytes = events
        .map(|sent| match sent {
            Ok(Sent::Bytes(bytes)) => Some(Ok::<_, std::convert::Infallible>(bytes)),
            Ok(Sent::Close) | Err(_) => None,
        })
        .take_while(|sent| std::future::ready(sent.is_some()))
        .filter_map(std::future::ready);
    ([(CONTENT_TYPE, "text/event-stream")], Body::from_stream(bytes)).into_response()
}
