//! Where changes of Big Segments come from: a poll for what was missed, and a stream for what comes.

use std::time::Duration;

use eventsource_stream::Eventsource;
use futures_util::{Stream, StreamExt};
use http::StatusCode;
use yardarm_outbound::chain;
use yardarm_store::MembershipPatch;

use super::{CurrentKey, patch};
use crate::config::Config;
use crate::upstream::HttpClients;

/// Longest time for a poll. ld-relay allows 3 s, which users behind slow proxies exceed.
const POLL: Duration = Duration::from_secs(30);

/// Why upstream could not be asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum SourceError {
    #[error("connection failed: {0}")]
    Network(String),
    #[error("upstream answered {0}")]
    Status(StatusCode),
    #[error("malformed patches ({0})")]
    Malformed(#[from] serde_json::Error),
    #[error("stream ended")]
    Ended,
}

/// Upstream.
pub(super) struct Source {
    http: HttpClients,
    poll: String,
    stream: String,
    key: CurrentKey,
}

impl Source {
    pub(super) fn new(http: HttpClients, config: &Config, key: CurrentKey) -> Self {
        Self {
            http,
            poll: format!("{}/sdk/big-segments/revisions", config.base_uri),
            stream: format!("{}/big-segments", config.stream_uri),
            key,
        }
    }

    /// Patches that follow `cursor`; none when there are no more.
    pub(super) async fn poll(&self, cursor: Option<&str>) -> Result<Vec<MembershipPatch>, SourceError> {
        let mut request = self.http.requests.get(&self.poll).timeout(POLL);
        if let Some(cursor) = cursor.filter(|it| !it.is_empty()) {
            request = request.query(&[("after", cursor)]);
        }
        let response = self.answer(request).await?;
        let body = response.bytes().await.map_err(network)?;
        Ok(patch::parse(&body)?)
    }

    /// A stream of patches, whose last item is an error.
    pub(super) async fn open(
        &self,
    ) -> Result<impl Stream<Item = Result<Vec<MembershipPatch>, SourceError>> + Unpin + use<>, SourceError> {
        let request = self.http.streams.get(&self.stream).header("accept", "text/event-stream");
        let response = self.answer(request).await?;
        let events = response.bytes_stream().eventsource();
        Ok(Box::pin(events.map(|event| match event {
            Ok(event) => Ok(patch::parse(event.data.as_bytes())?),
            Err(error) => Err(SourceError::Network(error.to_string())),
        })))
    }

    async fn answer(&self, request: reqwest::RequestBuilder) -> Result<reqwest::Response, SourceError> {
        let key = (self.key)();
        let response = request.header("authorization", key.expose()).send().await.map_err(network)?;
        if response.status() == StatusCode::OK { Ok(response) } else { Err(SourceError::Status(response.status())) }
    }
}

/// Without the address, which is the operator's and says nothing new.
fn network(error: reqwest::Error) -> SourceError {
    SourceError::Network(chain(&error.without_url()))
}
