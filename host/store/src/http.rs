//! HTTP clients of databases: no redirects, no waiting for connections, bounded responses.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::redirect::Policy;
use reqwest::{Client, Response};

use crate::{Failure, StoreError, Trouble};

/// Time limit of an operation on single keys.
pub(crate) const QUICK: Duration = Duration::from_secs(3);
/// Time limit for opening a connection, including TLS.
const CONNECT: Duration = Duration::from_secs(3);
/// How long an unused connection is kept.
const IDLE: Duration = Duration::from_secs(30);
/// Maximum size of a response in bytes. All data of an environment is smaller by far.
const MAX_RESPONSE: usize = 256 << 20;

/// The requests that a client sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scheme {
    /// To the host itself, without TLS.
    Http,
    /// To the host itself.
    Https,
    /// By the proxy of the environment variables, if they name one for the host.
    #[cfg(feature = "dynamodb")]
    HttpsThroughProxy,
}

/// Creates a client. The certificates of the system are read only where TLS needs them.
///
/// # Errors
/// When TLS cannot be set up.
pub(crate) fn client(scheme: Scheme) -> Result<Client, Failure> {
    let builder = Client::builder()
        .redirect(Policy::none())
        .referer(false)
        .connect_timeout(CONNECT)
        .pool_idle_timeout(IDLE)
        .no_gzip()
        .tls_built_in_root_certs(scheme != Scheme::Http);
    let builder = match scheme {
        Scheme::Http | Scheme::Https => builder.no_proxy(),
        #[cfg(feature = "dynamodb")]
        Scheme::HttpsThroughProxy => builder,
    };
    builder.build().map_err(|error| Failure::new(Trouble::Unreachable, with_causes(&error)))
}

/// Limits the time of an operation.
///
/// # Errors
/// When the operation fails, or takes longer.
pub(crate) async fn within<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    // On the heap, because the futures of some operations have many kilobytes.
    tokio::time::timeout(limit, Box::pin(work)).await.unwrap_or(Err(StoreError::TimedOut))
}

/// Reads the body of a response.
///
/// # Errors
/// When the connection fails, or the body is larger than any data of an environment.
pub(crate) async fn body(mut response: Response) -> Result<Bytes, Failure> {
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
        if body.len() + chunk.len() > MAX_RESPONSE {
            return Err(Failure::new(Trouble::Refused, "the response of the database is larger than 256 MiB"));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

/// A request without a response. The address is left out of the text, because it contains keys of records.
pub(crate) fn unreachable(error: reqwest::Error) -> Failure {
    Failure::new(Trouble::Unreachable, with_causes(&error.without_url()))
}

/// An error and its causes in one text: the first one alone names neither a refused connection nor a certificate.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let next_text = next.to_string();
        // Some errors repeat their cause.
        if !text.contains(&next_text) {
            text.push_str(": ");
            text.push_str(&next_text);
        }
        cause = next.source();
    }
    text
}
