//! The inbox of a fan-out thread: messages from other threads, and the wake-up of its epoll.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{self, Wake};

use mio::Waker;
use parking_lot::Mutex;

use super::{FanoutReport, StreamHandoff};

/// A message to a thread.
pub(super) enum Message {
    Add(Box<StreamHandoff>),
    Notice(Notice),
    Stop,
}

/// What a thread waits for besides its sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Notice {
    /// The source with this key may have new data.
    Pulse(usize),
    /// The stream with this token and identity has to end.
    End(usize, u64),
}

/// The inbox of a fan-out thread.
#[derive(Clone)]
pub(super) struct ShardHandle(Arc<Inbox>);

struct Inbox {
    /// Bounded by its content: a stream is in it once before it is served, a source at most once at a time.
    messages: Mutex<Vec<Message>>,
    waker: Waker,
    streams: AtomicUsize,
    blocked: AtomicUsize,
    max_lag: AtomicU64,
    written: AtomicU64,
}

/// Sends a notice to a thread.
struct NoticeWaker {
    handle: ShardHandle,
    notice: Notice,
}

impl ShardHandle {
    pub(super) fn new(waker: Waker) -> Self {
        Self(Arc::new(Inbox {
            messages: Mutex::default(),
            waker,
            streams: AtomicUsize::new(0),
            blocked: AtomicUsize::new(0),
            max_lag: AtomicU64::new(0),
            written: AtomicU64::new(0),
        }))
    }

    /// Takes all waiting messages.
    pub(super) fn take(&self) -> Vec<Message> {
        std::mem::take(&mut *self.0.messages.lock())
    }

    /// Number of streams whose socket is full.
    pub(super) fn blocked(&self) -> usize {
        self.0.blocked.load(Ordering::Relaxed)
    }

    pub(super) fn add_blocked(&self) {
        self.0.blocked.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn remove_blocked(&self) {
        self.0.blocked.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn set_max_lag(&self, lag: u64) {
        self.0.max_lag.store(lag, Ordering::Relaxed);
    }

    pub(super) fn set_totals(&self, streams: usize, written: u64) {
        self.0.streams.store(streams, Ordering::Relaxed);
        self.0.written.store(written, Ordering::Relaxed);
    }

    pub(super) fn send(&self, message: Message) {
        self.0.messages.lock().push(message);
        // Fails only if the epoll is closed, and its thread has ended too.
        let _ = self.0.waker.wake();
    }

    /// Returns a waker that sends `notice`.
    pub(super) fn waker(&self, notice: Notice) -> task::Waker {
        Arc::new(NoticeWaker { handle: self.clone(), notice }).into()
    }

    pub(super) fn report(&self) -> FanoutReport {
        FanoutReport {
            streams: self.0.streams.load(Ordering::Relaxed),
            blocked: self.0.blocked.load(Ordering::Relaxed),
            max_lag: self.0.max_lag.load(Ordering::Relaxed),
            written_bytes: self.0.written.load(Ordering::Relaxed),
        }
    }
}

impl Wake for NoticeWaker {
    fn wake(self: Arc<Self>) {
        self.handle.send(Message::Notice(self.notice));
    }
}
