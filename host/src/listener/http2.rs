//! Connections that speak HTTP/2, where many requests share a socket: each has a write timeout of its own.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::time::Instant;
use tokio_rustls::server::TlsStream;
use yardarm_core::Lifecycle;

use super::Serving;
use super::activity::Activity;
use super::answer::Caller;
use super::connection_limit::{CloseReason, ConnectionLimit};
use super::drive::drive;
use super::watched::Watched;

tokio::task_local! {
    static PROGRESS: Arc<Progress>;
}

/// Whether the client takes the answer of one request.
pub(super) struct Progress {
    start: Instant,
    /// Since when a piece waits to be taken, in milliseconds after the start plus one; 0 when none does.
    waiting_since: AtomicU64,
    was_cut: AtomicBool,
}

/// Serves one connection until it ends.
pub(super) async fn secured(
    serving: Arc<Serving>,
    stream: TlsStream<Watched>,
    activity: Arc<Activity>,
    peer: SocketAddr,
) {
    let caller = Caller { serving: Arc::clone(&serving), activity: Arc::clone(&activity), peer, handover: None };
    let caller = Arc::new(caller);
    let service = service_fn(move |request| {
        let caller = Arc::clone(&caller);
        async move { caller.answer(request).await }
    });
    let executor = RequestTasks {
        lifecycle: serving.lifecycle.clone(),
        limit: serving.limit.clone(),
        write_timeout: serving.timeouts.write,
    };
    let mut builder = http2::Builder::new(executor);
    builder.timer(TokioTimer::new()).max_header_list_size(head_limit(&serving));
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let _ = drive(connection.as_mut(), &activity, &serving).await;
}

fn head_limit(serving: &Serving) -> u32 {
    u32::try_from(serving.limits.max_head_bytes).unwrap_or(u32::MAX)
}

impl Progress {
    fn new() -> Arc<Self> {
        Arc::new(Self { start: Instant::now(), waiting_since: AtomicU64::new(0), was_cut: AtomicBool::new(false) })
    }

    /// That of the request whose task this is.
    pub(super) fn of_task() -> Option<Arc<Self>> {
        PROGRESS.try_with(Arc::clone).ok()
    }

    /// Notes that everything up to now was taken.
    pub(super) fn note_taken(&self) {
        self.waiting_since.store(0, Ordering::Relaxed);
    }

    /// Notes that a piece waits to be taken.
    pub(super) fn note_given(&self) {
        let now = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX).saturating_add(1);
        self.waiting_since.store(now, Ordering::Relaxed);
    }

    pub(super) fn was_cut(&self) -> bool {
        self.was_cut.load(Ordering::Relaxed)
    }

    /// Ready when a piece has waited for longer than `timeout`; the request is then to be cut.
    async fn stalls(&self, timeout: Duration) {
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

/// HTTP/2 runs a task per request; they have the same owner as all others.
#[derive(Clone)]
struct RequestTasks {
    lifecycle: Lifecycle,
    limit: ConnectionLimit,
    write_timeout: Duration,
}

impl<F> hyper::rt::Executor<F> for RequestTasks
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, task: F) {
        let (progress, limit, timeout) = (Progress::new(), self.limit.clone(), self.write_timeout);
        self.lifecycle.spawn_graceful("http/2 request", async move {
            let request = PROGRESS.scope(Arc::clone(&progress), task);
            tokio::select! {
                _ = request => (),
                // Dropping the task resets the request's part of the connection.
                () = progress.stalls(timeout) => limit.count_closed(CloseReason::WriteTimeout),
            }
        });
    }
}
