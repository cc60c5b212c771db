//! How a connection stops being HTTP and becomes a stream.
//!
//! A stream response is answered by hyper like any other, but its body never yields anything. Once hyper has asked
//! the body for data it has encoded the response head, and once it has flushed after that the head is on the wire:
//! hyper empties its own buffer before it flushes the socket. At that moment the connection is taken apart and the
//! socket goes to the fan-out, which writes the chunks of the body itself.
//!
//! What the client sends meanwhile is not read. If the connection serves another request afterwards, it is found
//! there, in order; if some of it may belong to the request of the stream, the connection is closed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use yardarm_core::stream::OpenStream;

use super::fanout::AfterStream;

/// What the parts of one connection know of its becoming a stream.
#[derive(Default)]
pub(super) struct Handover {
    stream: Mutex<Option<(OpenStream, AfterStream)>>,
    is_body_read: Arc<AtomicBool>,
}

impl Handover {
    /// Offers the stream that the response under way has to become.
    pub(super) fn offer(&self, stream: OpenStream, after: AfterStream) {
        *self.stream.lock() = Some((stream, after));
    }

    /// The stream, once, and what becomes of its connection.
    pub(super) fn take_stream(&self) -> Option<(OpenStream, AfterStream)> {
        self.stream.lock().take()
    }

    /// Set while the body of the request under way has been read to its end.
    pub(super) fn body_flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.is_body_read)
    }

    /// Whether the body of the request under way has been read to its end.
    pub(super) fn is_body_read(&self) -> bool {
        self.is_body_read.load(Ordering::Relaxed)
    }
}
