//! How a connection stops being HTTP and becomes a stream.
//!
//! A stream response is answered by hyper like any other, but its body never yields anything. Once hyper has asked
//! the body for data it has encoded the response head, and once it has flushed after that the head is on the wire:
//! hyper empties its own buffer before it flushes the socket. At that moment the connection is taken apart and the
//! socket goes to the fan-out, which writes the chunks of the body itself.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use pin_project_lite::pin_project;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use yardarm_core::stream::OpenStream;

/// What the parts of one connection know of its becoming a stream. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Handover(Arc<State>);

#[derive(Default)]
struct State {
    stream: Mutex<Option<OpenStream>>,
    is_reusable: AtomicBool,
    /// The body was asked for data, so the head has been encoded.
    is_head_encoded: AtomicBool,
    /// The socket was flushed after that, so the head has been written.
    is_head_written: AtomicBool,
}

/// A body without data and without end.
pub(super) struct HandoverBody(Handover);

pin_project! {
    /// A socket that notes when it is flushed.
    pub(super) struct Watched<S> {
        #[pin]
        socket: S,
        handover: Handover,
    }
}

impl Handover {
    /// The response under way is this stream.
    pub(super) fn offer(&self, stream: OpenStream, is_reusable: bool) {
        *self.0.stream.lock().unwrap_or_else(PoisonError::into_inner) = Some(stream);
        self.0.is_reusable.store(is_reusable, Ordering::Relaxed);
    }

    /// The stream, once.
    pub(super) fn take_stream(&self) -> Option<OpenStream> {
        self.0.stream.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Whether the connection may serve another request when the stream has ended.
    pub(super) fn is_reusable(&self) -> bool {
        self.0.is_reusable.load(Ordering::Relaxed)
    }

    /// Drives a connection until it ends, or until it has become a stream, which is `true`.
    pub(super) async fn drive<C: Future>(&self, mut connection: Pin<&mut C>) -> bool {
        poll_fn(|context| {
            let has_ended = connection.as_mut().poll(context).is_ready();
            if self.0.is_head_written.load(Ordering::Relaxed) {
                return Poll::Ready(true);
            }
            if has_ended { Poll::Ready(false) } else { Poll::Pending }
        })
        .await
    }
}

impl HandoverBody {
    pub(super) fn new(handover: Handover) -> Self {
        Self(handover)
    }
}

impl http_body::Body for HandoverBody {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Self::Error>>> {
        self.0.0.is_head_encoded.store(true, Ordering::Relaxed);
        Poll::Pending
    }
}

impl<S> Watched<S> {
    pub(super) fn new(socket: S, handover: Handover) -> Self {
        Self { socket, handover }
    }

    /// The socket.
    pub(super) fn into_inner(self) -> S {
        self.socket
    }
}

impl<S: AsyncRead> AsyncRead for Watched<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        self.project().socket.poll_read(context, buffer)
    }
}

impl<S: AsyncWrite> AsyncWrite for Watched<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        self.project().socket.poll_write(context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        self.project().socket.poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        let this = self.project();
        let flushed = this.socket.poll_flush(context);
        let state = &this.handover.0;
        if matches!(flushed, Poll::Ready(Ok(()))) && state.is_head_encoded.load(Ordering::Relaxed) {
            state.is_head_written.store(true, Ordering::Relaxed);
        }
        flushed
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        self.project().socket.poll_shutdown(context)
    }
}
