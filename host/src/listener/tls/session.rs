//! One side of a TLS connection between its socket and its user, without buffers while it is idle.
//!
//! Rustls' unbuffered interface keeps keys and state of the protocol, and nothing else. This type adds the bytes in
//! transit: an incomplete record, received data that its user has not taken, and records that the socket has not
//! accepted. Each is freed as soon as it is empty. Tasks and fan-out threads use the same type, so that a connection
//! can move between them at any time.

use std::cell::RefCell;
use std::io::{Error, ErrorKind, Result};
use std::sync::Arc;

use tokio_rustls::rustls::server::{ServerConfig, ServerConnectionData, UnbufferedServerConnection};
use tokio_rustls::rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, UnbufferedStatus, WriteTraffic,
};
use tokio_rustls::rustls::{self, InvalidMessage};

/// Most data that is encrypted at once: the content of one record. A connection whose socket is full keeps at most
/// this much, encrypted.
pub(in crate::listener) const MAX_PIECE: usize = 16 << 10;
/// Most that rustls adds to that: the frame of a record, and an answer to an update of keys before it.
const MAX_OVERHEAD: usize = 512;
/// Most bytes of incomplete records: a handshake message may be distributed over several.
const MAX_INCOMPLETE: usize = 96 << 10;

thread_local! {
    /// Space to encrypt into, one per thread.
    static RECORDS: RefCell<Vec<u8>> = RefCell::new(vec![0; MAX_PIECE + MAX_OVERHEAD]);
}

/// The server's side of a TLS connection.
pub(in crate::listener) struct TlsSession {
    connection: UnbufferedServerConnection,
    /// Received bytes that are not a complete record yet.
    incomplete: Vec<u8>,
    /// Received data that has not been taken.
    received: Vec<u8>,
    /// Records that the socket has not accepted, from the index `sent` on.
    unsent: Vec<u8>,
    sent: usize,
    has_peer_closed: bool,
    has_closed: bool,
    /// Set after an error, after which rustls must not be called any more.
    is_broken: bool,
}

impl TlsSession {
    /// Creates the session of a connection that begins with a handshake.
    pub(super) fn new(config: Arc<ServerConfig>) -> std::result::Result<Self, rustls::Error> {
        Ok(Self {
            connection: UnbufferedServerConnection::new(config)?,
            incomplete: Vec::new(),
            received: Vec::new(),
            unsent: Vec::new(),
            sent: 0,
            has_peer_closed: false,
            has_closed: false,
            is_broken: false,
        })
    }

    pub(super) fn is_handshaking(&self) -> bool {
        self.connection.is_handshaking()
    }

    /// Returns the protocol that the handshake has selected.
    pub(super) fn alpn_protocol(&self) -> Option<&[u8]> {
        self.connection.alpn_protocol()
    }

    /// Returns whether the client has announced that it sends nothing more.
    pub(in crate::listener) fn has_peer_closed(&self) -> bool {
        self.has_peer_closed
    }

    /// Returns whether records wait for the socket.
    pub(in crate::listener) fn has_unsent(&self) -> bool {
        self.sent < self.unsent.len()
    }

    /// Returns the received data that has not been taken.
    pub(in crate::listener) fn received(&self) -> &[u8] {
        &self.received
    }

    /// Removes data from the front of what was received.
    pub(in crate::listener) fn consume(&mut self, count: usize) {
        self.received.drain(..count);
        if self.received.is_empty() {
            self.received = Vec::new();
        }
    }

    /// Puts data that was taken back in front of what was received since.
    pub(in crate::listener) fn put_back(&mut self, data: &[u8]) {
        self.received.splice(..0, data.iter().copied());
    }

    /// Processes bytes of the socket, which are overwritten. Data becomes available in [`Self::received`]; answers of
    /// the protocol are sent by the next [`Self::flush`], an alert after an error too.
    ///
    /// # Errors
    /// When the bytes break the protocol.
    pub(in crate::listener) fn receive(&mut self, bytes: &mut [u8]) -> std::result::Result<(), rustls::Error> {
        if self.incomplete.is_empty() {
            let (used, result) = self.process(bytes, |_| ());
            self.incomplete = bytes[used..].to_vec();
            result?;
        } else {
            self.incomplete.extend_from_slice(bytes);
            self.process_incomplete(|_| ())?;
        }
        if self.incomplete.len() > MAX_INCOMPLETE {
            self.is_broken = true;
            return Err(InvalidMessage::HandshakePayloadTooLarge.into());
        }
        Ok(())
    }

    /// Encrypts the beginning of `data` and passes it to `send`, after everything that is unsent. Returns the length of
    /// that beginning; what the socket did not accept of it is kept.
    ///
    /// # Errors
    /// `WouldBlock` if the socket accepts nothing, and nothing was encrypted then; other errors end the connection.
    pub(in crate::listener) fn write(
        &mut self,
        data: &[u8],
        mut send: impl FnMut(&[u8]) -> Result<usize>,
    ) -> Result<usize> {
        self.flush(&mut send)?;
        let piece = &data[..data.len().min(MAX_PIECE)];
        RECORDS.with_borrow_mut(|records| {
            let mut encrypted = Err(EncryptError::EncryptExhausted);
            let processed = self.process_incomplete(|mut traffic| encrypted = traffic.encrypt(piece, records));
            processed.map_err(invalid)?;
            let length = encrypted.map_err(Error::other)?;
            // What the protocol has to send comes first. From here on, nothing may be lost.
            match self.flush(&mut send) {
                Err(error) if !is_temporary(&error) => Err(error),
                _ => self.send_or_keep(&records[..length], send),
            }
        })?;
        Ok(piece.len())
    }

    /// Sends what is unsent.
    ///
    /// # Errors
    /// `WouldBlock` if the socket does not accept everything; other errors end the connection.
    pub(in crate::listener) fn flush(&mut self, mut send: impl FnMut(&[u8]) -> Result<usize>) -> Result<()> {
        while self.has_unsent() {
            self.sent += accepted(send(&self.unsent[self.sent..]))?;
        }
        if !self.unsent.is_empty() {
            (self.unsent, self.sent) = (Vec::new(), 0);
        }
        Ok(())
    }

    /// Announces that nothing more is sent, by the next [`Self::flush`]; returns whether it was not announced before.
    pub(in crate::listener) fn close(&mut self) -> bool {
        if std::mem::replace(&mut self.has_closed, true) {
            return false;
        }
        let mut alert = [0; MAX_OVERHEAD];
        let mut length = 0;
        // After an error, the alert was the last message.
        let _ = self.process_incomplete(|mut traffic| length = traffic.queue_close_notify(&mut alert).unwrap_or(0));
        self.unsent.extend_from_slice(&alert[..length]);
        length > 0
    }

    fn send_or_keep(&mut self, mut records: &[u8], mut send: impl FnMut(&[u8]) -> Result<usize>) -> Result<()> {
        while !records.is_empty() && !self.has_unsent() {
            match accepted(send(records)) {
                Ok(count) => records = &records[count..],
                Err(error) if is_temporary(&error) => break,
                Err(error) => return Err(error),
            }
        }
        self.unsent.extend_from_slice(records);
        Ok(())
    }

    fn process_incomplete(
        &mut self,
        act: impl FnOnce(WriteTraffic<'_, ServerConnectionData>),
    ) -> std::result::Result<(), rustls::Error> {
        // Rustls may have noted positions in these bytes, so they are the ones to continue with.
        let mut records = std::mem::take(&mut self.incomplete);
        let (used, result) = self.process(&mut records, act);
        if used < records.len() {
            records.drain(..used);
            self.incomplete = records;
        }
        result
    }

    /// Lets rustls process records until it needs more of them, and calls `act` if data may be sent then. Returns the
    /// number of bytes that are done with.
    fn process(
        &mut self,
        records: &mut [u8],
        act: impl FnOnce(WriteTraffic<'_, ServerConnectionData>),
    ) -> (usize, std::result::Result<(), rustls::Error>) {
        if self.is_broken {
            return (records.len(), Err(rustls::Error::General("the session has ended by an error".to_owned())));
        }
        let mut used = 0;
        loop {
            let UnbufferedStatus { mut discard, state } = self.connection.process_tls_records(&mut records[used..]);
            match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(Ok(record)) = traffic.next_record() {
                        discard += record.discard;
                        self.received.extend_from_slice(record.payload);
                    }
                }
                Ok(ConnectionState::EncodeTlsData(mut message)) => encode(&mut message, &mut self.unsent),
                Ok(ConnectionState::TransmitTlsData(messages)) => messages.done(),
                Ok(ConnectionState::PeerClosed) => self.has_peer_closed = true,
                Ok(ConnectionState::BlockedHandshake | ConnectionState::Closed) => return (used + discard, Ok(())),
                Ok(ConnectionState::WriteTraffic(traffic)) => {
                    act(traffic);
                    return (used + discard, Ok(()));
                }
                // Early data is not enabled, and there are no other states.
                state => {
                    let unexpected = || rustls::Error::General("unexpected state".to_owned());
                    let error = state.err().unwrap_or_else(unexpected);
                    self.end_broken(&mut records[used..]);
                    return (records.len(), Err(error));
                }
            }
            used += discard;
        }
    }

    /// Takes the alert that rustls has for the client after an error in `records`.
    fn end_broken(&mut self, records: &mut [u8]) {
        self.is_broken = true;
        let UnbufferedStatus { state, .. } = self.connection.process_tls_records(records);
        if let Ok(ConnectionState::EncodeTlsData(mut alert)) = state {
            encode(&mut alert, &mut self.unsent);
        }
    }
}

fn encode(message: &mut EncodeTlsData<'_, ServerConnectionData>, unsent: &mut Vec<u8>) {
    let start = unsent.len();
    if let Err(EncodeError::InsufficientSize(size)) = message.encode(&mut []) {
        unsent.resize(start + size.required_size, 0);
        // Cannot fail: the size is the required one.
        let _ = message.encode(&mut unsent[start..]);
    }
}

/// Treats a socket that accepts nothing without an error as closed.
fn accepted(result: Result<usize>) -> Result<usize> {
    match result {
        Ok(0) => Err(ErrorKind::WriteZero.into()),
        other => other,
    }
}

/// Returns whether the socket may accept the same bytes later.
fn is_temporary(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

/// Converts an error of the protocol.
pub(super) fn invalid(error: rustls::Error) -> Error {
    Error::new(ErrorKind::InvalidData, error)
}

#[cfg(test)]
mod tests;
