//! Outbound HTTP requests. Needs a grant `http-out:<origin and path prefix>` for each destination: a plugin that calls
//! [`send`] is rejected without one.
//!
//! ```
//! use yardarm_plugin::http::{self, HttpRequest, HttpResponse};
//! use yardarm_plugin::testing;
//!
//! testing::respond("https://idp.example.com/keys", HttpResponse::new(200, "{}"));
//! let response = http::send(&HttpRequest::get("https://idp.example.com/keys"))?;
//! assert_eq!(response.text(), Some("{}"));
//! # Ok::<(), http::HttpError>(())
//! ```
//!
//! Available in `request-auth`, `background` and `change-listener`, but not in `Plugin::new`. In native tests, requests
//! get the responses of [`testing::respond`](crate::testing::respond).

use std::fmt;
use std::time::Duration;

use crate::PluginError;

/// A request.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct HttpRequest {
    /// The method, in upper case.
    pub method: String,
    /// The URL.
    pub url: String,
    /// Names and values of headers.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The body, up to 1 MiB.
    pub body: Option<Vec<u8>>,
    /// Less than the host's limit of 2 seconds.
    pub timeout: Option<Duration>,
}

/// A response, of any status.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct HttpResponse {
    /// The status.
    pub status: u16,
    /// Names, in lower case, and values of headers.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The body, up to 1 MiB.
    pub body: Vec<u8>,
}

/// Why there is no response.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum HttpError {
    /// The request is not valid.
    Invalid(String),
    /// No grant covers the request, the address may not be reached, or the hook may not send requests.
    Denied(String),
    /// The plugin has as many requests in progress as it may have.
    Busy,
    /// The time is up.
    Timeout,
    /// The response is too large.
    TooLarge,
    /// The server cannot be reached, or it ended the connection.
    Connection(String),
}

/// Sends a request and waits for the response. Redirects are not followed.
///
/// # Errors
///
/// See [`HttpError`]. A status is no error.
pub fn send(request: &HttpRequest) -> Result<HttpResponse, HttpError> {
    #[cfg(target_family = "wasm")]
    {
        use crate::bindings::host::{http, types::Header};

        let header = |(name, value): &(String, Vec<u8>)| Header { name: name.clone(), value: value.clone() };
        let response = http::send(&http::HttpRequest {
            method: request.method.clone(),
            url: request.url.clone(),
            headers: request.headers.iter().map(header).collect(),
            body: request.body.clone(),
            timeout_ms: request.timeout.map(|timeout| u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX)),
        })?;
        let headers = response.headers.into_iter().map(|header| (header.name, header.value)).collect();
        Ok(HttpResponse { status: response.status, headers, body: response.body })
    }
    #[cfg(not(target_family = "wasm"))]
    crate::testing::http::send(request)
}

impl HttpRequest {
    /// Creates a request without a body.
    pub fn get(url: impl Into<String>) -> Self {
        Self { method: "GET".to_owned(), url: url.into(), headers: Vec::new(), body: None, timeout: None }
    }

    /// Creates a request with a body.
    pub fn post(url: impl Into<String>, body: impl Into<Vec<u8>>) -> Self {
        Self { method: "POST".to_owned(), body: Some(body.into()), ..Self::get(url) }
    }

    /// Adds a header.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// Limits the time of the request.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }
}

impl HttpResponse {
    /// Creates a response without headers.
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: Vec::new(), body: body.into() }
    }

    /// Returns the body if it is UTF-8.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        std::str::from_utf8(&self.body).ok()
    }

    /// Returns the first value of a header, named in lower case, if it is UTF-8.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let value = self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value)?;
        std::str::from_utf8(value).ok()
    }
}

impl fmt::Display for HttpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(text) => write!(f, "the request is not valid: {text}"),
            Self::Denied(text) => write!(f, "the request is denied: {text}"),
            Self::Busy => write!(f, "too many requests are in progress"),
            Self::Timeout => write!(f, "the request has timed out"),
            Self::TooLarge => write!(f, "the body is too large"),
            Self::Connection(text) => write!(f, "the request failed: {text}"),
        }
    }
}

impl std::error::Error for HttpError {}

impl From<HttpError> for PluginError {
    fn from(error: HttpError) -> Self {
        match error {
            HttpError::Invalid(_) | HttpError::Denied(_) => Self::internal(error),
            _ => Self::temporary(error),
        }
    }
}

#[cfg(target_family = "wasm")]
impl From<crate::bindings::host::http::HttpError> for HttpError {
    fn from(error: crate::bindings::host::http::HttpError) -> Self {
        use crate::bindings::host::http;

        match error {
            http::HttpError::Invalid(text) => Self::Invalid(text),
            http::HttpError::Denied(text) => Self::Denied(text),
            http::HttpError::Busy => Self::Busy,
            http::HttpError::Timeout => Self::Timeout,
            http::HttpError::TooLarge => Self::TooLarge,
            http::HttpError::Connection(text) => Self::Connection(text),
        }
    }
}
