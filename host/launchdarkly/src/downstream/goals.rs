//! `GET /sdk/goals/{envId}`: passed through to the vendor's service.

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};

use super::Downstream;
use super::auth::peer;
use crate::config::Roster;
use crate::upstream::goals;

pub(super) async fn goals(State(downstream): State<Downstream>, request: Request) -> Response {
    if matches!(downstream.config.roster, Roster::Offline { .. }) {
        // Nothing leaves in offline mode (decision R15).
        return ([(CONTENT_TYPE, HeaderValue::from_static("application/json"))], "[]").into_response();
    }
    let path = request.uri().path_and_query().map_or("/", |it| it.as_str());
    let base = &downstream.config.client_side_base_uri;
    let peer = peer(request.extensions());
    match goals::fetch(&downstream.http.requests, base, path, request.headers(), peer).await {
        Some(answer) => (answer.status, answer.headers, answer.body).into_response(),
        None => StatusCode::BAD_GATEWAY.into_response(),
    }
}
