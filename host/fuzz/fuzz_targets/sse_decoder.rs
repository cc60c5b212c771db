//! An event stream of any bytes: in whatever pieces it arrives, the same events come out, and the limit holds.
#![no_main]

use std::collections::VecDeque;

use eventsource_stream::{Decoder, Event, EventKind};

const LIMIT: usize = 64;

/// Events of `stream` in pieces of these lengths, again and again; `None` if one is larger than the limit.
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
    // Progress depends on the pieces.
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
