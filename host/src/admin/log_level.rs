//! `PUT /api/log-level`: another level of the log, until the configuration is reloaded or the process ends.

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::response::Response;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::control::{ErrorDocument, Operator, error};
use super::uncached;
use crate::config::log_filter;
use crate::logging;

/// A level of the log.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
pub(super) struct LogLevelDocument {
    /// In the form of `log.level`: `debug`, or levels by part such as `info,yardarm_wasm=debug`.
    level: String,
}

/// Changes the level of the log at once. A reload sets that of the configuration again. Levels of single environments stay in
/// effect.
#[utoipa::path(
    put,
    path = "/api/log-level",
    request_body = LogLevelDocument,
    security(("token" = [])),
    responses(
        (status = 200, body = LogLevelDocument, description = "The filter that is in effect."),
        (status = 400, body = ErrorDocument, description = "The level cannot be used; with the reason."),
        (status = 401, body = ErrorDocument, description = "The token is missing or wrong."),
        (status = 403, body = ErrorDocument, description = "No token is configured."),
    )
)]
pub(super) async fn set(
    Operator { peer }: Operator,
    document: Result<Json<LogLevelDocument>, JsonRejection>,
) -> Response {
    let Ok(Json(LogLevelDocument { level })) = document else {
        return error(StatusCode::BAD_REQUEST, r#"the body must be JSON of the form {"level": "debug"}"#);
    };
    let filter = match log_filter(&level) {
        Ok(filter) => filter,
        Err(problem) => return error(StatusCode::BAD_REQUEST, format!("the level {problem}")),
    };
    if let Err(problem) = logging::set_level(&filter) {
        return error(StatusCode::BAD_REQUEST, problem.to_string());
    }
    tracing::info!(%peer, level = filter, "log level changed by an operator");
    uncached(Json(LogLevelDocument { level: filter }))
}
