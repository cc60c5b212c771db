//! What all responses have in common: a request ID, and CORS headers (F090 to F092, F094).

use axum::Router;
use axum::extract::Request;
use axum::handler::Handler;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_REQUEST_HEADERS, ALLOW, ORIGIN, VARY,
};
use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue, Method, StatusCode, Uri};
use uuid::Uuid;
use yardarm_vendor::routes;

use super::rejection::error;
use super::routes::{CORS_METHODS, RouteMethod};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The layer around the whole table, errors included: without CORS headers a browser hides the status from the page.
pub(super) async fn finish(request: Request, next: Next) -> Response {
    let id = request.headers().get(REQUEST_ID).cloned();
    let id = id.or_else(|| HeaderValue::from_str(&Uuid::new_v4().to_string()).ok());
    let is_browser = request.headers().contains_key(ORIGIN);
    let mut response = if request.method() == Method::OPTIONS { preflight(&request) } else { next.run(request).await };
    let headers = response.headers_mut();
    if is_browser {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        headers.append(VARY, HeaderValue::from_static("Origin"));
    }
    if let Some(id) = id {
        headers.insert(REQUEST_ID, id);
    }
    response
}

/// Answers a request by its route in `table`. Bytes of the path that are no UTF-8, such as `%E9`, which is é in Latin-1, are
/// replaced before, because a router would reject them.
pub(crate) async fn answer(table: &Router, mut request: Request) -> Response {
    if let Some(uri) = repaired(request.uri()) {
        *request.uri_mut() = uri;
    }
    routes::answer(table, request).await
}

/// Returns the address with U+FFFD in place of such bytes; `None` if there are none.
fn repaired(uri: &Uri) -> Option<Uri> {
    let path = uri.path();
    if !path.contains('%') {
        return None;
    }
    // Each byte, and its text in the path.
    let mut bytes = Vec::with_capacity(path.len());
    let mut texts = Vec::with_capacity(path.len());
    let mut at = 0;
    while let Some(byte) = path.as_bytes().get(at) {
        let escaped = path.get(at + 1..at + 3).filter(|_| *byte == b'%');
        let escaped = escaped.and_then(|digits| hex::decode(digits).ok()?.first().copied());
        let length = if escaped.is_some() { 3 } else { 1 };
        bytes.push(escaped.unwrap_or(*byte));
        texts.push(&path.as_bytes()[at..at + length]);
        at += length;
    }
    if std::str::from_utf8(&bytes).is_ok() {
        return None;
    }
    let mut path = Vec::with_capacity(path.len());
    let mut texts = texts.into_iter();
    for chunk in bytes.utf8_chunks() {
        texts.by_ref().take(chunk.valid().len()).for_each(|text| path.extend_from_slice(text));
        if !chunk.invalid().is_empty() {
            texts.by_ref().take(chunk.invalid().len()).for_each(drop);
            path.extend_from_slice(b"%EF%BF%BD");
        }
    }
    if let Some(query) = uri.query() {
        path.push(b'?');
        path.extend_from_slice(query.as_bytes());
    }
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(path).ok()?);
    Uri::from_parts(parts).ok()
}

/// Responds to a preflight, which needs no token because browsers send none with it. The requested headers are echoed, because
/// `*` does not cover `Authorization`.
fn preflight(request: &Request) -> Response {
    let wanted = request.headers().get(ACCESS_CONTROL_REQUEST_HEADERS).cloned();
    let mut response = StatusCode::NO_CONTENT.into_response();
    let headers = response.headers_mut();
    let methods = HeaderValue::from_static(CORS_METHODS);
    headers.insert(ALLOW, methods.clone());
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, methods);
    let allowed = wanted.unwrap_or_else(|| HeaderValue::from_static("*,Authorization"));
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, allowed);
    headers.insert(VARY, HeaderValue::from_static("Access-Control-Request-Method, Access-Control-Request-Headers"));
    response
}

/// Responds to a path without a route.
pub(super) async fn not_found() -> Response {
    error(StatusCode::NOT_FOUND, "message", "Not Found")
}

/// Returns a handler for one method. `GET` does not imply `HEAD`, and the body of a 405 is that of the vendor's relay.
pub(super) fn only<H: Handler<T, S>, T: 'static, S: Clone + Send + Sync + 'static>(
    method: RouteMethod,
    handler: H,
) -> MethodRouter<S> {
    let reject = async move || method_not_allowed(method.as_str());
    match method {
        RouteMethod::Get => get(handler).head(reject).fallback(reject),
        RouteMethod::Post => post(handler).fallback(reject),
    }
}

/// Responds to a method that a route does not support; `allowed` is the one that it does.
fn method_not_allowed(allowed: &'static str) -> Response {
    let mut response = error(StatusCode::METHOD_NOT_ALLOWED, "message", "Method Not Allowed");
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_no_utf_8_are_replaced() {
        for (uri, expected) in [
            ("/a/caf%E9/b", Some("/a/caf%EF%BF%BD/b")),
            ("/a/%ff%fe?x=%ff", Some("/a/%EF%BF%BD%EF%BF%BD?x=%ff")),
            ("http://h/%c3%28%41", Some("http://h/%EF%BF%BD%28%41")),
            ("/%F0%9F", Some("/%EF%BF%BD")),
            ("/%ff%", Some("/%EF%BF%BD%")),
            ("/%ff%zz%2F", Some("/%EF%BF%BD%zz%2F")),
            ("/caf%C3%A9", None),
            ("/%zz", None),
            ("/%", None),
            ("/a?x=%ff", None),
            ("*", None),
        ] {
            let repaired = repaired(&uri.parse().unwrap()).map(|it| it.to_string());
            assert_eq!(repaired.as_deref(), expected, "{uri}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_escaped_bytes_can_be_read(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..20)) {
            let uri = format!("/{}?q", bytes.iter().map(|it| format!("%{it:02x}")).collect::<String>()).parse().unwrap();
            let text = String::from_utf8_lossy(&bytes);
            let uri = repaired(&uri).unwrap_or(uri);
            let digits = uri.path()[1..].replace('%', "");
            proptest::prop_assert_eq!(hex::decode(digits).unwrap(), text.as_bytes());
            proptest::prop_assert_eq!(uri.query(), Some("q"));
        }
    }
}
