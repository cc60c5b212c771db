//! Orders about plugins, from operators who present the token of `admin.token`.

use std::net::SocketAddr;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{ConnectInfo, FromRequestParts, Path, State as FromState};
use axum::response::{IntoResponse, Response};
use http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::Serialize;
use utoipa::ToSchema;
use yardarm_core::{Secret, retry_after};
use yardarm_wasm::{OrderError, OrderReport, PluginAction};

use super::{Shared, uncached};

/// The document of every refused or failed request.
#[derive(Serialize, ToSchema)]
pub(super) struct ErrorDocument {
    /// What is wrong, and what to do.
    error: String,
}

/// A caller who has presented the token.
pub(super) struct Operator {
    pub(super) peer: SocketAddr,
}

/// Why a caller is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotAnOperator {
    #[error("operators are not known, because the gateway has no token; set `admin.token`")]
    NoTokenConfigured,
    #[error("the token is missing; send that of `admin.token` as `Authorization: Bearer …`")]
    Missing,
    #[error("the token is wrong; send that of `admin.token` as `Authorization: Bearer …`")]
    Wrong,
}

/// Checks the token in the headers of a request.
fn check(token: Option<&Secret>, headers: &HeaderMap) -> Result<(), NotAnOperator> {
    let token = token.ok_or(NotAnOperator::NoTokenConfigured)?;
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (value, other) = (values.next(), values.next());
    let presented = value.ok_or(NotAnOperator::Missing)?.to_str().ok().and_then(bearer);
    let is_right = presented.is_some_and(|presented| token.matches(presented));
    if is_right && other.is_none() { Ok(()) } else { Err(NotAnOperator::Wrong) }
}

/// Returns the token of a header value.
fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

impl FromRequestParts<Shared> for Operator {
    type Rejection = NotAnOperator;

    async fn from_request_parts(parts: &mut Parts, state: &Shared) -> Result<Self, NotAnOperator> {
        let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>();
        let peer = peer.map_or(SocketAddr::from(([0, 0, 0, 0], 0)), |ConnectInfo(peer)| *peer);
        check(state.operator_token.load().as_deref(), &parts.headers).inspect_err(|error| {
            tracing::warn!(%peer, path = parts.uri.path(), %error, "request of an operator refused");
        })?;
        Ok(Self { peer })
    }
}

/// Carries out an order about a plugin, which is named by its file, without extension, or by its name. `action` is `rollback`,
/// `pin`, `unpin`, `promote`, `retire`, `reinstate` or `clear`. The response comes once the order is in force.
#[utoipa::path(
    post,
    path = "/api/plugins/{name}/{action}",
    params(("name" = String, Path, description = "The plugin."), ("action" = PluginAction, Path, description = "The order.")),
    security(("token" = [])),
    responses(
        (status = 200, body = OrderReport),
        (status = 401, body = ErrorDocument, description = "The token is missing or wrong."),
        (status = 403, body = ErrorDocument, description = "No token is configured."),
        (status = 404, body = ErrorDocument, description = "There is no such plugin or order."),
        (status = 409, body = ErrorDocument, description = "The order is not possible now; with the reason."),
        (status = 503, body = ErrorDocument, description = "The plugin folder does not respond, or the gateway is shutting down."),
    )
)]
pub(super) async fn order(
    FromState(state): FromState<Shared>,
    Operator { peer }: Operator,
    path: Result<Path<(String, String)>, PathRejection>,
) -> Response {
    let Ok(Path((name, action))) = path else { return error(StatusCode::NOT_FOUND, "the path is not UTF-8") };
    let Some(action) = PluginAction::ALL.into_iter().find(|it| it.name() == action) else {
        let known = PluginAction::ALL.map(PluginAction::name).join(", ");
        return error(StatusCode::NOT_FOUND, format!("there is no such order; there are {known}"));
    };
    match state.plugins.order(&name, action).await {
        Ok(report) => {
            let OrderReport { changed, durable, text, .. } = &report;
            tracing::info!(%peer, plugin = name, %action, changed, durable, result = text, "order about a plugin carried out");
            uncached(Json(report))
        }
        Err(reason) => {
            tracing::warn!(%peer, plugin = name, %action, error = %reason, "order about a plugin not carried out");
            let status = match reason {
                OrderError::Unknown(_) => StatusCode::NOT_FOUND,
                OrderError::Impossible(_) => StatusCode::CONFLICT,
                OrderError::NoResponse | OrderError::Stopped => StatusCode::SERVICE_UNAVAILABLE,
            };
            let mut response = error(status, reason.to_string());
            if status == StatusCode::SERVICE_UNAVAILABLE {
                retry_after::set(response.headers_mut(), retry_after::soon());
            }
            response
        }
    }
}

impl IntoResponse for NotAnOperator {
    fn into_response(self) -> Response {
        if self == Self::NoTokenConfigured {
            return error(StatusCode::FORBIDDEN, self.to_string());
        }
        let mut response = error(StatusCode::UNAUTHORIZED, self.to_string());
        response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        response
    }
}

pub(super) fn error(status: StatusCode, error: impl Into<String>) -> Response {
    uncached((status, Json(ErrorDocument { error: error.into() })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_token_itself_is_accepted() {
        let token = Secret::new("token-of-operators");
        let headers = |values: &[&str]| -> HeaderMap {
            values.iter().map(|value| (AUTHORIZATION, HeaderValue::from_str(value).unwrap())).collect()
        };
        let verdict = |values: &[&str]| check(Some(&token), &headers(values)).err();
        assert_eq!(check(None, &headers(&["Bearer token-of-operators"])), Err(NotAnOperator::NoTokenConfigured));
        for value in ["Bearer token-of-operators", "bearer token-of-operators", "BEARER  token-of-operators "] {
            assert_eq!(verdict(&[value]), None, "{value:?}");
        }
        assert_eq!(verdict(&[]), Some(NotAnOperator::Missing));
        for values in [
            &["Bearer token-of-operator"][..],
            &["Bearer token-of-operatorS"],
            &["Bearer token-of-operators2"],
            &["Bearer "],
            &["Bearer"],
            &["token-of-operators"],
            &["Basic token-of-operators"],
            &["Bearer token-of-operators", "Bearer other"],
        ] {
            assert_eq!(verdict(values), Some(NotAnOperator::Wrong), "{values:?}");
        }
    }
}
