//! A client for single requests whose bodies are in memory, for parts of the program that know no HTTP client.

use bytes::{Bytes, BytesMut};
use http::{Request, Response};
use yardarm_core::supervisor::blocking;

use super::client::plain_client;

/// Longest response that is read, in bytes.
const LONGEST_RESPONSE: usize = 1 << 20;

/// Sends requests and does not follow redirects. Cheap to clone.
#[derive(Debug, Clone)]
pub struct HttpSender(reqwest::Client);

/// Why there is no response. The text has no URL, which may contain secrets.
#[derive(Debug, thiserror::Error)]
pub enum HttpSenderError {
    /// The client cannot be set up.
    #[error("the HTTP client cannot be set up: {0}")]
    SetUp(String),
    /// The request failed.
    #[error("{}", with_causes(.0))]
    Failed(reqwest::Error),
    /// The response is larger than this client reads.
    #[error("the response is too large")]
    TooLarge,
}

impl HttpSender {
    /// Creates a client, with the certificate authorities of the system.
    ///
    /// # Errors
    /// When the client cannot be set up.
    pub async fn new() -> Result<Self, HttpSenderError> {
        let built = blocking("HTTP client", || plain_client().build())
            .await
            .map_err(|error| HttpSenderError::SetUp(error.to_string()))?;
        built.map(Self).map_err(|error| HttpSenderError::SetUp(error.to_string()))
    }

    /// Sends a request and reads the response. There is no time limit.
    ///
    /// # Errors
    /// When the request cannot be sent, or there is no whole response.
    pub async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpSenderError> {
        let failed = |error: reqwest::Error| HttpSenderError::Failed(error.without_url());
        let request = request.map(reqwest::Body::from).try_into().map_err(failed)?;
        let mut response = self.0.execute(request).await.map_err(failed)?;
        let mut body = BytesMut::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if body.len() + chunk.len() > LONGEST_RESPONSE {
                return Err(HttpSenderError::TooLarge);
            }
            body.extend_from_slice(&chunk);
        }
        let mut answer = Response::new(body.freeze());
        *answer.status_mut() = response.status();
        *answer.headers_mut() = std::mem::take(response.headers_mut());
        Ok(answer)
    }
}

/// Returns the text of an error with that of its last cause, which says what happened.
fn with_causes(error: &reqwest::Error) -> String {
    let causes = std::iter::successors(std::error::Error::source(error), |it| it.source());
    causes.last().map_or_else(|| error.to_string(), |last| format!("{error}: {last}"))
}
