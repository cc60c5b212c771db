//! Redirects of requests that contain keys. HTTP libraries drop `Authorization` as soon as the port changes, keep every
//! other header wherever a redirect leads, and turn posts into fetches.
//!
//! Here, redirects are followed to the same host name, on any port, and never from HTTPS to HTTP, with all headers, as
//! in the vendors' own clients. Every other redirect is an error. A request other than `GET` or `HEAD` is repeated
//! unchanged for 307 and 308; the other statuses would turn it into a `GET`, which must not count as a delivery.

use http::header::LOCATION;
use http::{HeaderValue, Method, StatusCode};
use reqwest::{RequestBuilder, Response, Url};

use super::network_error::NetworkError;
use super::traced::traced;

/// Maximum number of consecutive redirects, as in Go's client.
pub(crate) const MAX_REDIRECTS: usize = 10;

/// A redirect that is not followed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RedirectError {
    /// The target is another host; keys and data are sent only to the configured one.
    #[error("answered {status}: redirect to another host, `{host}`, where keys are not sent")]
    OtherHost {
        /// Status of the response.
        status: StatusCode,
        /// Host of the target.
        host: String,
    },
    /// The target is unencrypted while the request was encrypted.
    #[error("answered {status}: redirect from HTTPS to `{scheme}` at `{host}`, where keys are not sent")]
    Downgrade {
        /// Status of the response.
        status: StatusCode,
        /// Scheme of the target.
        scheme: String,
        /// Host of the target.
        host: String,
    },
    /// Following would send a `GET` without a body in place of the request.
    #[error("answered {status}: redirect to `{host}` that would turn a {method} into a GET")]
    Method {
        /// Status of the response.
        status: StatusCode,
        /// Method of the request.
        method: Method,
        /// Host of the target.
        host: String,
    },
    /// The response contains no usable address.
    #[error("answered {0}: redirect without a usable address")]
    NoTarget(StatusCode),
    /// Too many consecutive redirects.
    #[error("answered with more than {MAX_REDIRECTS} redirects")]
    TooMany,
}

/// Why there is no response.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The request could not be sent, or its response did not arrive.
    #[error("connection failed: {0}")]
    Network(#[from] NetworkError),
    /// The response is a redirect that is not followed.
    #[error(transparent)]
    Redirect(#[from] RedirectError),
}

/// Sends `request`, whose body must be in memory, and follows redirects to the same host.
///
/// # Errors
/// When there is no response, or it is a redirect that is not followed.
pub async fn send(request: RequestBuilder) -> Result<Response, SendError> {
    traced(request, follow_redirects).await
}

async fn follow_redirects(mut request: RequestBuilder) -> Result<Response, SendError> {
    for _ in 0..=MAX_REDIRECTS {
        let again = request.try_clone();
        let answer = request.send().await.map_err(NetworkError::from)?;
        if !is_redirect(answer.status()) {
            return Ok(answer);
        }
        let again = again.ok_or(NetworkError::NotRepeatable)?;
        request = follow(again, &answer)?;
    }
    Err(RedirectError::TooMany.into())
}

/// Returns whether a response with this status has another address in `Location`.
pub(crate) fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// Builds the request that follows a redirect.
pub(crate) fn follow(request: RequestBuilder, answer: &Response) -> Result<RequestBuilder, RedirectError> {
    let status = answer.status();
    let (client, request) = request.build_split();
    let mut request = request.map_err(|_| RedirectError::NoTarget(status))?;
    let url = target(request.method(), request.url(), status, answer.headers().get(LOCATION))?;
    *request.url_mut() = url;
    Ok(RequestBuilder::from_parts(client, request))
}

/// Returns the target of a redirect, if it may be followed.
fn target(
    method: &Method,
    from: &Url,
    status: StatusCode,
    location: Option<&HeaderValue>,
) -> Result<Url, RedirectError> {
    let location = location.and_then(|it| std::str::from_utf8(it.as_bytes()).ok());
    let to = location.and_then(|it| from.join(it).ok()).ok_or(RedirectError::NoTarget(status))?;
    let host = to.host_str().ok_or(RedirectError::NoTarget(status))?.to_owned();
    if !matches!(to.scheme(), "http" | "https") {
        return Err(RedirectError::NoTarget(status));
    }
    if from.host_str() != Some(&host) {
        return Err(RedirectError::OtherHost { status, host });
    }
    if from.scheme() == "https" && to.scheme() != "https" {
        return Err(RedirectError::Downgrade { status, scheme: to.scheme().to_owned(), host });
    }
    if !matches!(*method, Method::GET | Method::HEAD) && !matches!(status.as_u16(), 307 | 308) {
        return Err(RedirectError::Method { status, method: method.clone(), host });
    }
    let mut to = to;
    // The credentials of the request are kept. Setting these fails only for addresses without a host.
    let _ = to.set_username("");
    let _ = to.set_password(None);
    Ok(to)
}

impl RedirectError {
    /// Returns the status of the response that was not followed.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self {
            Self::OtherHost { status, .. }
            | Self::Downgrade { status, .. }
            | Self::Method { status, .. }
            | Self::NoTarget(status) => status.as_u16(),
            Self::TooMany => StatusCode::LOOP_DETECTED.as_u16(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUSES: [u16; 5] = [301, 302, 303, 307, 308];

    fn followed(method: Method, from: &str, status: u16, to: &str) -> Result<String, String> {
        let location = HeaderValue::from_bytes(to.as_bytes()).unwrap();
        let status = StatusCode::from_u16(status).unwrap();
        let target = target(&method, &Url::parse(from).unwrap(), status, Some(&location));
        target.map(String::from).map_err(|error| error.to_string())
    }

    #[test]
    fn fetches_are_followed_to_the_same_host_only() {
        for status in STATUSES {
            for (from, to, expected) in [
                ("https://a.example/all?x=1", "/moved", Ok("https://a.example/moved")),
                ("https://a.example/x/all", "moved?y", Ok("https://a.example/x/moved?y")),
                ("https://a.example/all", "https://a.example:8443/all", Ok("https://a.example:8443/all")),
                ("https://a.example/all", "//A.EXAMPLE/all", Ok("https://a.example/all")),
                ("http://a.example:81/all", "https://a.example/all", Ok("https://a.example/all")),
                ("http://[::1]:81/all", "http://[::1]:82/all", Ok("http://[::1]:82/all")),
                ("https://a.example/all", "https://u:p@a.example/all", Ok("https://a.example/all")),
                ("https://a.example/all", "https://b.example/all", Err("redirect to another host, `b.example`, ")),
                ("https://a.example/all", "//sub.a.example/all", Err("redirect to another host, `sub.a.example`, ")),
                ("https://a.example/all", "https://a.example.evil/", Err("redirect to another host, ")),
                ("https://a.example/all", "https://a.example@b.example/", Err("another host, `b.example`, ")),
                ("https://a.example/all", "http://a.example/all", Err("from HTTPS to `http` at `a.example`")),
                ("https://a.example/all", "http://b.example/all", Err("redirect to another host, `b.example`, ")),
                ("http://127.0.0.1:1/all", "http://localhost:1/all", Err("redirect to another host, `localhost`")),
                ("https://a.example/all", "ftp://a.example/all", Err("without a usable address")),
                ("https://a.example/all", "data:text/plain,x", Err("without a usable address")),
                ("https://a.example/all", "https://", Err("without a usable address")),
                ("https://a.example/all", "\u{fffd}", Ok("https://a.example/%EF%BF%BD")),
            ] {
                let followed = followed(Method::GET, from, status, to);
                match expected {
                    Ok(expected) => assert_eq!(followed.as_deref(), Ok(expected), "{from} {to}"),
                    Err(part) => {
                        assert!(followed.as_ref().is_err_and(|it| it.contains(part)), "{from} {to}: {followed:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_post_is_repeated_unchanged_or_fails() {
        for (status, is_repeated) in STATUSES.into_iter().zip([false, false, false, true, true]) {
            let same = followed(Method::POST, "https://a.example/bulk", status, "https://a.example:444/bulk");
            assert_eq!(same.is_ok(), is_repeated, "{status}");
            let other = followed(Method::POST, "https://a.example/bulk", status, "https://b.example/bulk");
            assert!(other.unwrap_err().contains("`b.example`"), "{status}");
        }
    }

    #[test]
    fn a_redirect_needs_a_location() {
        let target = |location| {
            target(&Method::GET, &Url::parse("http://a/").unwrap(), StatusCode::FOUND, location).unwrap_err()
        };
        assert_eq!(target(None), RedirectError::NoTarget(StatusCode::FOUND));
        let invalid = HeaderValue::from_bytes(b"http://\xff/").unwrap();
        assert_eq!(target(Some(&invalid)), RedirectError::NoTarget(StatusCode::FOUND));
    }
}
