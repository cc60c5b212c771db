//! What happens to a request before it meets the route table: the reference's router has opinions of its own.

use axum::body::Body;
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::MethodFilter;
use http::header::{ALLOW, CONNECTION, CONTENT_TYPE, HOST, LOCATION, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, Method, StatusCode, Version};

/// The filter that stands for `REPORT` behind [`normalise`].
pub(super) const REPORT: MethodFilter = MethodFilter::PUT;

/// A method that no route has.
const NOWHERE: &[u8] = b"NOWHERE";

/// Checks and normalises a request (sections 1.1 and 1.2 of the compatibility page).
pub(super) async fn normalise(mut request: Request, next: Next) -> Response {
    let path = request.uri().path();
    if request.version() == Version::HTTP_11 && !request.headers().contains_key(HOST) {
        return refuse("400 Bad Request: missing required Host header");
    }
    if !has_valid_escapes(path) {
        return refuse("400 Bad Request");
    }
    if let Some(clean) = cleaned(path) {
        let location = match request.uri().query() {
            Some(query) => format!("{clean}?{query}"),
            None => clean,
        };
        let location = HeaderValue::from_str(&location).unwrap_or_else(|_| HeaderValue::from_static("/"));
        return (StatusCode::MOVED_PERMANENTLY, [(LOCATION, location)]).into_response();
    }
    // An escaped slash splits the path in the reference, and no route has a slash in a variable.
    if path.to_ascii_lowercase().contains("%2f") {
        return not_found().await;
    }
    *request.method_mut() = match request.method().as_str() {
        "REPORT" => Method::PUT,
        // No route has `PUT`, and `HEAD` is never implied by `GET` here.
        "PUT" | "HEAD" => Method::from_bytes(NOWHERE).unwrap_or(Method::TRACE),
        _ => return without_allow(next.run(request).await),
    };
    without_allow(next.run(request).await)
}

/// No route has this path.
pub(super) async fn not_found() -> Response {
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

fn has_valid_escapes(path: &str) -> bool {
    let bytes = path.as_bytes();
    bytes.iter().enumerate().filter(|(_, byte)| **byte == b'%').all(|(index, _)| {
        bytes.get(index + 1..index + 3).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    })
}

/// The path without `//`, `/./` and `/../`, if it has any of them.
fn cleaned(path: &str) -> Option<String> {
    let is_clean = path.starts_with('/')
        && !path.contains("//")
        && path.split('/').all(|segment| segment != "." && segment != "..");
    if is_clean {
        return None;
    }
    let mut segments: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => (),
            ".." => {
                segments.pop();
            }
            other => segments.push(other),
        }
    }
    let end = if path.ends_with('/') && !segments.is_empty() { "/" } else { "" };
    Some(format!("/{}{end}", segments.join("/")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unclean_paths_are_cleaned_like_the_reference_does() {
        // L010 and L011.
        for (path, clean) in [
            ("/all", None),
            ("/all/", None),
            ("//all", Some("/all")),
            ("/x/../status", Some("/status")),
            ("/./all", Some("/all")),
            ("/../..", Some("/")),
            ("/a//b/", Some("/a/b/")),
        ] {
            assert_eq!(cleaned(path).as_deref(), clean, "{path}");
        }
    }

    #[test]
    fn broken_escapes_are_noticed() {
        for (path, is_valid) in [("/a%20b", true), ("/x/%%%", false), ("/x%2", false), ("/%zz", false)] {
            assert_eq!(has_valid_escapes(path), is_valid, "{path}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_path_makes_it_panic_and_a_cleaned_one_is_clean(path in "\\PC*") {
            has_valid_escapes(&path);
            if let Some(clean) = cleaned(&path) {
                proptest::prop_assert_eq!(cleaned(&clean), None);
            }
        }
    }
}
