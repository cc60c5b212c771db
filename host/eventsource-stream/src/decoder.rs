//! From bytes to events, without input and output.

use std::collections::VecDeque;
use std::time::Duration;

use crate::{Event, EventKind};

/// Largest event, in bytes of its data, or of one of its other fields: 128 MiB.
pub const MAX_EVENT_SIZE: usize = 128 << 20;

/// Longest event ID that is kept, in bytes: 4 KiB. Each event carries a copy, so a long ID would multiply what a stream
/// of short events takes. A longer one resets the last event ID, as an empty one does.
pub const MAX_ID_SIZE: usize = 4 << 10;

/// Capacity of a buffer that is worth keeping for the next line.
const KEPT_CAPACITY: usize = 64 << 10;
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// An event is larger than the decoder accepts. Nothing can be decoded after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventTooLarge {
    /// The limit, in bytes.
    pub limit: usize,
}

/// Decodes an event stream that arrives in pieces.
#[derive(Debug)]
pub struct Decoder {
    limit: usize,
    /// How much of a byte order mark has arrived; `None` once it is known whether there is one.
    mark: Option<usize>,
    /// The last byte was a carriage return, so that a line feed which follows belongs to it.
    after_return: bool,
    line: Line,
    /// The unfinished line, as far as it must be kept.
    buffer: Vec<u8>,
    /// Type of the event that is being received.
    event_type: String,
    /// Data of the event that is being received: each field with a line feed behind it.
    data: Vec<u8>,
    /// Value of the last `id:` field, which counts once its block is complete.
    id: String,
    /// The last event ID.
    last_event_id: String,
    /// Reconnection time in the block that is being received.
    retry: Option<Duration>,
    /// Length of the data when progress was reported last.
    reported: usize,
}

/// What the unfinished line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    /// It can still become anything; it is in the buffer.
    Unknown,
    /// A `data` field. What has arrived of its value is in `data` already.
    Data,
    /// Another field that the standard knows; it is in the buffer.
    Field,
    /// A comment, whose text does not matter.
    Comment,
    /// A field that the standard does not know.
    Ignored,
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Decoder {
    /// A decoder for a new connection, with a limit of [`MAX_EVENT_SIZE`].
    #[must_use]
    pub fn new() -> Self {
        Self::with_limit(MAX_EVENT_SIZE)
    }

    /// The same with another limit on the size of an event, in bytes.
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

    /// Sets the last event ID, as it was at the end of the connection before.
    pub fn set_last_event_id(&mut self, id: impl Into<String>) {
        self.last_event_id = id.into();
        self.id.clone_from(&self.last_event_id);
    }

    /// The last event ID.
    #[must_use]
    pub fn last_event_id(&self) -> &str {
        &self.last_event_id
    }

    /// Takes the next piece of the stream and appends what it completes to `events`. What is unfinished when the stream
    /// ends is discarded, so that there is nothing to do at its end.
    ///
    /// # Errors
    /// When an event is larger than the limit. The decoder must not be used any more then.
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

    /// A byte order mark counts once, at the start, whatever the pieces in which it arrives.
    fn strip_byte_order_mark<'a>(&mut self, mut piece: &'a [u8]) -> &'a [u8] {
        while let (Some(arrived), Some(byte)) = (self.mark, piece.first()) {
            if BYTE_ORDER_MARK[arrived] != *byte {
                // What looked like a mark is the beginning of the first line.
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

    /// Decides as soon as possible what the line is, so that only what is needed is kept.
    fn recognize(&mut self) -> Result<(), EventTooLarge> {
        let line = &self.buffer[..];
        // It takes one more byte to know whether a space follows, which does not belong to the value.
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

    /// Takes a complete line that is a field.
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
                    // Takes effect at once, also if its block is never completed.
                    events.push_back(Event { retry: self.retry, ..self.event(EventKind::Settings) });
                }
            }
            _ => (),
        }
        Ok(())
    }

    /// A blank line: the block is complete.
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
        // The line feed behind the last field.
        data.pop();
        self.reported = 0;
        let event = if event_type.is_empty() { "message".to_owned() } else { event_type };
        events.push_back(Event { event, data: text(data), retry, ..self.event(EventKind::Message) });
    }

    /// An event without a message.
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

/// Bytes as text. Line ends are ASCII, so that decoding field by field gives what decoding the whole stream would.
fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

/// Only digits count. What does not fit is the longest time that there is.
fn milliseconds(value: &[u8]) -> Option<Duration> {
    let is_number = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    let number = std::str::from_utf8(value).ok().filter(|_| is_number)?;
    Some(Duration::from_millis(number.parse().unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests;
