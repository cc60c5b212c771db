//! A TLS connection as the HTTP library reads and writes it.

use std::future::poll_fn;
use std::io::{ErrorKind, IoSlice, Result};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::rustls::server::ServerConfig;

use super::session::{MAX_PIECE, TlsSession, invalid};
use crate::listener::watched::{Transport, TransportParts, Watched};

/// Most bytes that are read from the socket at once.
const READ_SIZE: usize = 16 << 10;
/// A slice of this length is encrypted without what follows it.
const LONG_SLICE: usize = 4 << 10;

/// A socket with a TLS session.
pub(in crate::listener) struct TlsStream {
    socket: Watched,
    session: Box<TlsSession>,
}

impl TlsStream {
    /// Performs the server's side of a handshake.
    pub(super) async fn accept(config: Arc<ServerConfig>, socket: Watched) -> Result<Self> {
        let session = Box::new(TlsSession::new(config).map_err(invalid)?);
        let mut this = Self { socket, session };
        poll_fn(|context| this.poll_handshake(context)).await?;
        Ok(this)
    }

    /// Continues a connection whose session has left [`Transport::into_parts`].
    pub(in crate::listener) fn resume(socket: Watched, session: Box<TlsSession>) -> Self {
        Self { socket, session }
    }

    /// Returns the protocol that the handshake has selected.
    pub(super) fn alpn_protocol(&self) -> Option<&[u8]> {
        self.session.alpn_protocol()
    }

    fn poll_handshake(&mut self, context: &mut Context<'_>) -> Poll<Result<()>> {
        loop {
            ready!(self.poll_unsent(context))?;
            if !self.session.is_handshaking() {
                return Poll::Ready(Ok(()));
            }
            if self.session.has_peer_closed() {
                return Poll::Ready(Err(ErrorKind::UnexpectedEof.into()));
            }
            ready!(self.poll_records(context))?;
        }
    }

    /// Reads from the socket once; an error of the protocol is answered by its alert, as far as the socket accepts it.
    fn poll_records(&mut self, context: &mut Context<'_>) -> Poll<Result<()>> {
        let mut space = [MaybeUninit::uninit(); READ_SIZE];
        let mut records = ReadBuf::uninit(&mut space);
        ready!(Pin::new(&mut self.socket).poll_read(context, &mut records))?;
        if records.filled().is_empty() {
            return Poll::Ready(Err(ErrorKind::UnexpectedEof.into()));
        }
        let received = self.session.receive(records.filled_mut());
        if received.is_err() {
            let _ = self.poll_unsent(context);
        }
        Poll::Ready(received.map_err(invalid))
    }

    fn poll_unsent(&mut self, context: &mut Context<'_>) -> Poll<Result<()>> {
        let Self { socket, session } = self;
        poll(session.flush(|bytes| blocking(Pin::new(&mut *socket).poll_write(context, bytes))))
    }
}

impl Transport for TlsStream {
    fn into_parts(self, unread: &[u8]) -> TransportParts {
        let Self { socket, mut session } = self;
        session.put_back(unread);
        let TransportParts { socket, unread, .. } = socket.into_parts(&[]);
        // Bytes from before the handshake that were not needed for it. An error in them shows again later.
        let _ = session.receive(&mut unread.to_vec());
        TransportParts { socket, unread: Bytes::new(), session: Some(session) }
    }
}

impl AsyncRead for TlsStream {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        while self.session.received().is_empty() {
            if self.session.has_peer_closed() {
                return Poll::Ready(Ok(()));
            }
            ready!(self.poll_records(context))?;
            // Answers of the protocol. If the socket is full, they are sent before the next data.
            if let Poll::Ready(Err(error)) = self.poll_unsent(context) {
                return Poll::Ready(Err(error));
            }
        }
        let count = self.session.received().len().min(buffer.remaining());
        buffer.put_slice(&self.session.received()[..count]);
        self.session.consume(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for TlsStream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        let Self { socket, session } = &mut *self;
        poll(session.write(bytes, |records| blocking(Pin::new(&mut *socket).poll_write(context, records))))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        let first = slices.iter().find(|it| !it.is_empty()).map_or(&[][..], |it| &it[..]);
        let total: usize = slices.iter().map(|it| it.len()).sum();
        if first.len() >= LONG_SLICE || first.len() == total {
            return self.poll_write(context, first);
        }
        // Short slices share a record, so that a head and its body, or frames of HTTP/2, are sent together.
        let mut piece = Vec::with_capacity(total.min(MAX_PIECE));
        for slice in slices {
            let room = MAX_PIECE - piece.len();
            piece.extend_from_slice(&slice[..slice.len().min(room)]);
        }
        self.poll_write(context, &piece)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        ready!(self.poll_unsent(context))?;
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        self.session.close();
        ready!(self.poll_unsent(context))?;
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}

fn blocking(written: Poll<Result<usize>>) -> Result<usize> {
    match written {
        Poll::Ready(result) => result,
        Poll::Pending => Err(ErrorKind::WouldBlock.into()),
    }
}

fn poll<T>(result: Result<T>) -> Poll<Result<T>> {
    match result {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Poll::Pending,
        other => Poll::Ready(other),
    }
}
