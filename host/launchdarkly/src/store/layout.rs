//! Keys and values as LaunchDarkly's SDKs read them in daemon mode (upstream page, sections 4.1, 4.3 and 4.8).

use std::sync::Arc;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use yardarm_store::{Collection, Layout, Record};

use crate::dataset::{Item, Items};
use crate::model::{Flag, Segment, as_version};
use crate::upstream::message;

pub(super) const FLAGS: &str = "features";
pub(super) const SEGMENTS: &str = "segments";

pub(super) const LAYOUT: Layout = Layout {
    marker: "$inited",
    cursor: "big_segments_cursor",
    synchronized_on: "big_segments_synchronized_on",
    probe: "$yardarm-probe",
    lock: "big_segments_lock",
    include: "big_segment_include",
    exclude: "big_segment_exclude",
    version_of,
};

/// All collections.
pub(super) const COLLECTIONS: [&str; 2] = [SEGMENTS, FLAGS];

/// Everything as it is written.
pub(super) fn collections(items: &Items) -> [Collection; 2] {
    let record = |item: Item| record(&item).1;
    [
        // Segments first, so that a flag's segments are there before the flag where a database cannot write at once.
        Collection { name: SEGMENTS, records: items.segments.iter().cloned().map(Item::Segment).map(record).collect() },
        Collection { name: FLAGS, records: items.flags.iter().cloned().map(Item::Flag).map(record).collect() },
    ]
}

/// An item as it is written, and where.
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

/// Reads what was written; `None` when something in it is not an item of this version.
pub(super) fn items(flags: Vec<(String, Bytes)>, segments: Vec<(String, Bytes)>) -> Option<Items> {
    let mut items = Items::default();
    for (key, text) in flags {
        let Some(flag) = message::usable(message::flag(&key, &one_line(&text)?)).ok()? else { continue };
        // The key inside a tombstone is nobody's.
        items.flags.push(Arc::new(if flag.is_deleted() { Flag::tombstone(&key, flag.version()) } else { flag }));
    }
    for (key, text) in segments {
        let Some(segment) = message::usable(message::segment(&key, &one_line(&text)?)).ok()? else { continue };
        let is_deleted = segment.is_deleted();
        items.segments.push(Arc::new(if is_deleted { Segment::tombstone(&key, segment.version()) } else { segment }));
    }
    Some(items.sorted())
}

/// Others may have written an item in several lines; on streams it must be one.
fn one_line(text: &Bytes) -> Option<Box<RawValue>> {
    let text = std::str::from_utf8(text).ok()?.replace(['\n', '\r'], " ");
    RawValue::from_string(text).ok()
}

fn version_of(text: &[u8]) -> Option<i64> {
    #[derive(Deserialize)]
    struct Versioned {
        version: f64,
    }
    // Text with a version that upstream cannot send must not stand in the way of what upstream does send.
    as_version(serde_json::from_slice::<Versioned>(text).ok()?.version)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(key: &str, text: &str) -> (String, Bytes) {
        (key.to_owned(), Bytes::copy_from_slice(text.as_bytes()))
    }

    #[test]
    fn what_is_written_can_be_read() {
        let flag = r#"{"key":"f","version":3,"x-unknown":1.50}"#;
        let first = items(vec![pair("f", flag)], vec![pair("s", r#"{"key":"s","version":2}"#)]).expect("items");
        let mut all = first.clone();
        all.upsert(&Item::Flag(Arc::new(Flag::tombstone("gone", 7))));
        all.upsert(&Item::Segment(Arc::new(Segment::tombstone("away", 8))));
        let [segments, flags] = collections(&all);
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
        assert_eq!((again.flags[1].key().as_ref(), again.flags[1].version()), ("gone", 7));
        assert_eq!((again.segments[0].key().as_ref(), again.segments[0].version()), ("away", 8));
    }

    #[test]
    fn what_others_wrote_is_read_with_care() {
        let split = items(vec![pair("f", "{\"key\":\"f\",\n\"version\":1}")], vec![]).expect("items");
        assert_eq!(split.flags[0].json(), "{\"key\":\"f\", \"version\":1}");
        for broken in ["", "nonsense", r#"{"key":1}"#] {
            assert!(items(vec![pair("f", broken)], vec![]).is_none(), "{broken}");
            assert!(items(vec![], vec![pair("s", broken)]).is_none(), "{broken}");
            assert_eq!(version_of(broken.as_bytes()), None);
        }
    }

    #[test]
    fn an_item_with_a_version_that_is_none_costs_itself_and_is_older_than_everything() {
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
