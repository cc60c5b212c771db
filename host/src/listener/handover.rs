//! The transition of a connection from HTTP to a stream.
//!
//! Hyper sends a stream response like any other, but its body never yields anything. When hyper polls the body for
//! data, it has encoded the response head, and when it flushes after that, the head is on the wire: hyper empties its
//! own buffer before it flushes the socket. At that moment the connection is taken apart and the socket, over TLS
//! together with its session, goes to the fan-out, which writes the chunks of the body itself.
//!
//! Bytes that the client sends meanwhile are not read. If the connection serves another request afterwards, they are
//! read then, in order; if some of them may belong to the request of the stream, the connection is closed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use yardarm_core::stream::OpenStream;

use super::fanout::AfterStream;

/// State of the transition, shared by the parts of one connection.
#[derive(Default)]
pub(super) struct Handover {
    stream: Mutex<Option<(OpenStream, AfterStream)>>,
    is_body_read: Arc<AtomicBool>,
}

impl Handover {
    /// Sets the stream that the current response becomes.
    pub(super) fn offer(&self, stream: OpenStream, after: AfterStream) {
        *self.stream.lock() = Some((stream, after));
    }

    /// Takes the stream together with what happens to its connection afterwards.
    pub(super) fn take_stream(&self) -> Option<(OpenStream, AfterStream)> {
        self.stream.lock().take()
    }

    /// Returns the flag that is set while the body of the current request has been read to its end.
    pub(super) fn body_flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.is_body_read)
    }

    /// Returns whether the body of the current request has been read to its end.
    pub(super) fn is_body_read(&self) -> bool {
        self.is_body_read.load(Ordering::Relaxed)
    }
}
