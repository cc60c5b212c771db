//! The part of a flag's evalx entry that does not depend on the context.

use std::ops::Range;

use crate::model::{self, write_text};

/// The parts of a flag's entry that do not depend on the context.
#[derive(Debug)]
pub(super) struct Prepared {
    /// The start of the entry for each variation, and last for no value.
    starts: Box<[Start]>,
    pub(super) track_events: bool,
    /// `,"debugEventsUntilDate":1700000000000`, if there is a date.
    pub(super) debugging: Box<[u8]>,
    /// The keys of all prerequisites as JSON strings, with commas between them.
    prerequisites: Box<[u8]>,
    /// End of each of them.
    prerequisite_ends: Box<[usize]>,
}

/// `"key":{"value":true,"variation":0,"version":3`
///
/// This holds each value a second time, which makes writing an entry a single copy from a single place.
#[derive(Debug)]
pub(super) struct Start {
    bytes: Box<[u8]>,
    value: Range<usize>,
}

impl Prepared {
    /// Prepares the entry of `flag`.
    pub(super) fn new(flag: &model::Flag) -> Self {
        let values = flag.variations().enumerate().map(|(index, value)| (value, Some(index)));
        let starts =
            values.chain([(&b"null"[..], None)]).map(|(value, index)| Start::new(flag, value, index)).collect();
        let mut prerequisites = Vec::new();
        let ends = flag.body().prerequisites.iter().map(|prerequisite| {
            if !prerequisites.is_empty() {
                prerequisites.push(b',');
            }
            write_text(&prerequisite.key, &mut prerequisites);
            prerequisites.len()
        });
        let prerequisite_ends = ends.collect();
        let date = flag.debug_events_until_date();
        Self {
            starts,
            track_events: flag.track_events(),
            debugging: date
                .map(|date| format!(",\"debugEventsUntilDate\":{date}"))
                .unwrap_or_default()
                .into_bytes()
                .into(),
            prerequisites: prerequisites.into(),
            prerequisite_ends,
        }
    }

    /// The JSON of a variation, or `null`.
    pub(super) fn value(&self, variation: Option<u32>) -> &[u8] {
        self.start(variation).map_or(b"null", |start| &start.bytes[start.value.clone()])
    }

    /// The number of variations.
    pub(super) fn variation_count(&self) -> usize {
        self.starts.len() - 1
    }

    pub(super) fn start(&self, variation: Option<u32>) -> Option<&Start> {
        match variation {
            Some(index) => self.starts.get(index as usize),
            None => self.starts.last(),
        }
    }

    /// The first `count` prerequisites.
    pub(super) fn prerequisites(&self, count: u32) -> &[u8] {
        let end = (count as usize).checked_sub(1).and_then(|last| self.prerequisite_ends.get(last));
        end.map_or(&[], |end| &self.prerequisites[..*end])
    }

    /// One prerequisite.
    pub(super) fn prerequisite(&self, index: u32) -> &[u8] {
        let with_comma = &self.prerequisites(index + 1)[self.prerequisites(index).len()..];
        if index == 0 { with_comma } else { &with_comma[1..] }
    }
}

impl Start {
    fn new(flag: &model::Flag, value: &[u8], index: Option<usize>) -> Self {
        let mut bytes = Vec::new();
        write_text(flag.name(), &mut bytes);
        bytes.extend_from_slice(br#":{"value":"#);
        let start = bytes.len();
        bytes.extend_from_slice(value);
        let end = bytes.len();
        let variation = index.map_or("null".to_owned(), |index| index.to_string());
        bytes.extend_from_slice(format!(",\"variation\":{variation},\"version\":{}", flag.version()).as_bytes());
        Self { bytes: bytes.into(), value: start..end }
    }

    pub(super) fn write(&self, replaced_value: Option<&[u8]>, out: &mut Vec<u8>) {
        match replaced_value {
            None => out.extend_from_slice(&self.bytes),
            Some(value) => {
                out.extend_from_slice(&self.bytes[..self.value.start]);
                out.extend_from_slice(value);
                out.extend_from_slice(&self.bytes[self.value.end..]);
            }
        }
    }
}
