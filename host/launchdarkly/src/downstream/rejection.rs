//! Why a request is not served, and with which status.
//!
//! SDKs stop for good on most 4xx, so only a decision about the caller may become one; a fault of ours is a 503.

use std::sync::Arc;

use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, StatusCode};
use yardarm_core::hooks::{Denial, HookFailure, soon};

use crate::environments::SdkKind;

/// Refusals that every authenticated route shares.
#[derive(Debug, thiserror::Error)]
pub(super) enum Rejection {
    /// No usable `Authorization` header.
    #[error("no credential")]
    NoCredential,
    /// A credential that no environment has, or whose environment upstream rejects.
    #[error("unknown credential")]
    UnknownCredential,
    /// Nobody has said yet which environments there are.
    #[error("list of environments is not known yet")]
    Unlisted,
    /// The credential is known, its environment has no such payload filter.
    #[error("unknown payload filter")]
    UnknownFilter,
    /// The first upstream connection is still under way.
    #[error("environment is starting")]
    Starting,
    /// A plugin looked at the request and said no.
    #[error("refused by plugin `{plugin}`")]
    Denied {
        /// Name of the plugin.
        plugin: Arc<str>,
        denial: Denial,
    },
    /// A plugin that has to be asked could not decide.
    #[error(transparent)]
    PluginFailed(HookFailure),
    /// As many streams as allowed are open, or too many events wait.
    #[error("too busy")]
    Busy,
}

const UNLISTED: &str = "Relay Proxy is not yet fully initialized, does not have list of environments yet";
const UNKNOWN_FILTER: &str = "Relay Proxy recognizes the provided credential, but the payload filter was not found";
const UNKNOWN_KEY: &str =
    "Relay Proxy does not recognize the client credential (missing or invalid Authorization header)";
const UNKNOWN_ID: &str = "URL did not contain an environment ID";
const STARTING: &str = "client was not initialized";

impl Rejection {
    /// The answer that callers of this kind understand.
    pub(super) fn into_response(self, kind: SdkKind) -> Response {
        let is_browser = kind == SdkKind::Browser;
        let (status, text) = match &self {
            Self::NoCredential => (StatusCode::UNAUTHORIZED, ""),
            // A plugin that does not accept a credential says what an unknown credential would be told.
            Self::UnknownCredential | Self::Denied { denial: Denial::Unauthorized, .. } if is_browser => {
                (StatusCode::NOT_FOUND, UNKNOWN_ID)
            }
            Self::UnknownCredential | Self::Denied { denial: Denial::Unauthorized, .. } => {
                (StatusCode::UNAUTHORIZED, UNKNOWN_KEY)
            }
            Self::Unlisted => (StatusCode::SERVICE_UNAVAILABLE, UNLISTED),
            Self::UnknownFilter => (StatusCode::NOT_FOUND, UNKNOWN_FILTER),
            Self::Starting => (StatusCode::SERVICE_UNAVAILABLE, STARTING),
            Self::Denied { denial: Denial::Forbidden, .. } => (StatusCode::FORBIDDEN, ""),
            Self::Denied { denial: Denial::RateLimited(_), .. } => (StatusCode::TOO_MANY_REQUESTS, ""),
            Self::Denied { denial: Denial::Unavailable, .. } | Self::PluginFailed(_) | Self::Busy => {
                (StatusCode::SERVICE_UNAVAILABLE, "")
            }
        };
        match &self {
            Self::PluginFailed(_) | Self::Busy => tracing::warn!(error = %self, "request not served"),
            _ => tracing::debug!(error = %self, "request refused"),
        }
        let mut response = if text.is_empty() {
            status.into_response()
        } else {
            (status, [(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"))], text).into_response()
        };
        if let Some(seconds) = self.retry_after() {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }

    /// Seconds after which it makes sense to come back.
    fn retry_after(&self) -> Option<u32> {
        match self {
            Self::Denied { denial, .. } => denial.retry_after(),
            Self::PluginFailed(_) | Self::Busy => Some(soon()),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_decisions_about_the_caller_are_final() {
        let denied = |denial| Rejection::Denied { plugin: "gate".into(), denial };
        let failed = || Rejection::PluginFailed(HookFailure { plugin: "gate".into(), class: "trap" });
        for (rejection, key_status, id_status) in [
            (Rejection::NoCredential, 401, 401),
            (Rejection::UnknownCredential, 401, 404),
            (Rejection::Unlisted, 503, 503),
            (Rejection::UnknownFilter, 404, 404),
            (Rejection::Starting, 503, 503),
            (denied(Denial::Unauthorized), 401, 404),
            (denied(Denial::Forbidden), 403, 403),
            (denied(Denial::RateLimited(7)), 429, 429),
            (denied(Denial::Unavailable), 503, 503),
            (failed(), 503, 503),
            (Rejection::Busy, 503, 503),
        ] {
            let again = || match &rejection {
                Rejection::NoCredential => Rejection::NoCredential,
                Rejection::UnknownCredential => Rejection::UnknownCredential,
                Rejection::Unlisted => Rejection::Unlisted,
                Rejection::UnknownFilter => Rejection::UnknownFilter,
                Rejection::Starting => Rejection::Starting,
                Rejection::Denied { denial, .. } => denied(*denial),
                Rejection::PluginFailed(_) => failed(),
                Rejection::Busy => Rejection::Busy,
            };
            assert_eq!(again().into_response(SdkKind::Server).status(), key_status, "{rejection}");
            assert_eq!(again().into_response(SdkKind::Browser).status(), id_status, "{rejection}");
        }
        let response = denied(Denial::RateLimited(7)).into_response(SdkKind::Server);
        assert_eq!(response.headers()[RETRY_AFTER], "7");
    }
}
