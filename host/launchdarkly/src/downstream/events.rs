//! Routes for events and diagnostics: bodies are checked, split, accepted and answered.

mod gzip;
mod reading;

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use base64::{Engine, alphabet};
use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, StatusCode, Uri};
use yardarm_core::budget::{Account, Charge};

use self::gzip::BadHead;
use self::reading::{Reading, ReadingError, ReceivedBody, split_at_once};
use super::Downstream;
use super::auth::Caller;
use super::query::first_query_value;
use super::rejection::Rejection;
use super::routes::Credential;
use crate::environments::EventMode;
use crate::events::split::{Split, Splitter};
use crate::events::{Diagnostic, EventPort, Limits, Post};
use crate::identity::SdkKind;

/// Bytes of a body, as received and after decompression, that are split on the serving threads; the rest is split on
/// other threads.
const AT_ONCE: usize = 16 << 10;

/// Why a post is not accepted (L191 to L194).
#[derive(Debug)]
enum PostRejection {
    /// `Content-Encoding` is gzip, but the body has no gzip header.
    NotGzip(BadHead),
    Disabled,
    Unreadable,
    Empty,
    /// Too much is in flight; SDKs repeat the post.
    Busy,
}

/// A transparent pixel, byte for byte as in the reference.
const PIXEL: &[u8] = &[
    0x47, 0x49, 0x46, 0x38, 0x39, 0x61, 0x01, 0x00, 0x01, 0x00, 0x80, 0x00, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff,
    0x21, 0xf9, 0x04, 0x01, 0x00, 0x00, 0x00, 0x00, 0x2c, 0x00, 0x00, 0x00, 0x00, 0x01, 0x00, 0x01, 0x00, 0x00, 0x02,
    0x01, 0x44, 0x00, 0x3b,
];

/// `POST /bulk`, `/mobile…`, `/events/bulk/{envId}`
pub(super) async fn analytics(State(downstream): State<Arc<Downstream>>, caller: Caller, request: Request) -> Response {
    let headers = request.headers().clone();
    let (port, split) = match split_post(&downstream, &caller, request).await {
        Ok(Some(taken)) => taken,
        Ok(None) => return StatusCode::ACCEPTED.into_response(),
        Err(rejection) => return rejection.into_response(),
    };
    let schema = headers.get("x-launchdarkly-event-schema").and_then(|it| it.to_str().ok()?.trim().parse().ok());
    let tags = headers.get("x-launchdarkly-tags").and_then(|it| it.to_str().ok());
    // An empty one counts as absent, as in Go.
    let tags = tags.filter(|it| !it.is_empty()).map(Arc::from);
    let schema = schema.filter(|it| *it > 0).unwrap_or(1);
    let is_unsummarized = headers.contains_key("x-launchdarkly-unsummarized");
    let post = Post { kind: caller.kind, request: caller.request.clone(), schema, is_unsummarized, tags, split };
    match port.accept(post).await {
        Ok(()) => StatusCode::ACCEPTED.into_response(),
        Err(_) => PostRejection::Busy.into_response(),
    }
}

/// `POST /diagnostic`, `/mobile/events/diagnostic`, `/events/diagnostic/{envId}`
pub(super) async fn diagnostic(
    State(downstream): State<Arc<Downstream>>,
    caller: Caller,
    request: Request,
) -> Response {
    let headers = request.headers().clone();
    let (port, body, charge) = match whole_diagnostic(&downstream, &caller, request).await {
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
    port.diagnostic(Diagnostic { kind: caller.kind, request: caller.request.clone(), path, headers, body, charge });
    StatusCode::ACCEPTED.into_response()
}

/// `GET /a/{envId}.gif?d=…`, for very old browsers.
pub(super) async fn pixel(caller: Caller, uri: Uri) -> Response {
    // Also in offline mode, where posts are accepted: an exception of the reference.
    let Some(port) = caller.environment.events.port() else { return PostRejection::Disabled.into_response() };
    let events = first_query_value(uri.query(), "d").and_then(|it| decoded(&it));
    if let Some(body) = events.filter(|it| !it.is_empty()) {
        let split = port.splitter(caller.kind).ok_or(ReadingError::Busy);
        // No larger than the head of a request.
        let Ok(split) = split.and_then(|splitter| split_at_once(&body, splitter)) else {
            return PostRejection::Busy.into_response();
        };
        let (kind, request) = (SdkKind::Browser, caller.request);
        let post = Post { kind, request, schema: 3, is_unsummarized: false, tags: None, split };
        if port.accept(post).await.is_err() {
            return PostRejection::Busy.into_response();
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

/// A received body and the port for its events.
struct Taken<'a> {
    port: &'a EventPort,
    received: ReceivedBody,
    is_gzip: bool,
    limit: usize,
}

/// The port and the events of a post; `None` if events are accepted and dropped.
async fn split_post<'a>(
    downstream: &Downstream,
    caller: &'a Caller,
    request: Request,
) -> Result<Option<(&'a EventPort, Split)>, PostRejection> {
    let port = caller.environment.events.port();
    let split = async {
        let account = port.map(|it| it.post_account(caller.kind));
        let taken = receive(downstream, caller, request, account).await?;
        let Some(Taken { port, received, is_gzip, limit }) = taken else { return Ok(None) };
        let is_small = received.length() <= AT_ONCE;
        let reading = received.reading(is_gzip, limit)?;
        let splitter = port.splitter(caller.kind).ok_or(ReadingError::Busy)?;
        match split_off(&downstream.limits, caller.kind, (reading, is_small), splitter).await? {
            (0, _) => Err(PostRejection::Empty),
            (_, split) => Ok(Some((port, split))),
        }
    };
    let split = split.await;
    if let (Some(port), Err(PostRejection::Busy)) = (port, &split) {
        port.refuse_post();
    }
    split
}

/// Splits a body: a small one at once, because it must not wait behind large ones, but the rest of it off the serving
/// threads if it expands to megabytes. A large one may take long also without any events. Returns the decompressed length,
/// too.
async fn split_off(
    limits: &Limits,
    kind: SdkKind,
    (mut reading, is_small): (Reading, bool),
    mut splitter: Splitter,
) -> Result<(usize, Split), ReadingError> {
    if is_small && reading.split(AT_ONCE, &mut splitter)? {
        return Ok((reading.length(), splitter.finish()));
    }
    let rest = move || {
        reading.split(usize::MAX, &mut splitter)?;
        Ok((reading.length(), splitter.finish()))
    };
    limits.offload(kind.trust(), rest).await.unwrap_or(Err(ReadingError::Busy))
}

/// The port, the decompressed body and its memory; `None` if diagnostics are accepted and dropped, also because too many
/// are in flight, because they are statistics only.
async fn whole_diagnostic<'a>(
    downstream: &Downstream,
    caller: &'a Caller,
    request: Request,
) -> Result<Option<(&'a EventPort, Bytes, Charge)>, PostRejection> {
    let port = caller.environment.events.port();
    let collected = async {
        let account = port.map(|it| it.diagnostic_account(caller.kind));
        let taken = receive(downstream, caller, request, account).await?;
        let (Some(taken), Some(account)) = (taken, account) else { return Ok(None) };
        let mut charge = account.charge(0).ok_or(PostRejection::Busy)?;
        let is_small = !taken.is_gzip && taken.received.length() <= AT_ONCE;
        let mut reading = taken.received.reading(taken.is_gzip, taken.limit)?;
        let work = move || reading.collect(&mut charge).map(|body| (body, charge));
        let collected =
            if is_small { Some(work()) } else { downstream.limits.offload(caller.kind.trust(), work).await };
        let (body, charge) = collected.unwrap_or(Err(ReadingError::Busy))?;
        if body.is_empty() { Err(PostRejection::Empty) } else { Ok(Some((taken.port, body, charge))) }
    };
    match (port, collected.await) {
        (Some(port), Err(PostRejection::Busy)) => {
            port.lose_diagnostic();
            Ok(None)
        }
        (_, collected) => collected,
    }
}

/// Receives a body and checks it in order: gzip header, events off, readable, empty (L191 to L194); `None` if events are
/// accepted and dropped.
async fn receive<'a>(
    downstream: &Downstream,
    caller: &'a Caller,
    request: Request,
    account: Option<&Arc<Account>>,
) -> Result<Option<Taken<'a>>, PostRejection> {
    let is_gzip = is_gzip(request.headers());
    let limit = usize::try_from(downstream.config.events_max_payload).unwrap_or(usize::MAX);
    let most = if is_gzip { gzip::compressed_limit(limit) } else { limit };
    let received = ReceivedBody::read(request.into_body(), most, account).await?;
    if is_gzip {
        gzip::check_head(&received.beginning()).map_err(PostRejection::NotGzip)?;
    }
    match &caller.environment.events {
        EventMode::Discarded => Ok(None),
        EventMode::Off => Err(PostRejection::Disabled),
        EventMode::Forwarded(port) => Ok(Some(Taken { port, received, is_gzip, limit })),
    }
}

fn is_gzip(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_ENCODING).is_some_and(|it| it.as_bytes().windows(4).any(|part| part == b"gzip"))
}

#[cfg(fuzzing)]
pub(super) fn fuzz_post(body: &[u8]) {
    reading::fuzz(body);
    if gzip::check_head(body).is_ok() {
        reading::fuzz_gzip(body);
    }
}

impl From<ReadingError> for PostRejection {
    fn from(error: ReadingError) -> Self {
        match error {
            ReadingError::Unreadable => Self::Unreadable,
            ReadingError::Busy => Self::Busy,
        }
    }
}

impl IntoResponse for PostRejection {
    fn into_response(self) -> Response {
        let (status, text) = match self {
            // The same for every kind of caller.
            Self::Busy => return Rejection::Overloaded.into_response(Credential::Authorization),
            Self::NotGzip(head) => (StatusCode::BAD_REQUEST, head.text()),
            Self::Disabled => {
                (StatusCode::SERVICE_UNAVAILABLE, r#"{"message":"Event proxy is not enabled for this environment"}"#)
            }
            Self::Unreadable => (StatusCode::BAD_REQUEST, r#"{"message":"unable to read request body"}"#),
            Self::Empty => (StatusCode::BAD_REQUEST, r#"{"message":"body may not be empty"}"#),
        };
        // JSON without its content type, as in the reference.
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        if matches!(self, Self::NotGzip(_)) {
            headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        }
        (status, headers, text).into_response()
    }
}
