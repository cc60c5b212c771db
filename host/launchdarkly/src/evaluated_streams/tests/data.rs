//! Flags, segments and changes of them, plain and random.

use std::fmt;
use std::sync::Arc;

use proptest::prelude::*;
use proptest::sample::select;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use yardarm_launchdarkly_eval::model::{Flag, Segment};

use crate::data::{Change, Item, Items};

pub(super) const KEYS: [&str; 6] = ["a", "b", "c", "d\"", "e", "ü"];
const SEGMENTS: [&str; 3] = ["s", "t", "u"];

pub(super) fn flag(json: &Value) -> Item {
    flag_under(json["key"].as_str().expect("a key"), json)
}

fn flag_under(key: &str, json: &Value) -> Item {
    let raw = RawValue::from_string(json.to_string()).expect("JSON");
    Item::Flag(Arc::new(Flag::parse(key, &raw).expect("a flag")))
}

pub(super) fn segment(json: &Value) -> Item {
    let raw = RawValue::from_string(json.to_string()).expect("JSON");
    Item::Segment(Arc::new(Segment::parse(json["key"].as_str().expect("a key"), &raw).expect("a segment")))
}

pub(super) fn put(items: impl IntoIterator<Item = Item>) -> Change {
    Change::Put(Items::default().with_live(items.into_iter().collect()))
}

/// A flag that is visible to all SDKs and whose value is `value`.
pub(super) fn simple(key: &str, version: i64, value: &Value) -> Value {
    json!({
        "key": key, "version": version, "on": true, "variations": ["off", value], "offVariation": 0,
        "fallthrough": {"variation": 1}, "salt": "",
        "clientSideAvailability": {"usingMobileKey": true, "usingEnvironmentId": true},
    })
}

pub(super) fn any_change() -> impl Strategy<Value = Change> {
    let items = prop::collection::vec(any_item(), 0..12);
    prop_oneof![9 => any_item().prop_map(Change::Patch), 1 => items.prop_map(put)]
}

pub(super) fn any_item() -> impl Strategy<Value = Item> {
    prop_oneof![3 => any_flag(), 1 => any_segment()]
}

fn any_flag() -> impl Strategy<Value = Item> {
    let prerequisite = prop::option::weighted(0.3, (select(&KEYS[..]), 0..3));
    let segment = prop::option::weighted(0.4, select(&SEGMENTS[..]));
    let seen = select(vec![(true, true), (true, true), (true, false), (false, true), (false, false)]);
    let value = select(vec![json!(true), json!(1.5), json!("x".repeat(300)), json!({"a": [1, null]})]);
    let odd = (prop::bool::weighted(0.15), prop::bool::weighted(0.02), any::<bool>(), prop::bool::weighted(0.8));
    (select(&KEYS[..]), -1_i64..12, prerequisite, segment, seen, (0..3, value), odd).prop_map(
        |(key, version, prerequisite, segment, (mobile, browser), (fallthrough, value), odd)| {
            let (is_deleted, is_alias, tracks, is_on) = odd;
            if is_deleted {
                return flag(&json!({"key": key, "version": version, "deleted": true}));
            }
            let name = if is_alias { "a" } else { key };
            let prerequisites: Vec<_> =
                prerequisite.iter().map(|(key, variation)| json!({"key": key, "variation": variation})).collect();
            let rules: Vec<_> = segment
                .iter()
                .map(|key| {
                    let clause = json!({"attribute": "", "op": "segmentMatch", "values": [key]});
                    json!({"id": "r", "variation": 2, "clauses": [clause], "trackEvents": tracks})
                })
                .collect();
            flag_under(
                key,
                &json!({
                    "key": name, "version": version, "on": is_on, "variations": ["off", value, "rule"],
                    "offVariation": 0, "fallthrough": {"variation": fallthrough}, "prerequisites": prerequisites,
                    "rules": rules, "trackEvents": tracks, "salt": "",
                    "clientSideAvailability": {"usingMobileKey": mobile, "usingEnvironmentId": browser},
                }),
            )
        },
    )
}

fn any_segment() -> impl Strategy<Value = Item> {
    let inner = prop::option::weighted(0.3, select(&SEGMENTS[..]));
    (select(&SEGMENTS[..]), 0_i64..12, any::<bool>(), prop::bool::weighted(0.1), inner).prop_map(
        |(key, version, is_in, is_deleted, inner)| {
            if is_deleted {
                return segment(&json!({"key": key, "version": version, "deleted": true}));
            }
            let included = if is_in { vec!["ada"] } else { Vec::new() };
            let clauses = inner.map(|key| json!([{"attribute": "", "op": "segmentMatch", "values": [key]}]));
            let rules: Vec<_> = clauses.map(|it| json!({"clauses": it})).into_iter().collect();
            segment(&json!({"key": key, "version": version, "included": included, "rules": rules, "salt": ""}))
        },
    )
}

impl fmt::Debug for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.key(), self.version(), String::from_utf8_lossy(self.json()))
    }
}

impl fmt::Debug for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Patch(item) => item.fmt(f),
            Self::Group(items) => f.debug_list().entries(items).finish(),
            Self::SegmentsChanged => f.write_str("members of Big Segments"),
            Self::Put(items) => {
                let flags = items.flags.iter().cloned().map(Item::Flag);
                f.debug_set().entries(flags.chain(items.segments.iter().cloned().map(Item::Segment))).finish()
            }
        }
    }
}
