//! The bytes of server-sent events, framed once for everybody.

use bytes::Bytes;

/// A piece of a stream, shared by all who receive it.
///
/// Holds the bytes of the event between the size line and the line end of an HTTP/1.1 chunk, in one allocation:
/// a driver that writes sockets itself sends [`Frame::chunk`], one behind an HTTP library sends [`Frame::payload`].
#[derive(Clone, PartialEq, Eq)]
pub struct Frame {
    chunk: Bytes,
    /// Length of the size line in front of the payload.
    prefix: usize,
}

/// Room for the largest size line that is written: 16 hexadecimal digits and a line end.
const PREFIX: usize = 18;
const CHUNK_END: &[u8] = b"\r\n";

impl Frame {
    /// Frames what `write` appends.
    #[must_use]
    pub fn build(capacity: usize, write: impl FnOnce(&mut Vec<u8>)) -> Self {
        let mut buffer = Vec::with_capacity(PREFIX + capacity + CHUNK_END.len());
        buffer.resize(PREFIX, 0);
        write(&mut buffer);
        let line = format!("{:x}\r\n", buffer.len() - PREFIX);
        let start = PREFIX - line.len();
        buffer[start..PREFIX].copy_from_slice(line.as_bytes());
        buffer.extend_from_slice(CHUNK_END);
        // Frames are kept for as long as somebody may read them, so room that was not needed is given back.
        if buffer.capacity() > buffer.len() + buffer.len() / 8 + PREFIX {
            buffer.shrink_to_fit();
        }
        Self { chunk: Bytes::from(buffer).slice(start..), prefix: line.len() }
    }

    /// An event with a name and data. The data must not contain a line break; JSON never does.
    #[must_use]
    pub fn event(name: &str, capacity: usize, write_data: impl FnOnce(&mut Vec<u8>)) -> Self {
        Self::build(capacity + name.len() + 16, |buffer| write_event(name, buffer, write_data))
    }

    /// An empty comment, which keeps connections alive. Two bytes, no blank line after it, as ld-relay writes it.
    #[must_use]
    pub fn heartbeat() -> Self {
        Self { chunk: Bytes::from_static(b"2\r\n:\n\r\n"), prefix: 3 }
    }

    /// Nothing to write, and nothing after it: the stream ends. For protocols without a message that says everything.
    #[must_use]
    pub fn end() -> Self {
        Self { chunk: Bytes::new(), prefix: 0 }
    }

    /// Whether this is [`Frame::end`].
    #[must_use]
    pub fn is_end(&self) -> bool {
        self.chunk.is_empty()
    }

    /// The event as an HTTP library is to send it.
    #[must_use]
    pub fn payload(&self) -> Bytes {
        self.chunk.slice(self.prefix..self.chunk.len() - CHUNK_END.len())
    }

    /// The event as a chunk of an HTTP/1.1 body.
    #[must_use]
    pub fn chunk(&self) -> &Bytes {
        &self.chunk
    }
}

/// Appends an event to what a frame is built of; several that belong together are sent as one frame.
pub fn write_event(name: &str, buffer: &mut Vec<u8>, write_data: impl FnOnce(&mut Vec<u8>)) {
    buffer.extend_from_slice(b"event: ");
    buffer.extend_from_slice(name.as_bytes());
    buffer.extend_from_slice(b"\ndata: ");
    let data_start = buffer.len();
    write_data(buffer);
    debug_assert!(!buffer[data_start..].contains(&b'\n'), "data with a line break breaks the event");
    buffer.extend_from_slice(b"\n\n");
}

impl std::fmt::Debug for Frame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Frame({:?})", String::from_utf8_lossy(&self.payload()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_framed_once_for_both_ways_of_sending() {
        let frame = Frame::event("patch", 2, |data| data.extend_from_slice(b"{}"));
        assert_eq!(frame.payload(), "event: patch\ndata: {}\n\n");
        assert_eq!(frame.chunk(), "17\r\nevent: patch\ndata: {}\n\n\r\n");
    }

    #[test]
    fn a_heartbeat_is_two_bytes() {
        assert_eq!(Frame::heartbeat().payload(), ":\n");
        assert_eq!(Frame::heartbeat().chunk(), "2\r\n:\n\r\n");
    }

    #[test]
    fn the_end_is_no_event() {
        assert!(Frame::end().is_end() && Frame::end().chunk().is_empty());
        assert!(!Frame::heartbeat().is_end());
    }

    #[test]
    fn sizes_of_any_length_fit_the_size_line() {
        for size in [0, 1, 15, 16, 255, 256, 70_000] {
            let frame = Frame::build(size, |buffer| buffer.resize(buffer.len() + size, b'x'));
            assert_eq!(frame.payload().len(), size);
            assert!(frame.chunk().starts_with(format!("{size:x}\r\n").as_bytes()));
        }
    }
}
