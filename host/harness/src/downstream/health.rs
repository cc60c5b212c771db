//! `GET /health`, as the vendor's relay of the version that is stood in for shows it (section 4.11 of the compatibility
//! page): version 2 for a proxy key, version 1 for everything else.
//!
//! Differs from version 1 on purpose where nothing can be served: the status is 503 then, so that an instance without
//! data gets no traffic. Version 2 answers 500 by itself.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde::Serialize;

use super::rejection::{error, json_body};
use super::state::Downstream;
use crate::config::Source;
use crate::environments::{Connection, HarnessEnvironment, StreamState};

/// The answer of version 1. Version 2 has no list; here it has one, for operators.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Health {
    #[serde(skip_serializing_if = "Option::is_none")]
    config_status: Option<State2>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream_status: Option<State2>,
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
    /// Unix seconds.
    since: u64,
}

/// A state of version 2.
#[derive(Serialize)]
struct State2 {
    state: &'static str,
    /// Unix milliseconds.
    since: u64,
}

pub(super) async fn health(State(downstream): State<Downstream>) -> Response {
    let all = downstream.environments.all();
    let is_served = all.iter().any(|it| it.data.has_data());
    let is_version_2 = matches!(downstream.config.source, Source::ProxyKey(_));
    if is_version_2 && !is_served {
        return error(StatusCode::INTERNAL_SERVER_ERROR, "error", "internal error");
    }
    // One stream carries the changes of all environments of a proxy key.
    let stream = all.first().map(|it| it.stream()).filter(|_| is_version_2);
    let health = Health {
        config_status: stream.map(|_| State2 { state: "SYNCED", since: downstream.started_ms }),
        stream_status: stream.map(|it| State2 { state: as_str(it.connection), since: it.since * 1000 }),
        // Offline there are no streams to speak of.
        environments: if downstream.config.is_offline() { Vec::new() } else { all.iter().map(entry).collect() },
        cache_status: "healthy",
    };
    let mut body = serde_json::to_vec(&health).expect("text is always JSON");
    body.push(b'\n');
    let mut response = json_body(body);
    if !is_served {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    response
}

fn entry(environment: &Arc<HarnessEnvironment>) -> Entry {
    let StreamState { connection, since } = environment.stream();
    Entry { id: environment.identity.id.clone(), stream_status: StreamStatus { state: as_str(connection), since } }
}

fn as_str(connection: Connection) -> &'static str {
    match connection {
        Connection::Initializing => "INITIALIZING",
        Connection::Connected => "CONNECTED",
        Connection::Disconnected => "DISCONNECTED",
    }
}
