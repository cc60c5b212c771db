//! The results of one group at one moment.

use std::cmp::Ordering;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use yardarm_core::Snapshot;
use yardarm_core::sse::Frame;
use yardarm_launchdarkly_eval::evaluation::{Audience, Evaluated, Replaced, Ruleset, evaluate_each, evaluate_these};

use crate::data::FlagData;
use crate::evaluation::{Edits, EvaluationRequest, ResultFormat, Visibility};

/// Room for the entry of an ordinary flag.
const BYTES_PER_FLAG: usize = 96;
/// Room for what is around the entries.
const ROOM_AROUND: usize = 32;

/// The results of all flags that are visible to a client, rendered as the first event or events of a stream.
pub(super) struct GroupResults {
    snapshot: Arc<Snapshot<FlagData>>,
    audience: Audience,
    format: ResultFormat,
    put: Frame,
    /// The bytes of `put`.
    payload: Bytes,
    /// Offset of the first entry in them.
    start: usize,
    /// End of each entry, relative to `start`, in the order in which the ruleset lists visible flags. Entries that
    /// plugins hide are empty.
    ends: Vec<usize>,
    /// Plugins edited the results, so the entry of a flag may depend on all data.
    is_edited: bool,
    /// Plugins added entries, which follow those of visible flags.
    has_added: bool,
    /// The name of some flag differs from the key it was sent under, so two entries may have one name.
    has_aliases: bool,
}

/// The changed result of one flag; empty if it is no longer visible.
struct Fresh {
    key: Arc<str>,
    entry: Vec<u8>,
    is_alias: bool,
}

/// The next results of a group.
pub(super) enum NextResults {
    /// The results are equal.
    Same(GroupResults),
    /// The results of the flags with `keys`, which are sorted, differ from `results`.
    Other { results: GroupResults, next: GroupResults, keys: Vec<Arc<str>> },
}

/// Results that are being rendered.
struct Draft<'a> {
    out: &'a mut Vec<u8>,
    separator: &'static [u8],
    start: usize,
    ends: Vec<usize>,
    has_aliases: bool,
}

impl GroupResults {
    /// Evaluates all flags.
    pub(super) fn of(
        snapshot: Arc<Snapshot<FlagData>>,
        evaluation_request: &EvaluationRequest,
        edits: Option<&Edits>,
    ) -> Self {
        let capacity = BYTES_PER_FLAG * snapshot.data().items().flags.len();
        let (with_reasons, format) = (evaluation_request.with_reasons, evaluation_request.format);
        let results = Self::write(Arc::clone(&snapshot), evaluation_request, edits.is_some(), capacity, |draft| {
            let mut index = 0;
            evaluate_each(snapshot.data().ruleset(), &evaluation_request.request(), &mut |evaluated| {
                let shown = edits.map_or(Visibility::Shown(Replaced::default()), |edits| edits.at(index));
                index += 1;
                draft.has_aliases |= is_alias(&evaluated);
                draft.push(|out| {
                    if let Visibility::Shown(replaced) = shown {
                        format.write_entry(&evaluated, replaced, with_reasons, out);
                    }
                });
            });
            for added in edits.into_iter().flat_map(Edits::added) {
                draft.push(|out| format.write_added(&added, with_reasons, out));
            }
        });
        Self { has_added: edits.is_some_and(Edits::has_added), ..results }
    }

    /// Whether the results for `snapshot` can be built from these by evaluating only affected flags.
    pub(super) fn can_be_continued(&self, is_edited: bool) -> bool {
        !self.is_edited && !is_edited
    }

    /// The results for `snapshot`, in which only the flags with `keys`, which are sorted, may differ from these.
    pub(super) fn go_on_to(
        self,
        snapshot: Arc<Snapshot<FlagData>>,
        keys: &[Arc<str>],
        evaluation_request: &EvaluationRequest,
    ) -> NextResults {
        let fresh = self.differing(&snapshot, keys, evaluation_request);
        if fresh.is_empty() {
            return NextResults::Same(Self { snapshot, ..self });
        }
        let keys = fresh.iter().map(|it| Arc::clone(&it.key)).collect();
        NextResults::Other { next: self.continued(snapshot, &fresh, evaluation_request), results: self, keys }
    }

    /// The flags with `keys`, which are sorted, whose results for `snapshot` differ from these.
    fn differing(
        &self,
        snapshot: &Snapshot<FlagData>,
        keys: &[Arc<str>],
        evaluation_request: &EvaluationRequest,
    ) -> Vec<Fresh> {
        let unseen = |key: &Arc<str>| Fresh { key: Arc::clone(key), entry: Vec::new(), is_alias: false };
        let mut all: Vec<_> = keys.iter().map(unseen).collect();
        evaluate_these(snapshot.data().ruleset(), &evaluation_request.request(), keys, &mut |index, evaluated| {
            if let Some(fresh) = all.get_mut(index) {
                let (with_reasons, entry) = (evaluation_request.with_reasons, &mut fresh.entry);
                self.format.write_entry(&evaluated, Replaced::default(), with_reasons, entry);
                fresh.is_alias = is_alias(&evaluated);
            }
        });
        all.retain(|fresh| self.entry(&fresh.key) != fresh.entry);
        all
    }

    /// These results with those of some flags replaced, which are the results for `snapshot`.
    fn continued(
        &self,
        snapshot: Arc<Snapshot<FlagData>>,
        fresh: &[Fresh],
        evaluation_request: &EvaluationRequest,
    ) -> Self {
        let capacity = self.payload.len() + fresh.iter().map(|it| it.entry.len() + 1).sum::<usize>();
        let results = Self::write(Arc::clone(&snapshot), evaluation_request, false, capacity, |draft| {
            draft.has_aliases = self.has_aliases;
            let mut done = 0;
            for fresh in fresh {
                let (before, after) = match self.ruleset().visible_position(&fresh.key, self.audience) {
                    Ok(index) => (index, index + 1),
                    Err(index) => (index, index),
                };
                draft.copy(self, done..before);
                done = after;
                if !fresh.entry.is_empty() {
                    draft.has_aliases |= fresh.is_alias;
                    draft.push(|out| out.extend_from_slice(&fresh.entry));
                }
            }
            draft.copy(self, done..self.ends.len());
        });
        debug_assert_eq!(
            results.ends.len(),
            results.ruleset().visible_count(results.audience),
            "an entry for each flag"
        );
        results
    }

    /// These results with the bytes of equal results that streams hold already.
    pub(super) fn with_bytes_of(self, other: Self) -> Self {
        debug_assert_eq!(self.text(), other.text(), "the same view");
        Self { put: other.put, payload: other.payload, start: other.start, ..self }
    }

    /// The evaluated data.
    pub(super) fn snapshot(&self) -> &Arc<Snapshot<FlagData>> {
        &self.snapshot
    }

    /// The `put` for a new stream.
    pub(super) fn put(&self) -> &Frame {
        &self.put
    }

    /// The form of the results.
    pub(super) fn format(&self) -> ResultFormat {
        self.format
    }

    /// All entries.
    fn text(&self) -> &[u8] {
        let end = self.start + self.ends.last().copied().unwrap_or(0);
        self.payload.get(self.start..end).unwrap_or_default()
    }

    /// The entry of a flag, a property `"key":{…}` or an event; empty if it is hidden.
    pub(super) fn entry(&self, key: &str) -> &[u8] {
        let position = self.ruleset().visible_position(key, self.audience);
        position.ok().and_then(|index| self.payload.get(self.range(index))).unwrap_or_default()
    }

    /// The keys of flags whose results differ in `next`, sorted; at most `most`.
    pub(super) fn differences(&self, next: &Self, most: usize) -> Vec<Arc<str>> {
        let mut keys = Vec::new();
        // After a reconnect upstream sends all data again, which usually is equal.
        if self.text() == next.text() {
            return keys;
        }
        let (mut old, mut new) = (self.entries().peekable(), next.entries().peekable());
        while keys.len() < most {
            let order = match (old.peek(), new.peek()) {
                (None, None) => break,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some((old, _)), Some((new, _))) => old.cmp(new),
            };
            let was = if order.is_le() { old.next() } else { None };
            let is = if order.is_ge() { new.next() } else { None };
            let (was_shown, is_shown) = [was, is].map(|it| it.map_or(&[][..], |(_, entry)| entry)).into();
            if let Some((key, _)) = was.or(is)
                && was_shown != is_shown
            {
                keys.push(Arc::clone(key));
            }
        }
        keys
    }

    /// All visible flags in order of key, and their entries, which are empty if plugins hide them.
    fn entries(&self) -> impl Iterator<Item = (&Arc<str>, &[u8])> {
        let keys = self.ruleset().visible_keys(self.audience).enumerate();
        keys.map(|(index, key)| (key, self.payload.get(self.range(index)).unwrap_or_default()))
    }

    /// The version of a flag or of its tombstone, whether it is visible or not.
    pub(super) fn version(&self, key: &str) -> Option<i64> {
        self.snapshot.data().items().flag_version(key)
    }

    /// Whether the results differ from `next` in entries that plugins added, which have no versions.
    pub(super) fn differs_in_added(&self, next: &Self) -> bool {
        (self.has_added || next.has_added) && self.text() != next.text()
    }

    /// Whether one property of the `put` may stand for two flags, or for one with another key.
    pub(super) fn has_aliases(&self) -> bool {
        self.has_aliases
    }

    fn write(
        snapshot: Arc<Snapshot<FlagData>>,
        evaluation_request: &EvaluationRequest,
        is_edited: bool,
        capacity: usize,
        fill: impl FnOnce(&mut Draft<'_>),
    ) -> Self {
        let format = evaluation_request.format;
        let (mut ends, mut has_aliases, mut start) = (Vec::new(), false, 0);
        let put = Frame::build(capacity + ROOM_AROUND, |out| {
            let base = out.len();
            format.write_start(snapshot.data(), out);
            start = out.len() - base;
            let (start, separator) = (out.len(), format.separator());
            let mut draft = Draft { out, separator, start, ends: Vec::new(), has_aliases: false };
            fill(&mut draft);
            (ends, has_aliases) = (draft.ends, draft.has_aliases);
            format.write_end(snapshot.data(), out);
        });
        ends.shrink_to_fit();
        let (payload, audience) = (put.payload(), evaluation_request.request().audience);
        Self { snapshot, audience, format, put, payload, start, ends, is_edited, has_added: false, has_aliases }
    }

    fn ruleset(&self) -> &Ruleset {
        self.snapshot.data().ruleset()
    }

    /// Range of an entry in the payload, without the separator before it.
    fn range(&self, index: usize) -> Range<usize> {
        let before = index.checked_sub(1).and_then(|it| self.ends.get(it)).copied().unwrap_or(0);
        let end = self.ends.get(index).copied().unwrap_or(before);
        let separator = if before > 0 && end > before { self.format.separator().len() } else { 0 };
        self.start + before + separator..self.start + end
    }
}

impl Draft<'_> {
    /// Appends one entry, or nothing.
    fn push(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let before = self.out.len();
        if before > self.start {
            self.out.extend_from_slice(self.separator);
        }
        let start = self.out.len();
        write(self.out);
        if self.out.len() == start {
            self.out.truncate(before);
        }
        self.ends.push(self.out.len() - self.start);
    }

    /// Appends entries of results in which every flag has one.
    fn copy(&mut self, results: &GroupResults, entries: Range<usize>) {
        let Some(last) = entries.end.checked_sub(1).filter(|last| *last >= entries.start) else { return };
        let (from, to) = (results.range(entries.start).start, results.range(last).end);
        if self.out.len() > self.start {
            self.out.extend_from_slice(self.separator);
        }
        let place = self.out.len() - self.start;
        self.out.extend_from_slice(&results.payload[from..to]);
        self.ends.extend(results.ends[entries].iter().map(|end| results.start + end - from + place));
    }
}

fn is_alias(evaluated: &Evaluated<'_>) -> bool {
    evaluated.key() != &**evaluated.item_key()
}
