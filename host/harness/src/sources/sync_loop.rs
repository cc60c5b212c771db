//! One round after another: authenticate, download, stream until it ends. While there is no stream, poll.
//!
//! Events are handled one after the other, so that their order is kept; those that wait meanwhile wait in the connection.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use yardarm_core::hooks::Hooks;
use yardarm_core::status::ErrorKind;
use yardarm_core::{InternalError, Supervised};
use yardarm_outbound::{ConnectionError, Events};

use crate::config::Config;
use crate::upstream::RequestError;
use crate::upstream::fetch::Fetcher;
use crate::upstream::retry_delay::RetryDelay;

/// How soon a failed payload plugin is asked again.
const PLUGIN_RETRY: Duration = Duration::from_secs(5);

/// How long a stream may take to be answered, at least.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a new token may be made because the old one was refused elsewhere.
const RENEWAL_PAUSE: Duration = Duration::from_secs(60);

/// The steps of a round, for one environment or for many.
pub(super) trait SyncSource: Send {
    /// Whether tokens say what there is to download, so that a poll needs a new one.
    const POLLS_WITH_NEW_TOKEN: bool;

    /// Done before the first round.
    fn prepare(&mut self) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }

    /// Where items come from.
    fn fetcher(&self) -> &Fetcher;

    /// Gets a new token.
    fn authenticate(&mut self) -> impl Future<Output = Result<(), RequestError>> + Send;

    /// Downloads everything and serves it.
    fn download(&mut self) -> impl Future<Output = Result<(), RequestError>> + Send;

    /// Whether there is something to serve.
    fn has_data(&self) -> bool;

    /// Whether something in the last download could not be used, so that another one is due although there is a stream.
    fn is_incomplete(&self) -> bool;

    /// Opens the stream.
    fn open(&mut self) -> impl Future<Output = Result<Events, ConnectionError>> + Send;

    /// Everything is there, and changes come in as they happen.
    fn connected(&mut self);

    /// Serves what an event is about. An error ends the round.
    fn process(&mut self, data: &str) -> impl Future<Output = Result<(), RoundError>> + Send;

    /// Everything is there, and nothing comes until the next round.
    fn polled(&mut self);

    /// Whether upstream has accepted the key before, in an earlier process if not in this one.
    fn was_accepted(&self) -> bool;

    /// There is no stream any more. Where a rejection `is_lasting`, the next attempt is far.
    fn lost(&mut self, error: &RoundError, is_lasting: bool);

    /// Other plugins are in force.
    fn plan_changed(&mut self) -> impl Future<Output = ()> + Send;

    /// Whether a payload plugin failed.
    fn is_behind(&self) -> bool;
}

/// Why a round ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum RoundError {
    /// A request failed.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// There is no stream, or none any more.
    #[error(transparent)]
    Stream(#[from] ConnectionError),
    /// A panic. The next round finds out what is missing.
    #[error("{0}; restarting")]
    Internal(InternalError),
}

/// Keeps something in sync.
pub(super) struct SyncLoop<U> {
    upstream: U,
    plans: watch::Receiver<u64>,
    retries: RetryDelay,
    /// Since when the present stream is open, and whether anything has arrived on it.
    connected: Option<(Instant, bool)>,
    poll_interval: Duration,
    /// When everything is due to be downloaded again where no stream says what has changed. Rounds that fail do not put it
    /// off.
    next_poll: Instant,
    /// Somebody was told that the token is no longer good.
    token_refused: Arc<Notify>,
    /// Not before this is a new token made for that reason.
    renew_after: Instant,
    stream_enabled: bool,
    /// Whether upstream wants nothing of the key; it is not asked until the next round then.
    is_rejected: bool,
}

impl<U: SyncSource> SyncLoop<U> {
    pub(super) fn new(upstream: U, hooks: &Hooks, config: &Config, token_refused: Arc<Notify>) -> Self {
        Self {
            plans: hooks.changed(),
            retries: RetryDelay::new(config.rejected_retry_interval, false),
            connected: None,
            poll_interval: config.flag_poll_interval,
            next_poll: Instant::now() + config.flag_poll_interval,
            token_refused,
            renew_after: Instant::now(),
            stream_enabled: config.stream_enabled,
            is_rejected: false,
            upstream,
        }
    }

    /// One round. It ends well only where streaming is switched off, after the download.
    async fn round(&mut self) -> Result<(), RoundError> {
        self.authenticate().await?;
        if !self.stream_enabled {
            return Ok(self.download().await?);
        }
        // Without data yet, flags come before the stream, so that a stream that cannot be opened holds nothing back.
        if !self.upstream.has_data() {
            self.download().await?;
        }
        // Where a firewall swallows streams, an answer may never come.
        let budget = self.next_poll.max(Instant::now() + OPEN_TIMEOUT);
        let opened = tokio::time::timeout_at(budget, self.upstream.open()).await;
        let events =
            opened.map_err(|_| ConnectionError::Network("the stream was not answered in time".to_owned()))??;
        // What changed while there was no stream; what changes from here on comes down the open one.
        self.download().await?;
        self.upstream.connected();
        self.connected = Some((Instant::now(), false));
        self.read(events).await
    }

    async fn authenticate(&mut self) -> Result<(), RequestError> {
        let answer = self.upstream.authenticate().await;
        self.is_rejected = answer.as_ref().is_err_and(|error| error.kind().1);
        answer
    }

    async fn download(&mut self) -> Result<(), RequestError> {
        let answer = match self.upstream.download().await {
            Err(RequestError::Status(StatusCode::UNAUTHORIZED)) => match self.authenticate().await {
                Ok(()) => self.upstream.download().await,
                Err(error) => Err(error),
            },
            other => other,
        };
        self.next_poll = Instant::now() + self.poll_interval;
        answer
    }

    /// Metrics go with the same token, and where nothing changes for hours nobody else would notice that it is too old.
    async fn renew(&mut self) {
        if Instant::now() < self.renew_after {
            return;
        }
        self.renew_after = Instant::now() + RENEWAL_PAUSE;
        if let Err(error) = self.authenticate().await {
            tracing::warn!(%error, "no new token could be had");
        }
    }

    async fn poll(&mut self) -> Result<(), RequestError> {
        if U::POLLS_WITH_NEW_TOKEN {
            self.authenticate().await?;
        }
        self.download().await
    }

    async fn read(&mut self, mut events: Events) -> Result<(), RoundError> {
        loop {
            tokio::select! {
                event = events.next() => {
                    if let Some(base) = events.take_reconnection_time() {
                        self.retries.rebase(base);
                    }
                    let has_said_something = event.is_ok() || events.has_heartbeat();
                    self.connected = self.connected.map(|(since, before)| (since, before || has_said_something));
                    self.upstream.process(&event?.data).await?;
                },
                // What does come down the stream is good in any case.
                () = tokio::time::sleep_until(self.next_poll), if self.upstream.is_incomplete() => {
                    if let Err(error) = self.download().await {
                        tracing::warn!(%error, "another download failed");
                    }
                }
                () = self.token_refused.notified() => self.renew().await,
                _ = self.plans.changed() => self.upstream.plan_changed().await,
                () = tokio::time::sleep(PLUGIN_RETRY), if self.upstream.is_behind() => self.upstream.plan_changed().await,
            }
        }
    }

    /// Polls while it waits.
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
                _ = self.plans.changed() => self.upstream.plan_changed().await,
                () = tokio::time::sleep(PLUGIN_RETRY), if self.upstream.is_behind() => self.upstream.plan_changed().await,
            }
        }
    }
}

impl<U: SyncSource + 'static> Supervised for SyncLoop<U> {
    /// Runs until dropped.
    async fn run(&mut self) {
        self.upstream.prepare().await;
        if self.upstream.was_accepted() {
            self.retries.accept();
        }
        loop {
            self.connected = None;
            let delay = match self.round().await {
                Ok(()) => {
                    self.retries.succeed();
                    self.upstream.polled();
                    self.poll_interval
                }
                Err(error) => {
                    if let Some((since, said_something)) = self.connected {
                        self.retries.disconnect(since.elapsed(), said_something);
                    }
                    let retry = self.retries.after_failure(error.kind().1);
                    self.upstream.lost(&error, retry.is_seldom);
                    retry.delay
                }
            };
            self.pause(delay).await;
        }
    }

    fn recover(&mut self, error: &InternalError) {
        self.upstream.lost(&RoundError::Internal(error.clone()), false);
    }
}

impl RoundError {
    /// The kind for the status of an environment, and whether it does not heal by itself.
    pub(super) fn kind(&self) -> (ErrorKind, bool) {
        match self {
            Self::Request(error) => error.kind(),
            Self::Stream(error) => error.kind(),
            Self::Internal(_) => (ErrorKind::Unknown, false),
        }
    }
}
