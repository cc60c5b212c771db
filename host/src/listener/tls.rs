//! TLS in front of the listener of SDKs: the same port, no plain one beside it, HTTP/2 where the client wants it.
//!
//! Streams over TLS are written by the HTTP library: their bytes differ from connection to connection, so there is
//! nothing that the fan-out threads could share.

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use bytes::Bytes;
use http::header::CONNECTION;
use http::{Request, Response, Version};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::server::ServerConfig;
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{self, SupportedProtocolVersion};
use tower::ServiceExt;
use yardarm_core::Lifecycle;

use super::{HEAD_TIMEOUT, Serving, http1_builder};
use crate::config::{TlsConfig, TlsVersion};

/// How long a client without requests under way may take to confirm the end of its connection.
const FAREWELL: Duration = Duration::from_millis(500);

/// Certificate and key, ready for handshakes. Cheap to clone.
#[derive(Clone)]
pub struct Tls(TlsAcceptor);

/// Why TLS cannot be offered.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read or is not what it should be.
    #[error("`{key}`: `{path}` cannot be used: {problem}")]
    File {
        /// Key of the setting.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// Certificate and key do not belong together, or are of a kind that is not supported.
    #[error("`server.tls.cert` and `server.tls.key` cannot be used together: {0}")]
    Pair(#[from] rustls::Error),
}

impl Tls {
    /// Reads certificate chain and key.
    ///
    /// # Errors
    /// When a file cannot be used, or the two do not belong together.
    pub fn load(config: &TlsConfig) -> Result<Self, TlsError> {
        let chain = CertificateDer::pem_file_iter(&config.cert)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| unusable("server.tls.cert", &config.cert, &error))?;
        let key = PrivateKeyDer::from_pem_file(&config.key);
        let key = key.map_err(|error| unusable("server.tls.key", &config.key, &error))?;
        let versions: &[&SupportedProtocolVersion] = match config.min_version {
            TlsVersion::Tls12 => &[&TLS12, &TLS13],
            TlsVersion::Tls13 => &[&TLS13],
        };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut server = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)?
            .with_no_client_auth()
            .with_single_cert(chain, key)?;
        server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self(TlsAcceptor::from(Arc::new(server))))
    }
}

fn unusable(key: &'static str, path: &Path, error: &rustls_pki_types::pem::Error) -> TlsError {
    TlsError::File { key, path: path.to_owned(), problem: error.to_string() }
}

/// Serves one connection until it ends or idles at shutdown. `_place` is its place among those allowed.
pub(super) async fn connection(
    serving: Arc<Serving>,
    tls: Tls,
    stream: TcpStream,
    peer: std::net::SocketAddr,
    _place: OwnedSemaphorePermit,
) {
    let stream = match tokio::time::timeout(HEAD_TIMEOUT, tls.0.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%error, %peer, "TLS handshake failed"),
        Err(_) => return tracing::debug!(%peer, "TLS handshake took too long"),
    };
    let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let token = Arc::new(());
    let service =
        service_fn(|request: Request<Incoming>| answer(serving.router.clone(), request, peer, Arc::clone(&token)));
    let io = TokioIo::new(stream);
    let stopping = serving.lifecycle.token().cancelled();
    tokio::pin!(stopping);
    // Both kinds of connection are driven alike, but have no type in common.
    macro_rules! drive {
        ($connection:expr) => {{
            let mut connection = std::pin::pin!($connection);
            let mut is_stopping = false;
            loop {
                tokio::select! {
                    ended = connection.as_mut() => break ended.map_err(|error| tracing::trace!(%error, "connection ended")),
                    () = &mut stopping, if !is_stopping => {
                        is_stopping = true;
                        connection.as_mut().graceful_shutdown();
                    }
                    // An HTTP/2 client has to confirm the end; one that is gone never does.
                    () = tokio::time::sleep(FAREWELL), if is_stopping && Arc::strong_count(&token) == 1 => break Ok(()),
                }
            }
        }};
    }
    let _ = if is_http2 {
        let mut builder = http2::Builder::new(Owned(serving.lifecycle.clone()));
        builder.timer(TokioTimer::new()).max_header_list_size(head_limit(&serving));
        drive!(builder.serve_connection(io, service))
    } else {
        drive!(http1_builder(&serving.limits).serve_connection(io, service))
    };
}

fn head_limit(serving: &Serving) -> u32 {
    u32::try_from(serving.limits.max_head_bytes).unwrap_or(u32::MAX)
}

async fn answer(
    router: Router,
    request: Request<Incoming>,
    peer: std::net::SocketAddr,
    token: Arc<()>,
) -> Result<Response<Body>, std::convert::Infallible> {
    let version = request.version();
    let mut request = request.map(Body::new);
    request.extensions_mut().insert(ConnectInfo(peer));
    let mut response = router.oneshot(request).await?;
    if version != Version::HTTP_11 {
        response.headers_mut().remove(CONNECTION);
    }
    Ok(response.map(|body| Body::new(UnderWay { body, _token: token })))
}

/// The body of a response that is being written. The connection has as many of these tokens as requests under way.
struct UnderWay {
    body: Body,
    _token: Arc<()>,
}

impl http_body::Body for UnderWay {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}

/// HTTP/2 runs a task per request; they have the same owner as all others.
#[derive(Clone)]
struct Owned(Lifecycle);

impl<F> hyper::rt::Executor<F> for Owned
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, task: F) {
        self.0.spawn_graceful("request", async move {
            task.await;
        });
    }
}
