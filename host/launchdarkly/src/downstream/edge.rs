//! Checks and rewrites of requests before the route table, like those of the reference's router and of Go's server.

mod path;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use axum::routing::MethodFilter;
use http::header::{ALLOW, CONNECTION, CONTENT_TYPE, EXPECT, HOST, HeaderMap, LOCATION, X_CONTENT_TYPE_OPTIONS};
use http::uri::PathAndQuery;
use http::{HeaderValue, Method, StatusCode, Uri, Version};
use yardarm_vendor::routes;

/// The filter that matches `REPORT`, which LaunchDarkly's SDKs use like a `GET` with a body. Routers do not know the
/// method, so [`normalise`] turns it into `PUT`, which this protocol does not use.
pub(super) const REPORT: MethodFilter = MethodFilter::PUT;

/// A method without routes.
const NOWHERE: &[u8] = b"NOWHERE";

/// The original target of a request, if it was rewritten for routing.
#[derive(Debug, Clone)]
pub(super) struct Written(pub(super) PathAndQuery);

/// Answers a request by the route that its normalised form has in `table`. This is a function around the table and not a
/// layer of it: layers run after path and method have been matched.
pub(crate) async fn answer(table: &Router, request: Request) -> Response {
    match normalise(request) {
        Ok(request) => without_allow(routes::answer(table, request).await),
        Err(response) => response,
    }
}

/// Checks and normalises a request (L001 to L016); returns the response if it has no route.
#[expect(clippy::result_large_err, reason = "one of the two is moved in any case")]
fn normalise(mut request: Request) -> Result<Request, Response> {
    let Some(decoded) = path::decoded(request.uri().path()) else { return Err(refuse("400 Bad Request")) };
    if let Some(text) = host_problem(&request) {
        return Err(refuse(text));
    }
    if has_other_expectations(request.headers()) {
        let headers = [(CONNECTION, HeaderValue::from_static("close"))];
        return Err((StatusCode::EXPECTATION_FAILED, headers).into_response());
    }
    if request.method() == Method::OPTIONS && &*decoded == b"*" {
        // A request about the whole server, which the reference answers before routing.
        return Err(StatusCode::OK.into_response());
    }
    if let Some(clean) = path::cleaned(&decoded) {
        return Err((StatusCode::MOVED_PERMANENTLY, [(LOCATION, location(request.uri(), &clean))]).into_response());
    }
    if is_no_pixel(&decoded) {
        return Err(page_not_found());
    }
    // Routes are matched on the decoded path, in which an escaped slash is a slash and an escaped letter a letter.
    if request.uri().path().contains('%') {
        let written = request.uri().path_and_query().cloned();
        match respelled(request.uri(), &path::escaped(String::from_utf8_lossy(&decoded).as_bytes())) {
            Some(uri) => *request.uri_mut() = uri,
            None => return Err(page_not_found()),
        }
        written.map(|it| request.extensions_mut().insert(Written(it)));
    }
    match request.method().as_str() {
        "REPORT" => *request.method_mut() = Method::PUT,
        // No route has `PUT`, and `HEAD` is never implied by `GET` here.
        "PUT" | "HEAD" => *request.method_mut() = Method::from_bytes(NOWHERE).unwrap_or(Method::TRACE),
        _ => (),
    }
    Ok(request)
}

/// No route has this path.
pub(super) async fn not_found() -> Response {
    page_not_found()
}

fn page_not_found() -> Response {
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8")),
        (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    ];
    (StatusCode::NOT_FOUND, headers, "404 page not found\n").into_response()
}

/// The path exists, the method does not.
pub(super) async fn method_not_allowed() -> Response {
    StatusCode::METHOD_NOT_ALLOWED.into_response()
}

fn without_allow(mut response: Response) -> Response {
    if response.status() == StatusCode::METHOD_NOT_ALLOWED {
        response.headers_mut().remove(ALLOW);
    }
    response
}

fn refuse(text: &'static str) -> Response {
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8")),
        (CONNECTION, HeaderValue::from_static("close")),
    ];
    (StatusCode::BAD_REQUEST, headers, Body::from(text)).into_response()
}

/// Errors of Go's server about the `Host` of a request, in its order of checks.
fn host_problem(request: &Request) -> Option<&'static str> {
    let mut hosts = request.headers().get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(_), Some(_)) => Some("400 Bad Request"),
        (None, _) if request.version() == Version::HTTP_11 => Some("400 Bad Request: missing required Host header"),
        (Some(host), None) if !host.as_bytes().iter().all(|it| is_host_byte(*it)) => {
            Some("400 Bad Request: malformed Host header")
        }
        _ => None,
    }
}

fn is_host_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!$%&'()*+,-.:;=[]_~".contains(&byte)
}

/// Whether the caller expects anything besides `100-continue`, which cannot be fulfilled.
fn has_other_expectations(headers: &HeaderMap) -> bool {
    let expectation = headers.get(EXPECT).map_or(&b""[..], HeaderValue::as_bytes);
    let mut tokens = expectation.split(|byte| matches!(byte, b' ' | b',' | b'\t'));
    !expectation.is_empty() && !tokens.any(|token| token.eq_ignore_ascii_case(b"100-continue"))
}

/// The location of the redirect from an unclean path, in the spelling of Go's URL writer.
fn location(uri: &Uri, clean: &[u8]) -> HeaderValue {
    let mut location = String::new();
    if let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) {
        location = format!("{scheme}://{authority}");
    }
    location.push_str(&path::escaped(clean));
    if let Some(query) = uri.query() {
        location.push('?');
        location.push_str(query);
    }
    HeaderValue::from_str(&location).unwrap_or_else(|_| HeaderValue::from_static("/"))
}

/// The same target with another spelling of its path.
fn respelled(uri: &Uri, path: &str) -> Option<Uri> {
    let mut parts = uri.clone().into_parts();
    let target = uri.query().map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"));
    parts.path_and_query = Some(PathAndQuery::try_from(target).ok()?);
    Uri::from_parts(parts).ok()
}

/// Below `/a/` there are only `.gif` files with a name, which the route table cannot express.
fn is_no_pixel(path: &[u8]) -> bool {
    let Some(file) = path.strip_prefix(b"/a/") else { return false };
    !file.contains(&b'/') && file.strip_suffix(b".gif").is_none_or(<[u8]>::is_empty)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_gif_files_with_a_name_are_pixels() {
        for (path, is_none) in
            [("/a/x.gif", false), ("/a/.gif", true), ("/a/x", true), ("/a/x.gif/y", false), ("/all", false)]
        {
            assert_eq!(is_no_pixel(path.as_bytes()), is_none, "{path}");
        }
    }

    #[test]
    fn only_continue_can_be_expected() {
        for (expectation, is_other) in [
            ("100-continue", false),
            ("100-Continue", false),
            ("x, 100-continue", false),
            ("", false),
            ("200-ok", true),
        ] {
            let headers = [(EXPECT, HeaderValue::from_static(expectation))].into_iter().collect();
            assert_eq!(has_other_expectations(&headers), is_other, "{expectation}");
        }
    }
}
