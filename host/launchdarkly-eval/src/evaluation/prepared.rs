//! The part of a flag's evalx entry that does not depend on the context.

use std::ops::Range;

use super::render::{Replaced, write_number};
use crate::model::{self, write_text};

/// Cache lines of text that are read ahead. Later ones have the entries of many or large variations, of which one is
/// written.
const MAX_LINES: usize = 6;

/// The parts of a flag's entry that do not depend on the context.
///
/// The text has the entry of each variation as a whole, so that writing an ordinary one is a single copy:
/// `"key":{"value":true,"variation":0,"version":3,"trackEvents":true,"debugEventsUntilDate":1700000000000}`
#[derive(Debug)]
pub(super) struct Prepared {
    text: Box<[u8]>,
    /// For each variation, then for no value; the last one is only the end of the one before.
    entries: Box<[Entry]>,
    /// Bytes of `"key":{"value":`
    head_length: u32,
    /// Bytes of `,"trackEvents":true`, if it is there.
    tracking_length: u32,
    /// Bytes of `,"debugEventsUntilDate":1700000000000`, if it is there.
    debugging_length: u32,
    details: Box<Details>,
}

/// Positions of an entry in the text.
#[derive(Debug, Clone, Copy)]
struct Entry {
    start: u32,
    value_end: u32,
}

/// What few requests read.
#[derive(Debug)]
struct Details {
    /// The ID of each rule as a JSON string; empty if it has none.
    rule_ids: Box<[Range<u32>]>,
    /// Start of the keys of all prerequisites as JSON strings with commas between them, and the end of each.
    prerequisites_start: u32,
    prerequisite_ends: Box<[u32]>,
    sampling_ratio: Option<i64>,
}

impl Prepared {
    /// Prepares the entry of `flag`. Its text starts with `text`.
    pub(super) fn new(flag: &model::Flag, body: &model::FlagBody, mut text: Vec<u8>) -> Self {
        let mut head = Vec::new();
        write_text(flag.name(), &mut head);
        head.extend_from_slice(br#":{"value":"#);
        let tracking = if flag.track_events() { r#","trackEvents":true"# } else { "" };
        let debugging = flag.debug_events_until_date().map(|date| format!(",\"debugEventsUntilDate\":{date}"));
        let debugging = debugging.unwrap_or_default();
        let mut entry = |value: &[u8], variation: &str| {
            let start = position(&text);
            text.extend_from_slice(&head);
            text.extend_from_slice(value);
            let value_end = position(&text);
            let version = flag.version();
            let rest = format!(",\"variation\":{variation},\"version\":{version}{tracking}{debugging}}}");
            text.extend_from_slice(rest.as_bytes());
            Entry { start, value_end }
        };
        let values = body.variations.iter().map(|range| &flag.json()[range.clone()]).enumerate();
        let mut entries: Vec<_> = values.map(|(index, value)| entry(value, &index.to_string())).collect();
        entries.push(entry(b"null", "null"));
        entries.push(Entry { start: position(&text), value_end: position(&text) });
        let (head_length, tracking_length) = (position(&head), position(tracking.as_bytes()));
        let debugging_length = position(debugging.as_bytes());
        let details = Box::new(Details::new(body, &mut text));
        Self { text: text.into(), entries: entries.into(), head_length, tracking_length, debugging_length, details }
    }

    /// The JSON of a variation, or `null`.
    pub(super) fn value(&self, variation: Option<u32>) -> &[u8] {
        self.entry(variation).map_or(b"null", |(entry, _)| self.part(self.value_start(entry)..entry.value_end))
    }

    /// Writes the entry for a variation of a flag that is not part of an experiment, without reason.
    pub(super) fn write_plain(&self, variation: Option<u32>, out: &mut Vec<u8>) {
        if let Some((entry, end)) = self.entry(variation) {
            out.extend_from_slice(self.part(entry.start..end));
        }
    }

    /// Writes the entry for a variation up to its version, with another value and variation if there are any.
    pub(super) fn write_head(&self, variation: Option<u32>, replaced: Replaced<'_>, out: &mut Vec<u8>) {
        let Some((entry, end)) = self.entry(variation) else { return };
        let head_end = self.debugging_start(end).saturating_sub(self.tracking_length);
        if replaced.value.is_none() && replaced.variation.is_none() {
            out.extend_from_slice(self.part(entry.start..head_end));
            return;
        }
        out.extend_from_slice(self.part(entry.start..self.value_start(entry)));
        let value = self.part(self.value_start(entry)..entry.value_end);
        out.extend_from_slice(replaced.value.unwrap_or(value));
        // `,"variation":0` and `,"version":3`
        let rest = self.part(entry.value_end..head_end);
        let version_start = rest.iter().skip(1).position(|byte| *byte == b',').map_or(rest.len(), |index| index + 1);
        let (own_variation, version) = rest.split_at(version_start);
        match replaced.variation {
            None => out.extend_from_slice(own_variation),
            Some(other) => {
                out.extend_from_slice(br#","variation":"#);
                write_number(other, out);
            }
        }
        out.extend_from_slice(version);
    }

    /// Whether events of the flag are tracked.
    pub(super) fn tracks_events(&self) -> bool {
        self.tracking_length > 0
    }

    /// `,"debugEventsUntilDate":1700000000000`, if there is a date.
    pub(super) fn debugging(&self, variation: Option<u32>) -> &[u8] {
        let entry = self.entry(variation);
        entry.map_or(&[], |(_, end)| self.part(self.debugging_start(end)..end.saturating_sub(1)))
    }

    /// One of this many events is sent, if not all are.
    pub(super) fn sampling_ratio(&self) -> Option<i64> {
        self.details.sampling_ratio
    }

    /// The ID of a rule as a JSON string; empty if it has none.
    pub(super) fn rule_id(&self, index: u32) -> &[u8] {
        self.details.rule_ids.get(index as usize).map_or(&[], |range| self.part(range.clone()))
    }

    /// The first `count` prerequisites.
    pub(super) fn prerequisites(&self, count: u32) -> &[u8] {
        let end = (count as usize).checked_sub(1).and_then(|last| self.details.prerequisite_ends.get(last));
        end.map_or(&[], |end| self.part(self.details.prerequisites_start..*end))
    }

    /// One prerequisite.
    pub(super) fn prerequisite(&self, index: u32) -> &[u8] {
        let with_comma = &self.prerequisites(index + 1)[self.prerequisites(index).len()..];
        if index == 0 { with_comma } else { &with_comma[1..] }
    }

    /// The whole text, which begins with the start of hash inputs.
    pub(super) fn text(&self) -> &[u8] {
        &self.text
    }

    /// Reads the first entries and the first cache lines of the text, and returns anything.
    pub(super) fn read_ahead(&self) -> u32 {
        let text = self.text.chunks(64).take(MAX_LINES).fold(0, |sum, line| sum ^ line[0]);
        self.entries.first().map_or(0, |it| it.start) ^ u32::from(text)
    }

    fn part(&self, range: Range<u32>) -> &[u8] {
        self.text.get(range.start as usize..range.end as usize).unwrap_or_default()
    }

    /// An entry, and where it ends.
    fn entry(&self, variation: Option<u32>) -> Option<(Entry, u32)> {
        let index = variation.map_or(self.entries.len().checked_sub(2)?, |index| index as usize);
        Some((*self.entries.get(index)?, self.entries.get(index + 1)?.start))
    }

    fn value_start(&self, entry: Entry) -> u32 {
        entry.start + self.head_length
    }

    /// Where the date is, or would be, in an entry that ends here.
    fn debugging_start(&self, end: u32) -> u32 {
        end.saturating_sub(self.debugging_length + 1)
    }
}

impl Details {
    /// Appends the texts to `text`.
    fn new(body: &model::FlagBody, text: &mut Vec<u8>) -> Self {
        let rule_ids = body.rules.iter().map(|rule| {
            let start = position(text);
            if !rule.id.is_empty() {
                write_text(&rule.id, text);
            }
            start..position(text)
        });
        let rule_ids = rule_ids.collect();
        let prerequisites_start = position(text);
        let prerequisite_ends = body.prerequisites.iter().enumerate().map(|(index, prerequisite)| {
            if index > 0 {
                text.push(b',');
            }
            write_text(&prerequisite.key, text);
            position(text)
        });
        let prerequisite_ends = prerequisite_ends.collect();
        Self { rule_ids, prerequisites_start, prerequisite_ends, sampling_ratio: body.sampling_ratio }
    }
}

/// The end of `text`. The JSON of one flag has less than four gigabytes.
fn position(text: &[u8]) -> u32 {
    u32::try_from(text.len()).unwrap_or(u32::MAX)
}
