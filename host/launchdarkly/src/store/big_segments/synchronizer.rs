//! Keeps the memberships in the database up to date (U108 to U112).
//!
//! Missed patches are polled until none are left, then the stream is opened, then patches from in between are polled. A
//! patch applies only to the cursor it follows; a patch that does not follow the cursor means that others were missed, and
//! the synchronization restarts.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::Instrument;
use yardarm_core::time::unix_ms;
use yardarm_store::{Advanced, MembershipPatch, Store, StoreError};
use yardarm_vendor::upstream::{ReconnectPolicy, is_rejection};

use super::super::event::StoreEvent;
use super::super::status::advice;
use super::lookup::MembershipLookup;
use super::source::{PatchStream, Source, SourceError};
use crate::config::Config;

/// Polls in a row without a delay.
const POLLS_AT_ONCE: u32 = 1000;
/// Attempts to apply a patch while other gateways change the same cursor.
const ATTEMPTS: usize = 3;

/// Why a round ended.
#[derive(Debug, thiserror::Error)]
enum RoundError {
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("a patch of `{0}` does not follow what is stored")]
    Refused(String),
    #[error("polling brings nothing new")]
    NoProgress,
}

pub(super) struct Synchronizer {
    database: Arc<dyn Store>,
    source: Source,
    lookup: Arc<MembershipLookup>,
    sender: mpsc::Sender<StoreEvent>,
    poll_interval: Duration,
    reconnect: ReconnectPolicy,
    /// Whether memberships have changed since the last notification.
    has_changes: bool,
    /// Whether the database has a cursor, as far as known here.
    has_cursor: bool,
    /// The last failure, until the next success.
    last_problem: Option<String>,
}

impl Synchronizer {
    pub(super) fn new(
        database: Arc<dyn Store>,
        source: Source,
        lookup: Arc<MembershipLookup>,
        sender: mpsc::Sender<StoreEvent>,
        config: &Config,
    ) -> Self {
        let (retry, rejected) = (config.store.big_segments.retry_interval, config.rejected_retry_interval);
        Self {
            database,
            source,
            lookup,
            sender,
            poll_interval: config.store.big_segments.poll_interval,
            // 10, 20, 30 s unless set otherwise, as ld-relay has it since 2026.
            reconnect: ReconnectPolicy::new(retry.saturating_mul(3), rejected).with_first(retry),
            has_changes: false,
            has_cursor: false,
            last_problem: None,
        }
    }

    /// Runs until dropped.
    pub(super) async fn run(&mut self) {
        tracing::info!("Big Segments appeared and are synchronized");
        loop {
            self.reconnect.mark_connecting();
            let span = self.source.span();
            let Err(error) = self.round().instrument(span.clone()).await;
            let is_rejected = matches!(&error, RoundError::Source(SourceError::Status(it)) if is_rejection(*it));
            let delay = self.reconnect.retry_after_failure(is_rejected).delay;
            span.in_scope(|| self.report(&error, delay));
            sleep(delay).await;
        }
    }

    /// Writes one line for a failure, and none for the same one again.
    fn report(&mut self, error: &RoundError, delay: Duration) {
        let (problem, seconds) = (error.to_string(), delay.as_secs_f64());
        let advice = if let RoundError::Store(error) = error {
            Some(advice(self.database.place().database, error.trouble()))
        } else {
            None
        };
        if self.last_problem.as_ref() == Some(&problem) {
            tracing::debug!(%error, seconds, "Big Segments are still not synchronized");
        } else {
            tracing::warn!(%error, advice, seconds, "Big Segments are not synchronized, retrying");
            self.last_problem = Some(problem);
        }
    }

    /// Synchronizes and then applies the stream, until something fails.
    async fn round(&mut self) -> Result<std::convert::Infallible, RoundError> {
        loop {
            self.catch_up().await?;
            let stream = self.source.open().await?;
            // Polls patches from between the last poll and the stream.
            if self.poll().await? {
                continue;
            }
            self.synchronized().await?;
            self.reconnect.mark_healthy();
            let opened = Instant::now();
            match self.follow(stream).await {
                // Patches were missed; polling returns them.
                Err(RoundError::Refused(group)) if self.was_lasting(opened) => {
                    tracing::warn!(segment = %group, "a patch does not follow what is stored, Big Segments are polled again");
                }
                Err(error) => return Err(error),
                Ok(never) => match never {},
            }
        }
    }

    /// Whether a stream lasted long enough to open another one at once. The limit is 6 s by default; streams that fail
    /// sooner would fail again.
    fn was_lasting(&self, opened: Instant) -> bool {
        opened.elapsed() >= self.poll_interval / 10
    }

    /// Applies the patches of the stream.
    async fn follow(&mut self, mut stream: PatchStream) -> Result<std::convert::Infallible, RoundError> {
        // Silence means that nothing has changed, which is recorded (every 30 s by default); every second time upstream
        // is polled as well, because a stream can be silent for other reasons.
        let pause = self.poll_interval / 2;
        let mut quiet_until = Instant::now() + pause;
        let mut pauses = 0_u32;
        loop {
            tokio::select! {
                patches = stream.next() => {
                    if let Some(base) = stream.take_reconnection_time() {
                        self.reconnect.rebase(base);
                    }
                    let patches = patches?;
                    // Without a cursor the database accepts any patch, also a patch that follows a missed one.
                    while !self.has_cursor && self.poll().await? {}
                    self.apply(&patches).await?;
                    pauses = 0;
                }
                () = self.lookup.emptied.notified() => {
                    tracing::warn!("Big Segments are gone from the database and are polled again");
                    self.catch_up().await?;
                }
                () = sleep_until(quiet_until) => {
                    pauses += 1;
                    if pauses.is_multiple_of(2) {
                        self.catch_up().await?;
                    }
                }
            }
            self.synchronized().await?;
            quiet_until = Instant::now() + pause;
        }
    }

    /// Polls until no patches are left. If upstream always has more, it is polled once a second after a while.
    async fn catch_up(&mut self) -> Result<(), RoundError> {
        let mut polls = 0_u32;
        while self.poll().await? {
            polls += 1;
            if polls >= POLLS_AT_ONCE {
                sleep(Duration::from_secs(1)).await;
            }
        }
        Ok(())
    }

    /// Polls the patches after the cursor and applies them; returns whether there were any.
    async fn poll(&mut self) -> Result<bool, RoundError> {
        let before = self.database.progress().await?.cursor;
        self.has_cursor = before.is_some();
        let patches = self.source.poll(before.as_deref()).await?;
        self.reconnect.mark_accepted();
        if patches.is_empty() {
            return Ok(false);
        }
        self.apply(&patches).await?;
        if self.database.progress().await?.cursor == before {
            return Err(RoundError::NoProgress);
        }
        Ok(true)
    }

    async fn apply(&mut self, patches: &[MembershipPatch]) -> Result<(), RoundError> {
        for patch in patches {
            // SDKs are notified whether this gateway or another one with the same database applied it.
            self.has_changes = true;
            self.apply_one(patch).await?;
            self.has_cursor = true;
        }
        Ok(())
    }

    async fn apply_one(&self, patch: &MembershipPatch) -> Result<(), RoundError> {
        for _ in 0..ATTEMPTS {
            match self.database.advance(patch).await? {
                Advanced::Applied => return Ok(()),
                // Another gateway was faster.
                Advanced::Refused { cursor: Some(cursor) } if cursor == patch.version => return Ok(()),
                // The patch follows the cursor: another gateway is applying it right now.
                Advanced::Refused { cursor } if cursor.as_ref().is_none_or(|it| *it == patch.previous) => (),
                Advanced::Refused { .. } => break,
            }
        }
        Err(RoundError::Refused(patch.group.clone()))
    }

    /// Records that the database has everything from upstream.
    async fn synchronized(&mut self) -> Result<(), StoreError> {
        let now = unix_ms();
        self.database.synchronized(now).await?;
        self.lookup.synchronized(now);
        if self.last_problem.take().is_some() {
            tracing::info!("Big Segments are synchronized again");
        }
        if std::mem::take(&mut self.has_changes) {
            self.lookup.changed();
            // Without room, a notification is pending already.
            let _ = self.sender.try_send(StoreEvent::SegmentsChanged);
        }
        Ok(())
    }
}
