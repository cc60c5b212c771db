//! Connections that speak HTTP/1.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio_rustls::server::TlsStream;

use super::activity::{Activity, HEAD_TIMEOUT};
use super::answer::Caller;
use super::drive::{Outcome, drive};
use super::fanout::StreamHandoff;
use super::handover::Handover;
use super::watched::{HeadWatch, Watched};
use super::{Accepted, Serving, linger};
use crate::config::Limits;

/// Serves one connection in plain text until it ends or becomes a stream.
pub(super) async fn plain(serving: Arc<Serving>, accepted: Accepted) {
    let Accepted { socket, unread, peer, permit } = accepted;
    let activity = Activity::new();
    let caller = caller(&serving, &activity, peer, Some(Handover::default()));
    let service = service_fn(|request| caller.answer(request));
    let socket = Watched::new(socket, unread, Arc::clone(&activity));
    let io = TokioIo::new(HeadWatch::new(socket, Arc::clone(&activity)));
    let mut connection = Box::pin(builder(&serving.limits).serve_connection(io, service));
    let outcome = drive(connection.as_mut(), &activity, &serving).await;
    // Hyper's state of this connection is freed here; from now on a stream takes only its cursor and its socket.
    let parts = Pin::into_inner(connection).into_parts();
    let socket = parts.io.into_inner().into_inner().into_inner();
    match outcome {
        Outcome::Ended => linger::linger(socket, &serving).await,
        Outcome::Cut(_) => linger::reset(&socket),
        Outcome::BecameStream => {
            let Some((stream, after)) = caller.handover.as_ref().and_then(Handover::take_stream) else { return };
            let Ok(socket) = socket.into_std() else { return };
            let returning = serving.returning.clone();
            // A copy, because even an empty slice would keep the library's whole read buffer for as long as the stream
            // lives.
            let unread = Bytes::copy_from_slice(&parts.read_buf);
            serving.fanout.add(StreamHandoff { socket, stream, peer, permit, unread, after, returning });
        }
    }
}

/// Serves one connection over TLS until it ends.
pub(super) async fn secured(
    serving: Arc<Serving>,
    stream: TlsStream<Watched>,
    activity: Arc<Activity>,
    peer: SocketAddr,
) {
    let caller = caller(&serving, &activity, peer, None);
    let service = service_fn(|request| caller.answer(request));
    let io = TokioIo::new(HeadWatch::new(stream, Arc::clone(&activity)));
    let mut connection = Box::pin(builder(&serving.limits).serve_connection(io, service));
    let outcome = drive(connection.as_mut(), &activity, &serving).await;
    let parts = Pin::into_inner(connection).into_parts();
    let (socket, _) = parts.io.into_inner().into_inner().into_inner();
    match outcome {
        Outcome::Ended => linger::linger(socket.into_inner(), &serving).await,
        Outcome::Cut(_) | Outcome::BecameStream => linger::reset(&socket.into_inner()),
    }
}

fn caller(serving: &Arc<Serving>, activity: &Arc<Activity>, peer: SocketAddr, handover: Option<Handover>) -> Caller {
    Caller { serving: Arc::clone(serving), activity: Arc::clone(activity), peer, handover }
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
