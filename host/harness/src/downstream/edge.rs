//! What all answers have in common: a request ID, and what browsers have to be told (sections 4.1 and 4.13).

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_REQUEST_HEADERS, ALLOW, ORIGIN, VARY,
};
use http::{HeaderName, HeaderValue, Method, StatusCode};
use uuid::Uuid;

use super::rejection::error;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Around the whole table, errors included: without these headers a browser hides the status from its page.
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

/// Before anybody asks for a token: browsers send none with it. What they want to send is echoed, because `*` does not
/// cover `Authorization`.
fn preflight(request: &Request) -> Response {
    let wanted = request.headers().get(ACCESS_CONTROL_REQUEST_HEADERS).cloned();
    let mut response = StatusCode::NO_CONTENT.into_response();
    let headers = response.headers_mut();
    let methods = HeaderValue::from_static("GET,OPTIONS,POST");
    headers.insert(ALLOW, methods.clone());
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, methods);
    let allowed = wanted.unwrap_or_else(|| HeaderValue::from_static("*,Authorization"));
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, allowed);
    headers.insert(VARY, HeaderValue::from_static("Access-Control-Request-Method, Access-Control-Request-Headers"));
    response
}

/// No route has this path.
pub(super) async fn not_found() -> Response {
    error(StatusCode::NOT_FOUND, "message", "Not Found")
}

/// The path exists, the method does not; `allowed` does.
pub(super) fn method_not_allowed(allowed: &'static str) -> Response {
    let mut response = error(StatusCode::METHOD_NOT_ALLOWED, "message", "Method Not Allowed");
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    response
}
