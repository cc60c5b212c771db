//! Events and diagnostics: checked, answered, and handed over before anybody reads them.

mod gzip;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use base64::{Engine, alphabet};
use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, StatusCode, Uri};
use http_body_util::BodyExt;

use self::gzip::BadHead;
use super::Downstream;
use super::auth::Caller;
use super::query::first_query_value;
use super::rejection::Rejection;
use crate::environments::{Events, SdkKind};
use crate::upstream::events::{Diagnostic, EventPort, Post};

/// Why a post is not taken (section 10.2 of the compatibility page).
#[derive(Debug)]
enum PostRejection {
    /// Said to be compressed and does not even begin so.
    NotGzip(BadHead),
    Disabled,
    Unreadable,
    Empty,
}

/// A transparent pixel, byte for byte the reference's.
const PIXEL: &[u8] = &[
    0x47, 0x49, 0x46, 0x38, 0x39, 0x61, 0x01, 0x00, 0x01, 0x00, 0x80, 0x00, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff,
    0x21, 0xf9, 0x04, 0x01, 0x00, 0x00, 0x00, 0x00, 0x2c, 0x00, 0x00, 0x00, 0x00, 0x01, 0x00, 0x01, 0x00, 0x00, 0x02,
    0x01, 0x44, 0x00, 0x3b,
];

/// `POST /bulk`, `/mobile…`, `/events/bulk/{envId}`
pub(super) async fn analytics(State(downstream): State<Downstream>, caller: Caller, request: Request) -> Response {
    let headers = request.headers().clone();
    let (port, body) = match take(&downstream, &caller, request).await {
        Ok(Some(taken)) => taken,
        Ok(None) => return StatusCode::ACCEPTED.into_response(),
        Err(rejection) => return rejection.into_response(),
    };
    let schema = headers.get("x-launchdarkly-event-schema").and_then(|it| it.to_str().ok()?.trim().parse().ok());
    let tags = headers.get("x-launchdarkly-tags").and_then(|it| it.to_str().ok());
    // An empty one is none, as in Go.
    let tags = tags.filter(|it| !it.is_empty()).map(Arc::from);
    let schema = schema.filter(|it| *it > 0).unwrap_or(1);
    let is_unsummarized = headers.contains_key("x-launchdarkly-unsummarized");
    let post = Post { kind: caller.kind, route: caller.route, schema, is_unsummarized, tags, body };
    match port.accept(post) {
        Ok(()) => StatusCode::ACCEPTED.into_response(),
        Err(_) => Rejection::Busy.into_response(caller.kind),
    }
}

/// `POST /diagnostic`, `/mobile/events/diagnostic`, `/events/diagnostic/{envId}`
pub(super) async fn diagnostic(State(downstream): State<Downstream>, caller: Caller, request: Request) -> Response {
    let headers = request.headers().clone();
    let (port, body) = match take(&downstream, &caller, request).await {
        Ok(Some(taken)) => taken,
        Ok(None) => return StatusCode::ACCEPTED.into_response(),
        Err(rejection) => return rejection.into_response(),
    };
    let path = match caller.kind {
        SdkKind::Server => "/diagnostic".to_owned(),
        SdkKind::Mobile => "/mobile/events/diagnostic".to_owned(),
        SdkKind::Browser => {
            let id = caller.config.credentials.env_id().map_or("", |it| it.as_str());
            format!("/events/diagnostic/{id}")
        }
    };
    port.diagnostic(Diagnostic { kind: caller.kind, route: caller.route, path, headers, body });
    StatusCode::ACCEPTED.into_response()
}

/// `GET /a/{envId}.gif?d=…`, for very old browsers.
pub(super) async fn pixel(caller: Caller, uri: Uri) -> Response {
    // Also in offline mode, where posts are accepted: the reference's own exception.
    let Some(port) = caller.environment.events.port() else { return PostRejection::Disabled.into_response() };
    let events = first_query_value(uri.query(), "d").and_then(|it| decoded(&it));
    if let Some(body) = events.filter(|it| !it.is_empty()) {
        let (kind, route, body) = (SdkKind::Browser, caller.route, body.into());
        let post = Post { kind, route, schema: 3, is_unsummarized: false, tags: None, body };
        if port.accept(post).is_err() {
            return Rejection::Busy.into_response(caller.kind);
        }
    }
    ([(CONTENT_TYPE, HeaderValue::from_static("image/gif"))], PIXEL).into_response()
}

/// Events in a query: padded base64, in which line ends and left-over bits do not count.
fn decoded(text: &str) -> Option<Vec<u8>> {
    let config = GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireCanonical);
    let text: String = text.chars().filter(|it| !matches!(it, '\r' | '\n')).collect();
    GeneralPurpose::new(&alphabet::STANDARD, config).decode(text).ok()
}

/// The way out and the decompressed body; `None` where events are accepted and forgotten.
async fn take<'a>(
    downstream: &Downstream,
    caller: &'a Caller,
    request: Request,
) -> Result<Option<(&'a EventPort, Bytes)>, PostRejection> {
    let is_gzip = is_gzip(request.headers());
    let limit = usize::try_from(downstream.config.events_max_payload).unwrap_or(usize::MAX);
    let body = read(request.into_body(), if is_gzip { gzip::compressed_limit(limit) } else { limit }).await;
    if is_gzip {
        gzip::check_head(&body.bytes).map_err(PostRejection::NotGzip)?;
    }
    let port = match &caller.environment.events {
        Events::Discarded => return Ok(None),
        Events::Off => return Err(PostRejection::Disabled),
        Events::Forwarded(port) => port,
    };
    if !body.is_whole {
        return Err(PostRejection::Unreadable);
    }
    let mut body = body.bytes;
    if is_gzip {
        // A small post can hide megabytes, so it is inflated where it delays nobody.
        let inflated = tokio::task::spawn_blocking(move || gzip::inflate(&body, limit)).await;
        body = inflated.ok().flatten().ok_or(PostRejection::Unreadable)?;
    }
    if body.is_empty() { Err(PostRejection::Empty) } else { Ok(Some((port, body))) }
}

/// What came of a body: all of it, or its beginning, if it broke off or was too large.
struct Received {
    bytes: Bytes,
    is_whole: bool,
}

async fn read(mut body: Body, limit: usize) -> Received {
    let mut parts: Vec<Bytes> = Vec::new();
    let mut length = 0;
    let is_whole = loop {
        match body.frame().await {
            None => break true,
            Some(Err(_)) => break false,
            Some(Ok(frame)) => {
                let Ok(data) = frame.into_data() else { continue };
                length += data.len();
                parts.push(data);
                if length > limit {
                    break false;
                }
            }
        }
    };
    // Most posts come in one piece, which need not be copied.
    let bytes = if let [whole] = &*parts { whole.clone() } else { parts.concat().into() };
    Received { bytes, is_whole }
}

fn is_gzip(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_ENCODING).is_some_and(|it| it.as_bytes().windows(4).any(|part| part == b"gzip"))
}

#[cfg(fuzzing)]
pub(super) fn fuzz_gzip(body: &[u8]) {
    let _ = gzip::check_head(body);
    let _ = gzip::inflate(body, 1 << 20);
}

impl IntoResponse for PostRejection {
    fn into_response(self) -> Response {
        let (status, text) = match self {
            Self::NotGzip(head) => (StatusCode::BAD_REQUEST, head.text()),
            Self::Disabled => {
                (StatusCode::SERVICE_UNAVAILABLE, r#"{"message":"Event proxy is not enabled for this environment"}"#)
            }
            Self::Unreadable => (StatusCode::BAD_REQUEST, r#"{"message":"unable to read request body"}"#),
            Self::Empty => (StatusCode::BAD_REQUEST, r#"{"message":"body may not be empty"}"#),
        };
        // Looks like JSON and is not called so: the reference's own slip, which nobody dares to change.
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        if matches!(self, Self::NotGzip(_)) {
            headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        }
        (status, headers, text).into_response()
    }
}
