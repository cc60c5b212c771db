//! Generated flags, segments and contexts without ambiguities: every property is present, indexes
//! are valid, no flag is a prerequisite of two others, rollouts of segments are by users and every context has one.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

/// One environment and one context.
#[derive(Debug, Clone)]
pub(super) struct Data {
    pub(super) flags: BTreeMap<String, Value>,
    pub(super) segments: BTreeMap<String, Value>,
    pub(super) context: Value,
}

const FLAGS: usize = 7;
const SEGMENTS: usize = 3;
const VARIATIONS: usize = 3;

impl Data {
    /// All of it, to reproduce a failure.
    pub(super) fn json(&self) -> Value {
        json!({"sdkData": {"flags": self.flags, "segments": self.segments}, "context": self.context})
    }
}

pub(super) fn data() -> impl Strategy<Value = Data> {
    let flags: Vec<_> = (0..FLAGS).map(flag).collect();
    let segments: Vec<_> = (0..SEGMENTS).map(segment).collect();
    (flags, segments, context()).prop_map(|(flags, segments, context)| Data {
        flags: (0..).zip(flags).map(|(index, flag)| (flag_key(index), flag)).collect(),
        segments: (0..).zip(segments).map(|(index, segment)| (segment_key(index), segment)).collect(),
        context,
    })
}

fn flag_key(index: usize) -> String {
    format!("flag{index}")
}

fn segment_key(index: usize) -> String {
    format!("segment{index}")
}

fn flag(index: usize) -> impl Strategy<Value = Value> {
    let salt = select(vec!["", "salt", "sälz"]);
    // A tree: no flag is reached on two paths. The last level refers to flags that do not exist.
    let prerequisite = move |child: usize| {
        let key = flag_key(2 * index + child);
        prop::option::weighted(0.4, (0..VARIATIONS).prop_map(move |it| json!({"key": key, "variation": it})))
    };
    let off = prop::option::of(0..VARIATIONS);
    (
        prop::bool::weighted(0.85),
        salt,
        off,
        (prerequisite(1), prerequisite(2)),
        targets(),
        prop::collection::vec(rule(), 0..4),
        choice(),
        any::<(bool, bool)>(),
    )
        .prop_map(move |(on, salt, off, prerequisites, (targets, context_targets), rules, fallthrough, tracking)| {
            let prerequisites: Vec<_> = [prerequisites.0, prerequisites.1].into_iter().flatten().collect();
            let variations: Vec<_> = (0..VARIATIONS).map(|it| json!({"flag": index, "value": it})).collect();
            json!({
                "key": flag_key(index), "version": index, "on": on, "salt": salt, "offVariation": off,
                "variations": variations, "prerequisites": prerequisites,
                "targets": targets, "contextTargets": context_targets, "rules": rules, "fallthrough": fallthrough,
                "trackEvents": tracking.0, "trackEventsFallthrough": tracking.1, "debugEventsUntilDate": null,
                "clientSide": false, "clientSideAvailability": {"usingMobileKey": true, "usingEnvironmentId": false},
                "deleted": false,
            })
        })
}

/// `targets` and `contextTargets`, at most one entry of `targets` for each variation.
fn targets() -> impl Strategy<Value = (Value, Value)> {
    let keys = || prop::collection::vec(key(), 0..3);
    (prop::collection::vec(keys(), 0..VARIATIONS), prop::collection::vec((kind(), keys(), 0..VARIATIONS), 0..3))
        .prop_map(|(targets, context_targets)| {
            let targets = targets.iter().enumerate().map(|(index, keys)| json!({"values": keys, "variation": index}));
            let context_targets = context_targets.iter().map(|(kind, keys, variation)| {
                let keys = if *kind == "user" { &[][..] } else { keys };
                json!({"contextKind": kind, "values": keys, "variation": variation})
            });
            (targets.collect(), context_targets.collect())
        })
}

fn rule() -> impl Strategy<Value = Value> {
    (select(vec!["", "rule"]), prop::collection::vec(clause(0), 1..3), choice(), any::<bool>()).prop_map(
        |(id, clauses, mut rule, track)| {
            rule["id"] = json!(id);
            rule["clauses"] = json!(clauses);
            rule["trackEvents"] = json!(track);
            rule
        },
    )
}

/// A variation or a rollout, as properties of an object.
fn choice() -> impl Strategy<Value = Value> {
    let rollout = (
        select(vec!["rollout", "experiment"]),
        kind(),
        prop::option::of(select(vec!["key", "number", "text", "/object/text", "anonymous", "nothing"])),
        prop::option::of(-5..100_i64),
        (0..=100_000_i64, 0..VARIATIONS, 0..VARIATIONS, any::<(bool, bool)>()),
    )
        .prop_map(|(of, kind, bucket_by, seed, (weight, first, second, untracked))| {
            let mut rollout = json!({
                "kind": of, "contextKind": kind,
                "variations": [
                    {"variation": first, "weight": weight, "untracked": untracked.0},
                    {"variation": second, "weight": 100_000 - weight, "untracked": untracked.1},
                ],
            });
            if let Some(bucket_by) = bucket_by {
                rollout["bucketBy"] = json!(bucket_by);
            }
            if let Some(seed) = seed {
                rollout["seed"] = json!(seed);
            }
            json!({"rollout": rollout})
        });
    prop_oneof![(0..VARIATIONS).prop_map(|it| json!({"variation": it})), rollout]
}

fn segment(index: usize) -> impl Strategy<Value = Value> {
    let keys = || prop::collection::vec(key(), 0..3);
    let organisations =
        move || prop::collection::vec(keys().prop_map(|keys| json!({"contextKind": "org", "values": keys})), 0..2);
    let rule = (prop::collection::vec(clause(index + 1), 0..3), prop::option::of((0..=100_000, attribute()))).prop_map(
        |(clauses, share)| {
            let mut rule = json!({"id": "", "clauses": clauses});
            if let Some((weight, attribute)) = share {
                rule["weight"] = json!(weight);
                rule["bucketBy"] = json!(attribute);
                rule["rolloutContextKind"] = json!("user");
            }
            rule
        },
    );
    (keys(), keys(), organisations(), organisations(), prop::collection::vec(rule, 0..3)).prop_map(
        move |(included, excluded, included_contexts, excluded_contexts, rules)| {
            json!({
                "key": segment_key(index), "version": 1, "salt": "salt", "included": included, "excluded": excluded,
                "includedContexts": included_contexts, "excludedContexts": excluded_contexts, "rules": rules,
                "unbounded": false, "generation": null, "deleted": false,
            })
        },
    )
}

/// A clause that may refer to segments from `first_segment` on, one of which may not exist.
fn clause(first_segment: usize) -> impl Strategy<Value = Value> {
    let values = |operators: &'static [&'static str], values: Vec<Value>| {
        (select(operators), prop::collection::vec(select(values), 1..11))
    };
    let numbers = || vec![json!(-1), json!(0), json!(1.0), json!(2.5), json!(99), json!("1")];
    let texts =
        || vec![json!(""), json!("a"), json!("ab"), json!("é"), json!("b."), json!(true), json!(1), json!(false)];
    let comparison = prop_oneof![
        values(&["in"], [texts(), numbers()].concat()),
        values(&["startsWith", "endsWith", "contains"], texts()),
        values(&["matches"], vec![json!("^a"), json!("b$"), json!("a.*"), json!("[0-9]+"), json!("(")]),
        values(&["lessThan", "lessThanOrEqual", "greaterThan", "greaterThanOrEqual"], numbers()),
        values(
            &["before", "after"],
            vec![json!("2020-01-01T00:00:00Z"), json!("2020-01-01T00:00:00.001+01:00"), json!(0), json!("x")]
        ),
        values(
            &["semVerEqual", "semVerLessThan", "semVerGreaterThan"],
            vec![json!("1.0.0"), json!("2"), json!("2.0.0-rc.1"), json!("v1")]
        ),
    ];
    let comparison = (prop::option::of(kind()), attribute(), comparison, prop::bool::weighted(0.3)).prop_map(
        |(kind, attribute, (operator, values), negate)| {
            let mut clause = json!({"attribute": attribute, "op": operator, "values": values, "negate": negate});
            if let Some(kind) = kind {
                clause["contextKind"] = json!(kind);
            }
            clause
        },
    );
    let membership = (first_segment..=SEGMENTS, prop::bool::weighted(0.3)).prop_map(|(segment, negate)| {
        json!({"attribute": "", "op": "segmentMatch", "values": [segment_key(segment)], "negate": negate})
    });
    prop_oneof![3 => comparison, 1 => membership]
}

fn context() -> impl Strategy<Value = Value> {
    let individual = || {
        let text = select(vec!["", "a", "ab", "é", "xb.", "1.0.0", "2.0.0-rc.2", "2020-01-01T00:00:00Z", "v1"]);
        let number = select(vec![json!(-1), json!(0), json!(1), json!(2.5), json!(1_577_836_800_000_i64)]);
        let list = prop::collection::vec(select(vec![json!("a"), json!(1), json!("é"), json!(true)]), 0..3);
        (key(), text, number, list, prop::option::of(any::<bool>()), prop::option::of(select(vec!["a", "ab"])))
            .prop_map(|(key, text, number, list, anonymous, name)| {
                let mut individual = json!({
                    "key": key, "text": text, "number": number, "list": list, "object": {"text": text, "list": list},
                });
                if let Some(anonymous) = anonymous {
                    individual["anonymous"] = json!(anonymous);
                }
                if let Some(name) = name {
                    individual["name"] = json!(name);
                }
                individual
            })
    };
    prop_oneof![
        individual().prop_map(|mut user| {
            user["kind"] = json!("user");
            user
        }),
        (individual(), individual()).prop_map(|(user, org)| json!({"kind": "multi", "user": user, "org": org})),
    ]
}

fn attribute() -> impl Strategy<Value = &'static str> {
    let attributes =
        ["key", "kind", "name", "anonymous", "text", "number", "list", "object", "/object/text", "nothing"];
    select(attributes.to_vec())
}

fn kind() -> impl Strategy<Value = &'static str> {
    select(vec!["user", "org", "device"])
}

fn key() -> impl Strategy<Value = String> {
    select(vec!["a", "b", "c", "é"]).prop_map(str::to_owned)
}
