//! Writes open streams: a few plain threads, each with an epoll of its own and nothing per stream but a cursor.
//!
//! A change wakes a thread once; it walks the streams of the environment and writes the shared bytes to each socket.
//! What a socket does not take is remembered as a slice of the shared bytes. Nobody waits for a slow reader: while
//! its socket is full it is passed over, and when it drains the feed decides whether it still gets single changes or
//! has to be given everything.

mod connection;
mod inbox;
mod shard;

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

/// The fan-out threads. Cheap to clone.
#[derive(Clone)]
pub struct Fanout {
    shards: Arc<[ShardHandle]>,
    next: Arc<AtomicUsize>,
}

/// A stream whose response head has been written.
pub(super) struct StreamHandoff {
    pub(super) socket: TcpStream,
    pub(super) stream: OpenStream,
    pub(super) peer: SocketAddr,
    /// The connection's place among those allowed.
    pub(super) permit: OwnedSemaphorePermit,
    /// Bytes behind the request of the stream that were read with it.
    pub(super) unread: Bytes,
    pub(super) after: AfterStream,
    /// Where the connection goes when the stream has ended.
    pub(super) returning: mpsc::Sender<ReturnedConnection>,
}

/// What becomes of a connection when its stream has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AfterStream {
    /// It serves the next request. Until then, what the client sends is left in the socket.
    Serve,
    /// It is closed.
    Close,
    /// It is closed, and whatever the client still sends is thrown away: it may belong to the body of the request.
    Discard,
}

/// A connection whose stream has ended.
pub(super) struct ReturnedConnection {
    pub(super) socket: TcpStream,
    pub(super) peer: SocketAddr,
    pub(super) permit: OwnedSemaphorePermit,
    pub(super) unread: Bytes,
    /// Whether it serves the next request, or is closed as soon as the client stops sending.
    pub(super) is_reusable: bool,
}

/// How the streams of all threads are doing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FanoutReport {
    /// Streams being written.
    pub streams: usize,
    /// Streams whose socket is full at this moment.
    pub blocked: usize,
    /// Changes that the slowest stream is behind.
    pub max_lag: u64,
    /// Bytes written since start.
    pub written_bytes: u64,
}

impl Fanout {
    /// Starts the threads: one for two cores, because writing shares the machine with serving. A stream whose socket
    /// takes nothing for `write_timeout` is ended.
    ///
    /// # Errors
    /// When the operating system gives no thread or no epoll.
    pub fn start(lifecycle: &Lifecycle, write_timeout: Duration) -> std::io::Result<Self> {
        let count = (processors() / 2).clamp(1, 8);
        let start = |index| Shard::start(index, lifecycle, write_timeout);
        let shards = (0..count).map(start).collect::<std::io::Result<Vec<_>>>()?;
        Ok(Self { shards: shards.into(), next: Arc::default() })
    }

    /// Takes a stream over.
    pub(super) fn add(&self, handoff: StreamHandoff) {
        let index = self.next.fetch_add(1, Ordering::Relaxed) % self.shards.len();
        self.shards[index].send(Message::Add(Box::new(handoff)));
    }

    /// How the streams are doing.
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
