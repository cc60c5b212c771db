//! The summary: how often each flag had which result between two posts.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use yardarm_launchdarkly_eval::model::write_text;

use super::read::Feature;
use super::write::ObjectWriter;

/// Bytes that one summary keeps, entries counted with [`ENTRY`]. Keys, values and kinds come from callers, so all of them
/// must be bounded; an event that would exceed the limit is dropped without being counted.
const MAX_BYTES: usize = 2 << 20;
/// Approximate memory of an entry besides its text: nodes of maps, allocations, numbers.
const ENTRY: usize = 96;

/// Counts of evaluations.
#[derive(Debug, Default)]
pub(super) struct Counters {
    /// In order of key.
    flags: BTreeMap<Box<str>, FlagCounters>,
    /// Times of the earliest and the latest evaluation, in Unix milliseconds.
    span: Option<(u64, u64)>,
    bytes: usize,
}

#[derive(Debug, Default)]
struct FlagCounters {
    /// JSON.
    default: Box<str>,
    /// By variation and version.
    counters: BTreeMap<(Option<i64>, Option<i64>), Counter>,
    context_kinds: BTreeSet<Box<str>>,
}

#[derive(Debug)]
struct Counter {
    /// JSON.
    value: Box<str>,
    count: u64,
}

impl Counters {
    /// Counts an evaluation with the result `variation`; returns whether there was room.
    pub(super) fn add(&mut self, feature: &Feature<'_>, variation: Option<i64>) -> bool {
        let result = (variation, feature.version);
        let cost = self.cost(feature, result);
        if self.bytes + cost > MAX_BYTES {
            return false;
        }
        self.bytes += cost;
        let at_ms = feature.source.at_ms;
        self.span = Some(self.span.map_or((at_ms, at_ms), |(start, end)| (start.min(at_ms), end.max(at_ms))));
        if !self.flags.contains_key(&*feature.key) {
            let flag = FlagCounters { default: feature.default.into(), ..FlagCounters::default() };
            self.flags.insert(feature.key.as_ref().into(), flag);
        }
        let Some(flag) = self.flags.get_mut(&*feature.key) else { return false };
        for (kind, _) in feature.source.identity.parts() {
            if !flag.context_kinds.contains(kind) {
                flag.context_kinds.insert(kind.into());
            }
        }
        let counter = flag.counters.entry(result);
        counter.or_insert_with(|| Counter { value: feature.value.into(), count: 0 }).count += 1;
        true
    }

    /// Takes the summary event; `None` if nothing was counted. Resets all counts.
    pub(super) fn take(&mut self) -> Option<Bytes> {
        let Self { flags, span, .. } = std::mem::take(self);
        let (start, end) = span?;
        let mut out = Vec::with_capacity(1024);
        ObjectWriter::write(&mut out, |event| {
            event.text("kind", "summary");
            event.integer("startDate", start);
            event.integer("endDate", end);
            event.object("features", |features| {
                flags.iter().for_each(|(key, flag)| features.object(key, |object| flag.write(object)));
            });
        });
        Some(out.into())
    }

    /// Whether there may soon be no room for an event.
    pub(super) fn is_crowded(&self) -> bool {
        self.bytes > MAX_BYTES / 2
    }

    /// Approximate bytes that are held.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether nothing was counted.
    pub(super) fn is_empty(&self) -> bool {
        self.flags.is_empty()
    }

    /// Additional bytes that counting an evaluation would take.
    fn cost(&self, feature: &Feature<'_>, result: (Option<i64>, Option<i64>)) -> usize {
        let flag = self.flags.get(&*feature.key);
        let of_flag = if flag.is_some() { 0 } else { ENTRY + feature.key.len() + feature.default.len() };
        let is_counted = flag.is_some_and(|it| it.counters.contains_key(&result));
        let of_counter = if is_counted { 0 } else { ENTRY + feature.value.len() };
        let kinds = feature.source.identity.parts().map(|(kind, _)| kind);
        let new_kinds = kinds.filter(|kind| !flag.is_some_and(|it| it.context_kinds.contains(*kind)));
        of_flag + of_counter + new_kinds.map(|kind| ENTRY + kind.len()).sum::<usize>()
    }
}

impl FlagCounters {
    fn write(&self, flag: &mut ObjectWriter<'_>) {
        flag.raw("default", &self.default);
        flag.array("counters", &self.counters, |out, ((variation, version), counter)| {
            ObjectWriter::write(out, |object| {
                variation.iter().for_each(|it| object.integer("variation", *it));
                match version {
                    Some(version) => object.integer("version", *version),
                    None => object.raw("unknown", "true"),
                }
                object.raw("value", &counter.value);
                object.integer("count", counter.count);
            });
        });
        flag.array("contextKinds", &self.context_kinds, |out, kind| write_text(kind, out));
    }
}
