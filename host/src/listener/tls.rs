//! TLS on the listener of SDKs: the same port, no plain-text port beside it, and HTTP/2 if the client negotiates it.
//!
//! Streams over TLS are written by the HTTP library: their bytes differ per connection, so the fan-out threads could
//! share nothing between them.

mod certificate;

use std::sync::Arc;

use tokio_rustls::TlsAcceptor;

pub use self::certificate::{CertificateReport, Tls, TlsError};
use super::activity::{Activity, HEAD_TIMEOUT};
use super::connection_limit::CloseReason;
use super::watched::Watched;
use super::{Accepted, Serving, http1, http2};

/// Serves one connection until it ends, or is idle at shutdown.
pub(super) async fn connection(serving: Arc<Serving>, tls: Tls, accepted: Accepted) {
    let Accepted { socket, unread, peer, permit: _place } = accepted;
    let activity = Activity::new();
    let socket = Watched::new(socket, unread, Arc::clone(&activity));
    let acceptor = TlsAcceptor::from(tls.current());
    let stream = match tokio::time::timeout(HEAD_TIMEOUT, acceptor.accept(socket)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%error, %peer, "TLS handshake failed"),
        Err(_) => {
            tracing::debug!(%peer, "TLS handshake took too long");
            return serving.limit.count_closed(CloseReason::SlowStart);
        }
    };
    if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
        http2::secured(serving, stream, activity, peer).await;
    } else {
        http1::secured(serving, stream, activity, peer).await;
    }
}
