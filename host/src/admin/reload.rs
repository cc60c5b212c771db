//! `POST /api/reload`: the configuration is read again, as on SIGHUP, and the response says what became of it.

use axum::Json;
use axum::extract::State as FromState;
use axum::response::Response;
use http::StatusCode;
use yardarm_core::retry_after;

use super::control::{ErrorDocument, Operator, error};
use super::{Shared, uncached};
use crate::reload_order::{ReloadOrder, ReloadReport};

/// Reads configuration, certificates and plugins again, like SIGHUP. An unusable configuration changes nothing.
#[utoipa::path(
    post,
    path = "/api/reload",
    security(("token" = [])),
    responses(
        (status = 200, body = ReloadReport),
        (status = 401, body = ErrorDocument, description = "The token is missing or wrong."),
        (status = 403, body = ErrorDocument, description = "No token is configured."),
        (status = 409, body = ErrorDocument, description = "The configuration cannot be used; with the reason."),
        (status = 503, body = ErrorDocument, description = "A reload is not possible at this moment."),
    )
)]
pub(super) async fn reload(FromState(state): FromState<Shared>, Operator { peer }: Operator) -> Response {
    tracing::info!(%peer, "reload ordered");
    let (order, outcome) = ReloadOrder::new();
    let is_ordered = match state.reloads.get() {
        Some(orders) => orders.send(order).await.is_ok(),
        None => false,
    };
    match outcome.await {
        Ok(Ok(report)) => uncached(Json(report)),
        Ok(Err(reason)) => error(StatusCode::CONFLICT, reason),
        Err(_) => {
            let reason = if is_ordered { "the gateway is shutting down" } else { "a reload is not possible now" };
            let mut response = error(StatusCode::SERVICE_UNAVAILABLE, reason);
            retry_after::set(response.headers_mut(), retry_after::soon());
            response
        }
    }
}
