//! Chains and cycles of prerequisites and segments.

use serde_json::{Value, json};

use super::tests::{ada, clause, flag, ruleset, serves};

/// A chain of segments, each of which contains the next. The last contains Ada, or the first segment.
fn nested_segments(count: usize, is_cycle: bool) -> Vec<Value> {
    let name = |it: usize| format!("s{it}");
    let last = if is_cycle { clause("", "segmentMatch", &["s0"]) } else { clause("identifier", "equal", &["ada"]) };
    let mut rules: Vec<Value> = (1..count).map(|it| clause("", "segmentMatch", &[&name(it)])).collect();
    rules.push(last);
    rules.into_iter().enumerate().map(|(it, rule)| json!({"identifier": name(it), "rules": [rule]})).collect()
}

/// A chain of flags, each of which needs the next to serve its default; the last is as given.
fn chained_flags(count: usize, last: Value) -> Vec<Value> {
    let needs = |it: usize| json!({"prerequisites": [{"feature": format!("f{it}"), "variations": ["default"]}]});
    let mut flags: Vec<Value> = (1..count).map(|it| flag(&format!("f{}", it - 1), needs(it))).collect();
    flags.push(flag(&format!("f{}", count - 1), last));
    flags
}

#[test]
fn chains_and_cycles_may_be_deep() {
    // An author of flags must not be able to end the process, or to keep it busy.
    let start = tokio::time::Instant::now();
    for (is_cycle, expected) in [(false, "third"), (true, "default")] {
        let map = json!([{"variation": "third", "targetSegments": ["s0"]}]);
        let f = flag("f", json!({ "variationToTargetMap": map }));
        assert_eq!(serves(&[f], &nested_segments(20_000, is_cycle)), expected, "cycle: {is_cycle}");
    }
    for (last, expected) in [
        (json!({}), "default"),
        (json!({"state": "off"}), "off"),
        (json!({"prerequisites": [{"feature": "f0", "variations": ["default"]}]}), "default"),
        (json!({"prerequisites": [{"feature": "f0", "variations": ["third"]}]}), "off"),
    ] {
        let ruleset = ruleset(&chained_flags(20_000, last.clone()), &[]);
        let mut seen = Vec::new();
        ruleset.evaluate_all(&ada(), &mut |_, served| seen.push(served.unwrap().identifier));
        assert_eq!(seen.len(), 20_000);
        assert!(seen.iter().all(|it| *it == expected || last["prerequisites"].is_array()), "{last}");
        assert_eq!(ruleset.evaluate("f0", Some(&ada())).unwrap().identifier, expected, "{last}");
    }
    assert!(start.elapsed() < std::time::Duration::from_secs(60), "linear, even on a slow machine");
}

#[test]
fn results_do_not_depend_on_what_was_evaluated_before() {
    // Cycles with a way out, entered from every side.
    let member = |names: &[&str], attribute: &str| {
        json!([clause("", "segmentMatch", names), clause("plan", "equal", &[attribute])])
    };
    let segments = [
        json!({"identifier": "a", "rules": member(&["b"], "free")}),
        json!({"identifier": "b", "rules": member(&["c"], "free")}),
        json!({"identifier": "c", "rules": member(&["a"], "pro")}),
        json!({"identifier": "x", "rules": member(&["y"], "free")}),
        json!({"identifier": "y", "rules": member(&["x"], "free")}),
    ];
    let needs = |names: &[&str]| -> Value {
        names.iter().map(|it| json!({"feature": it, "variations": ["default"]})).collect::<Vec<_>>().into()
    };
    let mut flags: Vec<Value> = ["a", "b", "c", "x", "y"]
        .iter()
        .map(|it| {
            flag(&format!("in-{it}"), json!({"variationToTargetMap": [{"variation": "third", "targetSegments": [it]}]}))
        })
        .collect();
    // `p` and `q` need each other, and `q` needs something that is off.
    flags.push(flag("p", json!({ "prerequisites": needs(&["q"]) })));
    flags.push(flag("q", json!({ "prerequisites": needs(&["p", "down"]) })));
    flags.push(flag("r", json!({ "prerequisites": needs(&["r", "s"]) })));
    flags.push(flag("s", json!({ "prerequisites": needs(&["r"]) })));
    flags.push(flag("down", json!({"state": "off"})));
    let expected = [
        ("down", "off"),
        ("in-a", "third"),
        ("in-b", "third"),
        ("in-c", "third"),
        ("in-x", "default"),
        ("in-y", "default"),
        ("p", "off"),
        ("q", "off"),
        ("r", "default"),
        ("s", "default"),
    ];
    let ruleset = ruleset(&flags, &segments);
    let mut seen = Vec::new();
    ruleset.evaluate_all(&ada(), &mut |flag, served| seen.push((flag.feature.to_string(), served.unwrap().identifier)));
    for ((name, all), (expected_name, value)) in seen.iter().zip(expected) {
        assert_eq!((name.as_str(), *all), (expected_name, value));
        assert_eq!(ruleset.evaluate(name, Some(&ada())).unwrap().identifier, value, "{name} alone");
    }
}
