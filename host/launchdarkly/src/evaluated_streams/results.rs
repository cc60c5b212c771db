//! What clients of one group see at one moment.

use std::cmp::Ordering;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use yardarm_core::Snapshot;
use yardarm_core::sse::Frame;
use yardarm_launchdarkly_eval::evaluation::{Audience, Evaluated, Ruleset, evaluate_each, evaluate_these};

use crate::data::FlagData;
use crate::evaluation::{Edits, EvaluationRequest, Visibility};

/// Where entries begin in the payload of a `put`: after `event: put`, a line end, `data: ` and `{`.
const START: usize = 18;
/// Room for the entry of an ordinary flag.
const BYTES_PER_FLAG: usize = 96;

/// The results of all flags that a client may see, written as the `put` that they make.
pub(super) struct GroupResults {
    snapshot: Arc<Snapshot<FlagData>>,
    audience: Audience,
    put: Frame,
    /// The bytes of `put`.
    payload: Bytes,
    /// Where each entry ends, counted from [`START`], in the order in which the ruleset lists visible flags. One that
    /// plugins hide ends where the one before it ends.
    ends: Vec<usize>,
    /// Plugins had a say, so that the entry of a flag may depend on everything.
    is_edited: bool,
    /// Some flag is written under another name than the key it came under, so two entries may have one name.
    has_aliases: bool,
}

/// The new result of one flag that is not what it was; empty where it is not shown any more.
struct Fresh {
    key: Arc<str>,
    entry: Vec<u8>,
    is_alias: bool,
}

/// What becomes of a view.
pub(super) enum NextResults {
    /// Clients see the same.
    Same(GroupResults),
    /// Clients see the flags with `keys`, which are sorted, otherwise than in `results`.
    Other { results: GroupResults, next: GroupResults, keys: Vec<Arc<str>> },
}

/// A view that is being written.
struct Draft<'a> {
    out: &'a mut Vec<u8>,
    start: usize,
    ends: Vec<usize>,
    has_aliases: bool,
}

impl GroupResults {
    /// Evaluates everything.
    pub(super) fn of(
        snapshot: Arc<Snapshot<FlagData>>,
        evaluation_request: &EvaluationRequest,
        edits: Option<&Edits>,
    ) -> Self {
        let capacity = BYTES_PER_FLAG * snapshot.data().items().flags.len();
        Self::write(Arc::clone(&snapshot), evaluation_request, edits.is_some(), capacity, |draft| {
            let mut index = 0;
            evaluate_each(snapshot.data().ruleset(), &evaluation_request.request(), &mut |evaluated| {
                let shown = edits.map_or(Visibility::AsEvaluated, |edits| edits.at(index));
                index += 1;
                draft.has_aliases |= is_alias(&evaluated);
                draft.push(|out| write_entry(&evaluated, shown, evaluation_request, out));
            });
        })
    }

    /// Whether the view of `snapshot` can be made from this one by looking only at flags that a change touched.
    pub(super) fn can_be_continued(&self, is_edited: bool) -> bool {
        !self.is_edited && !is_edited
    }

    /// The view of `snapshot`, in which none but the flags with `keys`, which are sorted, may differ from this one.
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

    /// Those of the flags with `keys`, which are sorted, that `snapshot` shows otherwise than this view does.
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
                write_entry(&evaluated, Visibility::AsEvaluated, evaluation_request, &mut fresh.entry);
                fresh.is_alias = is_alias(&evaluated);
            }
        });
        all.retain(|fresh| self.entry(&fresh.key) != fresh.entry);
        all
    }

    /// This view with the results of some flags replaced, which makes it the one of `snapshot`.
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

    /// This view with the bytes of another one that says the same, which streams hold already.
    pub(super) fn with_bytes_of(self, other: Self) -> Self {
        debug_assert_eq!(self.payload, other.payload, "the same view");
        Self { put: other.put, payload: other.payload, ..self }
    }

    /// What was evaluated.
    pub(super) fn snapshot(&self) -> &Arc<Snapshot<FlagData>> {
        &self.snapshot
    }

    /// Everything, as a new stream is sent it.
    pub(super) fn put(&self) -> &Frame {
        &self.put
    }

    /// The entry of a flag, `"key":{…}`; empty if the client does not see it.
    pub(super) fn entry(&self, key: &str) -> &[u8] {
        let position = self.ruleset().visible_position(key, self.audience);
        position.ok().and_then(|index| self.payload.get(self.range(index))).unwrap_or_default()
    }

    /// The keys of flags that `next` shows otherwise, sorted; no more than `most`.
    pub(super) fn differences(&self, next: &Self, most: usize) -> Vec<Arc<str>> {
        let mut keys = Vec::new();
        // After a reconnect upstream everything is sent again, and usually it is the same.
        if self.payload == next.payload {
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

    /// All flags that the audience may see in order of key, and their entries, which plugins may have made empty.
    fn entries(&self) -> impl Iterator<Item = (&Arc<str>, &[u8])> {
        let keys = self.ruleset().visible_keys(self.audience).enumerate();
        keys.map(|(index, key)| (key, self.payload.get(self.range(index)).unwrap_or_default()))
    }

    /// The version of a flag or of its tombstone, whether the client sees the flag or not.
    pub(super) fn version(&self, key: &str) -> Option<i64> {
        self.snapshot.data().items().flag_version(key)
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
        let (mut ends, mut has_aliases) = (Vec::new(), false);
        let put = Frame::event("put", capacity + 2, |out| {
            out.push(b'{');
            let start = out.len();
            let mut draft = Draft { out, start, ends: Vec::new(), has_aliases: false };
            fill(&mut draft);
            (ends, has_aliases) = (draft.ends, draft.has_aliases);
            out.push(b'}');
        });
        ends.shrink_to_fit();
        let payload = put.payload();
        Self { snapshot, audience: evaluation_request.request().audience, put, payload, ends, is_edited, has_aliases }
    }

    fn ruleset(&self) -> &Ruleset {
        self.snapshot.data().ruleset()
    }

    /// Where an entry is in the payload, without the comma before it.
    fn range(&self, index: usize) -> Range<usize> {
        let before = index.checked_sub(1).and_then(|it| self.ends.get(it)).copied().unwrap_or(0);
        let end = self.ends.get(index).copied().unwrap_or(before);
        let comma = usize::from(before > 0 && end > before);
        START + before + comma..START + end
    }
}

impl Draft<'_> {
    /// Appends one entry, or nothing.
    fn push(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let before = self.out.len();
        if before > self.start {
            self.out.push(b',');
        }
        let start = self.out.len();
        write(self.out);
        if self.out.len() == start {
            self.out.truncate(before);
        }
        self.ends.push(self.out.len() - self.start);
    }

    /// Appends entries of a view in which every flag has one.
    fn copy(&mut self, results: &GroupResults, entries: Range<usize>) {
        let Some(last) = entries.end.checked_sub(1).filter(|last| *last >= entries.start) else { return };
        let (from, to) = (results.range(entries.start).start, results.range(last).end);
        if self.out.len() > self.start {
            self.out.push(b',');
        }
        let place = self.out.len() - self.start;
        self.out.extend_from_slice(&results.payload[from..to]);
        self.ends.extend(results.ends[entries].iter().map(|end| START + end - from + place));
    }
}

fn is_alias(evaluated: &Evaluated<'_>) -> bool {
    evaluated.key() != &**evaluated.item_key()
}

fn write_entry(
    evaluated: &Evaluated<'_>,
    shown: Visibility<'_>,
    evaluation_request: &EvaluationRequest,
    out: &mut Vec<u8>,
) {
    match shown {
        Visibility::Hidden => (),
        Visibility::AsEvaluated => evaluated.write_entry(None, evaluation_request.with_reasons, out),
        Visibility::With(value) => {
            // What is sent on streams stands on one line; in JSON, line breaks are never part of a text.
            let line: Vec<u8> =
                value.iter().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { *byte }).collect();
            evaluated.write_entry(Some(&line), evaluation_request.with_reasons, out);
        }
    }
}
