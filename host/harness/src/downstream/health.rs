//! `GET /health`, as the vendor's relay shows it (section 4.11 of the compatibility page).

use axum::extract::State;
use axum::response::Response;
use serde::Serialize;

use super::Downstream;
use super::rejection::json_body;
use crate::environments::Connection;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Health {
    environments: Vec<Entry>,
    cache_status: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    id: String,
    stream_status: StreamStatus,
}

#[derive(Serialize)]
struct StreamStatus {
    state: &'static str,
    since: u64,
}

pub(super) async fn health(State(downstream): State<Downstream>) -> Response {
    let entry = |it: &std::sync::Arc<crate::environments::HarnessEnvironment>| {
        let stream = it.stream();
        let state = match stream.connection {
            Connection::Initializing => "INITIALIZING",
            Connection::Connected => "CONNECTED",
            Connection::Disconnected => "DISCONNECTED",
        };
        Entry { id: it.identity.id.clone(), stream_status: StreamStatus { state, since: stream.since } }
    };
    // Offline there are no streams to speak of.
    let all = if downstream.config.is_offline() { Vec::new() } else { downstream.environments.all() };
    let environments = all.iter().map(entry).collect();
    let mut body = serde_json::to_vec(&Health { environments, cache_status: "healthy" }).expect("text is always JSON");
    body.push(b'\n');
    json_body(body)
}
