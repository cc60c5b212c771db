//! F102 to F107, by tables.

use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::model::{Flag, Segment, Target};

/// A flag with three variations, of which `third` is served by no default.
pub(super) fn flag(name: &str, properties: Value) -> Value {
    let variations = ["off", "default", "third"].map(|it| json!({"identifier": it, "value": it.to_uppercase()}));
    let mut flag = json!({
        "feature": name, "project": "p", "environment": "e", "kind": "string", "state": "on", "version": 1,
        "offVariation": "off", "defaultServe": {"variation": "default"}, "variations": variations,
    });
    for (key, value) in properties.as_object().expect("an object") {
        flag[key] = value.clone();
    }
    flag
}

fn rule(priority: i64, clauses: Value, serve: Value) -> Value {
    json!({"ruleId": "r", "priority": priority, "clauses": clauses, "serve": serve})
}

pub(super) fn clause(attribute: &str, op: &str, values: &[&str]) -> Value {
    json!({"attribute": attribute, "op": op, "values": values, "negate": false})
}

pub(super) fn ada() -> Target {
    let attributes =
        [("email", json!("ada@example.com")), ("plan", json!("pro")), ("age", json!(36)), ("none", json!(""))];
    let attributes = attributes.map(|(name, value)| (name.to_owned(), value)).into();
    Target { identifier: "ada".into(), name: "Ada".into(), anonymous: None, attributes }
}

pub(super) fn ruleset(flags: &[Value], segments: &[Value]) -> Ruleset {
    let flags: Vec<_> = flags.iter().map(|it| Arc::new(Flag::read(it.clone()).unwrap())).collect();
    let segments: Vec<_> = segments.iter().map(|it| Arc::new(Segment::read(it.clone()).unwrap())).collect();
    Ruleset::build(&flags, &segments)
}

/// What the flag `f` serves to Ada, or the error.
pub(super) fn serves(flags: &[Value], segments: &[Value]) -> String {
    match ruleset(flags, segments).evaluate("f", Some(&ada())) {
        Ok(served) => served.identifier.to_owned(),
        Err(error) => error.to_string(),
    }
}

#[test]
fn map_rules_and_default_serve_in_this_order() {
    let third = json!({"variation": "third"});
    let always = || json!([clause("identifier", "equal", &["ada"])]);
    let shares = |weights: &[(&str, i64)]| {
        let variations: Vec<_> =
            weights.iter().map(|(name, weight)| json!({"variation": name, "weight": weight})).collect();
        json!({"distribution": {"bucketBy": "identifier", "variations": variations}})
    };
    let cases = [
        ("the default", json!({}), "default"),
        ("off", json!({"state": "off", "rules": [rule(1, always(), third.clone())]}), "off"),
        ("any other state is off", json!({"state": "ON"}), "off"),
        ("a rule", json!({"rules": [rule(1, always(), third.clone())]}), "third"),
        (
            "F102: lower priority first",
            json!({"rules": [rule(9, always(), json!({"variation": "off"})), rule(1, always(), third.clone())]}),
            "third",
        ),
        (
            "F102: equal priorities in order of the list",
            json!({"rules": [rule(1, always(), third.clone()), rule(1, always(), json!({"variation": "off"}))]}),
            "third",
        ),
        (
            "F102: all clauses",
            json!({"rules": [rule(1, json!([clause("plan", "equal", &["pro"]), clause("plan", "equal", &["free"])]), third.clone())]}),
            "default",
        ),
        ("F102: no clauses match every target", json!({"rules": [rule(1, json!([]), third.clone())]}), "third"),
        (
            "F102: a rule that serves nothing",
            json!({"rules": [rule(1, always(), json!({})), rule(2, always(), third.clone())]}),
            "third",
        ),
        (
            "a rule with an empty rollout is final",
            json!({"rules": [rule(1, always(), shares(&[])), rule(2, always(), third.clone())]}),
            "default",
        ),
        (
            "the map before rules",
            json!({"variationToTargetMap": [{"variation": "off", "targets": [{"identifier": "ada"}]}], "rules": [rule(1, always(), third.clone())]}),
            "off",
        ),
        (
            "F107: below a hundred the last takes the rest",
            json!({"defaultServe": shares(&[("off", 1), ("third", 1)])}),
            "third",
        ),
        ("F107: weights of zero", json!({"defaultServe": shares(&[("off", 0), ("third", 0)])}), "third"),
        ("F107: a hundred for the first", json!({"defaultServe": shares(&[("off", 100), ("third", 0)])}), "off"),
        ("nothing to serve", json!({"defaultServe": {}}), "error while evaluating flag: f"),
        ("an unknown variation", json!({"defaultServe": {"variation": "x"}}), "variation not found: x"),
    ];
    for (row, properties, expected) in cases {
        assert_eq!(serves(&[flag("f", properties)], &[]), expected, "{row}");
    }
    assert_eq!(ruleset(&[], &[]).evaluate("f", None), Err(EvaluationError::UnknownFlag));
}

#[test]
fn clauses() {
    // F104
    for (attribute, op, values, expected) in [
        ("plan", "equal", &["PRO"][..], true),
        ("email", "equal", &["ADA@EXAMPLE.COM"], true),
        ("plan", "equal", &["free", "pro"], false),
        ("plan", "equal_sensitive", &["PRO"], false),
        ("plan", "in", &["free", "pro"], true),
        ("plan", "in", &["PRO"], false),
        ("plan", "starts_with", &["pr"], true),
        ("plan", "starts_with", &[""], true),
        ("plan", "ends_with", &["ro"], true),
        ("plan", "contains", &["r"], true),
        ("age", "gt", &["4"], false),
        ("age", "gt", &["10"], true),
        ("age", "gt", &["9"], false),
        ("email", "match", &["@example\\.com$"], true),
        ("email", "match", &["("], false),
        ("none", "contains", &[""], false),
        ("absent", "contains", &[""], false),
        ("plan", "EQUAL", &["pro"], false),
        ("plan", "", &["pro"], false),
        ("plan", "in", &[], false),
        ("", "equal", &[""], false),
    ] {
        let rules = json!([rule(1, json!([clause(attribute, op, values)]), json!({"variation": "third"}))]);
        let is_met = serves(&[flag("f", json!({"rules": rules}))], &[]) == "third";
        assert_eq!(is_met, expected, "{attribute} {op} {values:?}");
    }
    let mut negated = clause("plan", "equal", &["pro"]);
    negated["negate"] = json!(true);
    let rules = json!([rule(1, json!([negated]), json!({"variation": "third"}))]);
    assert_eq!(serves(&[flag("f", json!({"rules": rules}))], &[]), "third", "`negate` is ignored");
}

#[test]
fn equality_folds_letters_one_by_one() {
    for (value, attribute, expected) in [
        ("k", "\u{212a}", true),
        ("s", "ſ", true),
        ("ß", "ss", false),
        ("ß", "ẞ", true),
        ("a.c", "abc", false),
        ("É", "é", true),
    ] {
        let target = Target { attributes: [("x".to_owned(), json!(attribute))].into(), ..Target::unknown("t") };
        let rules = json!([rule(1, json!([clause("x", "equal", &[value])]), json!({"variation": "third"}))]);
        let rules = ruleset(&[flag("f", json!({"rules": rules}))], &[]);
        let served = rules.evaluate("f", Some(&target)).unwrap().identifier;
        assert_eq!(served == "third", expected, "{value} {attribute}");
    }
}

#[test]
fn segments() {
    let segment = |name: &str, properties: Value| {
        let mut segment = json!({"identifier": name, "name": name});
        for (key, value) in properties.as_object().expect("an object") {
            segment[key] = value.clone();
        }
        segment
    };
    let me = json!([{"identifier": "ada", "name": "Ada"}]);
    let pro = || clause("plan", "equal", &["pro"]);
    let free = || clause("plan", "equal", &["free"]);
    let group = |clauses: Value| json!({"ruleId": "r", "priority": 1, "clauses": clauses});
    let uses = |names: &[&str]| {
        flag(
            "f",
            json!({"rules": [rule(1, json!([clause("", "segmentMatch", names)]), json!({"variation": "third"}))]}),
        )
    };
    for (row, names, segments, is_member) in [
        ("included", &["a"][..], vec![segment("a", json!({"included": me}))], true),
        ("F103: excluded wins", &["a"], vec![segment("a", json!({"included": me, "excluded": me}))], false),
        (
            "F103: an exclusion ends the search",
            &["a", "b"],
            vec![segment("a", json!({"excluded": me})), segment("b", json!({"included": me}))],
            false,
        ),
        ("an unknown segment is skipped", &["x", "b"], vec![segment("b", json!({"included": me}))], true),
        ("old rules: any clause", &["a"], vec![segment("a", json!({"rules": [free(), pro()]}))], true),
        (
            "new rules: all clauses",
            &["a"],
            vec![segment("a", json!({"servingRules": [group(json!([free(), pro()]))]}))],
            false,
        ),
        (
            "new rules: one of them",
            &["a"],
            vec![segment("a", json!({"servingRules": [group(json!([free()])), group(json!([pro()]))]}))],
            true,
        ),
        (
            "an empty new rule matches no target",
            &["a"],
            vec![segment("a", json!({"servingRules": [group(json!([]))]}))],
            false,
        ),
        (
            "old rules do not count beside new rules",
            &["a"],
            vec![segment("a", json!({"servingRules": [group(json!([free()]))], "rules": [pro()]}))],
            false,
        ),
        (
            "a segment in a segment",
            &["a"],
            vec![
                segment("a", json!({"rules": [clause("", "segmentMatch", &["b"])]})),
                segment("b", json!({"included": me})),
            ],
            true,
        ),
        (
            "F105: a cycle is no membership",
            &["a"],
            vec![
                segment("a", json!({"rules": [clause("", "segmentMatch", &["b"])]})),
                segment("b", json!({"rules": [clause("", "segmentMatch", &["a"])]})),
            ],
            false,
        ),
    ] {
        let served = serves(&[uses(names)], &segments);
        assert_eq!(served == "third", is_member, "{row}");
    }
}

#[test]
fn prerequisites() {
    let needs = |name: &str, variation: &str| json!({"feature": name, "variations": [variation]});
    let f = |prerequisites: Value| flag("f", json!({"prerequisites": prerequisites}));
    for (row, flags, expected) in [
        ("met", vec![f(json!([needs("g", "default")])), flag("g", json!({}))], "default"),
        ("not met", vec![f(json!([needs("g", "third")])), flag("g", json!({}))], "off"),
        ("of a flag that is off", vec![f(json!([needs("g", "off")])), flag("g", json!({"state": "off"}))], "default"),
        (
            "F106: an unknown prerequisite is met and ends the check",
            vec![f(json!([needs("x", "a"), needs("g", "third")])), flag("g", json!({}))],
            "default",
        ),
        (
            "F106: and so is a prerequisite that serves nothing",
            vec![f(json!([needs("g", "a")])), flag("g", json!({"defaultServe": {}}))],
            "default",
        ),
        (
            "of a prerequisite",
            vec![
                f(json!([needs("g", "default")])),
                flag("g", json!({"prerequisites": [needs("h", "third")]})),
                flag("h", json!({})),
            ],
            "off",
        ),
        (
            "F105: a cycle",
            vec![f(json!([needs("g", "default")])), flag("g", json!({"prerequisites": [needs("f", "default")]}))],
            "default",
        ),
    ] {
        assert_eq!(serves(&flags, &[]), expected, "{row}");
    }
}

#[test]
fn fully_connected_flags_and_segments_end() {
    // F105: every flag needs every flag, every segment contains every segment.
    let names: Vec<String> = (0..40).map(|number| format!("n{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let needs: Vec<_> = names.iter().map(|it| json!({"feature": it, "variations": ["default"]})).collect();
    let in_segments = rule(1, json!([clause("", "segmentMatch", &names)]), json!({"variation": "third"}));
    let flags: Vec<_> =
        names.iter().map(|it| flag(it, json!({"prerequisites": needs, "rules": [in_segments]}))).collect();
    let segments: Vec<_> = names
        .iter()
        .map(|it| json!({"identifier": it, "name": it, "rules": [clause("", "segmentMatch", &names)]}))
        .collect();
    let rules = ruleset(&flags, &segments);
    let mut count = 0;
    rules.evaluate_all(&ada(), &mut |_, served| {
        count += 1;
        assert_eq!(served.unwrap().identifier, "default");
    });
    assert_eq!(count, 40);
}

#[test]
fn without_a_target_only_the_default_serves() {
    let map = json!([{"variation": "off", "targets": [{"identifier": ""}, {"identifier": "ada"}]}]);
    let always = rule(1, json!([]), json!({"variation": "third"}));
    let rules = ruleset(&[flag("f", json!({"variationToTargetMap": map, "rules": [always]}))], &[]);
    assert_eq!(rules.evaluate("f", None).unwrap().identifier, "default");
}

proptest::proptest! {
    #[test]
    fn every_bucket_is_between_one_and_a_hundred(attribute in "\\PC{0,20}", value in "\\PC{0,40}") {
        proptest::prop_assert!((1..=100).contains(&bucket(&attribute, &value)));
    }
}
