//! Events and diagnostics: checked, answered, and handed over before anybody reads them.

use std::io::Read;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, StatusCode, Uri};
use http_body_util::{BodyExt, Collected, Limited};

use super::Downstream;
use super::auth::{Caller, first_query_value};
use super::rejection::Rejection;
use crate::environments::{Events, SdkKind};
use crate::upstream::events::{EventPort, Post};

/// Why a post is not taken (section 10.2 of the compatibility page).
#[derive(Debug)]
enum PostRejection {
    /// Said to be compressed and does not even begin so. The text is that of Go's decompressor.
    NotGzip(&'static str),
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
    let tags = headers.get("x-launchdarkly-tags").and_then(|it| it.to_str().ok()).map(Arc::from);
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
    port.diagnostic(path, &headers, body);
    StatusCode::ACCEPTED.into_response()
}

/// `GET /a/{envId}.gif?d=…`, for very old browsers.
pub(super) async fn pixel(caller: Caller, uri: Uri) -> Response {
    // Also in offline mode, where posts are accepted: the reference's own exception.
    let Some(port) = caller.environment.events.port() else { return PostRejection::Disabled.into_response() };
    let events = first_query_value(uri.query(), "d").and_then(|it| STANDARD.decode(it).ok());
    if let Some(body) = events.filter(|it| !it.is_empty()) {
        let (kind, route, body) = (SdkKind::Browser, caller.route, body.into());
        let post = Post { kind, route, schema: 3, is_unsummarized: false, tags: None, body };
        if port.accept(post).is_err() {
            return Rejection::Busy.into_response(caller.kind);
        }
    }
    ([(CONTENT_TYPE, HeaderValue::from_static("image/gif"))], PIXEL).into_response()
}

/// The way out and the decompressed body; `None` where events are accepted and forgotten.
async fn take<'a>(
    downstream: &Downstream,
    caller: &'a Caller,
    request: Request,
) -> Result<Option<(&'a EventPort, Bytes)>, PostRejection> {
    let is_gzip = is_gzip(request.headers());
    let limit = usize::try_from(downstream.config.events_max_payload).unwrap_or(usize::MAX);
    let body = Limited::new(request.into_body(), limit).collect().await.map(Collected::to_bytes);
    if is_gzip && let Ok(body) = &body {
        check_gzip_head(body)?;
    }
    let port = match &caller.environment.events {
        Events::Discarded => return Ok(None),
        Events::Off => return Err(PostRejection::Disabled),
        Events::Forwarded(port) => port,
    };
    let mut body = body.map_err(|_| PostRejection::Unreadable)?;
    if is_gzip {
        // A small post can hide megabytes, so it is inflated where it delays nobody.
        let inflated = tokio::task::spawn_blocking(move || inflate(&body, limit)).await;
        body = inflated.ok().flatten().ok_or(PostRejection::Unreadable)?;
    }
    if body.is_empty() { Err(PostRejection::Empty) } else { Ok(Some((port, body))) }
}

fn is_gzip(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_ENCODING).is_some_and(|it| it.as_bytes().windows(4).any(|part| part == b"gzip"))
}

/// The fixed part of a gzip header: magic, method, flags, time, extra flags, system.
fn check_gzip_head(body: &[u8]) -> Result<(), PostRejection> {
    match body {
        [] => Err(PostRejection::NotGzip("EOF\n")),
        body if body.len() < 10 => Err(PostRejection::NotGzip("unexpected EOF\n")),
        [0x1f, 0x8b, 8, ..] => Ok(()),
        _ => Err(PostRejection::NotGzip("gzip: invalid header\n")),
    }
}

/// At most `limit` bytes come out; more, or a broken stream, is nothing.
fn inflate(body: &[u8], limit: usize) -> Option<Bytes> {
    let mut inflated = Vec::new();
    let mut decoder = MultiGzDecoder::new(body).take(limit as u64 + 1);
    decoder.read_to_end(&mut inflated).ok()?;
    (inflated.len() <= limit).then(|| inflated.into())
}

#[cfg(fuzzing)]
pub(super) fn fuzz_gzip(body: &[u8]) {
    let _ = check_gzip_head(body);
    let _ = inflate(body, 1 << 20);
}

impl IntoResponse for PostRejection {
    fn into_response(self) -> Response {
        let (status, text) = match self {
            Self::NotGzip(text) => (StatusCode::BAD_REQUEST, text),
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

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn gzip(body: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(body).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn the_limit_counts_decompressed_bytes() {
        let bomb = gzip(&vec![b' '; 1 << 20]);
        assert!(bomb.len() < 2000);
        assert_eq!(inflate(&bomb, 1 << 20).map(|it| it.len()), Some(1 << 20), "exactly the limit");
        assert_eq!(inflate(&bomb, (1 << 20) - 1), None);
    }

    #[test]
    fn broken_gzip_is_noticed() {
        let good = gzip(b"[1]");
        assert_eq!(inflate(&good[..good.len() - 3], 100), None);
        for (body, text) in
            [(&b""[..], "EOF\n"), (b"[]", "unexpected EOF\n"), (b"not gzip at all", "gzip: invalid header\n")]
        {
            assert!(matches!(check_gzip_head(body), Err(PostRejection::NotGzip(it)) if it == text));
        }
    }

    proptest::proptest! {
        #[test]
        fn no_body_makes_it_panic(body in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
            let _ = check_gzip_head(&body);
            let _ = inflate(&body, 1000);
        }
    }
}
