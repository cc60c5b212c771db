//! Reasons why a request is rejected, and their statuses.
//!
//! SDKs give up for good on some statuses, and not all on the same ones (F048 to F051). A failure that may heal is a 500: the
//! Python SDK would not retry after a 503.

use std::sync::Arc;

use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};
use serde_json::json;
use yardarm_core::hooks::{Denial, HookFailure};
use yardarm_core::retry_after;

/// Rejections of all routes.
#[derive(Debug, thiserror::Error)]
pub(super) enum Rejection {
    /// There is no token, or no valid one.
    #[error("missing or invalid token")]
    NoToken,
    /// The token is for another environment.
    #[error("the token belongs to another environment")]
    OtherEnvironment,
    /// The key is unknown.
    #[error("unauthorised")]
    UnknownKey,
    /// The key is unknown, and not all keys are known yet.
    #[error("keys are not known yet")]
    NotReady,
    /// The environment has no data yet.
    #[error("environment has no data yet")]
    NoData,
    /// The request is malformed.
    #[error("bad request: {0}")]
    Bad(String),
    /// The item or environment does not exist.
    #[error("not found: {0}")]
    NotFound(String),
    /// The flag to evaluate does not exist.
    #[error("not found")]
    UnknownFlag,
    /// The configuration of the flag serves nothing.
    #[error("{0}")]
    Evaluation(String),
    /// The body is too large.
    #[error("request body is too large")]
    TooLarge,
    /// Streams are switched off.
    #[error("endpoint not implemented: streaming endpoint disabled")]
    StreamingDisabled,
    /// There is no upstream stream and so no events, so SDKs must poll.
    #[error("SaaS stream disconnected")]
    SourceLost,
    /// A plugin denied the request.
    #[error("refused")]
    Denied { plugin: Arc<str>, denial: Denial },
    /// A required plugin failed.
    #[error("{0}")]
    PluginFailed(HookFailure),
    /// Too many streams are open, or too much work is waiting.
    #[error("too busy")]
    Busy,
}

impl Rejection {
    fn status(&self) -> StatusCode {
        match self {
            Self::NoToken | Self::OtherEnvironment | Self::UnknownKey => StatusCode::UNAUTHORIZED,
            Self::NotReady | Self::NoData | Self::Evaluation(_) => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Bad(_) => StatusCode::BAD_REQUEST,
            Self::NotFound(_) | Self::UnknownFlag => StatusCode::NOT_FOUND,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::StreamingDisabled => StatusCode::NOT_IMPLEMENTED,
            Self::SourceLost | Self::PluginFailed(_) | Self::Busy => StatusCode::SERVICE_UNAVAILABLE,
            Self::Denied { denial, .. } => match denial {
                Denial::Unauthorized => StatusCode::UNAUTHORIZED,
                Denial::Forbidden => StatusCode::FORBIDDEN,
                Denial::RateLimited(_) => StatusCode::TOO_MANY_REQUESTS,
                Denial::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            },
        }
    }

    /// Returns the seconds after which a retry makes sense.
    fn retry_after(&self) -> Option<u32> {
        match self {
            Self::Denied { denial, .. } => denial.retry_after(),
            Self::PluginFailed(_) | Self::Busy => Some(retry_after::soon()),
            _ => None,
        }
    }
}

impl IntoResponse for Rejection {
    fn into_response(self) -> Response {
        match &self {
            Self::PluginFailed(_) | Self::Busy => tracing::warn!(error = %self, "request not served"),
            Self::Denied { plugin, .. } => tracing::debug!(%plugin, "request refused"),
            _ => tracing::debug!(error = %self, "request refused"),
        }
        // Callers must not see which plugin failed.
        let text = if matches!(self, Self::PluginFailed(_)) { "unavailable".to_owned() } else { self.to_string() };
        let mut response = error(self.status(), "error", &text);
        if let Some(seconds) = self.retry_after() {
            retry_after::set(response.headers_mut(), seconds);
        }
        response
    }
}

/// Returns a response with `{"error": …}` or `{"message": …}` and a line end.
pub(super) fn error(status: StatusCode, property: &str, text: &str) -> Response {
    let body = format!("{}\n", json!({ property: text }));
    (status, [(CONTENT_TYPE, HeaderValue::from_static("application/json; charset=UTF-8"))], body).into_response()
}

/// Returns a JSON response.
pub(super) fn json_body(body: impl Into<axum::body::Body>) -> Response {
    let headers = [(CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"))];
    (headers, body.into()).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_that_may_heal_are_retried_by_sdks() {
        let denied = |denial| Rejection::Denied { plugin: "gate".into(), denial };
        let failed = Rejection::PluginFailed(HookFailure { plugin: "gate".into(), class: "trap" });
        for (rejection, status) in [
            (Rejection::NoToken, 401),
            (Rejection::OtherEnvironment, 401),
            (Rejection::UnknownKey, 401),
            (Rejection::NotReady, 500),
            (Rejection::NoData, 500),
            (Rejection::Bad("x".into()), 400),
            (Rejection::NotFound("x".into()), 404),
            (Rejection::UnknownFlag, 404),
            (Rejection::Evaluation("x".into()), 500),
            (Rejection::TooLarge, 413),
            (Rejection::StreamingDisabled, 501),
            (Rejection::SourceLost, 503),
            (denied(Denial::Unauthorized), 401),
            (denied(Denial::Forbidden), 403),
            (denied(Denial::RateLimited(7)), 429),
            (denied(Denial::Unavailable), 503),
            (failed, 503),
            (Rejection::Busy, 503),
        ] {
            let text = rejection.to_string();
            assert_eq!(rejection.into_response().status(), status, "{text}");
        }
    }
}
