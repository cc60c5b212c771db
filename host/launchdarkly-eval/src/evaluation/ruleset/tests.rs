use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::evaluation::{Request, evaluate_all};
use crate::model::{Flag, Segment};

fn raw(json: &serde_json::Value) -> Box<serde_json::value::RawValue> {
    serde_json::value::to_raw_value(json).expect("JSON")
}

fn flag(key: &str, json: &serde_json::Value) -> Arc<Flag> {
    Arc::new(Flag::parse(key, &raw(json)).expect(key))
}

fn segment(key: &str, json: &serde_json::Value) -> Arc<Segment> {
    Arc::new(Segment::parse(key, &raw(json)).expect(key))
}

/// A flag with `prerequisites` and with clauses about `segments` and an attribute.
fn asking(key: &str, prerequisites: &[&str], segments: &[&str], attribute: &str) -> Arc<Flag> {
    let prerequisites: Vec<_> = prerequisites.iter().map(|key| json!({"key": key, "variation": 0})).collect();
    flag(
        key,
        &json!({
            "key": key, "on": true, "variations": [key, attribute], "fallthrough": {"variation": 0}, "offVariation": 1,
            "prerequisites": prerequisites,
            "clientSideAvailability": {"usingMobileKey": attribute.ends_with('1'), "usingEnvironmentId": attribute.ends_with('2')},
            "rules": [
                {"variation": 1, "clauses": [{"op": "segmentMatch", "values": segments}]},
                {"variation": 1, "clauses": [{"attribute": attribute, "op": "in", "values": [1]}]},
            ],
        }),
    )
}

fn nesting(key: &str, segments: &[&str], included: &[&str]) -> Arc<Segment> {
    let rules = json!([{"clauses": [{"op": "segmentMatch", "values": segments}]}]);
    segment(key, &json!({"key": key, "included": included, "rules": rules}))
}

fn body(ruleset: &Ruleset, audience: Audience) -> String {
    let context = Context::parse(br#"{"kind":"user","key":"u","a1":1}"#).expect("a context");
    let request = Request { context: &context, audience, with_reasons: true, memberships: None };
    let mut out = Vec::new();
    evaluate_all(ruleset, &request, &mut out);
    String::from_utf8(out).expect("UTF-8")
}

#[test]
fn dependants_are_found_through_flags_and_segments() {
    let flags = [
        asking("a", &[], &["s"], "x"),
        asking("b", &["a"], &[], "x"),
        asking("c", &["b", "later"], &[], "x"),
        asking("d", &[], &["t"], "x"),
        asking("e", &["e"], &[], "x"),
    ];
    let segments = [nesting("s", &["u"], &[]), nesting("t", &["s", "s"], &[]), nesting("u", &["t"], &[])];
    let ruleset = Ruleset::build(None, &flags, &segments);
    let keys = |keys: Vec<Arc<str>>| keys.join(" ");
    assert_eq!(keys(ruleset.affected_by_flag("a")), "a b c");
    assert_eq!(keys(ruleset.affected_by_flag("c")), "c");
    assert_eq!(keys(ruleset.affected_by_flag("e")), "e");
    assert_eq!(keys(ruleset.affected_by_flag("later")), "c");
    assert_eq!(keys(ruleset.affected_by_flag("unknown")), "");
    assert_eq!(keys(ruleset.affected_by_segment("u")), "a b c d");
    assert_eq!(keys(ruleset.affected_by_segment("unknown")), "");
}

#[test]
fn unchanged_items_are_shared() {
    let flags = [asking("a", &[], &["s"], "x"), asking("b", &["a"], &[], "x")];
    let segments = [nesting("s", &[], &["u"])];
    let first = Ruleset::build(None, &flags, &segments);
    let second = Ruleset::build(Some(&first), &[Arc::clone(&flags[0]), asking("b", &[], &[], "y")], &segments);
    let compiled =
        |ruleset: &Ruleset, key: &str| ruleset.symbols.flags.get(key).map(|it| ruleset.flags[it as usize].clone());
    let (a, again) = (compiled(&first, "a").flatten(), compiled(&second, "a").flatten());
    assert!(Arc::ptr_eq(&a.expect("a"), &again.expect("a")));
    let (b, changed) = (compiled(&first, "b").flatten(), compiled(&second, "b").flatten());
    assert!(!Arc::ptr_eq(&b.expect("b"), &changed.expect("b")));
}

#[test]
fn names_of_removed_items_are_dropped_eventually() {
    let kept = asking("kept", &[], &[], "x");
    let mut ruleset = Ruleset::build(None, &[Arc::clone(&kept)], &[]);
    for round in 0..3 * SPARE_NAMES {
        let passing = flag(&format!("a{round}"), &json!({}));
        ruleset = Ruleset::build(Some(&ruleset), &[passing, Arc::clone(&kept)], &[]);
    }
    assert!(ruleset.symbols.len() < 2 * SPARE_NAMES, "{}", ruleset.symbols.len());
}

#[test]
fn big_segments_are_reported_with_the_keys_to_look_up() {
    let context = Context::parse(br#"{"kind":"multi","user":{"key":"u"},"org":{"key":"o"},"team":{"key":"u"}}"#);
    let context = context.expect("a context");
    let big = |key: &str, kind: &str| {
        segment(key, &json!({"key": key, "unbounded": true, "generation": 1, "unboundedContextKind": kind}))
    };
    let ruleset = Ruleset::build(None, &[], &[nesting("s", &[], &[])]);
    assert!(!ruleset.has_big_segments());
    let segments = [big("a", "user"), big("b", "org"), big("c", "team"), big("d", "device")];
    let ruleset = Ruleset::build(None, &[], &segments);
    assert!(ruleset.has_big_segments());
    assert_eq!(ruleset.big_segment_keys(&context), ["o", "u"]);
}

/// A change of one item of an environment.
#[derive(Debug, Clone)]
enum Step {
    PutFlag { index: usize, prerequisite: usize, segment: usize, attribute: usize },
    DropFlag(usize),
    PutSegment { index: usize, inner: usize, member: bool },
    DropSegment(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let small = || 0..5_usize;
    prop_oneof![
        4 => (small(), small(), small(), small())
            .prop_map(|(index, prerequisite, segment, attribute)| Step::PutFlag { index, prerequisite, segment, attribute }),
        1 => small().prop_map(Step::DropFlag),
        2 => (small(), small(), any::<bool>()).prop_map(|(index, inner, member)| Step::PutSegment { index, inner, member }),
        1 => small().prop_map(Step::DropSegment),
    ]
}

proptest! {
    #[test]
    fn building_on_the_previous_ruleset_is_the_same_as_starting_anew(steps in prop::collection::vec(step(), 1..20)) {
        let mut flags: std::collections::BTreeMap<String, Arc<Flag>> = std::collections::BTreeMap::new();
        let mut segments: std::collections::BTreeMap<String, Arc<Segment>> = std::collections::BTreeMap::new();
        let mut ruleset = Ruleset::build(None, &[], &[]);
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::PutFlag { index, prerequisite, segment, attribute } => {
                    let key = format!("f{index}");
                    let needed = format!("f{prerequisite}");
                    let needed: Vec<&str> = if index == prerequisite { vec![] } else { vec![&needed] };
                    let flag = asking(&key, &needed, &[&format!("s{segment}")], &format!("a{attribute}"));
                    flags.insert(key, flag);
                }
                Step::DropFlag(index) => {
                    let key = format!("f{index}");
                    flags.insert(key.clone(), Arc::new(Flag::tombstone(&key, 1)));
                }
                Step::PutSegment { index, inner, member } => {
                    let key = format!("s{index}");
                    let segment = nesting(&key, &[&format!("s{inner}")], if member { &["u"] } else { &[] });
                    segments.insert(key, segment);
                }
                Step::DropSegment(index) => {
                    let key = format!("s{index}");
                    segments.insert(key.clone(), Arc::new(Segment::tombstone(&key, 1)));
                }
            }
            let flags: Vec<_> = flags.values().cloned().collect();
            let segments: Vec<_> = segments.values().cloned().collect();
            ruleset = Ruleset::build(Some(&ruleset), &flags, &segments);
            let fresh = Ruleset::build(None, &flags, &segments);
            // Lists of visible flags are made at different steps, and follow the changes from then on.
            for (first, audience) in [Audience::Server, Audience::Mobile, Audience::Browser].into_iter().enumerate() {
                if number >= 2 * first {
                    prop_assert_eq!(body(&ruleset, audience), body(&fresh, audience));
                }
            }
            for key in ["f0", "f1", "f2", "f3", "f4"] {
                prop_assert_eq!(ruleset.affected_by_flag(key), fresh.affected_by_flag(key));
            }
        }
    }
}
