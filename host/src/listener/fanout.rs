//! Writes open streams: a few plain threads, each with its own epoll and only a cursor per stream.
//!
//! Publishing a change wakes a thread once, which iterates over the streams of the environment and writes the shared
//! bytes to each socket. Bytes that a socket does not accept are kept as a slice of the shared bytes. Over TLS they are
//! encrypted a record at a time, when the socket accepts them, so that at most one record is kept per stream. Other
//! streams never wait for a slow reader: while its socket is full it is skipped, and when it drains the change log
//! decides whether the stream receives single changes or the full data.

mod connection;
mod inbox;
mod shard;
mod subscription;

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use yardarm_core::Lifecycle;
use yardarm_core::stream::OpenStream;
use yardarm_core::workers::processors;

use self::inbox::{Message, ShardHandle};
use self::shard::Shard;
use super::tls::TlsSession;

/// The fan-out threads. Cheap to clone.
#[derive(Clone)]
pub struct Fanout {
    shards: Arc<[ShardHandle]>,
    next: Arc<AtomicUsize>,
}

/// A stream whose response head has been written.
pub(super) struct StreamHandoff {
    pub(super) socket: TcpStream,
    /// Keys and state of TLS; `None` in plain text.
    pub(super) session: Option<Box<TlsSession>>,
    pub(super) stream: OpenStream,
    pub(super) peer: SocketAddr,
    /// The connection's permit.
    pub(super) permit: OwnedSemaphorePermit,
    /// Bytes after the request of the stream that were read together with it; over TLS, the session has them.
    pub(super) unread: Bytes,
    pub(super) after: AfterStream,
    /// Channel for returning the connection when the stream has ended.
    pub(super) returning: mpsc::Sender<ReturnedConnection>,
}

/// What happens to a connection when its stream has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AfterStream {
    /// It serves the next request. Until then, bytes that the client sends stay in the socket; over TLS, the first of
    /// them are decrypted and kept.
    Serve,
    /// It is closed.
    Close,
    /// It is closed, and bytes that the client still sends are discarded, because they may belong to the request body.
    Discard,
}

/// A connection whose stream has ended.
pub(super) struct ReturnedConnection {
    pub(super) socket: TcpStream,
    pub(super) session: Option<Box<TlsSession>>,
    pub(super) peer: SocketAddr,
    pub(super) permit: OwnedSemaphorePermit,
    pub(super) unread: Bytes,
    /// Whether the connection serves another request; otherwise it closes as soon as the client stops sending.
    pub(super) is_reusable: bool,
}

impl ReturnedConnection {
    /// Closes the connection. Over TLS, the end is announced as far as the socket accepts it.
    pub(super) fn close(mut self) {
        if let Some(session) = &mut self.session
            && session.close()
        {
            let _ = session.flush(|bytes| self.socket.write(bytes));
        }
    }
}

/// Counters over the streams of all threads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FanoutReport {
    /// Streams being written.
    pub streams: usize,
    /// Streams whose socket is full at this moment.
    pub blocked: usize,
    /// Number of changes by which the slowest stream lags.
    pub max_lag: u64,
    /// Bytes written since start.
    pub written_bytes: u64,
}

impl Fanout {
    /// Starts the threads: one per two cores, because writing shares the machine with serving. A stream whose socket
    /// accepts nothing for `write_timeout` is ended.
    ///
    /// # Errors
    /// When a thread or an epoll cannot be created.
    pub fn start(lifecycle: &Lifecycle, write_timeout: Duration) -> std::io::Result<Self> {
        let count = (processors() / 2).clamp(1, 8);
        let start = |index| Shard::start(index, lifecycle, write_timeout);
        let shards = (0..count).map(start).collect::<std::io::Result<Vec<_>>>()?;
        Ok(Self { shards: shards.into(), next: Arc::default() })
    }

    /// Assigns a stream to one of the threads.
    pub(super) fn add(&self, handoff: StreamHandoff) {
        let index = self.next.fetch_add(1, Ordering::Relaxed) % self.shards.len();
        self.shards[index].send(Message::Add(Box::new(handoff)));
    }

    /// Returns counters over all streams.
    #[must_use]
    pub fn report(&self) -> FanoutReport {
        self.shards.iter().map(ShardHandle::report).fold(FanoutReport::default(), |sum, it| FanoutReport {
            streams: sum.streams + it.streams,
            blocked: sum.blocked + it.blocked,
            max_lag: sum.max_lag.max(it.max_lag),
            written_bytes: sum.written_bytes + it.written_bytes,
        })
    }
}
