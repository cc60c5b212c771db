//! The bytes of server-sent events, framed once for all receivers.

use bytes::Bytes;

/// A piece of a stream, shared by all receivers.
///
/// Holds the event with the size line and line end of an HTTP/1.1 chunk around it, in one allocation: a driver that
/// writes to sockets itself sends [`Frame::chunk`], one behind an HTTP library sends [`Frame::payload`].
#[derive(Clone, PartialEq, Eq)]
pub struct Frame {
    chunk: Bytes,
    /// Length of the size line in front of the payload.
    prefix: usize,
}

/// Space for the longest size line: 16 hexadecimal digits and a line end.
const PREFIX: usize = 18;
const CHUNK_END: &[u8] = b"\r\n";

impl Frame {
    /// Creates a frame of what `write` appends.
    #[must_use]
    pub fn build(capacity: usize, write: impl FnOnce(&mut Vec<u8>)) -> Self {
        let mut buffer = Vec::with_capacity(PREFIX + capacity + CHUNK_END.len());
        buffer.resize(PREFIX, 0);
        write(&mut buffer);
        let line = format!("{:x}\r\n", buffer.len() - PREFIX);
        let start = PREFIX - line.len();
        buffer[start..PREFIX].copy_from_slice(line.as_bytes());
        buffer.extend_from_slice(CHUNK_END);
        // Frames are retained as long as a stream may need them, so unused capacity is released.
        if buffer.capacity() > buffer.len() + buffer.len() / 8 + PREFIX {
            buffer.shrink_to_fit();
        }
        Self { chunk: Bytes::from(buffer).slice(start..), prefix: line.len() }
    }

    /// Creates an event with a name and data. The data must not contain a line break; JSON never does.
    #[must_use]
    pub fn event(name: &str, capacity: usize, write_data: impl FnOnce(&mut Vec<u8>)) -> Self {
        Self::build(capacity + name.len() + 16, |buffer| write_event(name, buffer, write_data))
    }

    /// Creates an empty comment, which keeps connections alive. Two bytes without a blank line, as written by ld-relay.
    #[must_use]
    pub fn heartbeat() -> Self {
        Self { chunk: Bytes::from_static(b"2\r\n:\n\r\n"), prefix: 3 }
    }

    /// Creates the frame that ends a stream. For protocols without a message that contains the full data.
    #[must_use]
    pub fn end() -> Self {
        Self { chunk: Bytes::new(), prefix: 0 }
    }

    /// Returns whether this is [`Frame::end`].
    #[must_use]
    pub fn is_end(&self) -> bool {
        self.chunk.is_empty()
    }

    /// Returns the event as sent through an HTTP library.
    #[must_use]
    pub fn payload(&self) -> Bytes {
        self.chunk.slice(self.prefix..self.chunk.len() - CHUNK_END.len())
    }

    /// Returns the event as a chunk of an HTTP/1.1 body.
    #[must_use]
    pub fn chunk(&self) -> &Bytes {
        &self.chunk
    }
}

/// Appends an event to the buffer of a frame; several related events are sent as one frame.
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
    fn the_end_frame_has_no_event() {
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
