//! `GET /stream`: events that name what has changed, which SDKs then fetch (F076 to F085).

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue};
use yardarm_core::Secret;
use yardarm_core::hooks::RequestFacts;
use yardarm_vendor::admission::{self, RequestParts};
use yardarm_vendor::stream_response::{Start, register, respond};

use super::auth::{RouteInfo, TokenClaims, authorize, facts};
use super::client_auth::find;
use super::rejection::Rejection;
use super::state::Downstream;
use crate::data::dataset::heartbeat;
use crate::environments::Connection;
use crate::identity::VENDOR;

const API_KEY: HeaderName = HeaderName::from_static("api-key");
const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

pub(super) async fn stream(
    State(downstream): State<Arc<Downstream>>,
    Extension(info): Extension<RouteInfo>,
    Extension(TokenClaims(claims)): Extension<TokenClaims>,
    request: Request,
) -> Response {
    match open(&downstream, info, claims.map(|it| it.environment), request).await {
        Ok(response) => response,
        Err(rejection) => rejection.into_response(),
    }
}

async fn open(
    downstream: &Downstream,
    info: RouteInfo,
    token_environment: Option<String>,
    request: Request,
) -> Result<Response, Rejection> {
    let (parts, _) = request.into_parts();
    let key = parts.headers.get(API_KEY).and_then(|it| it.to_str().ok()).unwrap_or_default();
    if key.is_empty() {
        return Err(Rejection::Bad("API-Key can't be empty".to_owned()));
    }
    if !downstream.config.serves_streams() {
        return Err(Rejection::StreamingDisabled);
    }
    let credential = Secret::new(key);
    let request = RequestParts { method: &parts.method, headers: &parts.headers, extensions: &parts.extensions };
    let plan = downstream.hooks.pin();
    let facts = |label| facts(label, info, &request, Some(credential.clone()));
    let chosen = admission::resolve(&*plan, VENDOR, &facts).await?;
    let (environment, hash) = find(downstream, &credential, chosen.as_ref()).map_err(|rejection| match rejection {
        // The vendor's relay repeats the key in this error; here it is left out.
        Rejection::UnknownKey => Rejection::NotFound("no environment found for this apiKey".to_owned()),
        other => other,
    })?;
    if token_environment.is_some_and(|it| it != environment.identity.id) {
        return Err(Rejection::OtherEnvironment);
    }
    let is_delegated = chosen.is_some_and(|it| it.is_delegated);
    let facts = RequestFacts { is_delegated, ..facts(environment.label.clone()) };
    let caller = authorize(plan, environment, facts).await?;
    let environment = &caller.environment;
    let snapshot = environment.data.snapshot().ok_or(Rejection::SourceLost)?;
    // The end of the upstream stream, or of the key, ends the streams that are registered at that time, so both are checked
    // once this one is.
    let guard = register(&downstream.streams, caller.admitted.request.clone(), None, |_| {
        if environment.stream().connection != Connection::Connected {
            return Err(Rejection::SourceLost);
        }
        let is_accepted = downstream.environments.accepts(&hash, &environment.identity.id);
        if is_accepted { Ok(()) } else { Err(Rejection::UnknownKey) }
    })?;
    // SDKs count as connected when the first bytes arrive. Some drop what arrives together with a heartbeat, so none is sent if
    // there are changes.
    let start = match environment.announced.first_missed().filter(|it| *it <= snapshot.seq()) {
        Some(first) => Start::Continue(first.saturating_sub(1)),
        None => Start::After(snapshot.seq(), heartbeat()),
    };
    let mut response = respond(head(), environment.data.update_source(), 0, start, guard);
    caller.admitted.add_headers(response.headers_mut());
    response.extensions_mut().insert(info.tag(&caller, &parts.headers));
    Ok(response)
}

/// Returns the headers. The content type must be exactly this: with any other, the Python SDK reads the whole body first.
fn head() -> HeaderMap {
    [
        (CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
        (CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (X_ACCEL_BUFFERING, HeaderValue::from_static("no")),
    ]
    .into_iter()
    .collect()
}
