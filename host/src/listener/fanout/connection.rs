//! One stream of a fan-out thread: its unwritten bytes, and the bytes that the client sends meanwhile.

use std::io::{ErrorKind, Read, Write};

use bytes::{Buf, Bytes};
use mio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::Instant;
use yardarm_core::registry::EndReason;
use yardarm_core::stream::OpenStream;
use yardarm_core::supervisor::fault_point;

use super::{AfterStream, ReturnedConnection, StreamHandoff};

/// End of a chunked body.
pub(super) const LAST_CHUNK: Bytes = Bytes::from_static(b"0\r\n\r\n");
/// Most bytes of an unread request body that are discarded; a client that sends more is disconnected.
const MAX_DISCARDED: u32 = 4 << 20;

/// One stream.
pub(super) struct Connection {
    pub(super) socket: TcpStream,
    pub(super) stream: OpenStream,
    /// Bytes that the socket has not accepted yet: a slice of bytes that all streams share.
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
        let StreamHandoff { socket, stream, peer, permit, unread, after, returning } = handoff;
        let socket = TcpStream::from_std(socket);
        let position = 0;
        let unread = if after == AfterStream::Serve { unread } else { Bytes::new() };
        let (blocked_since, is_ending, discarded, unsent) = (None, false, 0, Bytes::new());
        Self {
            socket,
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
        let mut has_progressed = false;
        loop {
            while !self.unsent.is_empty() {
                match self.socket.write(&self.unsent) {
                    Ok(0) => return State::Broken,
                    Ok(count) => {
                        *written += count as u64;
                        has_progressed = true;
                        self.unsent.advance(count);
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        if has_progressed || self.blocked_since.is_none() {
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
                return State::Ended;
            }
            if self.stream.ending().is_some() {
                self.is_ending = true;
                self.unsent = LAST_CHUNK;
            } else if let Some(frame) = self.stream.next_frame() {
                self.unsent = frame.chunk().clone();
            } else {
                return State::Open;
            }
        }
    }

    /// Discards an unread request body; returns whether it is too long. If the connection will serve another request,
    /// that request is left in the socket.
    pub(super) fn discards_too_much(&mut self) -> bool {
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

    /// Returns the connection to the listener after the end of its stream, if it is still usable.
    pub(super) fn give_back(self) {
        if self.after == AfterStream::Close {
            return;
        }
        let is_reusable = self.after == AfterStream::Serve;
        let ended = ReturnedConnection {
            socket: self.socket.into(),
            peer: self.peer,
            permit: self.permit,
            unread: self.unread,
            is_reusable,
        };
        // Without a listener, or beyond the capacity, the connection is closed, which clients must expect at any time.
        let _ = self.returning.try_send(ended);
    }
}
