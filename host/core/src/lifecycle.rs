//! Ownership of tasks: cancellation, shutdown and readiness.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use crate::label::EnvironmentLabel;
use crate::readiness::Readiness;
use crate::status::Status;
use crate::supervisor::{self, Caught, Consequence, Supervised, Supervisor, TaskId};

/// Owns tasks and cancels them. Cheap to clone; a child stops with its parent.
///
/// Panics of its tasks are caught, logged and counted by its [`Supervisor`].
#[derive(Clone, Debug, Default)]
pub struct Lifecycle {
    token: CancellationToken,
    tracker: TaskTracker,
    readiness: Readiness,
    supervisor: Supervisor,
    /// The environment that the tasks work for, and the status that shows their errors to operators.
    environment: Option<(EnvironmentLabel, Status)>,
    /// The runtime of the tasks; `None` is the runtime of the caller.
    runtime: Option<Handle>,
}

impl Lifecycle {
    /// Creates an independent lifecycle.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns a part that can be stopped alone and stops with the whole; the whole waits for its tasks too.
    #[must_use]
    pub fn child(&self) -> Self {
        Self { token: self.token.child_token(), ..self.clone() }
    }

    /// Returns a lifecycle that is stopped separately, with its own tasks and readiness, under the same supervisor.
    #[must_use]
    pub fn sibling(&self) -> Self {
        Self { supervisor: self.supervisor.clone(), ..Self::default() }
    }

    /// Returns the same lifecycle for tasks that work for one environment: logs name it, and `status` shows their
    /// internal errors.
    #[must_use]
    pub fn for_environment(&self, label: EnvironmentLabel, status: Status) -> Self {
        Self { environment: Some((label, status)), ..self.clone() }
    }

    /// Returns the same lifecycle for tasks that run on `runtime`.
    #[must_use]
    pub fn on(&self, runtime: &Handle) -> Self {
        Self { runtime: Some(runtime.clone()), ..self.clone() }
    }

    /// Returns the supervisor, which catches the panics of the tasks.
    #[must_use]
    pub fn supervisor(&self) -> &Supervisor {
        &self.supervisor
    }

    /// Starts a one-off task that is dropped at its next await once this lifecycle is cancelled. It is not restarted
    /// after a panic.
    ///
    /// This file is the only place in the program that starts tasks.
    pub fn spawn<F>(&self, name: &'static str, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let task = Caught::new(self.scope(name, false), Consequence::GiveUp, task);
        self.start(name, until(self.token.clone(), task));
    }

    /// Starts a one-off task that is not dropped on cancellation: it must watch [`Self::token`] or end by itself. It is
    /// not restarted after a panic.
    pub fn spawn_graceful<F>(&self, name: &'static str, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let task = Caught::new(self.scope(name, false), Consequence::GiveUp, task);
        self.start(name, async move {
            // The panic is logged and counted already.
            let _ = task.await;
        });
    }

    /// Starts a long-lived task that is dropped at its next await once this lifecycle is cancelled. After a panic it is
    /// restarted with a growing delay.
    ///
    /// A closure that returns a future is a task as well; it is called for each run.
    pub fn supervise<T: Supervised>(&self, name: &'static str, task: T) {
        let task = supervisor::supervise(self.scope(name, true), self.token.clone(), task);
        self.start(name, until(self.token.clone(), task));
    }

    /// Starts a long-lived task that is not dropped on cancellation: it must watch [`Self::token`] and end by itself.
    /// After a panic it is restarted with a growing delay, unless the panic occurred after cancellation.
    pub fn supervise_graceful<T: Supervised>(&self, name: &'static str, task: T) {
        self.start(name, supervisor::supervise(self.scope(name, true), self.token.clone(), task));
    }

    fn start(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        // At the highest level, so that no filter of the log takes the environment away from its lines. Without a parent,
        // because the task may outlive what started it.
        let span = match &self.environment {
            Some((label, _)) => tracing::error_span!(parent: None, "task", task = name, environment = %label),
            None => tracing::debug_span!(parent: None, "task", task = name),
        };
        let task = task.instrument(span);
        match &self.runtime {
            Some(runtime) => self.tracker.spawn_on(task, runtime),
            None => self.tracker.spawn(task),
        };
    }

    fn scope(&self, name: &'static str, is_long_lived: bool) -> Arc<supervisor::Scope> {
        let (label, status) = self.environment.clone().unzip();
        supervisor::scope(&self.supervisor, TaskId { name, environment: label }, status, is_long_lived)
    }

    /// Returns the token that tasks watch for cancellation.
    #[must_use]
    pub fn token(&self) -> &CancellationToken {
        &self.token
    }

    /// Cancels all tasks and waits for them, for at most `timeout`; returns whether all have ended.
    pub async fn stop(&self, timeout: Duration) -> bool {
        self.token.cancel();
        self.tracker.close();
        tokio::time::timeout(timeout, self.tracker.wait()).await.is_ok()
    }

    /// Returns the readiness, which the whole and all its parts share.
    #[must_use]
    pub fn readiness(&self) -> &Readiness {
        &self.readiness
    }
}

/// Drops `task` once `token` is cancelled.
async fn until<T>(token: CancellationToken, task: impl Future<Output = T>) {
    tokio::select! {
        () = token.cancelled() => (),
        _ = task => (),
    }
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

    #[tokio::test]
    async fn a_child_stops_alone_and_with_its_parent() {
        let whole = Lifecycle::new();
        let (one, other) = (whole.child(), whole.child());
        one.token().cancel();
        assert!(!whole.token().is_cancelled() && !other.token().is_cancelled());
        whole.token().cancel();
        assert!(other.token().is_cancelled());
    }

    #[tokio::test]
    async fn a_sibling_stops_separately_and_shares_the_supervisor() {
        let whole = Lifecycle::new();
        let sibling = whole.sibling();
        // The stop does not drop the task, however early it comes.
        sibling.spawn_graceful("sibling", async { panic!("for the test") });
        assert!(sibling.stop(Duration::from_secs(5)).await);
        assert!(!whole.token().is_cancelled());
        assert!(whole.supervisor().panics().iter().any(|it| it.task.name == "sibling" && it.panics == 1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_does_not_end_does_not_block_shutdown() {
        let lifecycle = Lifecycle::new();
        lifecycle.spawn_graceful("stubborn", std::future::pending());
        assert!(!lifecycle.stop(Duration::from_secs(5)).await);
    }
}
