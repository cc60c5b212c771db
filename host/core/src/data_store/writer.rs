//! The task that writes: the changes of all owners are committed together.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::database::TASK;
use super::error::StoreError;
use crate::supervisor::{Supervised, blocking};
use crate::{Backoff, InternalError};

/// A change is committed this time after it occurred, together with others.
const SETTLE: Duration = Duration::from_millis(250);
/// Shortest time between two commits. Most of what a commit costs does not depend on its size.
const INTERVAL: Duration = Duration::from_secs(1);
/// Delay after the first failed commit, so that a full disk is not hammered, and the longest delay.
const AFTER_FAILURE: Duration = Duration::from_secs(10);
const MAX_PAUSE: Duration = Duration::from_secs(300);

/// How soon a change is committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// Within a second or two, together with others: what is lost with the process can be fetched again.
    Relaxed,
    /// At once, together with those that occur during the commit before it.
    Prompt,
}

impl Pace {
    /// Time from a change to its commit, and shortest time between two commits.
    fn delays(self) -> (Duration, Duration) {
        match self {
            Self::Relaxed => (SETTLE, INTERVAL),
            Self::Prompt => (Duration::ZERO, Duration::ZERO),
        }
    }
}

/// Commits changes until the end of the process. The last changes before the end are still committed.
pub(super) struct Writer {
    shared: Arc<Shared>,
    pace: Pace,
    token: CancellationToken,
    /// When the next commit may be tried.
    next_commit: Instant,
    /// After a failed commit, another one is tried whether or not there are changes.
    has_failed: bool,
    failures: Failures,
}

impl Writer {
    /// `opened` is the outcome of opening the database, which is the first attempt to write.
    pub(super) fn new(
        shared: Arc<Shared>,
        pace: Pace,
        token: CancellationToken,
        opened: &Result<(), StoreError>,
    ) -> Self {
        let mut failures = Failures::new();
        if let Err(error) = opened {
            failures.record(&error.to_string());
        }
        Self { shared, pace, token, next_commit: Instant::now(), has_failed: false, failures }
    }

    /// Waits until a commit is due; returns whether the process ends.
    async fn wait(&mut self) -> bool {
        if !self.has_failed {
            let woken = self.shared.wake.notified();
            let is_dirty = self.shared.is_dirty();
            tokio::select! {
                () = woken, if !is_dirty => (),
                () = self.token.cancelled(), if !is_dirty => return true,
                () = std::future::ready(()), if is_dirty => (),
            }
            self.next_commit = self.next_commit.max(Instant::now() + self.pace.delays().0);
        }
        tokio::time::timeout_at(self.next_commit, self.token.cancelled()).await.is_ok()
    }

    async fn commit(&mut self) {
        let shared = Arc::clone(&self.shared);
        self.has_failed = true;
        // Encoding large data takes a while and would delay other tasks.
        let committed = blocking(TASK, move || shared.commit()).await;
        let error = match committed {
            Ok(Ok(())) => {
                self.has_failed = false;
                self.next_commit = Instant::now() + self.pace.delays().1;
                return self.failures.recover(&self.shared.connection.name());
            }
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        self.next_commit = Instant::now() + self.failures.record(&error);
    }
}

impl Supervised for Writer {
    async fn run(&mut self) {
        loop {
            let is_ending = self.wait().await;
            if self.has_failed || self.shared.is_dirty() {
                self.commit().await;
            }
            self.shared.remove_closed();
            if is_ending {
                let shared = Arc::clone(&self.shared);
                // The process ends, whatever becomes of this.
                let _ = blocking(TASK, move || shared.connection.close()).await;
                return;
            }
        }
    }

    fn recover(&mut self, _: &InternalError) {
        self.has_failed = true;
    }
}

/// Rate limit for log lines about failures: one line for the first failure, for each other cause, and for recovery.
struct Failures {
    last: Option<String>,
    pauses: Backoff,
}

impl Failures {
    fn new() -> Self {
        Self { last: None, pauses: Backoff::literal(AFTER_FAILURE, MAX_PAUSE) }
    }

    /// Returns the delay before the next attempt.
    fn record(&mut self, error: &str) -> Duration {
        if self.last.as_deref() != Some(error) {
            tracing::error!(error, "data could not be kept on disk; attempts go on");
            self.last = Some(error.to_owned());
        }
        self.pauses.next_delay()
    }

    fn recover(&mut self, file: &str) {
        self.pauses.reset();
        if self.last.take().is_some() {
            tracing::info!(file, "data is written to disk again");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_after_failures_starts_again_after_a_success() {
        let mut failures = Failures::new();
        let pauses: Vec<_> = (0..12).map(|_| failures.record("disk full")).collect();
        assert!(pauses[0] <= AFTER_FAILURE && pauses[11] > MAX_PAUSE / 2, "{pauses:?}");
        failures.recover("store.redb");
        assert_eq!(failures.last, None, "the next failure is logged again");
        assert!(failures.record("disk full") <= AFTER_FAILURE);
    }
}
