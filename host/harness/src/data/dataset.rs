//! Flags and segments of one environment: how a change applies to them, and which events announce it.
//!
//! A Harness stream only names what has changed, and SDKs fetch it. So there is no full rendering, and a stream that has
//! missed a change ends: its SDK polls and reconnects.

use std::sync::OnceLock;

use bytes::Bytes;
use yardarm_core::sse::Frame;
use yardarm_core::{Applied, Dataset};
use yardarm_harness_eval::evaluation::Ruleset;
use yardarm_harness_eval::model::{Segment, Text};

use super::items::{ChangeEvent, Domain, Item, Items};

/// All flags and segments of one environment at one moment.
pub(crate) struct FlagData {
    items: Items,
    /// Compiled on the first evaluation; an environment that only serves server-side SDKs is never compiled. From then on,
    /// changes are compiled when they are applied.
    ruleset: OnceLock<Ruleset>,
    /// The list as SDKs fetch it, rendered for the first request: after a change, thousands of SDKs fetch it.
    flag_list: OnceLock<Bytes>,
    segment_lists: [OnceLock<Bytes>; 2],
}

/// One step of an environment's data.
#[derive(Clone)]
pub(crate) enum Change {
    /// Replaces everything. It is announced by [`Change::Notify`], difference by difference.
    Put(Items),
    /// Replaces one item if the new one is newer.
    Patch(Item, ChangeEvent),
    /// Replaces one item whatever its version, which payload plugins leave as it is.
    Replace(Item, ChangeEvent),
    /// Removes one item.
    Delete(ChangeEvent),
    /// Changes nothing; streams get the event.
    Notify(ChangeEvent),
}

/// The form of segment rules that an SDK supports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SegmentForm {
    /// Rules of one clause.
    Old = 0,
    /// Rules of several clauses, all of which must match.
    New = 1,
}

impl FlagData {
    fn new(items: Items) -> Self {
        Self { items, ruleset: OnceLock::new(), flag_list: OnceLock::new(), segment_lists: Default::default() }
    }

    /// The data that follows, compiled by `compile` from the previous ruleset if there was one.
    fn followed_by(&self, items: Items, compile: impl FnOnce(&Ruleset, &Items) -> Ruleset) -> Self {
        let data = Self::new(items);
        match self.ruleset.get() {
            Some(ruleset) => Self { ruleset: OnceLock::from(compile(ruleset, &data.items)), ..data },
            None => data,
        }
    }

    fn with_item(&self, items: Items, item: &Item) -> Self {
        self.followed_by(items, |ruleset, _| match item {
            Item::Flag(flag) => ruleset.with_flag(flag),
            Item::Segment(segment) => ruleset.with_segment(segment),
        })
    }

    fn without(&self, items: Items, domain: Domain, identifier: &str) -> Self {
        self.followed_by(items, |ruleset, _| match domain {
            Domain::Flag => ruleset.without_flag(identifier),
            Domain::TargetSegment => ruleset.without_segment(identifier),
        })
    }

    pub(crate) fn items(&self) -> &Items {
        &self.items
    }

    /// Returns the compiled form.
    pub(crate) fn ruleset(&self) -> &Ruleset {
        self.ruleset.get_or_init(|| build(&self.items, None))
    }

    /// Returns all flags as one JSON array.
    pub(crate) fn flag_list(&self) -> Bytes {
        self.flag_list.get_or_init(|| list(self.items.flags.iter().map(|it| it.json()))).clone()
    }

    /// Returns all segments as one JSON array.
    pub(crate) fn segment_list(&self, form: SegmentForm) -> Bytes {
        let write = || list(self.items.segments.iter().map(|it| segment_text(it, form).json()));
        self.segment_lists[form as usize].get_or_init(write).clone()
    }
}

fn build(items: &Items, before: Option<&Ruleset>) -> Ruleset {
    let flags: Vec<_> = items.flags.iter().cloned().collect();
    let segments: Vec<_> = items.segments.iter().cloned().collect();
    Ruleset::build_after(&flags, &segments, before)
}

/// Returns the text of a segment in a form that an SDK supports.
pub(crate) fn segment_text(segment: &Segment, form: SegmentForm) -> &Text {
    match form {
        SegmentForm::Old => segment.with_rules(),
        SegmentForm::New => segment.with_group_rules(),
    }
}

/// Renders a list. A line end closes every JSON response, as in the vendor's relay.
fn list<'a>(items: impl Iterator<Item = &'a Bytes>) -> Bytes {
    let items: Vec<_> = items.collect();
    let size: usize = items.iter().map(|it| it.len() + 1).sum();
    let mut out = Vec::with_capacity(size + 3);
    out.push(b'[');
    for (index, item) in items.into_iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.extend_from_slice(item);
    }
    out.extend_from_slice(b"]\n");
    out.into()
}

impl Dataset for FlagData {
    type Change = Change;

    const CHANNELS: usize = 1;

    fn apply(current: Option<&Self>, change: &Change) -> Applied<Self> {
        match (change, current) {
            (Change::Put(items), None) => Applied::News(Self::new(items.clone())),
            (Change::Put(items), Some(current)) => {
                Applied::News(current.followed_by(items.clone(), |before, items| build(items, Some(before))))
            }
            (Change::Notify(_), _) => Applied::AnnounceOnly,
            (_, None) => Applied::Ignored,
            (Change::Patch(item, _), Some(current)) => {
                let mut items = current.items.clone();
                // An old version changes nothing, but SDKs may not have fetched it yet.
                if items.upsert(item) { Applied::News(current.with_item(items, item)) } else { Applied::AnnounceOnly }
            }
            (Change::Replace(item, _), Some(current)) => {
                let mut items = current.items.clone();
                items.replace(item);
                Applied::News(current.with_item(items, item))
            }
            (Change::Delete(event), Some(current)) => {
                let mut items = current.items.clone();
                let was_there = items.remove(event.domain, &event.identifier);
                if !was_there {
                    return Applied::AnnounceOnly;
                }
                Applied::News(current.without(items, event.domain, &event.identifier))
            }
        }
    }

    fn render_change(change: &Change, _: usize) -> Option<Frame> {
        match change {
            Change::Put(_) => None,
            Change::Patch(_, event) | Change::Replace(_, event) | Change::Delete(event) | Change::Notify(event) => {
                Some(event.frame())
            }
        }
    }

    fn render_full(&self, _: usize) -> Option<Frame> {
        Some(Frame::end())
    }

    fn heartbeat() -> Frame {
        heartbeat()
    }
}

/// Renders a heartbeat: a comment and a blank line, because SDKs recognise a heartbeat at the blank line.
pub(crate) fn heartbeat() -> Frame {
    Frame::build(3, |out| out.extend_from_slice(b":\n\n"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;
    use yardarm_core::environment;
    use yardarm_harness_eval::model::Flag;

    use super::*;

    fn flag(name: &str, version: i64) -> Arc<Flag> {
        Arc::new(Flag::read(json!({"feature": name, "version": version})).unwrap())
    }

    fn event(event: &str, name: &str, version: i64) -> ChangeEvent {
        ChangeEvent { event: event.into(), domain: Domain::Flag, identifier: name.into(), version }
    }

    fn put(flags: &[(&str, i64)]) -> Change {
        Change::Put(Items {
            flags: flags.iter().map(|(name, version)| flag(name, *version)).collect(),
            ..Items::default()
        })
    }

    fn patch(name: &str, version: i64) -> Change {
        Change::Patch(Item::Flag(flag(name, version)), event("patch", name, version))
    }

    #[test]
    fn newer_versions_win_and_new_flags_are_added() {
        // F025
        let (mut writer, reader) = environment::<FlagData>();
        writer.update(&put(&[("a", 2), ("z", 0)]));
        for (change, is_applied) in [
            (patch("a", 1), false),
            (patch("a", 2), false),
            (patch("a", 3), true),
            (patch("new", 1), true),
            (patch("z", 0), true),
            (Change::Replace(Item::Flag(flag("a", 3)), event("patch", "a", 3)), true),
            (Change::Delete(event("delete", "a", 4)), true),
            (Change::Delete(event("delete", "a", 4)), false),
            (Change::Notify(event("patch", "x", 1)), false),
        ] {
            assert_eq!(writer.update(&change), is_applied);
        }
        let snapshot = reader.snapshot().unwrap();
        let list: Vec<_> =
            snapshot.data().items().flags.iter().map(|it| (it.feature.to_string(), it.version)).collect();
        assert_eq!(list, [("z".to_owned(), 0), ("new".to_owned(), 1)], "in upstream's order");
        let json = |name: &str, version: i64| String::from_utf8(flag(name, version).json().to_vec()).unwrap();
        assert_eq!(snapshot.data().flag_list(), format!("[{},{}]\n", json("z", 0), json("new", 1)));
        assert_eq!(snapshot.data().segment_list(SegmentForm::Old), "[]\n");
    }

    #[test]
    fn only_real_differences_are_announced() {
        let items = |flags: &[(&str, i64)]| match put(flags) {
            Change::Put(items) => items,
            _ => Items::default(),
        };
        let (before, after) = (items(&[("a", 1), ("b", 1), ("c", 1)]), items(&[("d", 5), ("a", 1), ("b", 2)]));
        let expected = [event("create", "d", 5), event("patch", "b", 2), event("delete", "c", 1)];
        assert_eq!(after.differences(&before), expected);
        assert!(after.differences(&after).is_empty());
    }

    #[test]
    fn events_are_one_line_of_ascii() {
        // F078
        let payload = event("patch", "zürich\n\"😀", 3).frame().payload();
        let expected = "event: *\ndata: {\"event\":\"patch\",\"domain\":\"flag\",\"identifier\":\"z\\u00fcrich\\n\\\"\\ud83d\\ude00\",\"version\":3}\n\n";
        assert_eq!(payload, expected);
        let segment = ChangeEvent { domain: Domain::TargetSegment, ..event("create", "s", 1) };
        assert!(String::from_utf8_lossy(&segment.frame().payload()).contains("\"domain\":\"target-segment\""));
    }
}
