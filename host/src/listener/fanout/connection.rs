//! One stream of a fan-out thread: its unwritten bytes, and the bytes that the client sends meanwhile.

use std::io::{ErrorKind, Read, Write};

use bytes::{Buf, Bytes};
use mio::net::TcpStream;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::Instant;
use yardarm_core::registry::EndReason;
use yardarm_core::stream::OpenStream;
use yardarm_core::supervisor::fault_point;

use super::{AfterStream, ReturnedConnection, StreamHandoff};
use crate::listener::tls::TlsSession;

/// End of a chunked body.
pub(super) const LAST_CHUNK: Bytes = Bytes::from_static(b"0\r\n\r\n");
/// Most bytes of an unread request body that are discarded; a client that sends more is disconnected.
const MAX_DISCARDED: u32 = 4 << 20;

/// One stream.
pub(super) struct Connection {
    pub(super) socket: TcpStream,
    /// Keys and state of TLS, and at most one record that the socket has not accepted; `None` in plain text.
    session: Option<Box<TlsSession>>,
    pub(super) stream: OpenStream,
    /// Bytes that the socket has not accepted or, over TLS, that are not encrypted yet: a slice of bytes that all
    /// streams share.
    unsent: Bytes,
    /// Distinguishes streams that used the same token one after the other.
    pub(super) identity: u64,
    /// Key of the source, and the index in its group.
    pub(super) group: usize,
    pub(super) position: usize,
    /// When the socket last stopped accepting bytes; `None` while it accepts them.
    pub(super) blocked_since: Option<Instant>,
    is_ending: bool,
    after: AfterStream,
    /// Bytes of the client that were discarded.
    discarded: u32,
    peer: std::net::SocketAddr,
    permit: OwnedSemaphorePermit,
    unread: Bytes,
    returning: mpsc::Sender<ReturnedConnection>,
}

/// The state of a stream after writing.
#[derive(PartialEq, Eq)]
pub(super) enum State {
    Open,
    Ended,
    Broken,
}

impl Connection {
    /// Creates the connection of a stream; the caller sets its index in its group.
    pub(super) fn new(handoff: StreamHandoff, identity: u64, group: usize) -> Self {
        let StreamHandoff { socket, session, stream, peer, permit, unread, after, returning } = handoff;
        let socket = TcpStream::from_std(socket);
        let position = 0;
        let unread = if after == AfterStream::Serve { unread } else { Bytes::new() };
        let (blocked_since, is_ending, discarded, unsent) = (None, false, 0, Bytes::new());
        Self {
            socket,
            session,
            stream,
            unsent,
            identity,
            group,
            position,
            blocked_since,
            is_ending,
            after,
            discarded,
            peer,
            permit,
            unread,
            returning,
        }
    }

    pub(super) fn is_blocked(&self) -> bool {
        self.blocked_since.is_some()
    }

    /// Writes until nothing is left or the socket is full.
    pub(super) fn write(&mut self, written: &mut u64) -> State {
        fault_point("fan-out stream");
        let before = *written;
        loop {
            while !self.unsent.is_empty() || self.wants_flush() {
                match self.send(written) {
                    Ok(()) => (),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        if *written > before || self.blocked_since.is_none() {
                            self.blocked_since = Some(Instant::now());
                        }
                        return State::Open;
                    }
                    Err(error) if error.kind() == ErrorKind::Interrupted => (),
                    Err(error) => {
                        if error.kind() == ErrorKind::TimedOut {
                            self.stream.end(EndReason::Unresponsive);
                        }
                        return State::Broken;
                    }
                }
            }
            self.blocked_since = None;
            if self.is_ending {
                // A connection that serves no other request says that its end is not an interruption.
                let is_last = self.after != AfterStream::Serve;
                if !self.session.as_mut().is_some_and(|session| is_last && session.close()) {
                    return State::Ended;
                }
            } else if self.stream.ending().is_some() {
                self.is_ending = true;
                self.unsent = LAST_CHUNK;
            } else if let Some(frame) = self.stream.next_frame() {
                self.unsent = frame.chunk().clone();
            } else {
                return State::Open;
            }
        }
    }

    /// Returns whether records of TLS wait for the socket.
    pub(super) fn wants_flush(&self) -> bool {
        self.session.as_ref().is_some_and(|it| it.has_unsent())
    }

    /// Sends a piece of what is unsent.
    fn send(&mut self, written: &mut u64) -> std::io::Result<()> {
        let Self { socket, session, unsent, .. } = self;
        let mut write = |bytes: &[u8]| match socket.write(bytes)? {
            0 => Err(ErrorKind::WriteZero.into()),
            count => {
                *written += count as u64;
                Ok(count)
            }
        };
        let count = match session {
            None => write(unsent)?,
            Some(session) if unsent.is_empty() => return session.flush(write),
            Some(session) => session.write(unsent, write)?,
        };
        unsent.advance(count);
        Ok(())
    }

    /// Reads what the client sends, if there is a need; returns whether the connection is over.
    pub(super) fn read(&mut self) -> bool {
        if self.session.is_none() {
            return self.discards_too_much();
        }
        let is_over = self.read_records();
        if is_over {
            self.flush_last();
        }
        is_over
    }

    /// Discards an unread request body; returns whether it is too long. If the connection will serve another request,
    /// that request is left in the socket.
    fn discards_too_much(&mut self) -> bool {
        if self.after != AfterStream::Discard {
            return false;
        }
        let mut ignored = [0; 4096];
        while self.discarded < MAX_DISCARDED {
            match self.socket.read(&mut ignored) {
                Ok(0) => return true,
                Ok(count) => self.discarded += u32::try_from(count).unwrap_or(MAX_DISCARDED),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
                Err(error) if error.kind() == ErrorKind::Interrupted => (),
                Err(_) => return true,
            }
        }
        true
    }

    /// Reads records until there is data of the client, which is kept or discarded as in plain text; returns whether
    /// the client closed the connection or broke the protocol.
    fn read_records(&mut self) -> bool {
        let Self { socket, session: Some(session), after, discarded, .. } = self else { return false };
        let mut records = [0; 4096];
        loop {
            if *after == AfterStream::Discard {
                session.consume(session.received().len());
            }
            if session.has_peer_closed() || *discarded >= MAX_DISCARDED {
                session.close();
                return true;
            }
            // Further bytes stay in the socket, as all of them do in plain text.
            if !session.received().is_empty() {
                return false;
            }
            match socket.read(&mut records) {
                Ok(0) => return true,
                Ok(count) => {
                    if session.receive(&mut records[..count]).is_err() {
                        return true;
                    }
                    if *after == AfterStream::Discard {
                        *discarded += u32::try_from(count).unwrap_or(MAX_DISCARDED);
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
                Err(error) if error.kind() == ErrorKind::Interrupted => (),
                Err(_) => return true,
            }
        }
    }

    /// Sends the last message of TLS as far as the socket accepts it; the connection ends in any case.
    fn flush_last(&mut self) {
        let Self { socket, session, .. } = self;
        if let Some(session) = session {
            let _ = session.flush(|bytes| socket.write(bytes));
        }
    }

    /// Returns the connection to the listener after the end of its stream, if it is still usable.
    pub(super) fn give_back(self) {
        if self.after == AfterStream::Close {
            return;
        }
        let is_reusable = self.after == AfterStream::Serve;
        let returned = ReturnedConnection {
            socket: self.socket.into(),
            session: self.session,
            peer: self.peer,
            permit: self.permit,
            unread: self.unread,
            is_reusable,
        };
        // Without a listener, or beyond the capacity, the connection is closed, which clients must expect at any time.
        if let Err(TrySendError::Closed(returned) | TrySendError::Full(returned)) = self.returning.try_send(returned) {
            returned.close();
        }
    }
}
