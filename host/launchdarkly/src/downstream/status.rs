//! `GET /status` and the routes below it, with the documents of LaunchDarkly's relay.

mod entry;
mod expect;

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode, Uri};
use serde::Serialize;
use serde_json::Value;

use self::entry::{CONNECTION_SHAPE, ConnectionEntry, Entry};
use self::expect::Shape;
use super::Downstream;
use super::query::query_values;
use crate::environments::LdEnvironment;

/// Version of this program and of its LaunchDarkly side, which are one.
const VERSION: &str = env!("CARGO_PKG_VERSION");

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    environments: BTreeMap<String, Entry>,
    #[serde(skip_serializing_if = "Option::is_none")]
    auto_config_status: Option<ConnectionEntry>,
    status: &'static str,
    version: &'static str,
    client_version: &'static str,
}

const PAGE_SHAPE: Shape = Shape::Object(&[
    ("environments", Shape::Map(&entry::SHAPE)),
    ("autoConfigStatus", CONNECTION_SHAPE),
    ("status", Shape::Plain),
    ("version", Shape::Plain),
    ("clientVersion", Shape::Plain),
]);

/// `GET /status`. Always 200 without `?expect=`: operators' dashboards read the body, and probes have their own
/// endpoints.
pub(super) async fn status(State(downstream): State<Arc<Downstream>>, uri: Uri) -> Response {
    let config = &downstream.config;
    let environments: BTreeMap<_, _> =
        downstream.environments.all().iter().map(|it| (it.label.name().to_string(), Entry::of(it, config))).collect();
    let is_healthy = downstream.environments.are_listed() && environments.values().all(|it| it.is_well(config));
    let page = Page {
        environments,
        auto_config_status: downstream.auto_config.as_ref().map(|it| ConnectionEntry::of(it.current(), true)),
        status: if is_healthy { "healthy" } else { "degraded" },
        version: VERSION,
        client_version: VERSION,
    };
    answer(&page, &PAGE_SHAPE, &uri)
}

/// `GET /status/{name or ID}`
pub(super) async fn named(state: State<Arc<Downstream>>, Path(name): Path<String>, uri: Uri) -> Response {
    one(&state, &uri, |it| is_called(it, &name, ""))
}

/// `GET /status/{name or ID}/filters/{filter}`
pub(super) async fn named_filter(
    state: State<Arc<Downstream>>,
    Path((name, filter)): Path<(String, String)>,
    uri: Uri,
) -> Response {
    one(&state, &uri, |it| is_called(it, &name, &filter))
}

/// `GET /status/{project key}/{environment key}`
pub(super) async fn keyed(
    state: State<Arc<Downstream>>,
    Path((project, environment)): Path<(String, String)>,
    uri: Uri,
) -> Response {
    one(&state, &uri, |it| is_keyed(it, &project, &environment, ""))
}

/// `GET /status/{project key}/{environment key}/filters/{filter}`
pub(super) async fn keyed_filter(
    state: State<Arc<Downstream>>,
    Path((project, environment, filter)): Path<(String, String, String)>,
    uri: Uri,
) -> Response {
    one(&state, &uri, |it| is_keyed(it, &project, &environment, &filter))
}

fn is_called(environment: &LdEnvironment, name: &str, filter: &str) -> bool {
    let config = environment.config();
    let is_id = config.credentials.env_id().is_some_and(|it| it.as_str() == name);
    (config.name == name || is_id) && *environment.filter == *filter
}

fn is_keyed(environment: &LdEnvironment, project: &str, key: &str, filter: &str) -> bool {
    let config = environment.config();
    let is_it = config.identity.as_ref().is_some_and(|it| it.proj_key == project && it.env_key == key);
    is_it && *environment.filter == *filter
}

fn one(downstream: &Downstream, uri: &Uri, is_wanted: impl Fn(&LdEnvironment) -> bool) -> Response {
    let found = downstream.environments.all().into_iter().find(|it: &Arc<LdEnvironment>| is_wanted(it));
    match found {
        Some(it) => answer(&Entry::of(&it, &downstream.config), &entry::SHAPE, uri),
        None if downstream.environments.are_listed() => {
            json(StatusCode::NOT_FOUND, &serde_json::json!({"error": "environment not found"}))
        }
        None => {
            json(StatusCode::SERVICE_UNAVAILABLE, &serde_json::json!({"error": "list of environments not known yet"}))
        }
    }
}

/// The document, or the results of the caller's expectations.
fn answer(document: &impl Serialize, shape: &Shape, uri: &Uri) -> Response {
    let expectations = query_values(uri.query(), "expect");
    if expectations.as_ref().is_ok_and(Vec::is_empty) {
        return json(StatusCode::OK, document);
    }
    let document: Value = serde_json::to_value(document).expect("text and numbers are always JSON");
    let (status, body) = expect::judge(&document, shape, expectations);
    json(status, &body)
}

fn json(status: StatusCode, body: &impl Serialize) -> Response {
    let body = serde_json::to_vec(body).expect("text and numbers are always JSON");
    (status, [(CONTENT_TYPE, HeaderValue::from_static("application/json"))], body).into_response()
}
