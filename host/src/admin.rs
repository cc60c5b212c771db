//! The admin listener, for operators: probes, metrics, status and a page.
//!
//! `GET /` page · `GET /live` · `GET /ready` · `GET /metrics` · `GET /api/status` · `GET /api/plugins` ·
//! `GET /api/environments` · `GET /api/openapi.json` · with a token `POST /api/plugins/{name}/{action}`,
//! `GET /api/plugins/{name}/captures`, `POST /api/reload`, `PUT /api/log-level`, `POST /api/explain` and `GET /api/explain/{ticket}`

mod captures;
mod control;
mod explain;
mod host_check;
mod log_level;
mod openapi;
mod reload;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::State as FromState;
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use http::{HeaderValue, StatusCode};
use serde::Serialize;
use utoipa::ToSchema;
use yardarm_core::metrics;
use yardarm_core::registry::StreamCounts;
use yardarm_core::retry_after;
use yardarm_core::supervisor::PanicReport;
use yardarm_vendor::report::{EnvironmentListReport, EnvironmentReport};
use yardarm_wasm::FolderStatus;

use crate::capacity::Capacity;
use crate::listener::{CertificateReport, FanoutReport, Tls};
use crate::state::State;
use crate::telemetry;

pub(crate) use self::host_check::protect;
pub use self::openapi::routes_document;

type Shared = Arc<State>;

const PAGE: &str = include_str!("admin/page.html");

/// The document of `/api/status`.
#[derive(Serialize, ToSchema)]
struct StatusDocument {
    version: &'static str,
    uptime_ms: u64,
    /// Resources of the process as the operating system reports them.
    pid: u32,
    /// Addresses that the process listens on.
    #[schema(value_type = Vec<String>)]
    listeners: Vec<SocketAddr>,
    is_ready: bool,
    /// Parts that readiness waits for.
    waiting_for: Vec<String>,
    plan_generation: u64,
    environments: Vec<EnvironmentReport>,
    /// Lists of environments that upstream sends: auto-configuration.
    environment_lists: Vec<EnvironmentListReport>,
    streams: Vec<StreamGroup>,
    fanout: FanoutDocument,
    connections: ConnectionDocument,
    /// `null` without TLS.
    certificate: Option<CertificateReport>,
    /// Internal errors since the start, by task.
    panics: Vec<PanicDocument>,
    resources: ResourceDocument,
}

/// The environments of all vendors.
#[derive(Serialize, ToSchema)]
struct EnvironmentsDocument {
    environments: Vec<EnvironmentReport>,
}

#[derive(Serialize, ToSchema)]
struct StreamGroup {
    vendor: &'static str,
    environment: String,
    route: &'static str,
    open: u64,
    opened: u64,
    ended: Vec<(&'static str, u64)>,
}

#[derive(Serialize, ToSchema)]
struct FanoutDocument {
    /// Streams that the fan-out threads write.
    streams: usize,
    /// Streams whose socket is full at this moment.
    blocked: usize,
    /// Number of changes by which the slowest stream lags.
    max_lag: u64,
    written_bytes: u64,
}

/// Connections of SDKs, and the limits in effect.
#[derive(Serialize, ToSchema)]
struct ConnectionDocument {
    open: usize,
    limits: Capacity,
    /// Connections that the gateway closed, by reason.
    closed: Vec<(&'static str, u64)>,
}

#[derive(Serialize, ToSchema)]
struct PanicDocument {
    task: &'static str,
    /// Vendor and name of the task's environment.
    environment: Option<String>,
    count: u64,
    /// Time of the last panic, in Unix milliseconds.
    last_ms: u64,
    /// File and line of the last panic.
    location: String,
}

#[derive(Serialize, ToSchema)]
struct ResourceDocument {
    resident_bytes: u64,
    cpu_seconds: f64,
}

/// Returns the routes of the admin listener.
pub(crate) fn routes(state: Shared) -> Router {
    Router::new()
        .route("/", get(page))
        .route("/live", get(live))
        .route("/ready", get(ready))
        .route("/metrics", get(metrics))
        .route("/api/status", get(status))
        .route("/api/environments", get(environments))
        .route("/api/reload", post(reload::reload))
        .route("/api/log-level", put(log_level::set))
        .route("/api/plugins", get(plugins))
        .route("/api/plugins/{name}/captures", get(captures::read))
        .route("/api/plugins/{name}/{action}", post(control::order))
        .route("/api/explain", post(explain::create))
        .route("/api/explain/{ticket}", get(explain::read))
        .route("/api/openapi.json", get(openapi::document))
        .with_state(state)
}

/// Responds 200 as long as the process runs.
#[utoipa::path(get, path = "/live", responses((status = 200, description = "The process runs.", content_type = "text/plain")))]
async fn live() -> &'static str {
    "live\n"
}

/// Responds 200 from when the environments that `admin.ready` requires have served data until the process shuts down,
/// otherwise 503. The body has a line for each environment without data, with its connection state and last error.
#[utoipa::path(get, path = "/ready", responses((status = 200, description = "Ready; with a line for each environment without data that is excused.", content_type = "text/plain"), (status = 503, description = "Not ready; with a line for each environment that is waited for.", content_type = "text/plain")))]
async fn ready(FromState(state): FromState<Shared>) -> Response {
    let report = state.readiness();
    let waiting = report.waiting.iter().map(|it| format!("waiting for: {it}\n"));
    let lines: String = waiting.chain(report.excused.iter().map(|it| format!("without: {it}\n"))).collect();
    if report.is_ready {
        return uncached(format!("ready\n{lines}"));
    }
    let mut response = uncached((StatusCode::SERVICE_UNAVAILABLE, lines));
    retry_after::set(response.headers_mut(), retry_after::soon());
    response
}

/// Responds with all metrics in the text format of Prometheus.
#[utoipa::path(get, path = "/metrics", responses((status = 200, description = "Metrics.", content_type = "text/plain")))]
async fn metrics(FromState(state): FromState<Shared>) -> Response {
    ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], state.metrics.encode()).into_response()
}

/// Responds with the state of the process and of everything that it serves.
#[utoipa::path(get, path = "/api/status", responses((status = 200, body = StatusDocument)))]
async fn status(FromState(state): FromState<Shared>) -> Response {
    let readiness = state.readiness();
    let (resident_bytes, cpu) = telemetry::resources();
    uncached(Json(StatusDocument {
        version: env!("CARGO_PKG_VERSION"),
        uptime_ms: yardarm_core::time::unix_ms().saturating_sub(state.started_ms),
        pid: std::process::id(),
        listeners: state.listeners.clone(),
        is_ready: readiness.is_ready,
        waiting_for: readiness.waiting.iter().map(ToString::to_string).collect(),
        plan_generation: state.hooks.pin().generation(),
        environments: state.reports(),
        environment_lists: state.environment_lists(),
        streams: state.streams.counts().into_iter().map(StreamGroup::from).collect(),
        fanout: state.fanout.report().into(),
        connections: ConnectionDocument {
            open: state.connections.open(),
            limits: state.capacity,
            closed: state.connections.closed(),
        },
        certificate: state.tls.as_ref().map(Tls::report),
        panics: panics(&state),
        resources: ResourceDocument { resident_bytes, cpu_seconds: cpu.as_secs_f64() },
    }))
}

fn panics(state: &State) -> Vec<PanicDocument> {
    let reports = state.lifecycle.supervisor().panics().into_iter().filter(|it| it.panics > 0);
    let document = |it: PanicReport| PanicDocument {
        task: it.task.name,
        environment: it.task.environment.map(|it| it.to_string()),
        count: it.panics,
        last_ms: it.last_ms,
        location: it.location.to_string(),
    };
    reports.map(document).collect()
}

/// Responds with the state of every environment.
#[utoipa::path(get, path = "/api/environments", responses((status = 200, body = EnvironmentsDocument)))]
async fn environments(FromState(state): FromState<Shared>) -> Response {
    uncached(Json(EnvironmentsDocument { environments: state.reports() }))
}

/// Responds with every plugin: whether it runs, why not, and its calls.
#[utoipa::path(get, path = "/api/plugins", responses((status = 200, body = FolderStatus)))]
async fn plugins(FromState(state): FromState<Shared>) -> Response {
    uncached(Json(state.plugins.status()))
}

/// Responds with the page for operators.
#[utoipa::path(get, path = "/", responses((status = 200, description = "The page.", content_type = "text/html")))]
async fn page() -> Response {
    // The page is one file and connects to this listener only; names of any content must be shown as text.
    let policy =
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; img-src data:";
    ([(CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy))], Html(PAGE)).into_response()
}

fn uncached(body: impl IntoResponse) -> Response {
    ([(CACHE_CONTROL, HeaderValue::from_static("no-store"))], body).into_response()
}

impl From<StreamCounts> for StreamGroup {
    fn from(counts: StreamCounts) -> Self {
        Self {
            vendor: counts.environment.vendor(),
            environment: counts.environment.name().to_string(),
            route: counts.route,
            open: counts.open,
            opened: counts.opened,
            ended: counts.ended,
        }
    }
}

impl From<FanoutReport> for FanoutDocument {
    fn from(report: FanoutReport) -> Self {
        Self {
            streams: report.streams,
            blocked: report.blocked,
            max_lag: report.max_lag,
            written_bytes: report.written_bytes,
        }
    }
}
