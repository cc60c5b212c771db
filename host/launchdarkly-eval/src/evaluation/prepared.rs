//! The part of a flag's evalx entry that does not depend on the context.

use std::ops::Range;

use crate::model::{self, write_text};

/// The parts of a flag's entry that do not depend on the context, in one piece of memory.
#[derive(Debug)]
pub(super) struct Prepared {
    text: Box<[u8]>,
    /// The entry for each variation, and last for no value.
    entries: Box<[Entry]>,
    pub(super) track_events: bool,
    /// Start of the keys of all prerequisites as JSON strings with commas between them, and the end of each.
    prerequisites_start: u32,
    prerequisite_ends: Box<[u32]>,
}

/// Positions in the entry of a variation:
/// `"key":{"value":true,"variation":0,"version":3,"trackEvents":true,"debugEventsUntilDate":1700000000000}`
///
/// The text holds each value a second time, which makes writing an ordinary entry a single copy.
#[derive(Debug, Clone, Copy)]
struct Entry {
    start: u32,
    value_start: u32,
    value_end: u32,
    /// After the version.
    head_end: u32,
    /// After `trackEvents`, where reasons belong.
    tracking_end: u32,
    /// Before the closing brace.
    end: u32,
}

/// Collects the parts of a flag's entry.
pub(super) struct Preparation {
    text: Vec<u8>,
    entries: Box<[Entry]>,
    track_events: bool,
    prerequisites_start: u32,
    prerequisite_ends: Box<[u32]>,
}

impl Preparation {
    /// Prepares the entry of `flag`.
    pub(super) fn new(flag: &model::Flag, body: &model::FlagBody) -> Self {
        let mut text = Vec::new();
        let debugging = flag.debug_events_until_date().map(|date| format!(",\"debugEventsUntilDate\":{date}"));
        let mut entry = |value: &[u8], index: Option<usize>| {
            let start = position(&text);
            write_text(flag.name(), &mut text);
            text.extend_from_slice(br#":{"value":"#);
            let value_start = position(&text);
            text.extend_from_slice(value);
            let value_end = position(&text);
            let variation = index.map_or("null".to_owned(), |index| index.to_string());
            text.extend_from_slice(format!(",\"variation\":{variation},\"version\":{}", flag.version()).as_bytes());
            let head_end = position(&text);
            if flag.track_events() {
                text.extend_from_slice(br#","trackEvents":true"#);
            }
            let tracking_end = position(&text);
            text.extend_from_slice(debugging.as_deref().unwrap_or_default().as_bytes());
            let end = position(&text);
            text.push(b'}');
            Entry { start, value_start, value_end, head_end, tracking_end, end }
        };
        let values = body.variations.iter().map(|range| &flag.json()[range.clone()]).enumerate();
        let entries = values.map(|(index, value)| (value, Some(index))).chain([(&b"null"[..], None)]);
        let entries = entries.map(|(value, index)| entry(value, index)).collect();
        let prerequisites_start = position(&text);
        let prerequisite_ends = body.prerequisites.iter().enumerate().map(|(index, prerequisite)| {
            if index > 0 {
                text.push(b',');
            }
            write_text(&prerequisite.key, &mut text);
            position(&text)
        });
        let prerequisite_ends = prerequisite_ends.collect();
        Self { entries, track_events: flag.track_events(), prerequisites_start, prerequisite_ends, text }
    }

    /// Adds the ID of a rule; returns where it is.
    pub(super) fn add_rule_id(&mut self, id: &str) -> Range<u32> {
        let start = position(&self.text);
        if !id.is_empty() {
            write_text(id, &mut self.text);
        }
        start..position(&self.text)
    }

    /// Returns everything that was added.
    pub(super) fn finish(self) -> Prepared {
        let Self { text, entries, track_events, prerequisites_start, prerequisite_ends } = self;
        Prepared { text: text.into(), entries, track_events, prerequisites_start, prerequisite_ends }
    }
}

impl Prepared {
    /// The JSON of a variation, or `null`.
    pub(super) fn value(&self, variation: Option<u32>) -> &[u8] {
        self.entry(variation).map_or(b"null", |it| self.text(it.value_start..it.value_end))
    }

    /// Writes the entry for a variation of a flag that is not part of an experiment, without reason.
    pub(super) fn write_plain(&self, variation: Option<u32>, out: &mut Vec<u8>) {
        if let Some(entry) = self.entry(variation) {
            out.extend_from_slice(self.text(entry.start..entry.end + 1));
        }
    }

    /// Writes the entry for a variation up to its version, with another value if there is one.
    pub(super) fn write_head(&self, variation: Option<u32>, replaced_value: Option<&[u8]>, out: &mut Vec<u8>) {
        let Some(entry) = self.entry(variation) else { return };
        match replaced_value {
            None => out.extend_from_slice(self.text(entry.start..entry.head_end)),
            Some(value) => {
                out.extend_from_slice(self.text(entry.start..entry.value_start));
                out.extend_from_slice(value);
                out.extend_from_slice(self.text(entry.value_end..entry.head_end));
            }
        }
    }

    /// `,"debugEventsUntilDate":1700000000000`, if there is a date.
    pub(super) fn debugging(&self, variation: Option<u32>) -> &[u8] {
        self.entry(variation).map_or(&[], |it| self.text(it.tracking_end..it.end))
    }

    /// The first `count` prerequisites.
    pub(super) fn prerequisites(&self, count: u32) -> &[u8] {
        let end = (count as usize).checked_sub(1).and_then(|last| self.prerequisite_ends.get(last));
        end.map_or(&[], |end| self.text(self.prerequisites_start..*end))
    }

    /// One prerequisite.
    pub(super) fn prerequisite(&self, index: u32) -> &[u8] {
        let with_comma = &self.prerequisites(index + 1)[self.prerequisites(index).len()..];
        if index == 0 { with_comma } else { &with_comma[1..] }
    }

    /// A part of the text.
    pub(super) fn text(&self, range: Range<u32>) -> &[u8] {
        self.text.get(range.start as usize..range.end as usize).unwrap_or_default()
    }

    fn entry(&self, variation: Option<u32>) -> Option<Entry> {
        match variation {
            Some(index) => self.entries.get(index as usize).copied(),
            None => self.entries.last().copied(),
        }
    }
}

/// The end of `text`. The JSON of one flag has less than four gigabytes.
fn position(text: &[u8]) -> u32 {
    u32::try_from(text.len()).unwrap_or(u32::MAX)
}
