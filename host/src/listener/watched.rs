//! Sockets that record their reads, writes and flushes.

use std::io::ErrorKind;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use pin_project_lite::pin_project;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::activity::{Activity, Probe};
use super::framing::FramingScan;
use super::tls::TlsSession;

/// A connection that can be taken apart between two pieces of data.
pub(super) trait Transport: AsyncRead + AsyncWrite + Unpin {
    /// Takes the connection apart; `unread` was read from it and not used.
    fn into_parts(self, unread: &[u8]) -> TransportParts;
}

/// What remains of a connection without the HTTP library.
pub(super) struct TransportParts {
    pub(super) socket: TcpStream,
    /// Data that was read from the socket and not used; over TLS, the session has it.
    pub(super) unread: Bytes,
    /// Keys and state of TLS; `None` in plain text.
    pub(super) session: Option<Box<TlsSession>>,
}

/// A TCP connection that records reads, writes and flushes. It first yields bytes that were read from it before.
pub(super) struct Watched {
    socket: TcpStream,
    unread: Bytes,
    activity: Arc<Activity>,
}

pin_project! {
    /// Creates a plain-text connection that records the beginning of HTTP/1 request heads.
    pub(super) struct HeadWatch<S> {
        #[pin]
        connection: S,
        scan: FramingScan,
        activity: Arc<Activity>,
    }
}

impl Watched {
    pub(super) fn new(socket: TcpStream, unread: Bytes, activity: Arc<Activity>) -> Self {
        Self { socket, unread, activity }
    }

    /// Queries the operating system for readable bytes, bypassing the readiness that the runtime caches.
    fn answer_probe(&self) {
        let mut byte = [MaybeUninit::<u8>::uninit(); 1];
        match SockRef::from(&self.socket).peek(&mut byte) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => self.activity.set_probe(Probe::Empty),
            // The runtime is about to receive the event and wake the connection.
            _ => {
                self.activity.set_probe(Probe::None);
                self.activity.note_read();
            }
        }
    }
}

impl Transport for Watched {
    fn into_parts(self, unread: &[u8]) -> TransportParts {
        // A copy, because even an empty slice would keep the library's whole read buffer for as long as a stream lives.
        let unread = Bytes::from([unread, &self.unread].concat());
        TransportParts { socket: self.socket, unread, session: None }
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        if !self.unread.is_empty() {
            let count = self.unread.len().min(buffer.remaining());
            buffer.put_slice(&self.unread[..count]);
            self.unread.advance(count);
            self.activity.note_read();
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.socket).poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.activity.note_read();
        } else if let Poll::Ready(Err(error)) = &read {
            note_error(&self.activity, error);
        } else if read.is_pending() && self.activity.probe() == Probe::Wanted {
            self.answer_probe();
        }
        read
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write(context, bytes);
        note_write(&self.activity, &written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write_vectored(context, slices);
        note_write(&self.activity, &written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        let flushed = Pin::new(&mut self.socket).poll_flush(context);
        if matches!(flushed, Poll::Ready(Ok(()))) {
            self.activity.note_flushed();
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}

fn note_write(activity: &Activity, written: &Poll<std::io::Result<usize>>) {
    match written {
        Poll::Pending => activity.note_blocked(),
        Poll::Ready(Ok(_)) => activity.note_written(),
        Poll::Ready(Err(error)) => note_error(activity, error),
    }
}

/// Records an abort by the kernel, which has a deadline of its own for bytes that the client does not acknowledge.
fn note_error(activity: &Activity, error: &std::io::Error) {
    if error.kind() == ErrorKind::TimedOut {
        activity.set_cut();
    }
}

impl<S> HeadWatch<S> {
    pub(super) fn new(connection: S, activity: Arc<Activity>) -> Self {
        Self { connection, scan: FramingScan::default(), activity }
    }

    pub(super) fn into_inner(self) -> S {
        self.connection
    }
}

impl<S: AsyncRead> AsyncRead for HeadWatch<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let this = self.project();
        let before = buffer.filled().len();
        let read = this.connection.poll_read(context, buffer);
        let bytes = &buffer.filled()[before..];
        if !bytes.is_empty() && !this.activity.has_requests() {
            if this.activity.note_head() {
                *this.scan = FramingScan::default();
            }
            this.scan.read(bytes);
            this.activity.set_two_lengths(this.scan.has_two_lengths());
        }
        read
    }
}

impl<S: AsyncWrite> AsyncWrite for HeadWatch<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        self.project().connection.poll_write(context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        self.project().connection.poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.connection.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        self.project().connection.poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        self.project().connection.poll_shutdown(context)
    }
}
