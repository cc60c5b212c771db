//! Accepts connections, serves HTTP on them, and hands open streams over to the fan-out threads.

mod activity;
mod answer;
mod body;
mod connection_limit;
mod drive;
mod fanout;
mod framing;
mod handover;
mod http1;
mod http2;
mod linger;
mod progress;
mod proxy_header;
mod tls;
mod watched;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::response::Response;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use yardarm_core::client_address::ProxyRules;
use yardarm_core::{Lifecycle, Supervised};
use yardarm_vendor::routes;

use self::activity::{Activity, HEAD_TIMEOUT, Timeouts};
pub use self::connection_limit::{CloseReason, ConnectionLimit};
use self::fanout::ReturnedConnection;
pub use self::fanout::{Fanout, FanoutReport};
use self::tls::TlsStream;
pub use self::tls::{CertificateReport, Tls, TlsError};
use self::watched::Watched;
use crate::config::Limits;

/// Pause after a failed `accept`, which usually means that file descriptors have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Capacity for connections that return after their stream has ended. Connections beyond it are closed.
const MAX_RETURNING: usize = 1024;
/// Idle time after which the kernel probes a client, and the interval between probes.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);

/// A bound listener that is not served yet.
pub struct Listener {
    socket: TcpListener,
    address: SocketAddr,
    tls: Option<Tls>,
}

/// What a listener serves.
pub trait Answers: Send + Sync + 'static {
    /// Answers a request.
    fn answer(self: Arc<Self>, request: Request) -> BoxFuture<'static, Response>;
}

impl Answers for Router {
    fn answer(self: Arc<Self>, request: Request) -> BoxFuture<'static, Response> {
        Box::pin(async move { routes::answer(&self, request).await })
    }
}

/// Resources that the listeners of a process share.
#[derive(Clone)]
pub struct ServeOptions {
    /// Writes open streams.
    pub fanout: Fanout,
    /// The limit of connections, which listeners may share.
    pub connections: ConnectionLimit,
    /// Other limits.
    pub limits: Limits,
    /// Rules for trusted proxies.
    pub proxies: Arc<ProxyRules>,
}

struct Serving {
    service: Arc<dyn Answers>,
    tls: Option<Tls>,
    fanout: Fanout,
    limit: ConnectionLimit,
    limits: Limits,
    timeouts: Timeouts,
    proxies: Arc<ProxyRules>,
    lifecycle: Lifecycle,
    returning: mpsc::Sender<ReturnedConnection>,
}

/// A connection that begins with a request.
struct Accepted {
    socket: TcpStream,
    /// Bytes that were already read from the connection.
    unread: Bytes,
    peer: SocketAddr,
    permit: OwnedSemaphorePermit,
}

impl Listener {
    /// Binds an address; port 0 selects a free port.
    ///
    /// # Errors
    /// When the address is in use or does not belong to this machine.
    pub fn bind(address: SocketAddr) -> std::io::Result<Self> {
        let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        // A reconnect storm arrives at once, and clients retry connections that do not fit only after seconds.
        socket.listen(4096)?;
        let socket = TcpListener::from_std(socket.into())?;
        let address = socket.local_addr()?;
        Ok(Self { socket, address, tls: None })
    }

    /// Returns the address of the listener.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the listener with TLS.
    #[must_use]
    pub fn with_tls(mut self, tls: Option<Tls>) -> Self {
        self.tls = tls;
        self
    }

    /// Serves requests until `lifecycle` stops accepting; open connections may then finish their requests.
    pub fn serve(self, service: Arc<dyn Answers>, options: ServeOptions, lifecycle: &Lifecycle) {
        let (returning, returned) = mpsc::channel(MAX_RETURNING);
        let ServeOptions { fanout, connections: limit, limits, proxies } = options;
        let timeouts = Timeouts { idle: limits.idle_timeout, write: limits.write_timeout };
        let (tls, lifecycle) = (self.tls, lifecycle.clone());
        let serving = Serving { service, tls, fanout, limit, limits, timeouts, proxies, lifecycle, returning };
        let serving = Arc::new(serving);
        let lifecycle = serving.lifecycle.clone();
        lifecycle.supervise("accept", AcceptTask { socket: self.socket, serving, returned });
    }
}

/// Accepts new connections and takes back those whose stream has ended.
struct AcceptTask {
    socket: TcpListener,
    serving: Arc<Serving>,
    returned: mpsc::Receiver<ReturnedConnection>,
}

impl Drop for AcceptTask {
    /// Closes the connections that came back too late to be served.
    fn drop(&mut self) {
        self.returned.close();
        while let Ok(ended) = self.returned.try_recv() {
            ended.close();
        }
    }
}

impl Supervised for AcceptTask {
    async fn run(&mut self) {
        accept(&self.socket, &self.serving, &mut self.returned).await;
    }
}

async fn accept(socket: &TcpListener, serving: &Arc<Serving>, returned: &mut mpsc::Receiver<ReturnedConnection>) {
    // One connection waits for a permit here; further ones wait in the backlog.
    let mut waiting: Option<(TcpStream, SocketAddr)> = None;
    let mut failures: u64 = 0;
    loop {
        tokio::select! {
            ended = returned.recv() => {
                if let Some(ended) = ended {
                    take_back(serving, ended);
                }
            }
            accepted = socket.accept(), if waiting.is_none() => match accepted {
                Ok((stream, peer)) => {
                    if failures > 0 {
                        tracing::info!(failures, "connections are accepted again");
                        failures = 0;
                    }
                    match serving.limit.try_acquire() {
                        Some(permit) => start(serving, stream, peer, permit),
                        None => waiting = Some((stream, peer)),
                    }
                }
                Err(error) => {
                    failures += 1;
                    if failures == 1 {
                        tracing::warn!(%error, "connections cannot be accepted");
                    }
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            permit = serving.limit.acquire(), if waiting.is_some() => {
                if let (Some(permit), Some((stream, peer))) = (permit, waiting.take()) {
                    start(serving, stream, peer, permit);
                }
            }
        }
    }
}

/// Serves or closes a connection whose stream has ended.
fn take_back(serving: &Arc<Serving>, ended: ReturnedConnection) {
    let ReturnedConnection { socket, session, peer, permit, unread, is_reusable } = ended;
    let Ok(socket) = TcpStream::from_std(socket) else { return };
    let lifecycle = serving.lifecycle.clone();
    let serving = Arc::clone(serving);
    match session {
        _ if !is_reusable => lifecycle.spawn_graceful("connection end", async move {
            linger::linger(socket, &serving).await;
            drop(permit);
        }),
        None => {
            lifecycle.spawn_graceful("connection", http1::plain(serving, Accepted { socket, unread, peer, permit }));
        }
        Some(session) => {
            let activity = Activity::new();
            let stream = TlsStream::resume(Watched::new(socket, unread, Arc::clone(&activity)), session);
            lifecycle.spawn_graceful("connection", http1::serve(serving, stream, activity, (peer, true), permit));
        }
    }
}

fn start(serving: &Arc<Serving>, socket: TcpStream, peer: SocketAddr, permit: OwnedSemaphorePermit) {
    if let Err(error) = tune(&socket, &serving.limits) {
        tracing::debug!(%error, "options of a connection cannot be set");
    }
    // On the heap, because the futures around it keep space for it twice.
    let connection = Box::pin(connection(Arc::clone(serving), socket, peer, permit));
    // Graceful: requests in progress are finished within the drain time.
    serving.lifecycle.spawn_graceful("connection", connection);
}

fn tune(socket: &TcpStream, limits: &Limits) -> std::io::Result<()> {
    let socket = SockRef::from(socket);
    // Nagle's algorithm would delay small events.
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE_AFTER).with_interval(KEEPALIVE_INTERVAL))?;
    // The kernel drops a client that reads nothing or is gone, whether or not there is more to write.
    socket.set_tcp_user_timeout(Some(limits.write_timeout))?;
    // The kernel's queue of bytes that were already sent grows as fast networks need it.
    socket.set_tcp_notsent_lowat(limits.send_buffer)
}

/// Serves a connection from its first byte.
async fn connection(serving: Arc<Serving>, mut socket: TcpStream, mut peer: SocketAddr, permit: OwnedSemaphorePermit) {
    let mut unread = Bytes::new();
    if serving.proxies.requires_header && serving.proxies.trusts(peer.ip()) {
        match tokio::time::timeout(HEAD_TIMEOUT, proxy_header::read(&mut socket)).await {
            Ok(Ok((source, behind))) => (peer, unread) = (source.unwrap_or(peer), behind),
            Ok(Err(error)) => {
                tracing::debug!(%error, %peer, "connection without a valid header of the PROXY protocol is closed");
                return serving.limit.count_closed(CloseReason::ProxyHeader);
            }
            Err(_) => return serving.limit.count_closed(CloseReason::SlowStart),
        }
    }
    match serving.tls.clone() {
        None => http1::plain(serving, Accepted { socket, unread, peer, permit }).await,
        Some(tls) => tls::connection(serving, tls, Accepted { socket, unread, peer, permit }).await,
    }
}
