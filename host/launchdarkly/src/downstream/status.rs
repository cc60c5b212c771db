//! `GET /status`, as LaunchDarkly's relay shows it.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::HeaderValue;
use http::header::CONTENT_TYPE;
use serde::Serialize;
use yardarm_core::status::{Connection, ErrorKind};
use yardarm_core::time::unix_ms;

use super::Downstream;
use crate::credential::mask;
use crate::environments::{LdEnvironment, Phase};

/// Version of this program and of its LaunchDarkly side, which are one.
const VERSION: &str = env!("CARGO_PKG_VERSION");

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    environments: BTreeMap<String, Entry>,
    status: &'static str,
    version: &'static str,
    client_version: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    sdk_key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    env_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mobile_key: Option<String>,
    status: &'static str,
    connection_status: ConnectionStatus,
    data_store_status: StoreStatus,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ConnectionStatus {
    state: &'static str,
    state_since: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<LastError>,
}

#[derive(Serialize)]
struct LastError {
    kind: &'static str,
    time: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct StoreStatus {
    state: &'static str,
    state_since: u64,
}

pub(super) async fn status(State(downstream): State<Downstream>) -> Response {
    let limit = downstream.config.disconnected_status_time;
    let environments: BTreeMap<_, _> =
        downstream.environments.all().iter().map(|it| (it.label.name().to_string(), Entry::of(it, limit))).collect();
    let is_healthy = environments.values().all(|it| it.status == CONNECTED);
    let page = Page {
        environments,
        status: if is_healthy { "healthy" } else { "degraded" },
        version: VERSION,
        client_version: VERSION,
    };
    let body = serde_json::to_vec(&page).expect("text and numbers are always JSON");
    // 200 in any case: operators' dashboards read the body, and probes have their own endpoints.
    ([(CONTENT_TYPE, HeaderValue::from_static("application/json"))], body).into_response()
}

const CONNECTED: &str = "connected";

impl Entry {
    fn of(environment: &LdEnvironment, limit: Duration) -> Self {
        let config = &environment.config;
        let report = environment.status.report();
        let is_starting = environment.phase() == Phase::Starting;
        let unwell_for = Duration::from_millis(unix_ms().saturating_sub(report.since_ms));
        let is_connected = report.has_received_data && !(report.connection != Connection::Valid && unwell_for >= limit);
        Self {
            sdk_key: mask(config.sdk_key.expose()),
            env_id: config.env_id.as_ref().map(|it| it.as_str().to_owned()),
            mobile_key: config.mobile_key.as_ref().map(|it| mask(it.expose())),
            status: if is_connected { CONNECTED } else { "disconnected" },
            connection_status: ConnectionStatus {
                state: match report.connection {
                    Connection::Initializing => "INITIALIZING",
                    Connection::Valid => "VALID",
                    Connection::Interrupted => "INTERRUPTED",
                    Connection::Off => "OFF",
                },
                state_since: report.since_ms,
                last_error: report.last_error.map(|it| LastError {
                    kind: match it.kind {
                        ErrorKind::Network => "NETWORK_ERROR",
                        ErrorKind::Response(_) => "ERROR_RESPONSE",
                        ErrorKind::InvalidData => "INVALID_DATA",
                        ErrorKind::Store => "STORE_ERROR",
                        ErrorKind::Unknown => "UNKNOWN",
                    },
                    time: it.at_ms,
                }),
            },
            data_store_status: if is_starting {
                StoreStatus { state: "INITIALIZING", state_since: 0 }
            } else {
                StoreStatus { state: "VALID", state_since: report.since_ms }
            },
        }
    }
}
