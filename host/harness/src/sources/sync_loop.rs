//! One round after another: authenticate, download, stream until it ends. While there is no stream, poll.
//!
//! One implementation serves the environment of an API key and the environments of a proxy key; what differs is a
//! [`SyncSource`]. Events are handled one after the other to keep their order; the next ones wait in the connection
//! meanwhile.

mod events;

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tracing::Instrument;
use yardarm_core::{InternalError, Supervised};
use yardarm_vendor::upstream::{ConnectionError, Events, NetworkError, ReconnectPolicy, connection_span};

use super::environment_set::EnvironmentSet;
use super::sync_source::{RoundError, SyncSource};
use crate::upstream::RequestError;
use crate::upstream::fetch::Fetcher;
use crate::upstream::retry_delay::reconnect_policy;

/// Time between attempts of a payload plugin that failed.
const PLUGIN_RETRY: Duration = Duration::from_secs(5);

/// Shortest time limit for the response to a request for a stream.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
/// Shortest time between new tokens that are requested because other requests were rejected.
const RENEWAL_PAUSE: Duration = Duration::from_secs(60);

/// Keeps the environments of a key in sync.
pub(super) struct SyncLoop<S> {
    pub(super) source: S,
    pub(super) environments: EnvironmentSet,
    /// Where changed items come from.
    fetcher: Fetcher,
    plans: watch::Receiver<u64>,
    reconnect: ReconnectPolicy,
    poll_interval: Duration,
    /// When everything is due to be downloaded again where no stream reports changes. Rounds that fail do not put it off.
    next_poll: Instant,
    /// Notified when upstream has rejected the token in a request made elsewhere.
    token_refused: Arc<Notify>,
    /// Not before this is a new token requested for that reason.
    renew_after: Instant,
    stream_enabled: bool,
    /// Whether upstream rejected the key; nothing is polled until the next round then.
    is_rejected: bool,
}

impl<S: SyncSource> SyncLoop<S> {
    pub(super) fn new(source: S, environments: EnvironmentSet, fetcher: Fetcher) -> Self {
        let config = &environments.factory.config;
        Self {
            fetcher,
            plans: environments.factory.parts.hooks.changed(),
            reconnect: reconnect_policy(config.rejected_retry_interval),
            poll_interval: config.flag_poll_interval,
            next_poll: Instant::now() + config.flag_poll_interval,
            token_refused: Arc::clone(&environments.factory.token_refused),
            renew_after: Instant::now(),
            stream_enabled: config.stream_enabled,
            is_rejected: false,
            source,
            environments,
        }
    }

    /// One round. It ends without an error only where streaming is switched off, after the download.
    async fn round(&mut self) -> Result<(), RoundError> {
        self.authenticate().await?;
        if !self.stream_enabled {
            return Ok(self.download().await?);
        }
        // Without data yet, flags come before the stream, so that a stream that cannot be opened holds nothing back.
        if !self.environments.has_data() {
            self.download().await?;
        }
        // Where a firewall swallows streams, a response may never come.
        let limit = self.next_poll.max(Instant::now() + OPEN_TIMEOUT);
        let opened = tokio::time::timeout_at(limit, self.source.open()).await;
        let events =
            opened.map_err(|_| ConnectionError::from(NetworkError::TimedOut("the stream was not answered")))??;
        // Changes before the stream was open are in this download; later ones arrive on the stream.
        self.download().await?;
        self.connect();
        self.read(events).await
    }

    async fn authenticate(&mut self) -> Result<(), RequestError> {
        let response = self.source.authenticate(&mut self.environments).await;
        self.is_rejected = response.as_ref().is_err_and(RequestError::is_rejection);
        response
    }

    async fn download(&mut self) -> Result<(), RequestError> {
        let response = match self.source.download(&mut self.environments).await {
            Err(RequestError::Status(StatusCode::UNAUTHORIZED)) => match self.authenticate().await {
                Ok(()) => self.source.download(&mut self.environments).await,
                Err(error) => Err(error),
            },
            other => other,
        };
        self.next_poll = Instant::now() + self.poll_interval;
        response
    }

    /// Requests a new token. Metrics are posted with the same token, and where nothing changes for hours only they show
    /// that it has expired.
    async fn renew(&mut self) {
        if Instant::now() < self.renew_after {
            return;
        }
        self.renew_after = Instant::now() + RENEWAL_PAUSE;
        if let Err(error) = self.authenticate().await {
            tracing::warn!(%error, "no new token could be obtained");
        }
    }

    async fn poll(&mut self) -> Result<(), RequestError> {
        if S::POLLS_WITH_NEW_TOKEN {
            self.authenticate().await?;
        }
        self.download().await
    }

    /// Notes that the stream is open and everything has been downloaded.
    fn connect(&mut self) {
        self.environments.connect();
        tracing::info!("upstream stream is active");
        self.reconnect.mark_open();
    }

    /// Notes that there is no stream, because of `error`. A rejection that `is_lasting` is retried with long backoff.
    fn disconnect(&mut self, error: &RoundError, is_lasting: bool) {
        self.environments.disconnect();
        self.environments.note_failure(error.kind(), is_lasting, &error.to_string());
        if is_lasting {
            tracing::error!(%error, "upstream rejected the key, retrying with long backoff");
        } else {
            tracing::warn!(%error, "upstream stream interrupted");
        }
    }

    async fn read(&mut self, mut events: Events) -> Result<(), RoundError> {
        loop {
            tokio::select! {
                event = events.next() => {
                    if let Some(base) = events.take_reconnection_time() {
                        self.reconnect.rebase(base);
                    }
                    if event.is_ok() || events.has_heartbeat() {
                        self.reconnect.mark_healthy();
                    }
                    self.process(&event?.data).await?;
                },
                // If it fails, what arrives on the stream is still valid.
                () = tokio::time::sleep_until(self.next_poll), if self.environments.is_incomplete() => {
                    if let Err(error) = self.download().await {
                        tracing::warn!(%error, "another download failed");
                    }
                }
                () = self.token_refused.notified() => self.renew().await,
                _ = self.plans.changed() => self.environments.plan_changed().await,
                () = tokio::time::sleep(PLUGIN_RETRY), if self.environments.is_behind() => {
                    self.environments.plan_changed().await;
                }
            }
        }
    }

    /// Waits until the next round, and polls meanwhile.
    async fn pause(&mut self, delay: Duration) {
        let wake = tokio::time::sleep(delay);
        tokio::pin!(wake);
        loop {
            tokio::select! {
                () = &mut wake => return,
                () = tokio::time::sleep_until(self.next_poll), if self.stream_enabled && !self.is_rejected => {
                    self.next_poll = Instant::now() + self.poll_interval;
                    if let Err(error) = self.poll().await {
                        tracing::warn!(%error, "poll failed");
                    }
                }
                () = self.token_refused.notified() => self.renew().await,
                _ = self.plans.changed() => self.environments.plan_changed().await,
                () = tokio::time::sleep(PLUGIN_RETRY), if self.environments.is_behind() => {
                    self.environments.plan_changed().await;
                }
            }
        }
    }
}

impl<S: SyncSource> Supervised for SyncLoop<S> {
    /// Runs until dropped.
    async fn run(&mut self) {
        if self.environments.is_settled() {
            // Upstream has accepted the key before, in an earlier process if not in this one.
            self.reconnect.mark_accepted();
        }
        loop {
            self.reconnect.mark_connecting();
            let span = connection_span(&self.fetcher.base);
            let delay = match self.round().instrument(span.clone()).await {
                Ok(()) => {
                    self.reconnect.mark_succeeded();
                    self.environments.disconnect();
                    self.poll_interval
                }
                Err(error) => {
                    let (_, is_rejection) = error.kind();
                    let retry = self.reconnect.retry_after_failure(is_rejection);
                    span.in_scope(|| self.disconnect(&error, retry.is_lasting));
                    retry.delay
                }
            };
            self.pause(delay).instrument(span).await;
        }
    }

    fn recover(&mut self, error: &InternalError) {
        self.disconnect(&RoundError::Internal(error.clone()), false);
    }
}
