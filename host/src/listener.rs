//! Accepts connections, serves HTTP/1.1 on them, and hands open streams over to the fan-out threads.

mod fanout;
mod handover;
mod tls;

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use http::header::CONNECTION;
use http::{HeaderMap, Request, Response, Version};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tower::ServiceExt;
use yardarm_core::Lifecycle;
use yardarm_core::stream::Takeover;

use self::fanout::{Ended, Handed};
pub use self::fanout::{Fanout, FanoutReport};
use self::handover::{Handover, HandoverBody, Watched};
pub use self::tls::{Tls, TlsError};

/// A client that has not sent its request head by then is cut off, as ld-relay does it.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Most headers of one request.
const MAX_HEADERS: usize = 128;
/// Pause after a failed `accept`, which usually means that file descriptors have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Connections that come back after their stream has ended and wait for their next request. Beyond, they are closed.
const MAX_RETURNING: usize = 1024;

/// Limits of a listener.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections at once, streams included. Further ones wait in the backlog.
    pub max_connections: usize,
    /// Bytes of a request head.
    pub max_head_bytes: usize,
}

/// A bound listener that is not served yet.
pub struct Listener {
    socket: TcpListener,
    address: SocketAddr,
    tls: Option<Tls>,
}

struct Serving {
    router: Router,
    tls: Option<Tls>,
    fanout: Fanout,
    limits: Limits,
    lifecycle: Lifecycle,
    returning: mpsc::Sender<Ended>,
}

impl Listener {
    /// Binds an address; port 0 takes a free one.
    ///
    /// # Errors
    /// When the address is in use or not ours.
    pub fn bind(address: SocketAddr) -> std::io::Result<Self> {
        let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        // A reconnect storm arrives at once; what does not fit would be retried by clients after seconds.
        socket.listen(4096)?;
        let socket = TcpListener::from_std(socket.into())?;
        let address = socket.local_addr()?;
        Ok(Self { socket, address, tls: None })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The same, but with TLS.
    #[must_use]
    pub fn with_tls(mut self, tls: Option<Tls>) -> Self {
        self.tls = tls;
        self
    }

    /// Serves `router` until `lifecycle` stops accepting; connections under way are then given their time.
    pub fn serve(self, router: Router, fanout: Fanout, limits: Limits, lifecycle: &Lifecycle) {
        let (returning, returned) = mpsc::channel(MAX_RETURNING);
        let serving =
            Arc::new(Serving { router, tls: self.tls, fanout, limits, lifecycle: lifecycle.clone(), returning });
        lifecycle.spawn("accept", accept(self.socket, Arc::clone(&serving), returned));
    }
}

async fn accept(socket: TcpListener, serving: Arc<Serving>, mut returned: mpsc::Receiver<Ended>) {
    let places = Arc::new(Semaphore::new(serving.limits.max_connections));
    loop {
        tokio::select! {
            ended = returned.recv() => {
                if let Some(ended) = ended
                    && let Ok(stream) = TcpStream::from_std(ended.socket)
                {
                    start(&serving, stream, ended.peer, ended.place);
                }
            }
            accepted = async {
                let place = Arc::clone(&places).acquire_owned().await;
                (socket.accept().await, place)
            } => match accepted {
                (Ok((stream, peer)), Ok(place)) => {
                    // Small events must not wait for each other.
                    let _ = stream.set_nodelay(true);
                    start(&serving, stream, peer, place);
                }
                (Err(error), _) => {
                    tracing::warn!(%error, "connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
                (_, Err(_)) => return,
            },
        }
    }
}

fn start(serving: &Arc<Serving>, stream: TcpStream, peer: SocketAddr, place: OwnedSemaphorePermit) {
    // Graceful: requests under way are finished within the drain time.
    match serving.tls.clone() {
        None => {
            serving.lifecycle.spawn_graceful("connection", connection(Arc::clone(serving), stream, peer, place));
        }
        Some(tls) => {
            let task = tls::connection(Arc::clone(serving), tls, stream, peer, place);
            serving.lifecycle.spawn_graceful("connection", task);
        }
    }
}

/// Serves one connection until it ends, idles at shutdown, or becomes a stream.
async fn connection(serving: Arc<Serving>, stream: TcpStream, peer: SocketAddr, place: OwnedSemaphorePermit) {
    let handover = Handover::default();
    let service = service_fn(|request: Request<Incoming>| answer(&serving.router, &handover, request, peer));
    let io = TokioIo::new(Watched::new(stream, handover.clone()));
    let mut connection = Box::pin(http1_builder(&serving.limits).serve_connection(io, service));
    let mut is_stopping = false;
    let became_stream = loop {
        tokio::select! {
            biased;
            became_stream = handover.drive(connection.as_mut()) => break became_stream,
            () = serving.lifecycle.token().cancelled(), if !is_stopping => {
                is_stopping = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    };
    let Some(stream) = became_stream.then(|| handover.take_stream()).flatten() else { return };
    // What hyper kept for this connection goes away here; from now on the stream costs its cursor and its socket.
    let parts = Pin::into_inner(connection).into_parts();
    let Ok(socket) = parts.io.into_inner().into_inner().into_std() else { return };
    let is_reusable = handover.is_reusable();
    let returning = is_reusable.then(|| serving.returning.clone());
    serving.fanout.add(Handed { socket, stream, peer, place, returning });
}

fn http1_builder(limits: &Limits) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_headers(MAX_HEADERS)
        .max_buf_size(limits.max_head_bytes)
        .preserve_header_case(false);
    builder
}

async fn answer(
    router: &Router,
    handover: &Handover,
    request: Request<Incoming>,
    peer: SocketAddr,
) -> Result<Response<Body>, std::convert::Infallible> {
    let version = request.version();
    let is_reusable = version == Version::HTTP_11 && !asks_to_close(request.headers());
    let mut request = request.map(Body::new);
    request.extensions_mut().insert(ConnectInfo(peer));
    let mut response = router.clone().oneshot(request).await?;
    if version != Version::HTTP_11 {
        response.headers_mut().remove(CONNECTION);
        return Ok(response);
    }
    let taken = response.extensions_mut().remove::<Takeover>().and_then(|it| it.take());
    Ok(match taken {
        Some(stream) => {
            handover.offer(stream, is_reusable);
            response.map(|_| Body::new(HandoverBody::new(handover.clone())))
        }
        None => response,
    })
}

fn asks_to_close(headers: &HeaderMap) -> bool {
    headers.get_all(CONNECTION).iter().any(|it| it.to_str().is_ok_and(|it| it.to_ascii_lowercase().contains("close")))
}
