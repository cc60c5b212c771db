//! The limit of open connections, closing idle ones for new ones, and counters of closed connections by reason.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::futures::OwnedNotified;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// How often an idle connection is closed while a new one waits for a permit.
const ROOM_INTERVAL: Duration = Duration::from_millis(20);

/// A limit of connections that one or more listeners share. Cheap to clone.
#[derive(Clone)]
pub struct ConnectionLimit(Arc<Shared>);

struct Shared {
    limit: usize,
    free: Arc<Semaphore>,
    /// Accepted connections that wait for a permit, at most one per listener.
    waiting: AtomicUsize,
    /// Notified when an idle connection should close in favour of a new one; the oldest waiter is notified first.
    room_wanted: Arc<Notify>,
    closed: [AtomicU64; CloseReason::ALL.len()],
}

/// The reason for which the gateway closed a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum CloseReason {
    /// The connection was idle for `server.idle_timeout`.
    Idle = 0,
    /// The connection was idle, and a new one waited for a permit.
    MadeRoom = 1,
    /// A request head, a TLS handshake or a header of the PROXY protocol did not arrive in time.
    SlowStart = 2,
    /// The client read nothing for `server.write_timeout`.
    WriteTimeout = 3,
    /// The connection came from a trusted proxy without a valid header of the PROXY protocol.
    ProxyHeader = 4,
}

impl CloseReason {
    /// All reasons, in the order of their discriminants.
    pub const ALL: [Self; 5] = [Self::Idle, Self::MadeRoom, Self::SlowStart, Self::WriteTimeout, Self::ProxyHeader];

    /// Returns the name of the reason in metrics and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::MadeRoom => "made-room",
            Self::SlowStart => "slow-start",
            Self::WriteTimeout => "write-timeout",
            Self::ProxyHeader => "proxy-header",
        }
    }
}

impl ConnectionLimit {
    /// Creates a limit of `limit` connections.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self(Arc::new(Shared {
            limit,
            free: Arc::new(Semaphore::new(limit.min(Semaphore::MAX_PERMITS))),
            waiting: AtomicUsize::new(0),
            room_wanted: Arc::default(),
            closed: Default::default(),
        }))
    }

    /// Returns how many connections may be open at once.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.0.limit
    }

    /// Returns how many connections are open now, including streams.
    #[must_use]
    pub fn open(&self) -> usize {
        self.0.limit.saturating_sub(self.0.free.available_permits())
    }

    /// Returns how many connections the gateway closed since the start, by reason.
    #[must_use]
    pub fn closed(&self) -> Vec<(&'static str, u64)> {
        let count = |reason: CloseReason| self.0.closed[reason as usize].load(Ordering::Relaxed);
        CloseReason::ALL.iter().map(|reason| (reason.as_str(), count(*reason))).collect()
    }

    pub(super) fn count_closed(&self, reason: CloseReason) {
        self.0.closed[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Returns a permit if one is free.
    pub(super) fn try_acquire(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.0.free).try_acquire_owned().ok()
    }

    /// Waits for a permit; meanwhile idle connections are closed, one after the other.
    pub(super) async fn acquire(&self) -> Option<OwnedSemaphorePermit> {
        let _waiting = Waiting::new(&self.0.waiting);
        loop {
            self.0.room_wanted.notify_one();
            let waited = tokio::time::timeout(ROOM_INTERVAL, Arc::clone(&self.0.free).acquire_owned()).await;
            if let Ok(permit) = waited {
                return permit.ok();
            }
        }
    }

    /// Returns whether a new connection waits for a permit.
    pub(super) fn is_full(&self) -> bool {
        self.0.waiting.load(Ordering::Relaxed) > 0
    }

    /// Completes when the calling connection should make room for a new one if it is idle.
    pub(super) fn room_wanted(&self) -> OwnedNotified {
        Arc::clone(&self.0.room_wanted).notified_owned()
    }

    /// Passes the notification on to the next connection; called by a connection that is not idle.
    pub(super) fn pass_on(&self) {
        self.0.room_wanted.notify_one();
    }
}

/// Counts one waiting connection until it is dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
