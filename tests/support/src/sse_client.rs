//! An SSE client that reads a stream byte by byte, and is stricter than any SDK.
//!
//! It accepts only what the protocol uses: `event: NAME`, one `data: ` line, an empty line; or a comment. Anything
//! else, such as `id:`, `retry:` or a carriage return, fails the test.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use crate::connection::{Connection, Framing, Head};
use crate::http_client::Call;

/// An open stream.
pub struct SseClient {
    connection: Connection,
    head: Head,
    framing: Framing,
    /// Decoded bytes that have not been parsed yet.
    unread: BytesMut,
    /// The chunks of the body as received, so that tests can check their boundaries.
    chunks: Vec<Bytes>,
    has_ended: bool,
    /// The text that ends a comment.
    comment_end: &'static str,
}

/// One item of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StreamItem {
    /// An event.
    Event {
        /// After `event: `.
        name: String,
        /// After `data: `.
        data: String,
    },
    /// A comment, used for heartbeats; its text.
    Comment(String),
    /// The response ended regularly, with its last chunk.
    End,
    /// The connection ended within the response.
    Cut,
}

impl SseClient {
    /// Sends a request and reads the head of the response, of any status.
    ///
    /// # Panics
    /// When there is no response.
    pub async fn open(address: SocketAddr, call: &Call) -> Self {
        Self::open_on(Connection::open(address).await, call).await
    }

    /// Like [`Self::open`], on an open connection.
    ///
    /// # Panics
    /// When there is no response.
    pub async fn open_on(mut connection: Connection, call: &Call) -> Self {
        connection.sends(call.bytes()).await;
        Self::read(connection, call).await
    }

    /// Like [`Self::open_on`], when the request has been sent already.
    ///
    /// # Panics
    /// When there is no response.
    pub async fn read(mut connection: Connection, call: &Call) -> Self {
        let head = connection.head().await.unwrap_or_else(|| panic!("no answer to {call}"));
        let framing = head.framing(call.method());
        let (unread, chunks) = (BytesMut::new(), Vec::new());
        Self { connection, head, framing, unread, chunks, has_ended: false, comment_end: "\n" }
    }

    /// Expects an empty line after each comment, as written by Harness.
    #[must_use]
    pub fn with_framed_comments(mut self) -> Self {
        self.comment_end = "\n\n";
        self
    }

    /// Returns the head of the response.
    #[must_use]
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// Returns the chunks of the body so far, without their size lines.
    #[must_use]
    pub fn chunks(&self) -> &[Bytes] {
        &self.chunks
    }

    /// Returns the connection, to send another request on it when the stream has ended.
    #[must_use]
    pub fn into_connection(self) -> Connection {
        self.connection
    }

    /// Returns the next item.
    ///
    /// # Panics
    /// When nothing arrives within the time limit, or something that the protocol does not allow.
    pub async fn next(&mut self) -> StreamItem {
        loop {
            if let Some(received) = self.parse() {
                return received;
            }
            if self.has_ended {
                assert!(self.unread.is_empty(), "the stream ended within an event: {:?}", self.unread);
                return StreamItem::End;
            }
            let bytes = match self.framing {
                Framing::Chunked => {
                    let Some(chunk) = self.connection.chunk().await else { return StreamItem::Cut };
                    self.has_ended = chunk.is_empty();
                    chunk
                }
                Framing::UntilClose => {
                    let bytes = self.connection.some().await;
                    self.has_ended = bytes.is_empty();
                    bytes
                }
                Framing::Nothing | Framing::Length(_) => panic!("no stream, but {:?}", self.head),
            };
            if !bytes.is_empty() {
                self.unread.extend_from_slice(&bytes);
                self.chunks.push(bytes);
            }
        }
    }

    /// Returns the next item if it arrives within `limit`.
    ///
    /// # Panics
    /// When something arrives that the protocol does not allow.
    pub async fn next_within(&mut self, limit: Duration) -> Option<StreamItem> {
        // Dropping the wait loses nothing: received bytes stay in the buffers.
        tokio::time::timeout(limit, self.next()).await.ok()
    }

    fn parse(&mut self) -> Option<StreamItem> {
        let text = std::str::from_utf8(&self.unread).ok()?;
        if let Some(rest) = text.strip_prefix(':') {
            let comment = rest.split_once(self.comment_end)?.0.to_owned();
            let _ = self.unread.split_to(1 + comment.len() + self.comment_end.len());
            assert!(!comment.contains(['\r', '\n']), "more than a comment: {comment:?}");
            return Some(StreamItem::Comment(comment));
        }
        let event = text.split_once("\n\n")?.0.to_owned();
        let _ = self.unread.split_to(event.len() + 2);
        assert!(!event.contains('\r'), "a carriage return: {event:?}");
        let parts = event.strip_prefix("event: ").and_then(|it| it.split_once("\ndata: "));
        let (name, data) = parts.unwrap_or_else(|| panic!("not `event: …`, `data: …`: {event:?}"));
        assert!(!name.contains('\n') && !data.contains('\n'), "more lines than two: {event:?}");
        Some(StreamItem::Event { name: name.to_owned(), data: data.to_owned() })
    }
}
