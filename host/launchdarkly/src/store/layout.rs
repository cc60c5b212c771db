//! Keys and values as LaunchDarkly's SDKs read them in daemon mode (U097 to U100, U103, U113).

mod order;

use std::sync::Arc;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use yardarm_launchdarkly_eval::model::{Flag, Segment, as_version, normalize_json};
use yardarm_store::{Collection, Layout, Record};
use yardarm_vendor::upstream::shortened;

use crate::data::{Item, ItemKind, Items, message};

pub(super) const FLAGS: &str = "features";
pub(super) const SEGMENTS: &str = "segments";

pub(super) const LAYOUT: Layout = Layout {
    marker: "$inited",
    cursor: "big_segments_cursor",
    synchronized_on: "big_segments_synchronized_on",
    probe: "$yardarm-probe",
    lock: "big_segments_lock",
    metadata: "big_segments_metadata",
    subjects: "big_segments_user",
    include: "big_segment_include",
    exclude: "big_segment_exclude",
    version_of,
};

/// All collections.
pub(super) const COLLECTIONS: [&str; 2] = [SEGMENTS, FLAGS];

/// All items as they are written. With `in_order`, each flag follows its prerequisites, for databases whose readers see a
/// part of the items (U027). Segments precede flags in any case.
pub(super) fn collections(items: &Items, in_order: bool) -> [Collection; 2] {
    let record = |item: Item| record(&item).1;
    let flags: Vec<_> = if in_order { order::flags(items) } else { items.flags.iter().collect() };
    [
        Collection { name: SEGMENTS, records: items.segments.iter().cloned().map(Item::Segment).map(record).collect() },
        Collection { name: FLAGS, records: flags.into_iter().cloned().map(Item::Flag).map(record).collect() },
    ]
}

/// The collection and the record of an item.
pub(super) fn record(item: &Item) -> (&'static str, Record) {
    let collection = if matches!(item, Item::Flag(_)) { FLAGS } else { SEGMENTS };
    let text = if item.is_deleted() { tombstone(item) } else { item.json().clone() };
    (collection, Record { key: Arc::clone(item.key()), version: item.version(), text })
}

/// A deleted item is a complete object of its kind with everything at its default, because some SDKs fail on missing
/// properties (launchdarkly/go-server-sdk-evaluation `ldmodel/model_marshal.go` writes the same).
fn tombstone(item: &Item) -> Bytes {
    let version = item.version();
    let text = match item {
        Item::Flag(_) => format!(
            r#"{{"key":"$deleted","on":false,"prerequisites":[],"targets":[],"contextTargets":[],"rules":[],"fallthrough":{{}},"offVariation":null,"variations":[],"clientSide":false,"salt":"","trackEvents":false,"trackEventsFallthrough":false,"debugEventsUntilDate":null,"version":{version},"deleted":true}}"#
        ),
        Item::Segment(_) => format!(
            r#"{{"key":"$deleted","included":[],"excluded":[],"includedContexts":[],"excludedContexts":[],"salt":"","rules":[],"version":{version},"generation":null,"deleted":true}}"#
        ),
    };
    text.into()
}

/// Parses stored items. Items that cannot be used are left out; `None` when no stored item can be used.
pub(super) fn items(flags: Vec<(String, Bytes)>, segments: Vec<(String, Bytes)>) -> Option<Items> {
    let (mut items, mut problems) = (Items::default(), Vec::new());
    for (key, text) in flags {
        match one_line(ItemKind::Flag, &key, &text).and_then(|it| message::flag(&key, &it).map_err(|it| it.to_string()))
        {
            // The key inside a tombstone is the same for all items.
            Ok(flag) if flag.is_deleted() => items.flags.insert(Arc::new(Flag::tombstone(&key, flag.version()))),
            Ok(flag) => items.flags.insert(Arc::new(flag)),
            Err(problem) => problems.push(problem),
        }
    }
    for (key, text) in segments {
        let line = one_line(ItemKind::Segment, &key, &text);
        match line.and_then(|it| message::segment(&key, &it).map_err(|it| it.to_string())) {
            Ok(segment) if segment.is_deleted() => {
                items.segments.insert(Arc::new(Segment::tombstone(&key, segment.version())));
            }
            Ok(segment) => items.segments.insert(Arc::new(segment)),
            Err(problem) => problems.push(problem),
        }
    }
    let Some(first) = problems.first() else { return Some(items) };
    if items.is_empty() {
        return None;
    }
    let (count, first) = (problems.len(), shortened(first));
    tracing::error!(count, first, "items in the persistent store cannot be used and are left out");
    Some(items)
}

/// Normalizes an item. Other programs may have written it on several lines or with escapes that some SDKs reject.
fn one_line(kind: ItemKind, key: &str, text: &[u8]) -> Result<Box<RawValue>, String> {
    let text = String::from_utf8_lossy(text);
    RawValue::from_string(normalize_json(&text).into_owned()).map_err(|error| format!("{kind} `{key}`: {error}"))
}

fn version_of(text: &[u8]) -> Option<i64> {
    #[derive(Deserialize)]
    struct Versioned {
        version: f64,
    }
    // An item with a version that upstream cannot send must not block items from upstream.
    as_version(serde_json::from_slice::<Versioned>(text).ok()?.version)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(key: &str, text: &str) -> (String, Bytes) {
        (key.to_owned(), Bytes::copy_from_slice(text.as_bytes()))
    }

    #[test]
    fn written_items_can_be_read() {
        let flag = r#"{"key":"f","version":3,"x-unknown":1.50}"#;
        let first = items(vec![pair("f", flag)], vec![pair("s", r#"{"key":"s","version":2}"#)]).expect("items");
        let mut all = first.clone();
        all.upsert(&Item::Flag(Arc::new(Flag::tombstone("gone", 7))));
        all.upsert(&Item::Segment(Arc::new(Segment::tombstone("away", 8))));
        let [segments, flags] = collections(&all, false);
        assert_eq!((segments.name, flags.name), ("segments", "features"));
        assert_eq!(flags.records[0].text, flag, "byte for byte");
        let pairs = |collection: Collection| -> Vec<(String, Bytes)> {
            collection.records.into_iter().map(|it| (it.key.to_string(), it.text)).collect()
        };
        for record in flags.records.iter().chain(&segments.records) {
            assert_eq!(version_of(&record.text), Some(record.version));
        }
        let again = items(pairs(flags), pairs(segments)).expect("items");
        assert!(again.looks_like(&first));
        assert_eq!(again.flags.get("gone").map(|it| it.version()), Some(7));
        assert_eq!(again.segments.get("away").map(|it| it.version()), Some(8));
    }

    #[test]
    fn items_of_other_programs_are_checked() {
        let split = items(vec![pair("f", "{\"key\":\"f\",\n\"version\":1}")], vec![]).expect("items");
        assert_eq!(split.flags.get("f").expect("f").json(), "{\"key\":\"f\", \"version\":1}");
        for broken in ["", "nonsense", r#"{"key":1}"#] {
            assert!(items(vec![pair("f", broken)], vec![]).is_none(), "{broken}");
            assert!(items(vec![], vec![pair("s", broken)]).is_none(), "{broken}");
            assert_eq!(version_of(broken.as_bytes()), None);
            let good = || pair("good", r#"{"version":1}"#);
            let rest = items(vec![good(), pair("f", broken)], vec![pair("s", broken), good()]).expect("the rest");
            assert_eq!((rest.flags.len(), rest.segments.len()), (1, 1), "one item costs itself: {broken}");
        }
        let odd = Bytes::from_static(b"{\"version\":1,\"salt\":\"\x01\xff\"}");
        let odd = items(vec![("f".to_owned(), odd)], vec![]).expect("items");
        assert_eq!(odd.flags.get("f").expect("f").json(), "{\"version\":1,\"salt\":\"\\u0001\u{fffd}\"}");
    }

    #[test]
    fn an_item_with_an_invalid_version_is_left_out_and_older_than_any() {
        for version in ["1e308", "1e999", "9007199254740992", "1.5", "-1", "\"3\""] {
            let odd = format!(r#"{{"key":"odd","version":{version}}}"#);
            let good = |key: &str| pair(key, &format!(r#"{{"key":"{key}","version":1}}"#));
            let flags = vec![good("a"), pair("odd", &odd), good("z")];
            let read = items(flags, vec![good("s"), pair("odd", &odd)]).expect(version);
            let keys: Vec<_> = read.flags.iter().map(|it| it.key().to_string()).collect();
            assert_eq!((keys, read.segments.len()), (vec!["a".to_owned(), "z".to_owned()], 1), "{version}");
            assert_eq!(version_of(odd.as_bytes()), None, "{version}");
        }
        assert_eq!(version_of(br#"{"key":"a","version":7.0}"#), Some(7));
    }
}
