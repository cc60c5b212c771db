//! Rejections of requests and their statuses.
//!
//! SDKs stop for good on most 4xx, so only a decision about the caller may become one; a failure of the gateway is a 503.

use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};
use yardarm_core::hooks::{Denial, DenialClass};
use yardarm_core::registry::TooManyStreams;
use yardarm_core::retry_after;
use yardarm_vendor::admission::Refusal;
use yardarm_vendor::upstream::LogThrottle;

use super::routes::Credential;

/// Log lines about requests for which there is no room.
static LACKS_OF_ROOM: LogThrottle = LogThrottle::new(Duration::from_secs(10));

/// Rejections that all authenticated routes share.
#[derive(Debug, thiserror::Error)]
pub(super) enum Rejection {
    /// No usable `Authorization` header.
    #[error("no credential")]
    NoCredential,
    /// A credential that no environment has.
    #[error("unknown credential")]
    UnknownCredential,
    /// The list of environments has not been received yet.
    #[error("list of environments is not known yet")]
    Unlisted,
    /// The credential is known, its environment has no such payload filter.
    #[error("unknown payload filter")]
    UnknownFilter,
    /// The first upstream connection is still being established.
    #[error("environment is starting")]
    Starting,
    /// Upstream rejects the key of the environment, which has no data. That ends without a change in the application,
    /// so it must not look like an unknown credential, which is final for SDKs.
    #[error("upstream rejects the SDK key of the environment")]
    RejectedUpstream,
    /// A plugin denied the request, or a required one failed.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// As many streams as allowed are open.
    #[error("too many streams; raise `server.max_streams` or the limit of open files, or add gateways")]
    Busy,
    /// Bodies of such callers take all memory for them. The budget logs this, not each rejection.
    #[error("too much is under way")]
    Overloaded,
}

const UNLISTED: &str = "Relay Proxy is not yet fully initialized, does not have list of environments yet";
const UNKNOWN_FILTER: &str = "Relay Proxy recognizes the provided credential, but the payload filter was not found";
const UNKNOWN_KEY: &str =
    "Relay Proxy does not recognize the client credential (missing or invalid Authorization header)";
const UNKNOWN_ID: &str = "URL did not contain an environment ID";
const STARTING: &str = "client was not initialized";

/// Extension of an answer to a caller whose credential was not accepted: it must not name an environment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unrecognised;

impl Rejection {
    /// The answer that callers with this place of their credential understand.
    pub(super) fn into_response(self, place: Credential) -> Response {
        let is_in_path = place == Credential::EnvironmentId;
        let (status, text) = match &self {
            Self::NoCredential => (StatusCode::UNAUTHORIZED, ""),
            // A denial of the credential by a plugin is answered like an unknown credential.
            Self::UnknownCredential
            | Self::Refused(Refusal::Denied(Denial { class: DenialClass::Unauthorized, .. })) => {
                if is_in_path {
                    (StatusCode::NOT_FOUND, UNKNOWN_ID)
                } else {
                    (StatusCode::UNAUTHORIZED, UNKNOWN_KEY)
                }
            }
            Self::Unlisted => (StatusCode::SERVICE_UNAVAILABLE, UNLISTED),
            Self::UnknownFilter => (StatusCode::NOT_FOUND, UNKNOWN_FILTER),
            Self::Starting | Self::RejectedUpstream => (StatusCode::SERVICE_UNAVAILABLE, STARTING),
            Self::Refused(refusal) => (refusal.status(), ""),
            Self::Busy | Self::Overloaded => (StatusCode::SERVICE_UNAVAILABLE, ""),
        };
        self.log();
        let mut response = if text.is_empty() {
            status.into_response()
        } else {
            (status, [(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"))], text).into_response()
        };
        if let Some(seconds) = self.retry_after() {
            retry_after::set(response.headers_mut(), seconds);
        }
        if let Self::Refused(refusal) = &self {
            refusal.add_headers(response.headers_mut());
        }
        if self.is_about_credential() {
            response.extensions_mut().insert(Unrecognised);
        }
        response
    }

    /// Whether the caller is answered like one whose credential matches no environment.
    fn is_about_credential(&self) -> bool {
        matches!(
            self,
            Self::NoCredential
                | Self::UnknownCredential
                | Self::Refused(Refusal::Denied(Denial { class: DenialClass::Unauthorized, .. }))
        )
    }

    /// Seconds after which a retry may succeed.
    fn retry_after(&self) -> Option<u32> {
        match self {
            Self::Refused(refusal) => refusal.retry_after(),
            Self::Unlisted | Self::Starting | Self::RejectedUpstream | Self::Busy | Self::Overloaded => {
                Some(retry_after::soon())
            }
            Self::NoCredential | Self::UnknownCredential | Self::UnknownFilter => None,
        }
    }

    /// Logs the rejection. A flood of requests without room makes one line per interval.
    fn log(&self) {
        match self {
            Self::Refused(refusal) => refusal.log(),
            Self::Busy => {
                if let Some(suppressed) = LACKS_OF_ROOM.next_line() {
                    tracing::warn!(error = %self, suppressed, "request not served");
                }
            }
            _ => tracing::debug!(error = %self, "request refused"),
        }
    }
}

impl From<TooManyStreams> for Rejection {
    fn from(_: TooManyStreams) -> Self {
        Self::Busy
    }
}

#[cfg(test)]
mod tests {
    use yardarm_core::hooks::HookFailure;

    use super::*;

    #[test]
    fn only_decisions_about_the_caller_are_final() {
        let denied = |class| Rejection::from(Refusal::Denied(Denial::new("gate".into(), class)));
        let failed = || Rejection::from(Refusal::from(HookFailure { plugin: "gate".into(), class: "trap" }));
        for (rejection, key_status, id_status) in [
            (Rejection::NoCredential, 401, 401),
            (Rejection::UnknownCredential, 401, 404),
            (Rejection::Unlisted, 503, 503),
            (Rejection::UnknownFilter, 404, 404),
            (Rejection::Starting, 503, 503),
            (Rejection::RejectedUpstream, 503, 503),
            (denied(DenialClass::Unauthorized), 401, 404),
            (denied(DenialClass::Forbidden), 403, 403),
            (denied(DenialClass::RateLimited), 429, 429),
            (denied(DenialClass::Unavailable), 503, 503),
            (failed(), 503, 503),
            (Rejection::Busy, 503, 503),
            (Rejection::Overloaded, 503, 503),
        ] {
            let again = || match &rejection {
                Rejection::NoCredential => Rejection::NoCredential,
                Rejection::UnknownCredential => Rejection::UnknownCredential,
                Rejection::Unlisted => Rejection::Unlisted,
                Rejection::UnknownFilter => Rejection::UnknownFilter,
                Rejection::Starting => Rejection::Starting,
                Rejection::RejectedUpstream => Rejection::RejectedUpstream,
                Rejection::Refused(refusal) => refusal.clone().into(),
                Rejection::Busy => Rejection::Busy,
                Rejection::Overloaded => Rejection::Overloaded,
            };
            assert_eq!(again().into_response(Credential::Authorization).status(), key_status, "{rejection}");
            assert_eq!(again().into_response(Credential::EnvironmentId).status(), id_status, "{rejection}");
            assert_eq!(again().into_response(Credential::HeaderOrQuery).status(), key_status, "V006: {rejection}");
        }
        let limited = Denial { retry_after: Some(7), ..Denial::new("gate".into(), DenialClass::RateLimited) };
        let response = Rejection::from(Refusal::Denied(limited)).into_response(Credential::Authorization);
        let seconds: u32 = response.headers()["retry-after"].to_str().unwrap().parse().unwrap();
        assert!((7..=10).contains(&seconds), "{seconds}");
    }
}
