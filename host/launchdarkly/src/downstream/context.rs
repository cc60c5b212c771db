//! Evaluation contexts in paths and bodies of requests.

use std::sync::Arc;

use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap};
use http::{HeaderValue, StatusCode};
use yardarm_core::budget::{Account, Charge};
use yardarm_launchdarkly_eval::model::Context;
use yardarm_vendor::body::{self, BodyError};

use super::Downstream;
use super::auth::Caller;
use super::query::first_query_value;
use super::rejection::Rejection;
use super::routes::Credential;
use crate::config::EnvironmentConfig;
use crate::evaluation::ClientContext;
use crate::identity::SdkKind;

/// Why a context was rejected.
#[derive(Debug, thiserror::Error)]
pub(super) enum ContextRejection {
    #[error("context part of URL path did not decode as valid base64")]
    Base64,
    #[error("context part of URL path did not decode to valid evaluation context as JSON")]
    Json,
    #[error("{0}")]
    Body(String),
    #[error("Content-Type must be application/json.")]
    ContentType,
    #[error("Request body exceeds maximum allowed size.")]
    TooLarge,
    #[error("Environment is in secure mode, and context hash does not match.")]
    Hash,
    /// Too many bodies are in flight.
    #[error("too busy")]
    Busy,
}

/// URL-safe, with correct padding or none; like the reference, it ignores left-over bits in the last character.
const PADDED: GeneralPurpose = engine(DecodePaddingMode::RequireCanonical);
const UNPADDED: GeneralPurpose = engine(DecodePaddingMode::RequireNone);

const fn engine(padding: DecodePaddingMode) -> GeneralPurpose {
    let config = GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true).with_decode_padding_mode(padding);
    GeneralPurpose::new(&alphabet::URL_SAFE, config)
}

/// Reads the context in the variable `context` of a path.
pub(super) fn from_path(
    downstream: &Downstream,
    caller: &Caller,
    query: Option<&str>,
    variables: &[(String, String)],
) -> Result<ClientContext, ContextRejection> {
    let segment = variables.iter().find(|(name, _)| name == "context").map_or("", |(_, segment)| segment);
    let context = Proof::demanded(caller, query).check(decode(segment)?)?;
    Ok(ClientContext::new(context, downstream.limits.readers(caller.kind.trust()), None))
}

/// Reads a path segment, which the router has decoded.
pub(super) fn decode(segment: &str) -> Result<Context, ContextRejection> {
    let text: String = segment.chars().filter(|it| !matches!(it, '\r' | '\n')).collect();
    let json = PADDED.decode(&text).or_else(|_| UNPADDED.decode(&text)).map_err(|_| ContextRejection::Base64)?;
    Context::parse(&json).map_err(|_| ContextRejection::Json)
}

/// Reads the context in a body. A large one is parsed off the serving threads.
pub(super) async fn from_body(
    downstream: &Downstream,
    caller: &Caller,
    request: Request,
) -> Result<ClientContext, ContextRejection> {
    let (kind, limits) = (caller.kind, &downstream.limits);
    if !is_json(request.headers().get(CONTENT_TYPE), caller.place) {
        return Err(ContextRejection::ContentType);
    }
    let proof = Proof::demanded(caller, request.uri().query());
    let limit = downstream.config.max_client_request_body;
    let (body, charge) = read(request, limit, limits.requests(kind.trust())).await?;
    let is_large = charge.is_some();
    let parse = move || proof.check(Context::parse(&body).map_err(|error| ContextRejection::Body(error.to_string()))?);
    let context = if is_large {
        limits.offload(kind.trust(), parse).await.unwrap_or(Err(ContextRejection::Busy))?
    } else {
        parse()?
    };
    Ok(ClientContext::new(context, limits.readers(kind.trust()), charge))
}

/// Whether the type of a body is JSON. The reference compares the whole text; SDKs stop for good after a 415, so routes of
/// the second version of the delivery protocol accept it in any form (V012).
fn is_json(content_type: Option<&HeaderValue>, place: Credential) -> bool {
    let Some(text) = content_type.map(HeaderValue::as_bytes) else { return false };
    if place != Credential::HeaderOrQuery {
        return text == b"application/json";
    }
    let essence = text.split(|it| *it == b';').next().unwrap_or_default();
    essence.trim_ascii().eq_ignore_ascii_case(b"application/json")
}

/// Reads a body. Only large ones are charged to `account`, so that they never displace small ones.
async fn read(
    request: Request,
    limit: u64,
    account: &Arc<Account>,
) -> Result<(Bytes, Option<Charge>), ContextRejection> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut charge = None;
    let grants = |length| !ClientContext::is_large(length) || account.cover(&mut charge, length);
    match body::collect(request.into_body(), limit, grants).await {
        Ok(body) => Ok((body, charge)),
        Err(BodyError::TooLarge) => Err(ContextRejection::TooLarge),
        Err(BodyError::Busy) => Err(ContextRejection::Busy),
        Err(error @ BodyError::Interrupted) => Err(ContextRejection::Body(error.to_string())),
    }
}

/// Secure mode: a browser proves its context with a hash (L144 to L148).
enum Proof {
    Needless,
    Hash { hash: String, config: Arc<EnvironmentConfig> },
}

impl Proof {
    /// The check for `caller` with the hash from the request.
    fn demanded(caller: &Caller, query: Option<&str>) -> Self {
        let config = &caller.config;
        if caller.kind != SdkKind::Browser || !config.secure_mode {
            return Self::Needless;
        }
        Self::Hash { hash: first_query_value(query, "h").unwrap_or_default(), config: Arc::clone(config) }
    }

    fn check(self, context: Context) -> Result<Context, ContextRejection> {
        match self {
            Self::Hash { hash, config } if !context.verify_hash(config.credentials.sdk_key().expose(), &hash) => {
                Err(ContextRejection::Hash)
            }
            _ => Ok(context),
        }
    }
}

impl IntoResponse for ContextRejection {
    fn into_response(self) -> Response {
        let status = match self {
            // The same for every kind of caller.
            Self::Busy => return Rejection::Overloaded.into_response(Credential::Authorization),
            Self::ContentType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            _ => StatusCode::BAD_REQUEST,
        };
        if matches!(self, Self::ContentType) {
            let headers = [(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"))];
            return (status, headers, self.to_string()).into_response();
        }
        message(status, &self.to_string())
    }
}

/// `{"message": …}`, the shape of every error around evaluation.
pub(super) fn message(status: StatusCode, text: &str) -> Response {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    (status, headers, serde_json::json!({ "message": text }).to_string()).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_read_as_leniently_as_in_the_reference() {
        // L105 to L107; `eyJrZXkiOiJhIn0` is `{"key":"a"}`.
        for (segment, is_read) in [
            ("eyJrZXkiOiJhIn0=", true),
            ("eyJrZXkiOiJhIn0", true),
            ("eyJrZXkiOiJhIn0==", false),
            ("eyJrZXkiOiJhIn1", true),
            ("eyJrZX\nkiOiJhIn0", true),
            ("eyJrZXki\r\nOiJhIn0=", true),
            ("eyJrZXkiOiI-PyJ9", true),
            ("eyJrZXkiOiI+PyJ9", false),
            ("!!!!", false),
        ] {
            let outcome = decode(segment);
            assert_eq!(outcome.is_ok(), is_read, "{segment}: {outcome:?}");
            assert!(is_read || matches!(outcome, Err(ContextRejection::Base64)), "{segment}");
        }
        assert!(matches!(decode("bm90IGpzb24"), Err(ContextRejection::Json)), "L108");
    }

    proptest::proptest! {
        #[test]
        fn no_segment_makes_it_panic(segment in "\\PC*") {
            let _ = decode(&segment);
        }
    }
}
