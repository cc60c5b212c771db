//! CORS headers of browser routes (L162 to L172, V018, V019).

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
};
use http::{HeaderMap, HeaderValue};

use crate::config::EnvironmentConfig;

/// Headers that browsers may always send (launchdarkly/ld-relay `internal/browser/cors.go`).
const ALLOWED_HEADERS: &str = "Cache-Control,Content-Type,Content-Length,Accept-Encoding,X-LaunchDarkly-User-Agent,X-LaunchDarkly-Payload-ID,X-LaunchDarkly-Wrapper,X-LaunchDarkly-Event-Schema,X-LaunchDarkly-Tags";
/// Further ones on routes where the credential may be in a header.
const MORE_ALLOWED_HEADERS: &str = ",X-LaunchDarkly-Instance-Id,Authorization,If-None-Match";
/// Headers that scripts may read, and those on routes of the second version of the delivery protocol.
const EXPOSED_HEADERS: &str = "Date";
const MORE_EXPOSED_HEADERS: &str = "Date,ETag,X-LD-EnvID,X-LD-FD-Fallback,X-LD-FD-Fallback-TTL";

/// What scripts in browsers may do with a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cors {
    /// The rules of the reference: nothing but the methods while the environment is not known, and any origin on streams.
    Path(&'static str),
    /// The same rules for every answer, errors included, because SDKs act on statuses and headers.
    Everywhere(&'static str),
}

impl Cors {
    /// The methods of the path.
    pub(super) fn methods(self) -> &'static str {
        match self {
            Self::Path(methods) | Self::Everywhere(methods) => methods,
        }
    }

    /// Adds the headers to an answer of an environment with these settings.
    pub(super) fn add(self, headers: &mut HeaderMap, config: &EnvironmentConfig, origin: Option<&HeaderValue>) {
        self.add_for(headers, &config.allowed_origins, &config.allowed_headers, origin);
    }

    /// Adds the headers to an answer without an environment.
    pub(super) fn add_without_environment(self, headers: &mut HeaderMap, origin: Option<&HeaderValue>) {
        match self {
            Self::Path(methods) => {
                headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(methods));
            }
            Self::Everywhere(_) => self.add_for(headers, &[], &[], origin),
        }
    }

    fn add_for(
        self,
        headers: &mut HeaderMap,
        origins: &[String],
        more_headers: &[String],
        origin: Option<&HeaderValue>,
    ) {
        let allowed = match (origins.first(), origin) {
            (None, None) => Some(HeaderValue::from_static("*")),
            (None, Some(origin)) => Some(origin.clone()),
            (Some(first), origin) => {
                let is_listed = |origin: &&HeaderValue| origins.iter().any(|it| it.as_bytes() == origin.as_bytes());
                origin.filter(is_listed).cloned().or_else(|| HeaderValue::from_str(first).ok())
            }
        };
        let (more_allowed, exposed) = match self {
            Self::Path(_) => ("", EXPOSED_HEADERS),
            Self::Everywhere(_) => (MORE_ALLOWED_HEADERS, MORE_EXPOSED_HEADERS),
        };
        let mut allowed_headers = format!("{ALLOWED_HEADERS}{more_allowed}");
        for header in more_headers {
            allowed_headers.push(',');
            allowed_headers.push_str(header);
        }
        headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("false"));
        headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("300"));
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(exposed));
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(self.methods()));
        if let Ok(allowed_headers) = HeaderValue::from_str(&allowed_headers) {
            headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, allowed_headers);
        }
        // Streams have set `*` already, which the reference keeps.
        let keeps_origin = matches!(self, Self::Path(_)) && headers.contains_key(ACCESS_CONTROL_ALLOW_ORIGIN);
        if let Some(allowed) = allowed.filter(|_| !keeps_origin) {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
        }
    }
}
