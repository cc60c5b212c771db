//! Reasons why a request is rejected, and their statuses.
//!
//! SDKs give up for good on some statuses, and not all on the same ones (F048 to F051). A failure that may heal is a 500: the
//! Python SDK would not retry after a 503.

use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};
use serde_json::json;
use yardarm_core::hooks::HookFailure;
use yardarm_core::registry::TooManyStreams;
use yardarm_core::retry_after;
use yardarm_vendor::admission::Refusal;
use yardarm_vendor::body::BodyError;

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
    /// A plugin denied the request, or a required one failed.
    #[error(transparent)]
    Refused(#[from] Refusal),
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
            Self::SourceLost | Self::Busy => StatusCode::SERVICE_UNAVAILABLE,
            Self::Refused(refusal) => refusal.status(),
        }
    }

    /// Returns the text for the caller, who must not see which plugin refused the request.
    fn text(&self) -> String {
        match self {
            Self::Refused(Refusal::Denied(_)) => "refused".to_owned(),
            Self::Refused(Refusal::Failed(_)) => "unavailable".to_owned(),
            other => other.to_string(),
        }
    }

    /// Returns the seconds after which a retry makes sense.
    fn retry_after(&self) -> Option<u32> {
        match self {
            Self::Refused(refusal) => refusal.retry_after(),
            Self::Busy => Some(retry_after::soon()),
            _ => None,
        }
    }
}

impl IntoResponse for Rejection {
    fn into_response(self) -> Response {
        match &self {
            Self::Refused(refusal) => refusal.log(),
            Self::Busy => tracing::warn!(error = %self, "request not served"),
            _ => tracing::debug!(error = %self, "request refused"),
        }
        let mut response = error(self.status(), "error", &self.text());
        if let Some(seconds) = self.retry_after() {
            retry_after::set(response.headers_mut(), seconds);
        }
        if let Self::Refused(refusal) = &self {
            refusal.add_headers(response.headers_mut());
        }
        response
    }
}

impl From<HookFailure> for Rejection {
    fn from(failure: HookFailure) -> Self {
        Self::Refused(failure.into())
    }
}

impl From<TooManyStreams> for Rejection {
    fn from(_: TooManyStreams) -> Self {
        Self::Busy
    }
}

impl From<BodyError> for Rejection {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::TooLarge => Self::TooLarge,
            BodyError::Interrupted => Self::Bad(error.to_string()),
            BodyError::Busy => Self::Busy,
        }
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
    use yardarm_core::hooks::{Denial, DenialClass};

    use super::*;

    #[test]
    fn failures_that_may_heal_are_retried_by_sdks() {
        let denied = |class| Rejection::Refused(Refusal::Denied(Denial::new("gate".into(), class)));
        let failed = Rejection::from(HookFailure { plugin: "gate".into(), class: "trap" });
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
            (denied(DenialClass::Unauthorized), 401),
            (denied(DenialClass::Forbidden), 403),
            (denied(DenialClass::RateLimited), 429),
            (denied(DenialClass::Unavailable), 503),
            (failed, 503),
            (Rejection::Busy, 503),
        ] {
            let text = rejection.text();
            assert!(!text.contains("gate"), "{text}");
            assert_eq!(rejection.into_response().status(), status, "{text}");
        }
    }
}
