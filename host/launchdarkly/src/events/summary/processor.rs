//! What becomes of each event: a count, an event of its own, or both.

use bytes::Bytes;
use tokio::time::Instant;
use yardarm_core::outbox::Batch;

use super::counters::Counters;
use super::read::{Feature, ReadError, Received, Source, read};
use super::seen::{Mark, Seen};
use super::terms::Terms;
use super::write;
use crate::data::Items;

/// Most events that one received event becomes: itself, its context, and a copy for the debugger.
pub(super) const MOST_OF_ONE: usize = 3;
/// Bytes of events from which on they are to be sent.
const MAX_BYTES: usize = 4 << 20;
/// What an event costs besides its text, roughly.
const EVENT_COST: usize = 64;

/// Summarises the events of one queue between two posts.
pub(super) struct Processor {
    /// Version of the format of what comes in.
    schema: u32,
    /// Events that are sent by themselves, at most. The summary is not one of them.
    capacity: usize,
    events: Vec<Bytes>,
    /// Bytes of `events`.
    bytes: usize,
    counters: Counters,
    seen: Seen,
    /// How many received events are in `events` and `counters`.
    taken: usize,
}

/// The clocks at one moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    /// Ours, in Unix milliseconds.
    pub(super) unix_ms: u64,
    /// That of the events service when it last answered, in Unix milliseconds; 0 before that.
    pub(super) upstream_ms: u64,
    /// For durations.
    pub(super) instant: Instant,
}

/// Why something of an event will not be sent.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Loss {
    /// It is not an event.
    #[error(transparent)]
    Malformed(#[from] ReadError),
    /// No room for an event of its own.
    #[error("the queue is full")]
    QueueFull,
    /// No room for its count.
    #[error("the summary is full")]
    SummaryFull,
    /// The SDK wants it neither counted nor sent, and its context is known.
    #[error("nothing is to be sent")]
    NothingToSend,
}

impl Loss {
    /// As the ledger calls it.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed",
            Self::QueueFull => "queue-full",
            Self::SummaryFull => "summary-full",
            Self::NothingToSend => "nothing-to-send",
        }
    }
}

impl Processor {
    pub(super) fn new(schema: u32, capacity: usize, now: Instant) -> Self {
        let (events, counters) = (Vec::new(), Counters::default());
        Self { schema, capacity, events, bytes: 0, counters, seen: Seen::new(now), taken: 0 }
    }

    /// Takes one event, which must be JSON.
    ///
    /// # Errors
    /// When the event, or a part of what should become of it, will not be sent. The other part is sent all the same: an
    /// event that finds no room is still counted.
    pub(super) fn take(&mut self, event: &Bytes, flags: &Items, moment: Moment) -> Result<(), Loss> {
        self.seen.keep_fresh(moment.instant);
        match read(event)? {
            Received::Feature(feature) => self.feature(&feature, &Terms::of(&feature, self.schema, flags), moment)?,
            Received::Custom(custom) => {
                self.make_known(&custom.source);
                self.push(|| write::custom(&custom))?;
            }
            Received::Identify(source) => {
                self.push(|| write::identify(&source))?;
                self.seen.remember(mark(&source));
            }
            Received::Other => self.push(|| event.clone())?,
        }
        self.taken += 1;
        Ok(())
    }

    /// What was collected, the summary last.
    pub(super) fn flush(&mut self) -> Batch {
        let mut events = std::mem::take(&mut self.events);
        self.bytes = 0;
        events.extend(self.counters.take());
        Batch { events, stands_for: std::mem::take(&mut self.taken) }
    }

    /// How many received events wait for the next post.
    pub(super) fn taken(&self) -> usize {
        self.taken
    }

    /// Whether the next event may find no room. What was collected is to be taken first.
    pub(super) fn is_full(&self) -> bool {
        let is_crowded = self.events.len() + MOST_OF_ONE > self.capacity || self.bytes >= MAX_BYTES;
        self.counters.is_crowded() || (is_crowded && !self.events.is_empty())
    }

    /// Bytes that are held, roughly.
    pub(super) fn bytes(&self) -> usize {
        self.bytes + self.events.len() * EVENT_COST + self.counters.bytes() + self.seen.bytes()
    }

    /// Whether there is nothing to send.
    pub(super) fn is_empty(&self) -> bool {
        self.events.is_empty() && self.counters.is_empty()
    }

    fn feature(&mut self, feature: &Feature<'_>, terms: &Terms, moment: Moment) -> Result<(), Loss> {
        let before = self.events.len();
        let is_counted = !feature.is_excluded_from_summaries;
        let counted =
            if is_counted && !self.counters.add(feature, terms.variation) { Err(Loss::SummaryFull) } else { Ok(()) };
        self.make_known(&feature.source);
        if terms.has_full_event {
            self.push(|| write::feature("feature", feature, terms.variation))?;
        }
        // If one of the clocks is wrong, debugging rather ends too early than never.
        if terms.debug_until_ms > moment.unix_ms.max(moment.upstream_ms) {
            self.push(|| write::feature("debug", feature, terms.variation))?;
        }
        counted?;
        if !is_counted && self.events.len() == before { Err(Loss::NothingToSend) } else { Ok(()) }
    }

    /// Sends an `index` event for a context that was not met lately. One that finds no room is no loss of the event that
    /// caused it: the next event of the context causes another.
    fn make_known(&mut self, source: &Source<'_>) {
        let mark = mark(source);
        if !self.seen.recalls(mark) && self.push(|| write::index(source)).is_ok() {
            self.seen.remember(mark);
        }
    }

    fn push(&mut self, event: impl FnOnce() -> Bytes) -> Result<(), Loss> {
        if self.events.len() >= self.capacity {
            return Err(Loss::QueueFull);
        }
        let event = event();
        self.bytes += event.len();
        self.events.push(event);
        Ok(())
    }
}

fn mark(source: &Source<'_>) -> Mark {
    Mark::of(&source.identity.canonical_key())
}

#[cfg(test)]
mod tests;
