//! Failed calls of plugins that are kept for operators.

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State as FromState};
use axum::response::Response;
use http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;
use yardarm_wasm::Capture;

use super::control::{ErrorDocument, Operator, error};
use super::{Shared, uncached};

/// Failed calls of a plugin.
#[derive(Serialize, ToSchema)]
struct CapturesDocument {
    /// The newest first.
    captures: Vec<Capture>,
}

/// Returns the failed calls of a plugin that are kept, with masked input. `case` can be run by `yardarm plugin test`, the whole
/// document by `yardarm plugin replay`.
#[utoipa::path(
    get,
    path = "/api/plugins/{name}/captures",
    params(("name" = String, Path, description = "The plugin.")),
    security(("token" = [])),
    responses(
        (status = 200, body = CapturesDocument),
        (status = 401, body = ErrorDocument, description = "The token is missing or wrong."),
        (status = 403, body = ErrorDocument, description = "No token is configured."),
        (status = 409, body = ErrorDocument, description = "Failed calls are not kept, because `plugins.capture` is off."),
    )
)]
pub(super) async fn read(
    FromState(state): FromState<Shared>,
    Operator { peer }: Operator,
    path: Result<Path<String>, PathRejection>,
) -> Response {
    let Ok(Path(name)) = path else { return error(StatusCode::NOT_FOUND, "the path is not UTF-8") };
    match state.plugins.captures(&name) {
        Some(captures) => {
            tracing::info!(%peer, plugin = name, count = captures.len(), "failed calls of a plugin read");
            uncached(Json(CapturesDocument { captures }))
        }
        None => error(StatusCode::CONFLICT, "failed calls are not kept; set `plugins.capture = true` and start again"),
    }
}
