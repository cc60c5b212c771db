//! Connections that speak HTTP/2, where many requests share a socket: each has its own write timeout.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use yardarm_core::Lifecycle;

use super::Serving;
use super::activity::Activity;
use super::answer::Caller;
use super::connection_limit::{CloseReason, ConnectionLimit};
use super::drive::drive;
use super::progress::Progress;
use super::tls::TlsStream;

/// Serves one connection until it ends.
pub(super) async fn secured(serving: Arc<Serving>, stream: TlsStream, activity: Arc<Activity>, peer: SocketAddr) {
    let caller = Arc::new(Caller {
        serving: Arc::clone(&serving),
        activity: Arc::clone(&activity),
        peer,
        is_tls: true,
        handover: None,
    });
    let service = service_fn(move |request| {
        let caller = Arc::clone(&caller);
        // On the heap, because the library keeps space for it as long as the response is written.
        Box::pin(async move { caller.answer(request).await })
    });
    // On the heap, because otherwise each of the futures around this one keeps space for it.
    let mut connection = Box::pin(builder(&serving).serve_connection(TokioIo::new(stream), service));
    let _ = drive(connection.as_mut(), &activity, &serving).await;
}

fn builder(serving: &Serving) -> http2::Builder<RequestTasks> {
    let executor = RequestTasks {
        lifecycle: serving.lifecycle.clone(),
        limit: serving.limit.clone(),
        write_timeout: serving.timeouts.write,
    };
    let mut builder = http2::Builder::new(executor);
    builder.timer(TokioTimer::new()).max_header_list_size(head_limit(serving));
    builder
}

fn head_limit(serving: &Serving) -> u32 {
    u32::try_from(serving.limits.max_head_bytes).unwrap_or(u32::MAX)
}

/// Runs HTTP/2's task per request, owned by the lifecycle like all other tasks.
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
        let request = Box::pin(Arc::clone(&progress).scope(task));
        self.lifecycle.spawn_graceful("http/2 request", async move {
            tokio::select! {
                _ = request => (),
                // Dropping the task resets the request's HTTP/2 stream.
                () = progress.stalls(timeout) => limit.count_closed(CloseReason::WriteTimeout),
            }
        });
    }
}
