//! Registers targets that SDKs present upstream, after the response (F042 to F044).
//!
//! Targets wait in a queue until they are registered. Failures are retried with growing delays.

mod queue;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use parking_lot::{Mutex, MutexGuard};
use serde_json::json;
use tokio::sync::Notify;
use tokio::time::Instant;
use yardarm_core::{Backoff, Lifecycle, Secret};
use yardarm_harness_eval::model::Target;

use self::queue::{Added, Queue, QueuedTarget};
use super::client::HttpClients;
use super::retry_delay::{MAX_DELAY, jittered};
use super::url;

/// Time limit of a registration.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Concurrent registrations.
const WORKERS: usize = 16;
/// Longest wait for registrations at the end of the process.
const FLUSH_LIMIT: Duration = Duration::from_secs(3);
/// Time between checks of the queue at the end of the process.
const FLUSH_CHECK: Duration = Duration::from_millis(20);
/// Attempts for a target whose key upstream rejects.
const MAX_REJECTIONS: u32 = 10;
/// Consecutive failures, over all targets, after which workers back off.
const FAILURES_OF_AN_OUTAGE: u32 = 16;

/// Registers targets. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Registrar(Arc<Shared>);

struct Shared {
    http: HttpClients,
    base: String,
    queue: Mutex<Queue>,
    changed: Notify,
    /// Consecutive failures, over all targets.
    failures: AtomicU32,
    /// Whether the process ends, so that failures are not retried.
    is_closing: AtomicBool,
    is_full: AtomicBool,
    registered: AtomicU64,
    refused: AtomicU64,
    dropped: AtomicU64,
}

/// Counts of targets by the outcome of their registration.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Registrations {
    pub(crate) waiting: u64,
    pub(crate) registered: u64,
    /// Rejected by Harness.
    pub(crate) refused: u64,
    /// Dropped because the queue was full, or attempts were exhausted.
    pub(crate) dropped: u64,
}

/// The outcome of an attempt.
enum RegistrationOutcome {
    Registered,
    /// It may succeed later.
    Failed {
        is_rejection: bool,
        problem: String,
    },
    Refused(StatusCode),
}

impl RegistrationOutcome {
    fn failed(is_rejection: bool, problem: impl std::fmt::Display) -> Self {
        Self::Failed { is_rejection, problem: problem.to_string() }
    }

    fn answered(is_rejection: bool, status: StatusCode) -> Self {
        Self::failed(is_rejection, format_args!("answered {status}"))
    }
}

impl Registrar {
    /// Starts the workers, if `registers`; otherwise nothing is registered.
    pub(crate) fn start(http: HttpClients, base: String, registers: bool, lifecycle: &Lifecycle) -> Self {
        let registrar = Self(Arc::new(Shared {
            http,
            base,
            queue: Mutex::default(),
            changed: Notify::new(),
            failures: AtomicU32::new(0),
            is_closing: AtomicBool::new(false),
            is_full: AtomicBool::new(false),
            registered: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        }));
        for _ in 0..if registers { WORKERS } else { 0 } {
            let registrar = registrar.clone();
            lifecycle.supervise("target registration", move || registrar.clone().work());
        }
        registrar
    }

    /// Queues a target that was presented with `key`, unless the same target was registered a short time ago.
    pub(crate) fn register(&self, environment: &str, key: &Secret, target: &Target) {
        let text = json!(target).to_string();
        let body = format!("{{\"apiKey\":{},\"target\":{text}}}", json!(key.expose()));
        let entry = QueuedTarget::new(environment, &target.identifier, &text, Bytes::from(body));
        match self.lock().add(entry, Instant::now()) {
            Added::Known => return,
            Added::Waiting => self.0.is_full.store(false, Ordering::Relaxed),
            Added::Full => {
                self.0.dropped.fetch_add(1, Ordering::Relaxed);
                if !self.0.is_full.swap(true, Ordering::Relaxed) {
                    tracing::warn!(environment, "too many targets wait to be registered, dropping further ones");
                }
                return;
            }
        }
        self.0.changed.notify_one();
    }

    /// Returns the counts so far.
    pub(crate) fn report(&self) -> Registrations {
        let count = |it: &AtomicU64| it.load(Ordering::Relaxed);
        let Shared { registered, refused, dropped, .. } = &*self.0;
        Registrations {
            waiting: self.lock().len() as u64,
            registered: count(registered),
            refused: count(refused),
            dropped: count(dropped),
        }
    }

    /// Makes a last attempt for every waiting target, and waits for it. Used at the end of the process.
    pub(crate) async fn flush(&self) {
        self.0.is_closing.store(true, Ordering::Relaxed);
        self.lock().make_due(Instant::now());
        let end = Instant::now() + FLUSH_LIMIT;
        while self.lock().len() > 0 {
            if Instant::now() >= end {
                let count = self.lock().len();
                self.0.dropped.fetch_add(count as u64, Ordering::Relaxed);
                tracing::warn!(count, "targets could not be registered before the end of the process");
                return;
            }
            // A worker may have missed a notification on its way to sleep, so workers are woken more than once.
            self.0.changed.notify_waiters();
            tokio::time::sleep(FLUSH_CHECK).await;
        }
    }

    async fn work(self) {
        let mut backoff = Backoff::literal(Duration::from_secs(1), Duration::from_secs(60));
        loop {
            let entry = self.next().await;
            let sent = yardarm_core::supervisor::catch(self.send(&entry)).await;
            let outcome = sent.unwrap_or_else(|error| RegistrationOutcome::failed(false, error));
            let is_outage = match &outcome {
                RegistrationOutcome::Failed { .. } => {
                    self.0.failures.fetch_add(1, Ordering::Relaxed) >= FAILURES_OF_AN_OUTAGE
                }
                RegistrationOutcome::Registered | RegistrationOutcome::Refused(_) => {
                    self.0.failures.store(0, Ordering::Relaxed);
                    false
                }
            };
            self.settle(entry, &outcome);
            if is_outage && !self.0.is_closing.load(Ordering::Relaxed) {
                tokio::select! {
                    () = tokio::time::sleep(backoff.next_delay()) => (),
                    () = self.closing() => (),
                }
            } else if !is_outage {
                backoff.reset();
            }
        }
    }

    /// Waits for the next target that is due.
    async fn next(&self) -> QueuedTarget {
        loop {
            let changed = self.0.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let due = match self.lock().take(Instant::now()) {
                Ok(entry) => {
                    // This target's notification may have woken another worker.
                    self.0.changed.notify_one();
                    return entry;
                }
                Err(due) => due,
            };
            match due {
                Some(at) => {
                    let _ = tokio::time::timeout_at(at, changed).await;
                }
                None => changed.await,
            }
        }
    }

    async fn closing(&self) {
        while !self.0.is_closing.load(Ordering::Relaxed) {
            self.0.changed.notified().await;
        }
    }

    async fn send(&self, entry: &QueuedTarget) -> RegistrationOutcome {
        let request = self.0.http.requests.post(url(&self.0.base, &["client", "auth"])).timeout(TIMEOUT);
        let request = request.header(CONTENT_TYPE, "application/json").body(entry.body.clone());
        match yardarm_vendor::upstream::send(request).await {
            Ok(answer) if answer.status().is_success() => RegistrationOutcome::Registered,
            Ok(answer) => match answer.status() {
                status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
                    RegistrationOutcome::answered(true, status)
                }
                status @ (StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS) => {
                    RegistrationOutcome::answered(false, status)
                }
                status if status.is_client_error() => RegistrationOutcome::Refused(status),
                status => RegistrationOutcome::answered(false, status),
            },
            Err(error) => RegistrationOutcome::failed(false, error),
        }
    }

    fn settle(&self, mut entry: QueuedTarget, outcome: &RegistrationOutcome) {
        let now = Instant::now();
        let is_closing = self.0.is_closing.load(Ordering::Relaxed);
        match outcome {
            RegistrationOutcome::Registered => {
                self.lock().register(&entry, now);
                self.0.registered.fetch_add(1, Ordering::Relaxed);
            }
            RegistrationOutcome::Failed { is_rejection, problem } => {
                entry.attempts += 1;
                let is_over = is_closing || *is_rejection && entry.attempts >= MAX_REJECTIONS;
                if is_over {
                    self.lock().discard(&entry);
                    if self.0.dropped.fetch_add(1, Ordering::Relaxed) == 0 {
                        tracing::warn!(
                            is_closing,
                            problem,
                            "targets could not be registered and are dropped; this is logged once"
                        );
                    }
                } else {
                    if entry.attempts == 1 && self.0.failures.load(Ordering::Relaxed) <= 1 {
                        tracing::warn!(problem, "a target could not be registered, retrying");
                    }
                    let delay = Duration::from_secs(1_u64 << entry.attempts.min(6)).min(MAX_DELAY) / 2;
                    self.lock().put_back(entry, now + jittered(delay));
                }
            }
            RegistrationOutcome::Refused(status) => {
                // The same target would be rejected again.
                self.lock().register(&entry, now);
                if self.0.refused.fetch_add(1, Ordering::Relaxed) == 0 {
                    tracing::warn!(%status, "Harness rejects the registration of a target; this is logged once");
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.0.queue.lock()
    }
}
