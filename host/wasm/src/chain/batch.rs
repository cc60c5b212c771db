//! A batch of events on its way through a chain: what each plugin receives, and what becomes of each received event.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use yardarm_core::hooks::{Event, Filtered, Verdict};

use crate::runtime::interface::RawEventEdit;

/// Maximum number of events in one call; larger batches are passed in parts.
const MOST_EVENTS: usize = 500;
/// Maximum bytes of events in one call, unless a single event is larger.
const MOST_EVENT_BYTES: usize = 2 << 20;

/// Events and the edits so far.
pub(super) struct EditedBatch {
    /// What the next plugin receives, in order.
    current: Vec<Edited>,
    /// What this plugin has left.
    next: Vec<Edited>,
    /// Events that this plugin has added.
    added: Vec<Edited>,
    /// The plugin that dropped each received event, by its index.
    dropped: BTreeMap<usize, Arc<str>>,
    /// Reads kind and time of an event that a plugin has written.
    read: fn(Bytes) -> Event,
}

/// An event, and where it comes from.
#[derive(Clone)]
struct Edited {
    event: Event,
    /// Index of the received event; `None` for one that a plugin added.
    origin: Option<usize>,
    is_written: bool,
}

impl EditedBatch {
    pub(super) fn new(events: &[Event], read: fn(Bytes) -> Event) -> Self {
        let received = events.iter().enumerate();
        let current =
            received.map(|(index, event)| Edited { event: event.clone(), origin: Some(index), is_written: false });
        Self { current: current.collect(), next: Vec::new(), added: Vec::new(), dropped: BTreeMap::new(), read }
    }

    /// Returns what the next plugin receives, in parts for one call each.
    pub(super) fn parts(&self) -> Vec<Arc<Vec<Event>>> {
        let mut rest = &self.current[..];
        let mut parts = Vec::new();
        while !rest.is_empty() {
            let (part, tail) = rest.split_at(part_length(rest.iter().map(|it| &it.event)));
            parts.push(Arc::new(part.iter().map(|it| it.event.clone()).collect()));
            rest = tail;
        }
        parts
    }

    /// Applies validated edits of `plugin` to the next `count` events.
    pub(super) fn apply(&mut self, edits: Vec<RawEventEdit>, count: usize, plugin: &Arc<str>) {
        let read = self.read;
        let written = |body: Vec<u8>, origin| Edited { event: read(body.into()), origin, is_written: true };
        let mut by_index = BTreeMap::new();
        for edit in edits {
            match edit {
                RawEventEdit::Drop(index) => drop(by_index.insert(index as usize, Vec::new())),
                RawEventEdit::Replace(index, bodies) => drop(by_index.insert(index as usize, bodies)),
                RawEventEdit::Add(body) => self.added.push(written(body, None)),
            }
        }
        for (index, edited) in self.current.drain(..count).enumerate() {
            match by_index.remove(&index) {
                None => self.next.push(edited),
                Some(bodies) => {
                    if let (true, Some(origin)) = (bodies.is_empty(), edited.origin) {
                        self.dropped.insert(origin, Arc::clone(plugin));
                    }
                    self.next.extend(bodies.into_iter().map(|body| written(body, edited.origin)));
                }
            }
        }
    }

    /// Passes the next `count` events on as they are.
    pub(super) fn skip(&mut self, count: usize) {
        self.next.extend(self.current.drain(..count));
    }

    /// Ends the calls of one plugin. Added events follow all others.
    pub(super) fn end_step(&mut self) {
        self.current = std::mem::take(&mut self.next);
        self.current.append(&mut self.added);
    }

    /// Returns what becomes of `count` received events, and the added ones.
    pub(super) fn into_filtered(self, count: usize) -> Filtered {
        let mut verdicts: Vec<Option<Verdict>> = vec![None; count];
        let mut added = Vec::new();
        for Edited { event, origin, is_written } in self.current {
            let Some(verdict) = origin.and_then(|index| verdicts.get_mut(index)) else {
                added.push(event.body);
                continue;
            };
            match verdict {
                Some(Verdict::Replace(bodies)) => bodies.push(event.body),
                _ if is_written => *verdict = Some(Verdict::Replace(vec![event.body])),
                _ => *verdict = Some(Verdict::Keep),
            }
        }
        let verdicts = verdicts.into_iter().enumerate().map(|(index, verdict)| {
            // An event of which nothing is left was dropped, by the last plugin that dropped a part of it.
            let dropped = || self.dropped.get(&index).map(|plugin| Verdict::Drop { plugin: Arc::clone(plugin) });
            verdict.or_else(dropped).unwrap_or(Verdict::Keep)
        });
        Filtered { verdicts: verdicts.collect(), added }
    }
}

/// Returns how many of the next events fit in one call; at least one.
fn part_length<'a>(events: impl Iterator<Item = &'a Event>) -> usize {
    let mut bytes = 0;
    let fits = |event: &&Event| {
        bytes += event.body.len();
        bytes <= MOST_EVENT_BYTES
    };
    events.take(MOST_EVENTS).take_while(fits).count().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(body: &str) -> Event {
        Event { kind: Some(body.into()), at_ms: None, body: Bytes::copy_from_slice(body.as_bytes()) }
    }

    fn read(body: Bytes) -> Event {
        Event { kind: Some(String::from_utf8_lossy(&body).into()), at_ms: None, body }
    }

    fn replace(index: u32, bodies: &[&str]) -> RawEventEdit {
        RawEventEdit::Replace(index, bodies.iter().map(|it| it.as_bytes().to_vec()).collect())
    }

    #[test]
    fn each_plugin_receives_what_the_one_before_left() {
        let events = ["a", "b", "c", "d"].map(event);
        let (first, second): (Arc<str>, Arc<str>) = ("first".into(), "second".into());
        let mut batch = EditedBatch::new(&events, read);
        let edits = vec![RawEventEdit::Drop(0), replace(1, &["b1", "b2"]), RawEventEdit::Add(b"x".to_vec())];
        batch.apply(edits, 4, &first);
        batch.end_step();
        let seen: Vec<_> = batch.parts()[0].iter().map(|it| it.kind.clone().unwrap()).collect();
        assert_eq!(seen, ["b1", "b2", "c", "d", "x"].map(Arc::from), "kinds follow the bodies");
        batch.apply(
            vec![RawEventEdit::Drop(0), RawEventEdit::Drop(1), replace(2, &["C"]), RawEventEdit::Drop(4)],
            5,
            &second,
        );
        batch.end_step();
        let filtered = batch.into_filtered(4);
        let expected = [
            Verdict::Drop { plugin: first },
            Verdict::Drop { plugin: second },
            Verdict::Replace(vec!["C".into()]),
            Verdict::Keep,
        ];
        assert_eq!(filtered, Filtered { verdicts: expected.into(), added: Vec::new() });
    }

    #[test]
    fn batches_are_passed_in_parts_by_number_and_by_size() {
        let sized = |size: usize| Event { kind: None, at_ms: None, body: Bytes::from(vec![b' '; size]) };
        let lengths = |sizes: &[usize]| -> Vec<usize> {
            let events: Vec<_> = sizes.iter().map(|size| sized(*size)).collect();
            EditedBatch::new(&events, read).parts().iter().map(|part| part.len()).collect()
        };
        assert_eq!(lengths(&[10; 1_200]), [500, 500, 200]);
        assert_eq!(lengths(&[1 << 20; 5]), [2, 2, 1]);
        assert_eq!(lengths(&[5 << 20]), [1]);
        assert_eq!(lengths(&[]), [0; 0]);
    }

    #[test]
    fn parts_are_edited_one_after_the_other() {
        let events: Vec<_> = (0..600).map(|n| event(&n.to_string())).collect();
        let plugin: Arc<str> = "p".into();
        let mut batch = EditedBatch::new(&events, read);
        let counts: Vec<_> = batch.parts().iter().map(|it| it.len()).collect();
        batch.skip(counts[0]);
        batch.apply(vec![RawEventEdit::Drop(99)], counts[1], &plugin);
        batch.end_step();
        let verdicts = batch.into_filtered(600).verdicts;
        let dropped: Vec<_> = (0..600).filter(|n| verdicts[*n] != Verdict::Keep).collect();
        assert_eq!(dropped, [599]);
    }
}
