//! Requests with a JSON response, and their errors.

use http::{HeaderMap, HeaderName, HeaderValue};
use yardarm_core::InternalError;
use yardarm_harness_eval::lenient_json;
use yardarm_vendor::upstream::{NetworkError, RedirectError, SendError};

use super::client::HttpClients;
use crate::identity::Session;

/// Name and version of Yardarm in Harness' statistics of SDKs.
const SDK_INFO: &str = concat!("Yardarm ", env!("CARGO_PKG_VERSION"), " Proxy");
/// Longest response that is read, in bytes. Responses of large environments have a few megabytes.
const MAX_ANSWER: usize = 256 << 20;

/// A failed request.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RequestError {
    #[error("connection failed: {0}")]
    Network(#[from] NetworkError),
    #[error(transparent)]
    Internal(#[from] InternalError),
    #[error("answered {0}")]
    Status(http::StatusCode),
    #[error(transparent)]
    Redirect(#[from] RedirectError),
    #[error("answered something that is no JSON")]
    NotJson,
    #[error("malformed answer: {0}")]
    Malformed(String),
}

impl RequestError {
    /// Returns the kind for the status of an environment, and whether it is a rejection, which does not heal by itself.
    pub(crate) fn kind(&self) -> (yardarm_core::status::ErrorKind, bool) {
        use yardarm_core::status::ErrorKind;
        match self {
            Self::Network(_) => (ErrorKind::Network, false),
            Self::Internal(_) => (ErrorKind::Unknown, false),
            Self::Status(status) => (ErrorKind::Response(status.as_u16()), matches!(status.as_u16(), 401 | 403)),
            Self::Redirect(error) => (ErrorKind::Response(error.status()), false),
            Self::NotJson | Self::Malformed(_) => (ErrorKind::InvalidData, false),
        }
    }

    /// Returns whether upstream rejects the key.
    pub(crate) fn is_rejection(&self) -> bool {
        self.kind().1
    }
}

impl From<SendError> for RequestError {
    fn from(error: SendError) -> Self {
        match error {
            SendError::Network(problem) => Self::Network(problem),
            SendError::Redirect(error) => Self::Redirect(error),
        }
    }
}

/// Sends a request and reads the JSON of its response.
///
/// # Errors
/// When the status is not 200, the content type is not JSON, or the body cannot be read.
pub(crate) async fn json<T: serde::de::DeserializeOwned + Send + 'static>(
    request: reqwest::RequestBuilder,
) -> Result<T, RequestError> {
    read_json(request, |text| serde_json::from_str(text)).await
}

/// Like [`json`], with `read` for the text of the response, in which invalid Unicode has been replaced.
pub(crate) async fn read_json<T: Send + 'static>(
    request: reqwest::RequestBuilder,
    read: impl FnOnce(&str) -> Result<T, serde_json::Error> + Send + 'static,
) -> Result<T, RequestError> {
    let mut response = yardarm_vendor::upstream::send(request).await?;
    if response.status() != http::StatusCode::OK {
        return Err(RequestError::Status(response.status()));
    }
    let content_type =
        response.headers().get(http::header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    if !content_type.windows(4).any(|it| it.eq_ignore_ascii_case(b"json")) {
        return Err(RequestError::NotJson);
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(NetworkError::from)? {
        if body.len() + chunk.len() > MAX_ANSWER {
            return Err(RequestError::Malformed(format!("the answer is longer than {MAX_ANSWER} bytes")));
        }
        body.extend_from_slice(&chunk);
    }
    // Megabytes of JSON take milliseconds to parse, which must not delay the serving threads.
    let parse = move || read(&lenient_json::text(&body)).map_err(|error| RequestError::Malformed(error.to_string()));
    yardarm_core::supervisor::blocking("upstream parser", parse).await?
}

pub(crate) fn post_json(http: &HttpClients, url: String, body: &serde_json::Value) -> reqwest::RequestBuilder {
    http.requests.post(url).header(http::header::CONTENT_TYPE, "application/json").body(body.to_string())
}

/// Returns headers that identify Yardarm and the environment.
pub(crate) fn identification(session: &Session) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let mut insert = |name: &'static str, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value)
            && !value.is_empty()
        {
            headers.insert(HeaderName::from_static(name), value);
        }
    };
    insert("harness-sdk-info", SDK_INFO);
    insert("harness-environmentid", &session.identity.id);
    insert("harness-accountid", &session.identity.account);
    headers
}
