//! TLS on the listener of SDKs: the same port, no plain-text port beside it, and HTTP/2 if the client negotiates it.

mod certificate;
mod session;
mod stream;

use std::sync::Arc;

pub use self::certificate::{CertificateReport, Tls, TlsError};
pub(super) use self::session::TlsSession;
pub(super) use self::stream::TlsStream;
use super::activity::{Activity, HEAD_TIMEOUT};
use super::connection_limit::CloseReason;
use super::watched::Watched;
use super::{Accepted, Serving, http1, http2};

/// Serves one connection until it ends, becomes a stream of the fan-out, or is idle at shutdown.
pub(super) async fn connection(serving: Arc<Serving>, tls: Tls, accepted: Accepted) {
    let Accepted { socket, unread, peer, permit } = accepted;
    let activity = Activity::new();
    let socket = Watched::new(socket, unread, Arc::clone(&activity));
    let stream = match tokio::time::timeout(HEAD_TIMEOUT, TlsStream::accept(tls.current(), socket)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%error, %peer, "TLS handshake failed"),
        Err(_) => {
            tracing::debug!(%peer, "TLS handshake took too long");
            return serving.limit.count_closed(CloseReason::SlowStart);
        }
    };
    if stream.alpn_protocol() == Some(b"h2") {
        http2::secured(serving, stream, activity, peer).await;
        drop(permit);
    } else {
        http1::serve(serving, stream, activity, (peer, true), permit).await;
    }
}
