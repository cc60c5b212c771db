//! `GET /health`, with the body of version 2 of the vendor's relay for a proxy key and for read replicas, and of version 1
//! otherwise (F087, F088).
//!
//! This differs from version 1 on purpose while nothing can be served: the status is 503 then, so that an instance without
//! data gets no traffic. Version 2 responds with 500 itself.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde::Serialize;

use super::rejection::{error, json_body};
use super::state::Downstream;
use crate::config::Source;
use crate::environments::{Connection, HarnessEnvironment, StreamState};
use crate::shared_store::SharedStore;

/// The body of version 1. Version 2 has no list of environments; here it has one, for operators.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Health {
    #[serde(skip_serializing_if = "Option::is_none")]
    config_status: Option<V2State>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream_status: Option<V2State>,
    environments: Vec<EnvironmentHealth>,
    cache_status: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct EnvironmentHealth {
    id: String,
    stream_status: StreamStatus,
}

#[derive(Serialize)]
struct StreamStatus {
    state: &'static str,
    /// Unix seconds.
    since: u64,
}

/// A state in the body of version 2.
#[derive(Serialize)]
struct V2State {
    state: &'static str,
    /// Unix milliseconds.
    since: u64,
}

pub(super) async fn health(State(downstream): State<Arc<Downstream>>) -> Response {
    let all = downstream.environments.all();
    let is_served = all.iter().any(|it| it.data.has_data());
    let is_replica = downstream.config.is_replica();
    let is_version_2 = is_replica || matches!(downstream.config.source, Source::ProxyKey(_));
    if is_version_2 && !is_replica && !is_served {
        return error(StatusCode::INTERNAL_SERVER_ERROR, "error", "internal error");
    }
    // One stream carries the changes of all environments of a proxy key.
    let stream = all.first().map(|it| it.stream()).filter(|_| is_version_2);
    let config_state = if is_replica { "READ_REPLICA" } else { "SYNCED" };
    let is_cache_healthy = downstream.shared.as_ref().is_none_or(SharedStore::is_available);
    let health = Health {
        config_status: stream.map(|_| V2State { state: config_state, since: downstream.started_ms }),
        stream_status: stream.map(|it| V2State { state: as_str(it.connection), since: it.since * 1000 }),
        // Offline there are no upstream streams.
        environments: if downstream.config.is_offline() { Vec::new() } else { all.iter().map(entry).collect() },
        cache_status: if is_cache_healthy { "healthy" } else { "unhealthy" },
    };
    let mut body = serde_json::to_vec(&health).expect("text is always JSON");
    body.push(b'\n');
    let mut response = json_body(body);
    if !is_served {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    response
}

fn entry(environment: &Arc<HarnessEnvironment>) -> EnvironmentHealth {
    let StreamState { connection, since } = environment.stream();
    EnvironmentHealth {
        id: environment.identity.id.clone(),
        stream_status: StreamStatus { state: as_str(connection), since },
    }
}

fn as_str(connection: Connection) -> &'static str {
    match connection {
        Connection::Initializing => "INITIALIZING",
        Connection::Connected => "CONNECTED",
        Connection::Disconnected => "DISCONNECTED",
    }
}
