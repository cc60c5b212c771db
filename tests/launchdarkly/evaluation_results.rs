//! L122 to L140: the format of results, and when they change.

use serde_json::{Value, json};
use yardarm_testkit::{Call, FakeLaunchDarkly};

use super::evaluation::segment_of;
use crate::flags::{data, flag, flag_with};
use crate::running::{CTX, ENV_ID, Running, SDK_KEY, Setup};

/// Returns one flag for each kind of result.
pub(crate) fn flags() -> Vec<Value> {
    let rollout =
        |kind: &str| json!({"rollout": {"kind": kind, "seed": 1, "variations": [{"variation": 0, "weight": 100_000}]}});
    let rule = |rule: Value| json!({"rules": [rule]});
    let matching = json!([{"attribute": "key", "op": "in", "values": ["a"], "negate": false}]);
    vec![
        flag("plain", 5),
        flag_with("tracked", 6, json!({"trackEvents": true})),
        flag_with("debugged", 7, json!({"debugEventsUntilDate": 1_700_000_000_000_i64})),
        flag_with("fallthrough-tracked", 8, json!({"trackEventsFallthrough": true})),
        flag_with("experiment", 9, json!({"fallthrough": rollout("experiment")})),
        flag_with("rolled", 10, json!({"fallthrough": rollout("rollout")})),
        flag_with("rule", 11, rule(json!({"id": "r1", "variation": 1, "clauses": matching}))),
        flag_with("rule-without-id", 12, rule(json!({"variation": 1, "clauses": matching}))),
        flag_with(
            "tracked-rule",
            13,
            rule(json!({"id": "r2", "variation": 1, "clauses": matching, "trackEvents": true})),
        ),
        flag_with("off", 14, json!({"on": false})),
        flag_with("off-without-variation", 15, json!({"on": false, "offVariation": null})),
        flag_with("needs-plain", 16, json!({"prerequisites": [{"key": "plain", "variation": 0}]})),
        flag_with("needs-nothing-known", 17, json!({"prerequisites": [{"key": "missing", "variation": 0}]})),
        flag_with(
            "needs-other-plain",
            18,
            json!({"prerequisites": [{"key": "tracked", "variation": 0}, {"key": "plain", "variation": 1}, {"key": "rolled", "variation": 0}]}),
        ),
        flag_with("malformed", 19, json!({"fallthrough": {"variation": 99}})),
        flag_with("targeted", 20, json!({"targets": [{"variation": 1, "values": ["a"]}]})),
        flag_with("text", 21, json!({"variations": ["some \"text\"\n\u{2028}", null]})),
        flag_with("number", 22, json!({"variations": [1.50, 0]})),
    ]
}

async fn evaluated(gateway: &Running, query: &str) -> Value {
    let call = Call::get(format!("/sdk/evalx/{ENV_ID}/contexts/{CTX}{query}"));
    let answer = gateway.answers(&call).await;
    assert_eq!(answer.status, 200);
    answer.json()
}

#[tokio::test]
async fn results_are_complete_and_nothing_more() {
    let gateway = Setup::with(data(flags(), [])).start().await;
    let plain = evaluated(&gateway, "").await;
    let value = |value: Value, variation: Value, version: i64| json!({"value": value, "variation": variation, "version": version});
    let with = |mut result: Value, more: Value| {
        for (name, it) in more.as_object().unwrap() {
            result[name] = it.clone();
        }
        result
    };
    let yes = |version| value(json!(true), json!(0), version);
    let no = |version| value(json!(false), json!(1), version);
    // Comparing whole objects shows what must be absent: L123 (no `flagVersion`), L126, L128, L133.
    let expected = [
        ("plain", "L122, L126, L133", yes(5)),
        ("tracked", "L124", with(yes(6), json!({"trackEvents": true}))),
        ("debugged", "L125", with(yes(7), json!({"debugEventsUntilDate": 1_700_000_000_000_i64}))),
        (
            "fallthrough-tracked",
            "L129",
            with(yes(8), json!({"trackEvents": true, "trackReason": true, "reason": {"kind": "FALLTHROUGH"}})),
        ),
        (
            "experiment",
            "L130",
            with(
                yes(9),
                json!({"trackEvents": true, "trackReason": true, "reason": {"kind": "FALLTHROUGH", "inExperiment": true}}),
            ),
        ),
        ("rolled", "L128", yes(10)),
        ("rule", "L128", no(11)),
        ("rule-without-id", "L128", no(12)),
        (
            "tracked-rule",
            "L130",
            with(
                no(13),
                json!({"trackEvents": true, "trackReason": true, "reason": {"kind": "RULE_MATCH", "ruleIndex": 0, "ruleId": "r2"}}),
            ),
        ),
        ("off", "L133", no(14)),
        ("off-without-variation", "L138", value(json!(null), json!(null), 15)),
        ("needs-plain", "L132", with(yes(16), json!({"prerequisites": ["plain"]}))),
        ("needs-nothing-known", "L139", no(17)),
        ("needs-other-plain", "L132, L139", with(no(18), json!({"prerequisites": ["tracked", "plain"]}))),
        ("malformed", "a malformed flag", value(json!(null), json!(null), 19)),
        ("targeted", "L122", no(20)),
        ("text", "L122", value(json!("some \"text\"\n\u{2028}"), json!(0), 21)),
        ("number", "L122", value(json!(1.5), json!(0), 22)),
    ];
    for (flag, row, result) in &expected {
        assert_eq!(&plain[flag], result, "{row}: {flag}");
    }
    assert_eq!(plain.as_object().unwrap().len(), expected.len());

    let reasons = evaluated(&gateway, "?withReasons=true").await;
    for (flag, row, reason) in [
        ("plain", "L127", json!({"kind": "FALLTHROUGH"})),
        ("rule", "L131", json!({"kind": "RULE_MATCH", "ruleIndex": 0, "ruleId": "r1"})),
        ("rule-without-id", "L131", json!({"kind": "RULE_MATCH", "ruleIndex": 0})),
        ("off", "L127", json!({"kind": "OFF"})),
        ("off-without-variation", "L127", json!({"kind": "OFF"})),
        ("needs-nothing-known", "L139", json!({"kind": "PREREQUISITE_FAILED", "prerequisiteKey": "missing"})),
        ("needs-other-plain", "L139", json!({"kind": "PREREQUISITE_FAILED", "prerequisiteKey": "plain"})),
        ("malformed", "a malformed flag", json!({"kind": "ERROR", "errorKind": "MALFORMED_FLAG"})),
        ("targeted", "L127", json!({"kind": "TARGET_MATCH"})),
    ] {
        assert_eq!(reasons[flag]["reason"], reason, "{row}: {flag}");
    }
    for (flag, result) in reasons.as_object().unwrap() {
        assert!(result["reason"]["kind"].is_string(), "L127: {flag}");
    }
    for query in ["?withReasons=TRUE", "?withReasons=1", "?withReasons=", "?withReasons=false&withReasons=true", "?x=1"]
    {
        assert_eq!(evaluated(&gateway, query).await, plain, "L127: {query}");
    }
}

#[tokio::test]
async fn numbers_are_written_as_they_are() {
    // L125: not in exponent form, which JSON libraries may use. Decision R3: sorted by key.
    let gateway = Setup::with(data(flags(), [])).start().await;
    let call = Call::get(format!("/sdk/evalx/{ENV_ID}/contexts/{CTX}"));
    let answer = gateway.answers(&call).await;
    assert!(answer.text().contains("\"debugEventsUntilDate\":1700000000000"), "{}", answer.text());
    let places: Vec<_> = ["\"debugged\":", "\"off\":", "\"plain\":", "\"rule\":", "\"tracked\":"]
        .map(|it| answer.text().find(it))
        .into();
    assert!(places.is_sorted() && places.iter().all(Option::is_some), "{}", answer.text());
}

#[tokio::test]
async fn what_a_ping_announced_can_be_read_at_once() {
    // L140, and the first invariant of the architecture: swap before publish. Repeated, because it is a race.
    let gateway = Setup::with(data([flag("plain", 1)], [])).start().await;
    let mut browser = gateway.opens_with(&Call::get(format!("/ping/{ENV_ID}"))).await;
    browser.receives_ping().await;
    for version in 2..=60 {
        gateway.upstream.patches(SDK_KEY, &flag_with("plain", version, json!({"on": version % 2 == 0})));
        browser.receives_ping().await;
        let result = &evaluated(&gateway, "").await["plain"];
        assert_eq!((&result["version"], &result["value"]), (&json!(version), &json!(version % 2 == 0)));
    }
}

#[tokio::test]
async fn segments_take_part_and_change_results() {
    let rule = json!({"rules": [{"id": "crew", "variation": 1, "clauses": [
        {"attribute": "", "op": "segmentMatch", "values": ["crew"], "negate": false}]}]});
    let crew = |version: i64, included: Value| json!({"key": "crew", "version": version, "included": included, "excluded": [], "rules": [], "salt": "z"});
    let fill = |cloud: &FakeLaunchDarkly, rule: Value, segment: Value| {
        cloud.puts(SDK_KEY, &data([flag_with("plain", 1, rule)], [segment]));
    };
    let gateway = Setup::new().prepare({
        let segment = crew(1, json!([]));
        move |cloud| fill(cloud, rule, segment)
    });
    let gateway = gateway.start().await;
    let mut browser = gateway.opens_with(&Call::get(format!("/eval/{ENV_ID}/{}", segment_of(r#"{"key":"a"}"#)))).await;
    browser.receives_ping().await;
    assert_eq!(evaluated(&gateway, "").await["plain"]["value"], true);
    gateway.upstream.patches_segment(SDK_KEY, &crew(2, json!(["a"])));
    browser.receives_ping().await;
    assert_eq!(evaluated(&gateway, "").await["plain"]["value"], false);
    gateway.upstream.deletes(SDK_KEY, "/segments/crew", 3);
    browser.receives_ping().await;
    assert_eq!(evaluated(&gateway, "").await["plain"]["value"], true);
}
