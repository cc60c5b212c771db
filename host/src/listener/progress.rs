//! Tracks whether the client reads the response of a request, for connections that many requests share.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

tokio::task_local! {
    static PROGRESS: Arc<Progress>;
}

/// Progress of the response of one request.
pub(super) struct Progress {
    start: Instant,
    /// When the oldest waiting piece was offered, in milliseconds after the start plus one; 0 when none waits.
    waiting_since: AtomicU64,
    was_cut: AtomicBool,
}

impl Progress {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { start: Instant::now(), waiting_since: AtomicU64::new(0), was_cut: AtomicBool::new(false) })
    }

    /// Runs the task of a request, which [`Self::of_task`] refers to.
    pub(super) async fn scope<F: Future>(self: Arc<Self>, task: F) -> F::Output {
        PROGRESS.scope(self, task).await
    }

    /// Returns the progress of the request whose task calls this.
    pub(super) fn of_task() -> Option<Arc<Self>> {
        PROGRESS.try_with(Arc::clone).ok()
    }

    /// Records that everything so far was taken.
    pub(super) fn note_taken(&self) {
        self.waiting_since.store(0, Ordering::Relaxed);
    }

    /// Records that a piece waits to be taken.
    pub(super) fn note_given(&self) {
        let now = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX).saturating_add(1);
        self.waiting_since.store(now, Ordering::Relaxed);
    }

    pub(super) fn was_cut(&self) -> bool {
        self.was_cut.load(Ordering::Relaxed)
    }

    /// Completes when a piece has waited for longer than `timeout`; the request is then aborted.
    pub(super) async fn stalls(&self, timeout: Duration) {
        loop {
            let waiting_since = self.waiting_since.load(Ordering::Relaxed);
            let since = match waiting_since {
                0 => Instant::now(),
                moment => self.start + Duration::from_millis(moment - 1),
            };
            if waiting_since > 0 && since.elapsed() >= timeout {
                self.was_cut.store(true, Ordering::Relaxed);
                return;
            }
            tokio::time::sleep_until(since + timeout).await;
        }
    }
}
