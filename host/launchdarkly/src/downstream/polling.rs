//! Polling routes for PHP: all flags, one flag, one segment; and everything, for SDKs that poll in place of a stream.

use std::time::Duration;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, ETAG, EXPIRES, IF_NONE_MATCH, VARY};
use http::{HeaderMap, HeaderValue, StatusCode};

use super::Downstream;
use super::auth::Caller;
use super::context::message;
use super::deliveries::answer_in_full;
use crate::data::render;

/// Longest time that polled flags may be cached, ten years: HTTP has no dates beyond the year 9999.
const MAX_TTL: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// `GET /sdk/flags`
pub(super) async fn flags(State(downstream): State<Arc<Downstream>>, caller: Caller, headers: HeaderMap) -> Response {
    let Some(snapshot) = caller.environment.data.snapshot() else { return not_initialized() };
    let data = snapshot.data();
    // A poll with the current tag needs no rendering.
    answer_in_full(&downstream, &caller, &headers, data.flags_tag(), || render::flag_map(data.items())).await
}

/// `GET /sdk/latest-all`, which SDKs poll if they may not stream (V030). The reference has no such route.
pub(super) async fn everything(
    State(downstream): State<Arc<Downstream>>,
    caller: Caller,
    headers: HeaderMap,
) -> Response {
    let Some(snapshot) = caller.environment.data.snapshot() else { return not_initialized() };
    let data = snapshot.data();
    answer_in_full(&downstream, &caller, &headers, &data.state().to_string(), || data.everything()).await
}

/// `GET /sdk/flags/{key}`
pub(super) async fn flag(caller: Caller, Path(key): Path<String>, headers: HeaderMap) -> Response {
    let Some(snapshot) = caller.environment.data.snapshot() else { return not_initialized() };
    match snapshot.data().items().flag(&key) {
        Some(flag) => answer(&caller, &headers, &flag.version().to_string(), || flag.json().clone()),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

/// `GET /sdk/segments/{key}`
pub(super) async fn segment(caller: Caller, Path(key): Path<String>, headers: HeaderMap) -> Response {
    let Some(snapshot) = caller.environment.data.snapshot() else { return not_initialized() };
    match snapshot.data().items().segment(&key) {
        Some(segment) => answer(&caller, &headers, &segment.version().to_string(), || segment.json().clone()),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

/// No data yet. The reference answers an empty map here, which PHP would cache (decision R6).
pub(super) fn not_initialized() -> Response {
    message(StatusCode::SERVICE_UNAVAILABLE, "Service not initialized")
}

/// L151, L156, L158: an unquoted tag, compared as a whole; `Expires` instead of `Cache-Control`.
pub(super) fn answer<B: Into<Body>>(
    caller: &Caller,
    request: &HeaderMap,
    tag: &str,
    body: impl FnOnce() -> B,
) -> Response {
    let tag = full_tag(tag);
    let mut headers = HeaderMap::new();
    if let Some(ttl) = caller.config.ttl {
        let expires = httpdate::fmt_http_date(std::time::SystemTime::now() + ttl.min(MAX_TTL));
        if let Ok(expires) = HeaderValue::from_str(&expires) {
            headers.insert(EXPIRES, expires);
        }
        headers.insert(VARY, HeaderValue::from_static("Authorization"));
    }
    if has(request, &tag) {
        return (StatusCode::NOT_MODIFIED, headers).into_response();
    }
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        headers.insert(ETAG, tag);
    }
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    (headers, body().into()).into_response()
}

/// Whether a request has the tag of the present answer, which [`answer`] is not going to have a body then.
pub(super) fn has_tag(request: &HeaderMap, tag: &str) -> bool {
    has(request, &full_tag(tag))
}

fn full_tag(tag: &str) -> String {
    format!("relay-{tag}")
}

fn has(request: &HeaderMap, tag: &str) -> bool {
    request.get(IF_NONE_MATCH).is_some_and(|it| it.as_bytes() == tag.as_bytes())
}
