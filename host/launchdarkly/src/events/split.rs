//! Splits a post into events, piece by piece. An event that cannot be forwarded is dropped alone.

mod nesting;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use memchr::memchr2;
use serde_json::value::RawValue;
use yardarm_core::budget::{Account, Charge, SteppedCharge};
use yardarm_core::hooks::Event;

use self::nesting::Nesting;
use super::envelope::event_of;

/// Events of one post. No SDK sends as many; further ones are dropped and counted.
pub(crate) const MAX_EVENTS: usize = 100_000;
/// Bytes of one event.
pub(crate) const MAX_EVENT_BYTES: usize = 4 << 20;
/// Approximate memory of an event besides its text: handles and an allocation.
const EVENT_COST: usize = 128;

/// Reads a JSON array and keeps its elements.
pub(crate) struct Splitter {
    place: Place,
    /// Bytes of the current element so far.
    element: Vec<u8>,
    /// Why the current element cannot be forwarded.
    fault: Option<&'static str>,
    nesting: Nesting,
    is_in_string: bool,
    is_escaped: bool,
    has_envelopes: bool,
    events: Vec<Event>,
    lost: BTreeMap<&'static str, usize>,
    /// The newest drops, all of one reason, which are not in `lost` yet.
    losses: (&'static str, usize),
    /// For the events and the current element.
    charge: SteppedCharge,
    is_out_of_memory: bool,
}

/// The result of splitting a post.
pub(crate) struct Split {
    /// Events to forward, in order.
    pub(crate) events: Vec<Event>,
    /// Dropped events, by reason.
    pub(crate) lost: BTreeMap<&'static str, usize>,
    /// Whether kind and time of the events were read.
    pub(crate) has_envelopes: bool,
    /// Memory that the events take.
    pub(crate) charge: Charge,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Before the array.
    Start,
    /// In a value that is not an array.
    Other,
    /// Before an element.
    Before {
        is_first: bool,
    },
    Within,
    /// Behind the array.
    After,
    /// In text behind the array, which is ignored.
    Over,
}

impl Splitter {
    /// Charges `account` with kept events. With `has_envelopes`, kind and time of events are read.
    pub(crate) fn new(account: &Arc<Account>, has_envelopes: bool) -> Option<Self> {
        let charge = SteppedCharge::new(account)?;
        Some(Self {
            place: Place::Start,
            element: Vec::new(),
            fault: None,
            nesting: Nesting::default(),
            is_in_string: false,
            is_escaped: false,
            has_envelopes,
            events: Vec::new(),
            lost: BTreeMap::new(),
            losses: ("malformed", 0),
            charge,
            is_out_of_memory: false,
        })
    }

    /// Whether the account did not grant the memory. The whole post is refused then.
    pub(crate) fn is_out_of_memory(&self) -> bool {
        self.is_out_of_memory
    }

    /// Takes the next piece.
    pub(crate) fn push(&mut self, mut piece: &[u8]) {
        while let Some(byte) = piece.first()
            && !self.is_out_of_memory
        {
            let is_blank = matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
            let taken = match self.place {
                // A byte order mark is blank here.
                Place::Start if is_blank || matches!(byte, 0xef | 0xbb | 0xbf) => 1,
                Place::Start if *byte == b'[' => {
                    self.place = Place::Before { is_first: true };
                    1
                }
                Place::Start => {
                    self.place = Place::Other;
                    0
                }
                Place::Other => {
                    // Enough to recognise `null`.
                    self.element.extend(piece.iter().take(16 - self.element.len().min(16)));
                    piece.len()
                }
                Place::Before { .. } if is_blank => 1,
                Place::Before { is_first } if *byte == b']' => {
                    if !is_first {
                        self.lose("malformed");
                    }
                    self.place = Place::After;
                    1
                }
                Place::Before { .. } if *byte == b',' => {
                    self.lose("malformed");
                    self.place = Place::Before { is_first: false };
                    1
                }
                Place::Before { .. } => {
                    self.begin();
                    0
                }
                Place::Within => self.within(piece),
                Place::After if is_blank => 1,
                Place::After => {
                    self.lose("malformed");
                    self.place = Place::Over;
                    1
                }
                Place::Over => return,
            };
            piece = &piece[taken..];
        }
    }

    /// The result after the last piece. A truncated post has the events that are complete.
    pub(crate) fn finish(mut self) -> Split {
        match self.place {
            Place::Other if self.element.trim_ascii() == b"null" => (),
            Place::Within => {
                let last = self.element.trim_ascii_end().last();
                let is_complete = self.nesting.is_empty() && !self.is_in_string;
                if !is_complete || !matches!(last, Some(b'}' | b']' | b'"')) {
                    self.fault = self.fault.or(Some("malformed"));
                }
                self.end();
            }
            Place::Start | Place::Other | Place::Before { .. } => self.lose("malformed"),
            Place::After | Place::Over => (),
        }
        self.settle_losses();
        let Self { events, lost, has_envelopes, charge, .. } = self;
        Split { events, lost, has_envelopes, charge: charge.finish() }
    }

    fn begin(&mut self) {
        self.place = Place::Within;
        self.nesting.clear();
        (self.is_in_string, self.is_escaped) = (false, false);
        self.fault = (self.events.len() >= MAX_EVENTS).then_some("too-many-events");
    }

    /// Returns how many bytes of `piece` belong to the current element, and what ends it.
    fn within(&mut self, piece: &[u8]) -> usize {
        let mut index = 0;
        while let Some(byte) = piece.get(index) {
            if self.is_in_string {
                index += self.within_string(&piece[index..]);
                continue;
            }
            match byte {
                b'"' => self.is_in_string = true,
                b'{' | b'[' => {
                    let is_allowed = self.nesting.open(*byte);
                    if !is_allowed {
                        self.fail("too-deep");
                    }
                }
                b',' | b']' if self.nesting.is_empty() => {
                    self.keep(&piece[..index]);
                    self.end();
                    self.place = if *byte == b',' { Place::Before { is_first: false } } else { Place::After };
                    return index + 1;
                }
                b'}' | b']' => self.nesting.close(*byte),
                _ => (),
            }
            index += 1;
        }
        self.keep(piece);
        piece.len()
    }

    /// Returns how many bytes of `rest`, which is not empty, belong to the current string, with what ends it.
    fn within_string(&mut self, rest: &[u8]) -> usize {
        if std::mem::take(&mut self.is_escaped) {
            return 1;
        }
        let Some(end) = memchr2(b'"', b'\\', rest) else { return rest.len() };
        match rest[end] {
            b'"' => self.is_in_string = false,
            _ => self.is_escaped = true,
        }
        end + 1
    }

    fn keep(&mut self, part: &[u8]) {
        if self.fault.is_some() {
            return;
        }
        if self.element.len() + part.len() > MAX_EVENT_BYTES {
            self.fail("event-too-large");
        } else if self.charge.grow(part.len()) {
            self.element.extend_from_slice(part);
        } else {
            self.is_out_of_memory = true;
        }
    }

    fn fail(&mut self, reason: &'static str) {
        // There may be millions in a row.
        if self.fault.is_some() {
            return;
        }
        self.fault = Some(reason);
        self.charge.shrink(self.element.len());
        self.element = Vec::new();
    }

    fn end(&mut self) {
        let mut element = std::mem::take(&mut self.element);
        match self.fault.take().map_or_else(|| self.add(&element), Err) {
            Ok(()) => (),
            Err(reason) => self.lose(reason),
        }
        self.charge.shrink(element.len());
        // Its memory is reused for the next one.
        element.clear();
        self.element = element;
    }

    fn add(&mut self, element: &[u8]) -> Result<(), &'static str> {
        let repaired;
        let text = match std::str::from_utf8(element) {
            Ok(text) => text,
            Err(_) => {
                repaired = repaired_text(element);
                &repaired
            }
        };
        let raw: &RawValue = serde_json::from_str(text).map_err(|_| "malformed")?;
        if !self.charge.grow(raw.get().len() + EVENT_COST) {
            self.is_out_of_memory = true;
            return Err("memory-full");
        }
        // A copy, so that an event that waits does not keep its whole post in memory.
        let body = Bytes::copy_from_slice(raw.get().as_bytes());
        self.events.push(event_of(body, self.has_envelopes));
        Ok(())
    }

    /// Counts a dropped event. There may be millions in a row.
    fn lose(&mut self, reason: &'static str) {
        if reason != self.losses.0 {
            self.settle_losses();
            self.losses.0 = reason;
        }
        self.losses.1 += 1;
    }

    fn settle_losses(&mut self) {
        let (reason, count) = self.losses;
        if count > 0 {
            *self.lost.entry(reason).or_default() += count;
            self.losses.1 = 0;
        }
    }
}

/// `body` as a JSON object, with invalid UTF-8 replaced; `None` if it is not an object.
pub(super) fn object(body: &[u8]) -> Option<Bytes> {
    let text = std::str::from_utf8(body).map_or_else(|_| repaired_text(body).into(), std::borrow::Cow::Borrowed);
    let raw: &RawValue = serde_json::from_str(&text).ok()?;
    raw.get().starts_with('{').then(|| Bytes::copy_from_slice(raw.get().as_bytes()))
}

/// Replaces each byte of invalid UTF-8 by U+FFFD, as Go's decoder does with the bodies that ld-relay forwards unchanged.
fn repaired_text(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() + 16);
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER));
    }
    text
}

#[cfg(test)]
mod tests;
