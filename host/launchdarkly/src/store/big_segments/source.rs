//! The upstream source of changes of Big Segments: polls for missed changes, and a stream for new ones.

use std::time::Duration;

use http::StatusCode;
use tracing::Span;
use yardarm_store::MembershipPatch;
use yardarm_vendor::upstream::{ConnectionError, Events, NetworkError, RedirectError, SendError, connection_span};

use super::{CurrentKey, patch};
use crate::config::Config;
use crate::upstream::HttpClients;

/// Longest time for a poll. ld-relay allows 3 s, which users behind slow proxies exceed.
const POLL: Duration = Duration::from_secs(30);

/// Why a request to upstream failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum SourceError {
    #[error("connection failed: {0}")]
    Network(#[from] NetworkError),
    #[error("upstream answered {0}")]
    Status(StatusCode),
    #[error("upstream {0}")]
    Redirect(#[from] RedirectError),
    #[error(transparent)]
    Stream(ConnectionError),
    #[error("malformed patches ({0})")]
    Malformed(#[from] serde_json::Error),
}

/// Upstream.
pub(super) struct Source {
    http: HttpClients,
    poll: String,
    stream: String,
    key: CurrentKey,
}

impl Source {
    /// Returns the span of requests and streams of this source.
    pub(super) fn span(&self) -> Span {
        connection_span(&self.stream)
    }

    pub(super) fn new(http: HttpClients, config: &Config, key: CurrentKey) -> Self {
        Self {
            http,
            poll: format!("{}/sdk/big-segments/revisions", config.base_uri),
            stream: format!("{}/big-segments", config.stream_uri),
            key,
        }
    }

    /// The patches that follow `cursor`; empty when there are no more.
    pub(super) async fn poll(&self, cursor: Option<&str>) -> Result<Vec<MembershipPatch>, SourceError> {
        let mut request = self.http.requests.get(&self.poll).timeout(POLL);
        if let Some(cursor) = cursor.filter(|it| !it.is_empty()) {
            request = request.query(&[("after", cursor)]);
        }
        let response = yardarm_vendor::upstream::send(self.authorized(request)).await?;
        if response.status() != StatusCode::OK {
            return Err(SourceError::Status(response.status()));
        }
        let body = response.bytes().await.map_err(NetworkError::from)?;
        Ok(patch::parse(&String::from_utf8_lossy(&body))?)
    }

    /// Opens the stream of patches.
    pub(super) async fn open(&self) -> Result<PatchStream, SourceError> {
        let request = self.authorized(self.http.streams.get(&self.stream));
        Ok(PatchStream(yardarm_vendor::upstream::open(request, self.http.read_timeout).await?))
    }

    fn authorized(&self, request: reqwest::RequestBuilder) -> reqwest::RequestBuilder {
        request.header("authorization", (self.key)().expose())
    }
}

/// A stream of patches.
pub(super) struct PatchStream(Events);

impl PatchStream {
    /// Waits for the patches of the next event. Cancel-safe.
    pub(super) async fn next(&mut self) -> Result<Vec<MembershipPatch>, SourceError> {
        Ok(patch::parse(&self.0.next().await?.data)?)
    }

    /// The reconnect delay that upstream has requested since the last call, if any.
    pub(super) fn take_reconnection_time(&mut self) -> Option<Duration> {
        self.0.take_reconnection_time()
    }
}

impl From<ConnectionError> for SourceError {
    fn from(error: ConnectionError) -> Self {
        match error {
            ConnectionError::Network(problem) => Self::Network(problem),
            ConnectionError::Status(status) => Self::Status(status),
            ConnectionError::Redirect(error) => Self::Redirect(error),
            other => Self::Stream(other),
        }
    }
}

impl From<SendError> for SourceError {
    fn from(error: SendError) -> Self {
        match error {
            SendError::Network(problem) => Self::Network(problem),
            SendError::Redirect(error) => Self::Redirect(error),
        }
    }
}
