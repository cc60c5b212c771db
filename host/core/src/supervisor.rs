//! Handling of panics: a panic is caught where the task is polled, logged as one record and counted, and the task is
//! restarted.
//!
//! A panic is a bug and must cost as little as possible: one request, one stream, or one attempt of a task, which is
//! restarted with a growing delay. A part that cannot be restarted, such as a thread whose state may be inconsistent,
//! reports a [`Supervisor::failure`], after which the process has to end.
//!
//! Log records name the task, the environment and the source location. The message of a panic is left out unless it is
//! a literal of the source, because it may contain data.

mod caught;
mod fault;
mod hook;

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::watch;

pub(crate) use self::caught::Caught;
#[cfg(not(debug_assertions))]
use self::fault::Faults;
#[cfg(debug_assertions)]
pub use self::fault::Faults;
pub use self::fault::point as fault_point;
use self::hook::Origin;
pub(crate) use self::hook::Scope;
pub use self::hook::install_panic_hook;
use crate::Backoff;
use crate::internal_error::InternalError;
use crate::label::EnvironmentLabel;
use crate::status::Status;
use crate::time::unix_ms;

/// The delay before a task is restarted after its first panic, and the longest delay.
const FIRST_DELAY: Duration = Duration::from_millis(250);
const LONGEST_DELAY: Duration = Duration::from_secs(30);
/// After this time without a panic, the delay of a task is reset.
const HEALTHY_AFTER: Duration = Duration::from_secs(60);
/// The delay before a thread is restarted. It is short, because a thread cannot watch for the end of the process
/// meanwhile.
const THREAD_DELAY: Duration = Duration::from_millis(100);

/// Name for panics outside of every task, on threads that a library started.
const FOREIGN: &str = "other thread";

/// Counts panics, and reports when the process has to end because of one. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Supervisor(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    counts: Mutex<BTreeMap<TaskId, Counts>>,
    failure: watch::Sender<Option<InternalError>>,
    faults: Faults,
}

/// Identifies a task in logs, metrics and status.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TaskId {
    /// The kind of task.
    pub name: &'static str,
    /// The environment that the task works for, if any.
    pub environment: Option<EnvironmentLabel>,
}

#[derive(Debug, Clone, Default)]
struct Counts {
    panics: u64,
    last_ms: u64,
    location: Arc<str>,
}

/// Panics of one task since the start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PanicReport {
    /// The task.
    pub task: TaskId,
    /// Number of panics since the start; 0 for a long-lived task that has not panicked.
    pub panics: u64,
    /// Unix milliseconds of the last panic; 0 if there was none.
    pub last_ms: u64,
    /// File and line of the last panic; empty if there was none.
    pub location: Arc<str>,
}

/// The consequence of a panic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consequence {
    /// The task is restarted.
    Restart,
    /// The operation is aborted; everything else continues.
    GiveUp,
    /// The process has to end.
    Fatal,
}

/// A long-lived task that can run again after a panic, with the state that the panic left behind.
pub trait Supervised: Send + 'static {
    /// Runs until the work is done.
    fn run(&mut self) -> impl Future<Output = ()> + Send;

    /// Called after a panic and before the next run, to report it and to repair state that may be inconsistent.
    fn recover(&mut self, _: &InternalError) {}
}

impl<F, Fut> Supervised for F
where
    F: FnMut() -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    fn run(&mut self) -> impl Future<Output = ()> + Send {
        self()
    }
}

impl Default for Supervisor {
    fn default() -> Self {
        Self::new()
    }
}

impl Supervisor {
    /// Creates a supervisor without failures.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(Shared {
            counts: Mutex::default(),
            failure: watch::Sender::new(None),
            faults: Faults::default(),
        }))
    }

    /// Returns the supervisor of parts that belong to the process and to no gateway, such as the log.
    #[must_use]
    pub fn global() -> &'static Self {
        static GLOBAL: LazyLock<Supervisor> = LazyLock::new(Supervisor::new);
        &GLOBAL
    }

    /// Returns panics by task, including those of [`Self::global`].
    #[must_use]
    pub fn panics(&self) -> Vec<PanicReport> {
        let report = |(task, counts): (&TaskId, &Counts)| PanicReport {
            task: task.clone(),
            panics: counts.panics,
            last_ms: counts.last_ms,
            location: Arc::clone(&counts.location),
        };
        let mut reports: Vec<_> = self.counts().iter().map(report).collect();
        if !Arc::ptr_eq(&self.0, &Self::global().0) {
            reports.extend(Self::global().counts().iter().map(report));
        }
        reports
    }

    /// Waits for a panic after which the process has to end.
    pub async fn failure(&self) -> InternalError {
        let mut failures = self.0.failure.subscribe();
        match failures.wait_for(Option::is_some).await.map(|it| it.clone()) {
            Ok(Some(error)) => error,
            // The sender lives as long as `self`.
            _ => std::future::pending().await,
        }
    }

    /// Runs `work`; a panic in it is logged and counted for `task`, without further consequences.
    ///
    /// # Errors
    /// When `work` panicked. Its changes may be incomplete.
    pub fn catch<T>(
        &self,
        task: &'static str,
        environment: Option<&EnvironmentLabel>,
        work: impl FnOnce() -> T,
    ) -> Result<T, InternalError> {
        let scope = Scope::new(self, TaskId { name: task, environment: environment.cloned() }, None);
        scope.catch(Consequence::GiveUp, work)
    }

    /// Starts a thread that runs `work` to its end, and again after a panic.
    ///
    /// # Errors
    /// When the operating system refuses a thread.
    pub fn thread(
        &self,
        task: &'static str,
        thread: impl Into<String>,
        mut work: impl FnMut() + Send + 'static,
    ) -> std::io::Result<std::thread::Thread> {
        let scope = self.watched(task);
        let run = move || {
            while scope.catch(Consequence::Restart, &mut work).is_err() {
                std::thread::sleep(THREAD_DELAY);
            }
        };
        Ok(std::thread::Builder::new().name(thread.into()).spawn(run)?.thread().clone())
    }

    /// Starts a thread that cannot be restarted: its panic is a [`Self::failure`].
    ///
    /// # Errors
    /// When the operating system refuses a thread.
    pub fn vital_thread(
        &self,
        task: &'static str,
        thread: impl Into<String>,
        work: impl FnOnce() + Send + 'static,
    ) -> std::io::Result<()> {
        let scope = self.watched(task);
        let run = move || {
            let _ = scope.catch(Consequence::Fatal, work);
        };
        std::thread::Builder::new().name(thread.into()).spawn(run).map(drop)
    }

    /// Returns the injected panics; they have an effect only in builds with debug assertions.
    #[cfg(debug_assertions)]
    #[must_use]
    pub fn faults(&self) -> &Faults {
        &self.0.faults
    }

    /// Returns the scope of a long-lived task. It is counted from the start, so that its metric exists before its first
    /// panic.
    fn watched(&self, task: &'static str) -> Arc<Scope> {
        let task = TaskId { name: task, environment: None };
        self.counts().entry(task.clone()).or_default();
        Scope::new(self, task, None)
    }

    /// Logs and counts a panic. No other function does.
    fn report(&self, task: &TaskId, origin: &Origin, consequence: Consequence) -> InternalError {
        let (name, environment) = (task.name, task.environment.as_ref().map(tracing::field::display));
        let (location, reason) = (&*origin.location, origin.message);
        let consequence_text = match consequence {
            Consequence::Restart => "the task is restarted",
            Consequence::GiveUp => "what it was doing is given up",
            Consequence::Fatal => "the process has to end",
        };
        tracing::error!(
            task = name,
            environment,
            location,
            reason,
            thread = origin.thread.as_deref(),
            "internal error (panic), {consequence_text}"
        );
        let error = InternalError { task: name, location: Arc::clone(&origin.location) };
        let mut counts = self.counts();
        let entry = counts.entry(task.clone()).or_default();
        entry.panics += 1;
        entry.last_ms = unix_ms();
        entry.location = Arc::clone(&origin.location);
        drop(counts);
        if consequence == Consequence::Fatal {
            self.0.failure.send_replace(Some(error.clone()));
        }
        error
    }

    fn counts(&self) -> MutexGuard<'_, BTreeMap<TaskId, Counts>> {
        self.0.counts.lock()
    }
}

/// Runs `work` on a thread where blocking delays no other task, and waits for its result.
///
/// # Errors
/// When `work` panicked, which is logged and counted for `task` and the environment of the calling task; or when the
/// process ends before `work` could run.
pub async fn blocking<T: Send + 'static>(
    task: &'static str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, InternalError> {
    match tokio::task::spawn_blocking(carried(task, work)).await {
        Ok(done) => done,
        Err(_) => Err(InternalError::process_ends(task)),
    }
}

/// Wraps `work` so that it can run on another thread, such as one of a pool; its panics are logged and counted for
/// `task` and the environment of the calling task, and its log lines are in the caller's span.
pub fn carried<T>(task: &'static str, work: impl FnOnce() -> T) -> impl FnOnce() -> Result<T, InternalError> {
    let (scope, span) = (Scope::current().named(task), tracing::Span::current());
    move || {
        let _span = span.entered();
        scope.catch(Consequence::GiveUp, || {
            fault_point(task);
            work()
        })
    }
}

/// Runs a part of the work of this thread, on which a supervised task or thread is running; a panic in it is logged and
/// counted for `task`. Costs nothing unless it panics.
///
/// # Errors
/// When `work` panicked. Its changes may be incomplete.
pub fn part<S, T>(
    task: &'static str,
    state: &mut S,
    environment: impl FnOnce(&S) -> Option<EnvironmentLabel>,
    work: impl FnOnce(&mut S) -> T,
) -> Result<T, InternalError> {
    std::panic::catch_unwind(AssertUnwindSafe(|| work(state))).map_err(|payload| {
        let task = TaskId { name: task, environment: environment(state) };
        let scope = Scope::new(&Scope::current().supervisor, task, None);
        scope.report(&Origin::take(&*payload), Consequence::GiveUp)
    })
}

/// Reports a panic that another library caught on this thread while a supervised task was polled, such as a panic of a
/// request handler. The operation is aborted.
pub fn report_caught(task: &'static str, payload: &(dyn std::any::Any + Send)) -> InternalError {
    let scope = Scope::current().named(task);
    scope.report(&Origin::take(payload), Consequence::GiveUp)
}

/// Waits for the result of `work`; a panic in it aborts the work, and is logged and counted for the calling task.
///
/// # Errors
/// When `work` panicked.
pub fn catch<T>(work: impl Future<Output = T>) -> impl Future<Output = Result<T, InternalError>> {
    // Not an `async` function, whose future would have room for `work` twice.
    Caught::new(Scope::current(), Consequence::GiveUp, work)
}

/// Restarts a task after each panic, until it ends by itself. After `end` is cancelled, the last run starts at once.
pub(crate) async fn supervise<T: Supervised>(scope: Arc<Scope>, end: tokio_util::sync::CancellationToken, mut task: T) {
    let mut backoff = Backoff::literal(FIRST_DELAY, LONGEST_DELAY);
    loop {
        let started = tokio::time::Instant::now();
        let was_ending = end.is_cancelled();
        let Err(error) = Caught::new(Arc::clone(&scope), Consequence::Restart, task.run()).await else { return };
        if was_ending {
            return;
        }
        if started.elapsed() >= HEALTHY_AFTER {
            backoff.reset();
        }
        // A panic in it is logged like any other.
        let _ = scope.catch(Consequence::Restart, || task.recover(&error));
        let _ = tokio::time::timeout(backoff.next_delay(), end.cancelled()).await;
    }
}

pub(crate) fn scope(supervisor: &Supervisor, task: TaskId, status: Option<Status>, is_long_lived: bool) -> Arc<Scope> {
    if is_long_lived {
        supervisor.counts().entry(task.clone()).or_default();
    }
    Scope::new(supervisor, task, status)
}

#[cfg(test)]
mod tests;
