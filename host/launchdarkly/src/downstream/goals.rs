//! `GET /sdk/goals/{envId}`: forwarded to the vendor's service.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Extension, Request, State};
use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};
use yardarm_core::retry_after::PassedThrough;

use super::Downstream;
use super::auth::peer;
use super::edge::Written;
use crate::config::EnvironmentSource;
use crate::upstream::goals;

pub(super) async fn goals(State(downstream): State<Arc<Downstream>>, request: Request) -> Response {
    if matches!(downstream.config.environments, EnvironmentSource::Offline { .. }) {
        // Nothing is sent in offline mode (decision R15).
        return ([(CONTENT_TYPE, HeaderValue::from_static("application/json"))], "[]").into_response();
    }
    // The original target, before it was rewritten for routing.
    let written = request.extensions().get::<Written>().map(|it| &it.0).or_else(|| request.uri().path_and_query());
    let path = written.map_or("/", |it| it.as_str());
    let base = &downstream.config.client_side_base_uri;
    let peer = peer(request.extensions());
    match goals::fetch(&downstream.http.requests, base, path, request.headers(), peer).await {
        Some(answer) => {
            (answer.status, Extension(PassedThrough), answer.headers, Body::new(answer.body)).into_response()
        }
        None => StatusCode::BAD_GATEWAY.into_response(),
    }
}
