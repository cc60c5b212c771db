//! Keeps the environment of one API key in sync (sections 3.5 to 3.8).

use std::sync::Arc;

use http::StatusCode;
use yardarm_core::Secret;
use yardarm_core::registry::{EndReason, StreamRegistry};
use yardarm_outbound::{ConnectionError, Events};

use super::retry::changed_item;
use super::sync_loop::{RoundError, SyncSource};
use crate::data::received::Fetched;
use crate::environments::{Applier, Connection, HarnessEnvironment};
use crate::identity::AuthTarget;
use crate::upstream::fetch::Fetcher;
use crate::upstream::message::{self, Message};
use crate::upstream::{RequestError, open_session, stream};

/// An environment with an API key of its own.
pub(super) struct SyncTask {
    environment: Arc<HarnessEnvironment>,
    applier: Applier,
    streams: StreamRegistry,
    key: Secret,
    fetcher: Fetcher,
    /// Whether an event may have been about more than is served, so that everything is to be downloaded again.
    is_doubtful: bool,
}

impl SyncTask {
    pub(super) fn new(
        environment: Arc<HarnessEnvironment>,
        applier: Applier,
        streams: StreamRegistry,
        key: Secret,
        fetcher: Fetcher,
    ) -> Self {
        Self { environment, applier, streams, key, fetcher, is_doubtful: false }
    }

    async fn open_at(&self, listed_path: bool) -> Result<Events, ConnectionError> {
        let session = self.environment.session();
        let id = session.identity.id.as_str();
        let path: &[&str] = if listed_path { &["client", "env", id, "stream"] } else { &["stream"] };
        stream::open(&self.fetcher.http, &self.fetcher.base, path, &session, &self.key).await
    }

    /// While we only poll there are no events, so SDKs must poll too.
    fn disconnect(&self) {
        let environment = &self.environment;
        environment.set_stream_state(Connection::Disconnected);
        self.streams.end_where(EndReason::SourceLost, |facts| facts.environment == environment.label);
    }
}

impl SyncSource for SyncTask {
    const POLLS_WITH_NEW_TOKEN: bool = false;

    fn fetcher(&self) -> &Fetcher {
        &self.fetcher
    }

    async fn authenticate(&mut self) -> Result<(), RequestError> {
        let Fetcher { http, base } = &self.fetcher;
        let session = open_session(http, base, &self.key, AuthTarget::None).await?;
        if session.identity.id != self.environment.identity.id {
            return Err(RequestError::Malformed("the key belongs to another environment now".to_owned()));
        }
        self.environment.renew(session);
        Ok(())
    }

    async fn download(&mut self) -> Result<(), RequestError> {
        let received = self.fetcher.everything(&self.environment.session()).await?;
        self.is_doubtful = false;
        self.applier.put(received).await;
        self.environment.status.data_received();
        self.environment.status.message_processed();
        Ok(())
    }

    fn has_data(&self) -> bool {
        self.environment.data.has_data()
    }

    fn is_incomplete(&self) -> bool {
        self.is_doubtful || self.applier.has_skipped()
    }

    async fn open(&mut self) -> Result<Events, ConnectionError> {
        match self.open_at(false).await {
            // The vendor's own list names another path than its code uses. The real one is tried first each time, because it
            // may have been away for a moment only.
            Err(ConnectionError::Status(StatusCode::NOT_FOUND)) => self.open_at(true).await,
            other => other,
        }
    }

    fn connected(&mut self) {
        self.environment.set_stream_state(Connection::Connected);
        tracing::info!(environment = %self.environment.label, "upstream stream is active");
    }

    /// Fetches what an event names. SDKs hear of it when it can be fetched here, and not before.
    async fn process(&mut self, data: &str) -> Result<(), RoundError> {
        let environment = Arc::clone(&self.environment);
        match Message::read(data) {
            Message::Item { event, .. } if event.event == "delete" => self.applier.delete(event).await,
            Message::Item { event, .. } => match changed_item(self, &environment, &event).await? {
                Fetched::Item(item) => {
                    self.is_doubtful |= item.version() < event.version;
                    self.applier.patch(item, event).await;
                }
                Fetched::Unreadable(unreadable) => self.applier.skip(&unreadable),
                // Deleted since; that event is on its way.
                Fetched::Gone => (),
            },
            Message::Scope(_) => tracing::debug!(environment = %environment.label, "event for somebody else"),
            Message::NoJson => {
                self.is_doubtful = true;
                if let Some(suppressed) = message::UNKNOWN.next_line() {
                    tracing::warn!(environment = %environment.label, suppressed, "event of the upstream stream is no JSON, downloading everything instead soon");
                }
            }
            Message::Unknown(what) => {
                if let Some(suppressed) = message::UNKNOWN.next_line() {
                    tracing::warn!(environment = %environment.label, what, suppressed, "event of the upstream stream is ignored");
                }
            }
        }
        environment.status.message_processed();
        Ok(())
    }

    fn polled(&mut self) {
        self.disconnect();
    }

    /// Of a key that never was there is no environment.
    fn was_accepted(&self) -> bool {
        true
    }

    fn lost(&mut self, error: &RoundError, is_lasting: bool) {
        self.disconnect();
        let Self { environment, .. } = self;
        let (kind, _) = error.kind();
        if is_lasting {
            environment.status.refused(kind, &error.to_string());
            tracing::error!(environment = %environment.label, %error, "upstream rejected the key; it will be tried again, seldom");
        } else {
            environment.status.interrupted(kind, &error.to_string());
            tracing::warn!(environment = %environment.label, %error, "upstream stream interrupted");
        }
    }

    async fn plan_changed(&mut self) {
        self.applier.plan_changed().await;
    }

    fn is_behind(&self) -> bool {
        self.applier.is_behind()
    }
}
