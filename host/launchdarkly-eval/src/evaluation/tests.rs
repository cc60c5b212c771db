use serde_json::value::RawValue;

use super::*;
use crate::model::{Flag, Segment};

fn flag(json: &str) -> Arc<Flag> {
    let raw = RawValue::from_string(json.to_owned()).expect("valid JSON");
    let key: serde_json::Value = serde_json::from_str(json).expect("valid JSON");
    Arc::new(Flag::parse(key["key"].as_str().unwrap_or_default(), &raw).expect(json))
}

fn segment(key: &str, json: &str) -> Arc<Segment> {
    Arc::new(Segment::parse(key, &RawValue::from_string(json.to_owned()).expect("valid JSON")).expect(json))
}

fn context(json: &str) -> Context {
    Context::parse(json.as_bytes()).expect(json)
}

fn request(context: &Context, audience: Audience) -> Request<'_> {
    Request { context, audience, with_reasons: false, memberships: None }
}

fn all(ruleset: &Ruleset, request: &Request<'_>) -> String {
    let mut out = Vec::new();
    evaluate_all(ruleset, request, &mut out);
    String::from_utf8(out).expect("UTF-8")
}

fn some_flags() -> Vec<Arc<Flag>> {
    vec![
        flag(r#"{"key":"a","version":1,"on":true,"variations":[{"x": 1.0},2],"fallthrough":{"variation":0}}"#),
        flag(
            r#"{"key":"b","version":2,"offVariation":1,"variations":[true,false],"clientSide":true,"trackEvents":true,
                "debugEventsUntilDate":17}"#,
        ),
        flag(r#"{"key":"c","version":3,"deleted":true}"#),
        flag(r#"{"key":"d\"","on":true,"prerequisites":[{"key":"a"}],"clientSideAvailability":{}}"#),
    ]
}

#[test]
fn bodies_are_compact_sorted_and_keep_the_bytes_of_values() {
    let ruleset = Ruleset::build(None, &some_flags(), &[]);
    let user = context(r#"{"key":"u"}"#);
    let a = r#""a":{"value":{"x": 1.0},"variation":0,"version":1}"#;
    let b = r#""b":{"value":false,"variation":1,"version":2,"trackEvents":true,"debugEventsUntilDate":17}"#;
    let d = r#""d\"":{"value":null,"variation":null,"version":0,"prerequisites":["a"]}"#;
    assert_eq!(all(&ruleset, &request(&user, Audience::Server)), format!("{{{a},{b},{d}}}"));
    assert_eq!(all(&ruleset, &request(&user, Audience::Mobile)), format!("{{{a},{b}}}"));
    assert_eq!(all(&ruleset, &request(&user, Audience::Browser)), format!("{{{b}}}"));
    assert_eq!(all(&Ruleset::build(None, &[], &[]), &request(&user, Audience::Server)), "{}");

    let mut out = Vec::new();
    evaluate_some(&ruleset, &request(&user, Audience::Mobile), &["b", "c", "d\"", "zz", "a"], &mut out);
    assert_eq!(String::from_utf8_lossy(&out), format!("{{{b},{a}}}"));
}

#[test]
fn any_number_of_flags_is_visited_in_order_of_key() {
    let user = context(r#"{"key":"u"}"#);
    for count in 0..20 {
        let keys: Vec<_> = (0..count).map(|index| format!("f{index:02}")).collect();
        let flags: Vec<_> = keys.iter().map(|key| flag(&format!(r#"{{"key":"{key}"}}"#))).collect();
        let ruleset = Ruleset::build(None, &flags, &[]);
        let mut visited = Vec::new();
        evaluate_each(&ruleset, &request(&user, Audience::Server), &mut |it| visited.push(it.key().to_owned()));
        assert_eq!(visited, keys);
    }
}

#[test]
fn a_visitor_may_replace_values_and_leave_out_flags() {
    let ruleset = Ruleset::build(None, &some_flags(), &[]);
    let user = context(r#"{"key":"u"}"#);
    let mut out = Vec::new();
    evaluate_each(&ruleset, &request(&user, Audience::Server), &mut |evaluated| match evaluated.key() {
        "a" => {
            assert_eq!((evaluated.value(), evaluated.variation()), (&br#"{"x": 1.0}"#[..], Some(0)));
            assert_eq!(evaluated.reason_kind(), "FALLTHROUGH");
            let replaced = Replaced { value: Some(b"[]"), variation: None, reason: None };
            evaluated.write_entry(replaced, true, &mut out);
            out.push(b' ');
            let replaced = Replaced { value: None, variation: Some(12), reason: Some(br#"{"kind":"OFF"}"#) };
            evaluated.write_entry(replaced, true, &mut out);
            out.push(b' ');
            evaluated.write_entry(replaced, false, &mut out);
        }
        "b" => (),
        _ => {
            assert_eq!(evaluated.value(), b"null");
            assert_eq!(evaluated.prerequisites().collect::<Vec<_>>(), ["a"]);
            assert_eq!((evaluated.is_experiment(), evaluated.big_segments_status()), (false, None));
        }
    });
    let expected = concat!(
        r#""a":{"value":[],"variation":0,"version":1,"reason":{"kind":"FALLTHROUGH"}} "#,
        r#""a":{"value":{"x": 1.0},"variation":12,"version":1,"reason":{"kind":"OFF"}} "#,
        r#""a":{"value":{"x": 1.0},"variation":12,"version":1}"#
    );
    assert_eq!(String::from_utf8_lossy(&out), expected);
}

/// Flags `f0000` to `f<length>`, each needing the next; the last needs `last`.
fn chain(length: usize, last: &str) -> Vec<Arc<Flag>> {
    let flags = (0..length).map(|index| {
        let next = if index + 1 == length { last.to_owned() } else { format!("f{:04}", index + 1) };
        let prerequisites =
            if next.is_empty() { String::new() } else { format!(r#"{{"key":"{next}","variation":0}}"#) };
        flag(&format!(
            r#"{{"key":"f{index:04}","on":true,"variations":[0,1],"offVariation":1,"fallthrough":{{"variation":0}},
                "prerequisites":[{prerequisites}]}}"#
        ))
    });
    flags.collect()
}

fn reasons(ruleset: &Ruleset) -> Vec<&'static str> {
    let user = context(r#"{"key":"u"}"#);
    let mut reasons = Vec::new();
    evaluate_each(ruleset, &request(&user, Audience::Server), &mut |it| reasons.push(it.reason_kind()));
    reasons
}

#[test]
fn long_chains_do_not_need_a_long_stack() {
    let reasons_of = |last: &str| reasons(&Ruleset::build(None, &chain(5000, last), &[]));
    assert!(reasons_of("").iter().all(|reason| *reason == "FALLTHROUGH"));
    let missing = reasons_of("missing");
    assert!(missing.iter().all(|reason| *reason == "PREREQUISITE_FAILED"));
    for back_to in ["f0000", "f2500", "f4999"] {
        assert!(reasons_of(back_to).iter().all(|reason| *reason == "ERROR"), "{back_to}");
    }
}

#[test]
fn long_chains_take_time_in_proportion_to_their_length() {
    #[expect(clippy::disallowed_types, reason = "this measures computation, which paused time does not")]
    let start = std::time::Instant::now();
    for (last, expected) in [("", "FALLTHROUGH"), ("f0000", "ERROR"), ("f15000", "ERROR")] {
        let reasons = reasons(&Ruleset::build(None, &chain(20_000, last), &[]));
        assert!(reasons.iter().all(|reason| *reason == expected), "{last}");
    }
    assert!(start.elapsed() < std::time::Duration::from_secs(60), "even on a slow machine");
}

#[test]
fn long_chains_of_segments_do_not_need_a_long_stack_either() {
    let user = context(r#"{"key":"u"}"#);
    let target = flag(
        r#"{"key":"f","on":true,"variations":[0,1],"fallthrough":{"variation":1},
            "rules":[{"variation":0,"clauses":[{"op":"segmentMatch","values":["s0000"]}]}]}"#,
    );
    for (last, expected) in [("", "RULE_MATCH"), ("missing", "FALLTHROUGH"), ("s0000", "ERROR"), ("s0150", "ERROR")] {
        let segments: Vec<_> = (0..5000)
            .map(|index| {
                let next = if index == 4999 { last.to_owned() } else { format!("s{:04}", index + 1) };
                let included = if next.is_empty() { r#""u""# } else { "" };
                let rule = format!(r#"{{"clauses":[{{"op":"segmentMatch","values":["{next}"]}}]}}"#);
                segment(&format!("s{index:04}"), &format!(r#"{{"included":[{included}],"rules":[{rule}]}}"#))
            })
            .collect();
        let ruleset = Ruleset::build(None, &[Arc::clone(&target)], &segments);
        let mut kind = "";
        evaluate_each(&ruleset, &request(&user, Audience::Server), &mut |it| kind = it.reason_kind());
        assert_eq!(kind, expected, "{last}");
    }
}

#[test]
fn dependants_are_found_through_long_chains() {
    let flags = chain(5000, "");
    let segments: Vec<_> = (0..5000)
        .map(|index| {
            let next = format!(r#"{{"clauses":[{{"op":"segmentMatch","values":["s{:04}"]}}]}}"#, index + 1);
            segment(&format!("s{index:04}"), &format!(r#"{{"rules":[{next}]}}"#))
        })
        .collect();
    let last = r#"{"key":"f4999","on":true,"rules":[{"clauses":[{"op":"segmentMatch","values":["s0000"]}]}]}"#;
    let mut all = flags.clone();
    all[4999] = flag(last);
    let ruleset = Ruleset::build(None, &all, &segments);
    assert_eq!(ruleset.affected_by_flag("f4999").len(), 5000);
    assert_eq!(ruleset.affected_by_flag("f0000").len(), 1);
    assert_eq!(ruleset.affected_by_segment("s4999").len(), 5000, "the last flag refers to the first segment");
    // Built from the one before, as after a change of one flag, and then dropped.
    let next = Ruleset::build(Some(&ruleset), &flags, &segments);
    drop((ruleset, all));
    assert!(next.affected_by_segment("s4999").is_empty());
}

#[test]
fn rulesets_are_shared_between_threads() {
    fn check<T: Send + Sync>() {}
    check::<Ruleset>();
    check::<Context>();
    check::<Memberships>();
}
