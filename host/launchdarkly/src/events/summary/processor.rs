//! Processing of single events: each becomes a count, an event of its own, or both.

use bytes::Bytes;
use tokio::time::Instant;
use yardarm_vendor::events::outbox::Batch;

use super::counters::Counters;
use super::read::{EventOrigin, Feature, ReadError, ReceivedEvent, read};
use super::seen::{Mark, Seen};
use super::terms::Terms;
use super::write;
use crate::data::Items;

/// Most events that one received event produces: itself, its context, and a copy for the debugger.
pub(super) const MOST_OF_ONE: usize = 3;
/// Bytes of events at which they are sent.
const MAX_BYTES: usize = 4 << 20;
/// Approximate memory of an event besides its text.
const EVENT_COST: usize = 64;

/// Summarises the events of one queue between two posts.
pub(super) struct Processor {
    /// Version of the received event format.
    schema: u32,
    /// Most events besides the summary.
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
    /// That of the events service at its last response, in Unix milliseconds; 0 before that.
    pub(super) upstream_ms: u64,
    /// For durations.
    pub(super) instant: Instant,
}

/// Why an event, or a part of its output, is not sent.
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
    /// The SDK excludes it from summaries and full events, and its context is known.
    #[error("nothing is to be sent")]
    NothingToSend,
}

impl Loss {
    /// The reason for the ledger.
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
    /// When the event, or a part of its output, is not sent. The other part is sent all the same: without room for its full
    /// event, an evaluation is still counted.
    pub(super) fn take(&mut self, event: &Bytes, flags: &Items, moment: Moment) -> Result<(), Loss> {
        self.seen.keep_fresh(moment.instant);
        match read(event)? {
            ReceivedEvent::Feature(feature) => {
                self.feature(&feature, &Terms::of(&feature, self.schema, flags), moment)?;
            }
            ReceivedEvent::Custom(custom) => {
                self.make_known(&custom.source);
                self.push(|| write::custom(&custom))?;
            }
            ReceivedEvent::Identify(source) => {
                self.push(|| write::identify(&source))?;
                self.seen.remember(mark(&source));
            }
            ReceivedEvent::Other => self.push(|| event.clone())?,
        }
        self.taken += 1;
        Ok(())
    }

    /// Takes the collected events, the summary last.
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

    /// Whether there may be no room for the next event. Collected events must be taken first.
    pub(super) fn is_full(&self) -> bool {
        let is_crowded = self.events.len() + MOST_OF_ONE > self.capacity || self.bytes >= MAX_BYTES;
        self.counters.is_crowded() || (is_crowded && !self.events.is_empty())
    }

    /// Approximate bytes that are held.
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
        // If one of the clocks is wrong, debugging ends too early rather than never.
        if terms.debug_until_ms > moment.unix_ms.max(moment.upstream_ms) {
            self.push(|| write::feature("debug", feature, terms.variation))?;
        }
        counted?;
        if !is_counted && self.events.len() == before { Err(Loss::NothingToSend) } else { Ok(()) }
    }

    /// Sends an `index` event for a context that was not seen recently. Without room for it the causing event is not dropped:
    /// the next event of the context causes another `index` event.
    fn make_known(&mut self, source: &EventOrigin<'_>) {
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

fn mark(source: &EventOrigin<'_>) -> Mark {
    Mark::of(&source.identity.canonical_key())
}

#[cfg(test)]
mod tests;
