//! Decodes bytes into events, without I/O.

use std::collections::VecDeque;
use std::time::Duration;

use crate::{Event, EventKind};

/// Maximum size of an event, in bytes of its data, or of one of its other fields: 128 MiB.
pub const MAX_EVENT_SIZE: usize = 128 << 20;

/// Maximum length of an event ID in bytes: 4 KiB. Each event contains a copy, so a long ID would multiply the memory of
/// a stream of short events. A longer one resets the last event ID, like an empty one.
pub const MAX_ID_SIZE: usize = 4 << 10;

/// Maximum capacity of a buffer that is reused for the next line.
const KEPT_CAPACITY: usize = 4 << 10;
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// An event exceeds the limit. Decoding cannot continue after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventTooLarge {
    /// The limit, in bytes.
    pub limit: usize,
}

/// Decodes an event stream that arrives in pieces.
#[derive(Debug)]
pub struct Decoder {
    limit: usize,
    /// How many bytes of a byte order mark have arrived; `None` once it is known whether there is one.
    mark: Option<usize>,
    /// Whether the last byte was a carriage return, so that a following line feed belongs to it.
    after_return: bool,
    line: Line,
    /// The part of the unfinished line that has to be retained.
    buffer: Vec<u8>,
    /// Type of the event in progress.
    event_type: String,
    /// Data of the event in progress: each field followed by a line feed.
    data: Vec<u8>,
    /// Value of the last `id:` field, which takes effect once its block is complete.
    id: String,
    /// The last event ID.
    last_event_id: String,
    /// Reconnection time in the current block.
    retry: Option<Duration>,
    /// Length of the data when progress was last reported.
    reported: usize,
}

/// Classification of the unfinished line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    /// Not determined yet; the line is in the buffer.
    Unknown,
    /// A `data` field. The part of its value that has arrived is in `data` already.
    Data,
    /// Another standard field; the line is in the buffer.
    Field,
    /// A comment, whose text is ignored.
    Comment,
    /// An unknown field.
    Ignored,
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Decoder {
    /// Creates a decoder for a new connection, with a limit of [`MAX_EVENT_SIZE`].
    #[must_use]
    pub fn new() -> Self {
        Self::with_limit(MAX_EVENT_SIZE)
    }

    /// Creates a decoder with another limit on the size of an event, in bytes.
    #[must_use]
    pub fn with_limit(limit: usize) -> Self {
        Self {
            limit,
            mark: Some(0),
            after_return: false,
            line: Line::Unknown,
            buffer: Vec::new(),
            event_type: String::new(),
            data: Vec::new(),
            id: String::new(),
            last_event_id: String::new(),
            retry: None,
            reported: 0,
        }
    }

    /// Sets the last event ID, as it was at the end of the previous connection.
    pub fn set_last_event_id(&mut self, id: impl Into<String>) {
        self.last_event_id = id.into();
        self.id.clone_from(&self.last_event_id);
    }

    /// Returns the last event ID.
    #[must_use]
    pub fn last_event_id(&self) -> &str {
        &self.last_event_id
    }

    /// Decodes the next piece of the stream and appends the completed events to `events`. An event that is incomplete
    /// when the stream ends is discarded, so there is no call for the end.
    ///
    /// # Errors
    /// When an event exceeds the limit. The decoder must not be used afterwards.
    pub fn feed(&mut self, piece: &[u8], events: &mut VecDeque<Event>) -> Result<(), EventTooLarge> {
        let mut rest = self.strip_byte_order_mark(piece);
        while !rest.is_empty() {
            if std::mem::take(&mut self.after_return) && rest[0] == b'\n' {
                rest = &rest[1..];
                continue;
            }
            let Some(end) = memchr::memchr2(b'\n', b'\r', rest) else {
                self.extend_line(rest)?;
                break;
            };
            self.extend_line(&rest[..end])?;
            self.end_line(events)?;
            self.after_return = rest[end] == b'\r';
            rest = &rest[end + 1..];
        }
        if self.data.len() > self.reported {
            self.reported = self.data.len();
            events.push_back(self.event(EventKind::Progress));
        }
        Ok(())
    }

    /// Strips a byte order mark at the start of the stream, in whatever pieces it arrives.
    fn strip_byte_order_mark<'a>(&mut self, mut piece: &'a [u8]) -> &'a [u8] {
        while let (Some(arrived), Some(byte)) = (self.mark, piece.first()) {
            if BYTE_ORDER_MARK[arrived] != *byte {
                // The bytes were not a mark but the beginning of the first line.
                self.buffer.extend_from_slice(&BYTE_ORDER_MARK[..arrived]);
                self.mark = None;
            } else {
                piece = &piece[1..];
                self.mark = Some(arrived + 1).filter(|it| *it < BYTE_ORDER_MARK.len());
            }
        }
        piece
    }

    fn extend_line(&mut self, part: &[u8]) -> Result<(), EventTooLarge> {
        match self.line {
            Line::Data => self.extend_data(part),
            Line::Comment | Line::Ignored => Ok(()),
            Line::Unknown | Line::Field => {
                self.buffer.extend_from_slice(part);
                if self.line == Line::Unknown {
                    self.recognize()?;
                }
                self.check(self.buffer.len())
            }
        }
    }

    /// Classifies the line as early as possible, so that only the necessary part is retained.
    fn recognize(&mut self) -> Result<(), EventTooLarge> {
        let line = &self.buffer[..];
        // One more byte is needed to know whether a space follows, which is not part of the value.
        if let Some(value) = line.strip_prefix(b"data:").filter(|it| !it.is_empty()) {
            self.line = Line::Data;
            let value = value.strip_prefix(b" ").unwrap_or(value);
            self.data.extend_from_slice(value);
            self.clear_buffer();
            return self.check(self.data.len());
        }
        self.line = match line.first() {
            None => Line::Unknown,
            Some(b':') => Line::Comment,
            Some(_) if [&b"event:"[..], b"id:", b"retry:"].iter().any(|it| line.starts_with(it)) => Line::Field,
            Some(_) if [&b"data:"[..], b"event:", b"id:", b"retry:"].iter().any(|it| it.starts_with(line)) => {
                Line::Unknown
            }
            Some(_) => Line::Ignored,
        };
        if matches!(self.line, Line::Comment | Line::Ignored) {
            self.clear_buffer();
        }
        Ok(())
    }

    fn end_line(&mut self, events: &mut VecDeque<Event>) -> Result<(), EventTooLarge> {
        match std::mem::replace(&mut self.line, Line::Unknown) {
            Line::Data => self.extend_data(b"\n")?,
            Line::Comment => events.push_back(self.event(EventKind::Comment)),
            Line::Ignored => (),
            Line::Unknown if self.buffer.is_empty() => self.dispatch(events),
            Line::Unknown | Line::Field => {
                let line = std::mem::take(&mut self.buffer);
                self.field(&line, events)?;
                self.buffer = line;
                self.clear_buffer();
            }
        }
        Ok(())
    }

    /// Processes a complete line that is a field.
    fn field(&mut self, line: &[u8], events: &mut VecDeque<Event>) -> Result<(), EventTooLarge> {
        let (name, value) = match memchr::memchr(b':', line) {
            Some(colon) => (&line[..colon], &line[colon + 1..]),
            None => (line, &[][..]),
        };
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match name {
            b"data" => {
                self.extend_data(value)?;
                self.extend_data(b"\n")?;
            }
            b"event" => self.event_type = text(value.to_vec()),
            b"id" if value.len() > MAX_ID_SIZE => self.id.clear(),
            b"id" if !value.contains(&0) => self.id = text(value.to_vec()),
            b"retry" => {
                if let Some(time) = milliseconds(value) {
                    self.retry = Some(time);
                    // Takes effect at once, even if its block is never completed.
                    events.push_back(Event { retry: self.retry, ..self.event(EventKind::Settings) });
                }
            }
            _ => (),
        }
        Ok(())
    }

    /// Processes a blank line, which completes the block.
    fn dispatch(&mut self, events: &mut VecDeque<Event>) {
        let has_new_id = self.id != self.last_event_id;
        if has_new_id {
            self.last_event_id.clone_from(&self.id);
        }
        let event_type = std::mem::take(&mut self.event_type);
        let retry = self.retry.take();
        if self.data.is_empty() {
            if has_new_id {
                events.push_back(self.event(EventKind::Settings));
            }
            return;
        }
        let mut data = std::mem::take(&mut self.data);
        // The line feed after the last field.
        data.pop();
        self.reported = 0;
        let event = if event_type.is_empty() { "message".to_owned() } else { event_type };
        events.push_back(Event { event, data: text(data), retry, ..self.event(EventKind::Message) });
    }

    /// Creates an event without a message.
    fn event(&self, kind: EventKind) -> Event {
        Event { id: self.last_event_id.clone(), kind, ..Event::default() }
    }

    fn extend_data(&mut self, part: &[u8]) -> Result<(), EventTooLarge> {
        self.data.extend_from_slice(part);
        self.check(self.data.len())
    }

    fn check(&self, size: usize) -> Result<(), EventTooLarge> {
        if size > self.limit { Err(EventTooLarge { limit: self.limit }) } else { Ok(()) }
    }

    fn clear_buffer(&mut self) {
        if self.buffer.capacity() > KEPT_CAPACITY { self.buffer = Vec::new() } else { self.buffer.clear() }
    }
}

/// Converts bytes to text. Line ends are ASCII, so decoding field by field gives the same result as decoding the whole
/// stream.
fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

/// Parses digits only. A value that overflows becomes the maximum.
fn milliseconds(value: &[u8]) -> Option<Duration> {
    let is_number = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    let number = std::str::from_utf8(value).ok().filter(|_| is_number)?;
    Some(Duration::from_millis(number.parse().unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests;
