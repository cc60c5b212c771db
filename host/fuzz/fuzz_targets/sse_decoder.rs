//! An event stream of arbitrary bytes: the events do not depend on the pieces in which it arrives, and the limit holds.
#![no_main]

use std::collections::VecDeque;

use eventsource_stream::{Decoder, Event, EventKind};

const LIMIT: usize = 64;

/// Decodes `stream` in pieces of these lengths, repeated; returns `None` if an event exceeds the limit.
fn events(stream: &[u8], lengths: &[u8]) -> Option<Vec<Event>> {
    let mut decoder = Decoder::with_limit(LIMIT);
    let mut events = VecDeque::new();
    let mut rest = stream;
    let mut lengths = lengths.iter().cycle();
    while !rest.is_empty() {
        let length = lengths.next().map_or(rest.len(), |it| usize::from(*it) + 1).min(rest.len());
        decoder.feed(&rest[..length], &mut events).ok()?;
        rest = &rest[length..];
    }
    // Progress events depend on the pieces.
    Some(events.into_iter().filter(|it| it.kind != EventKind::Progress).collect())
}

libfuzzer_sys::fuzz_target!(|input: (&[u8], &[u8])| {
    let (lengths, stream) = input;
    let whole = events(stream, &[]);
    assert_eq!(events(stream, lengths), whole, "pieces make no difference");
    for event in whole.into_iter().flatten() {
        assert_eq!(event.kind == EventKind::Message, !event.event.is_empty());
        // Each byte that is not UTF-8 becomes three.
        assert!(event.data.len() <= 3 * LIMIT && event.event.len() <= 3 * LIMIT && event.id.len() <= 3 * LIMIT);
        assert!(!event.id.contains('\0'));
    }
});
