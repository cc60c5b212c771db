//! Places for connections: how many may be open at once, how idle ones make room, and why connections were closed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::futures::OwnedNotified;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// How often an idle connection is closed while a new one waits for a place.
const ROOM_INTERVAL: Duration = Duration::from_millis(20);

/// Places that one or more listeners share. Cheap to clone.
#[derive(Clone)]
pub struct ConnectionLimit(Arc<Shared>);

struct Shared {
    limit: usize,
    free: Arc<Semaphore>,
    /// Connections that have been accepted and wait for a place, one per listener at most.
    waiting: AtomicUsize,
    /// Idle connections wait here, the longest registered first, to be closed in favour of new ones.
    room_wanted: Arc<Notify>,
    closed: [AtomicU64; CloseReason::ALL.len()],
}

/// Why the gateway closed a connection that the client had not closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum CloseReason {
    /// It was idle for `server.idle_timeout`.
    Idle = 0,
    /// It was idle, and a new connection waited for a place.
    MadeRoom = 1,
    /// A request head, a TLS handshake or a header of the PROXY protocol did not arrive in time.
    SlowStart = 2,
    /// The client took nothing for `server.write_timeout`.
    WriteTimeout = 3,
    /// It came from a trusted proxy without a valid header of the PROXY protocol.
    ProxyHeader = 4,
}

impl CloseReason {
    /// All reasons, in the order of their numbers.
    pub const ALL: [Self; 5] = [Self::Idle, Self::MadeRoom, Self::SlowStart, Self::WriteTimeout, Self::ProxyHeader];

    /// The reason as metrics and logs name it.
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
    /// Creates as many places, all of them free.
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

    /// Connections that may be open at once.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.0.limit
    }

    /// Connections that are open now, streams included.
    #[must_use]
    pub fn open(&self) -> usize {
        self.0.limit.saturating_sub(self.0.free.available_permits())
    }

    /// Connections that the gateway closed since start, by reason.
    #[must_use]
    pub fn closed(&self) -> Vec<(&'static str, u64)> {
        let count = |reason: CloseReason| self.0.closed[reason as usize].load(Ordering::Relaxed);
        CloseReason::ALL.iter().map(|reason| (reason.as_str(), count(*reason))).collect()
    }

    pub(super) fn count_closed(&self, reason: CloseReason) {
        self.0.closed[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// A place if one is free.
    pub(super) fn try_acquire(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.0.free).try_acquire_owned().ok()
    }

    /// Waits for a place; meanwhile idle connections are closed, one after the other.
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

    /// Whether a new connection waits for a place.
    pub(super) fn is_full(&self) -> bool {
        self.0.waiting.load(Ordering::Relaxed) > 0
    }

    /// Ready when the connection that waits for it should make room for a new one if it is idle.
    pub(super) fn room_wanted(&self) -> OwnedNotified {
        Arc::clone(&self.0.room_wanted).notified_owned()
    }

    /// Passes the wish for room on to the next connection, by one that is not idle.
    pub(super) fn pass_on(&self) {
        self.0.room_wanted.notify_one();
    }
}

/// Counts one connection that waits.
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
