//! Connections that speak HTTP/1.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::OwnedSemaphorePermit;

use super::activity::{Activity, HEAD_TIMEOUT};
use super::answer::Caller;
use super::drive::{Outcome, drive};
use super::fanout::StreamHandoff;
use super::handover::Handover;
use super::watched::{HeadWatch, Transport, TransportParts, Watched};
use super::{Accepted, Serving, linger};
use crate::config::Limits;

/// Serves one connection in plain text until it ends or becomes a stream.
pub(super) async fn plain(serving: Arc<Serving>, accepted: Accepted) {
    let Accepted { socket, unread, peer, permit } = accepted;
    let activity = Activity::new();
    let socket = Watched::new(socket, unread, Arc::clone(&activity));
    serve(serving, socket, activity, (peer, false), permit).await;
}

/// Serves one connection, encrypted or not, until it ends or becomes a stream.
pub(super) async fn serve<T: Transport>(
    serving: Arc<Serving>,
    transport: T,
    activity: Arc<Activity>,
    (peer, is_tls): (SocketAddr, bool),
    permit: OwnedSemaphorePermit,
) {
    let handover = Some(Handover::default());
    let caller = Caller { serving: Arc::clone(&serving), activity: Arc::clone(&activity), peer, is_tls, handover };
    let service = service_fn(|request| caller.answer(request));
    let io = TokioIo::new(HeadWatch::new(transport, Arc::clone(&activity)));
    let mut connection = Box::pin(builder(&serving.limits).serve_connection(io, service));
    let outcome = drive(connection.as_mut(), &activity, &serving).await;
    // Hyper's state of this connection is freed here; from now on a stream takes only its cursor, its socket and, over
    // TLS, its session.
    let parts = Pin::into_inner(connection).into_parts();
    let TransportParts { socket, unread, session } = parts.io.into_inner().into_inner().into_parts(&parts.read_buf);
    drop(parts.read_buf);
    match outcome {
        Outcome::Ended => linger::linger(socket, &serving).await,
        Outcome::Cut(_) => linger::reset(&socket),
        Outcome::BecameStream => {
            let Some((stream, after)) = caller.handover.as_ref().and_then(Handover::take_stream) else { return };
            let Ok(socket) = socket.into_std() else { return };
            let returning = serving.returning.clone();
            serving.fanout.add(StreamHandoff { socket, session, stream, peer, permit, unread, after, returning });
        }
    }
}

fn builder(limits: &Limits) -> http1::Builder {
    // The library measures from the end of the last request. This timeout covers heads whose first bytes arrived
    // together with that request, which the connection does not observe.
    let late = limits.idle_timeout + HEAD_TIMEOUT + Duration::from_secs(5);
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(late)
        .max_headers(limits.max_headers)
        .max_header_size(limits.max_head_bytes)
        .max_buf_size(limits.max_head_bytes)
        .preserve_header_case(false);
    builder
}
