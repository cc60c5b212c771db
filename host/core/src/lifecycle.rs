//! Every task has an owner: cancellation, waiting for the end, readiness.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

/// Owns tasks and tells them when to stop. Cheap to clone; a child stops with its parent.
#[derive(Clone, Debug, Default)]
pub struct Lifecycle {
    token: CancellationToken,
    tracker: TaskTracker,
    latches: Arc<Mutex<BTreeMap<String, usize>>>,
}

/// Holds readiness back until it is dropped.
#[derive(Debug)]
pub struct ReadyLatch {
    name: String,
    latches: Arc<Mutex<BTreeMap<String, usize>>>,
}

impl Lifecycle {
    /// A lifecycle of its own.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A part that can be stopped alone and stops with the whole; its tasks are the whole's tasks.
    #[must_use]
    pub fn child(&self) -> Self {
        Self { token: self.token.child_token(), tracker: self.tracker.clone(), latches: Arc::clone(&self.latches) }
    }

    /// Starts a task that is dropped at its next await once this lifecycle is cancelled.
    ///
    /// This is the only place in the program that starts tasks.
    pub fn spawn<F>(&self, name: &'static str, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let token = self.token.clone();
        let task = async move {
            tokio::select! {
                () = token.cancelled() => (),
                () = task => (),
            }
        };
        self.tracker.spawn(task.instrument(tracing::debug_span!("task", name)));
    }

    /// Starts a task that is not dropped on cancellation: it must watch [`Self::token`] and end by itself.
    pub fn spawn_graceful<F>(&self, name: &'static str, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.tracker.spawn(task.instrument(tracing::debug_span!("task", name)));
    }

    /// What tasks watch to know that it is time to stop.
    #[must_use]
    pub fn token(&self) -> &CancellationToken {
        &self.token
    }

    /// Tells all tasks to stop and waits for them, for at most `patience`; says whether all have ended.
    pub async fn stop(&self, patience: Duration) -> bool {
        self.token.cancel();
        self.tracker.close();
        tokio::time::timeout(patience, self.tracker.wait()).await.is_ok()
    }

    /// Holds readiness back while the latch lives.
    #[must_use]
    pub fn latch(&self, name: impl Into<String>) -> ReadyLatch {
        let name = name.into();
        *lock(&self.latches).entry(name.clone()).or_default() += 1;
        ReadyLatch { name, latches: Arc::clone(&self.latches) }
    }

    /// Names of the parts that are not ready yet; empty means ready.
    #[must_use]
    pub fn waiting_for(&self) -> Vec<String> {
        lock(&self.latches).keys().cloned().collect()
    }
}

impl Drop for ReadyLatch {
    fn drop(&mut self) {
        let mut latches = lock(&self.latches);
        if let Some(count) = latches.get_mut(&self.name) {
            *count -= 1;
            if *count == 0 {
                latches.remove(&self.name);
            }
        }
    }
}

fn lock(latches: &Mutex<BTreeMap<String, usize>>) -> std::sync::MutexGuard<'_, BTreeMap<String, usize>> {
    latches.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn stopping_ends_every_task() {
        let lifecycle = Lifecycle::new();
        lifecycle.spawn("forever", std::future::pending());
        lifecycle.child().spawn("child", std::future::pending());
        assert!(lifecycle.stop(Duration::from_secs(5)).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_will_not_end_does_not_hold_the_process() {
        let lifecycle = Lifecycle::new();
        lifecycle.spawn_graceful("stubborn", std::future::pending());
        assert!(!lifecycle.stop(Duration::from_secs(5)).await);
    }

    #[test]
    fn ready_when_all_latches_are_dropped() {
        let lifecycle = Lifecycle::new();
        let (first, second) = (lifecycle.latch("a"), lifecycle.child().latch("b"));
        assert_eq!(lifecycle.waiting_for(), ["a", "b"]);
        drop(first);
        assert_eq!(lifecycle.waiting_for(), ["b"]);
        drop(second);
        assert!(lifecycle.waiting_for().is_empty());
    }
}
