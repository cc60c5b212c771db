//! Requests to upstream, and the handling of its responses.

use serde_json::{Value, json};
use yardarm_testkit::{Call, FakeHarness, HarnessAnswer, Recorded, until, within};

use super::{ENV, KEY, OTHER_KEY, cloud, eventually, flag, listens, segment, started, token};
use crate::running::Running;

fn query(request: &Recorded) -> Vec<(String, String)> {
    let query = request.path.split_once('?').map_or("", |it| it.1);
    let pair = |it: &str| it.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned()));
    query.split('&').filter_map(pair).collect()
}

fn header<'a>(request: &'a Recorded, name: &str) -> Option<&'a str> {
    request.headers.get(name).and_then(|it| it.to_str().ok())
}

fn asks(request: &Recorded, key: &str) -> Option<String> {
    query(request).into_iter().find(|it| it.0 == key).map(|it| it.1)
}

pub(super) async fn serves(gateway: &Running, path: &str, what: &str, is_wanted: impl Fn(u16, &Value) -> bool) {
    let call = Call::get(format!("/client/env/{ENV}/{path}")).key(&token(gateway, KEY).await);
    eventually(gateway, &call, what, is_wanted).await;
}

#[tokio::test]
async fn the_first_requests_are_those_of_the_vendor() {
    let cloud = cloud().await;
    cloud.limits_pages(1);
    cloud.adds_key(ENV, &FakeHarness::hash("second"));
    cloud.adds_key_entry(ENV, &json!({"name": "broken", "apiKey": "masked"}));
    let gateway = started(&cloud, "").await;
    let auths: Vec<Value> = cloud.posts("/client/auth").iter().map(Recorded::json).collect();
    for key in [KEY, OTHER_KEY] {
        let mine: Vec<_> = auths.iter().filter(|it| it["apiKey"] == key).collect();
        assert_eq!(mine[0]["target"]["identifier"], "", "F001 {mine:?}");
        assert!(mine[1].get("target").is_none(), "F013 {mine:?}");
        assert_eq!(mine.len(), 2, "F001 F013");
    }

    let pages: Vec<_> = cloud.gets("/admin/apikey").into_iter().filter(|it| it.path.contains("=prod")).collect();
    for (index, page) in pages.iter().enumerate() {
        assert_eq!(page.header("x-api-key"), Some(FakeHarness::ADMIN_TOKEN), "F005");
        for (key, value) in [
            ("accountIdentifier", "account"),
            ("orgIdentifier", "organization"),
            ("environmentIdentifier", "prod"),
            ("pageSize", "100"),
        ] {
            assert_eq!(asks(page, key).as_deref(), Some(value), "F005 {}", page.path);
        }
        assert_eq!(asks(page, "pageNumber"), Some(index.to_string()), "F005 F006");
        assert!(asks(page, "projectIdentifier").is_some(), "F005");
    }
    assert_eq!(pages.len(), 4, "F006: until a page is empty");
    token(&gateway, "second").await; // F008
    assert_eq!(gateway.answers(&Call::post("/client/auth", r#"{"apiKey":"masked"}"#)).await.status, 401, "F007");
    assert!(cloud.gets("/admin/targets").is_empty(), "F010");

    until("the stream", || cloud.gets("/stream").iter().any(|it| header(it, "api-key") == Some(KEY))).await;
    let order: Vec<_> = cloud.requests().into_iter().filter(|it| it.method == "GET").collect();
    let position = |path: &str| order.iter().position(|it| it.path.starts_with(path)).unwrap_or(usize::MAX);
    let flags = format!("/api/1.0/client/env/{ENV}/feature-configs?");
    let segments = format!("/api/1.0/client/env/{ENV}/target-segments?");
    let stream = order.iter().position(|it| it.path.contains("/stream?") && header(it, "api-key") == Some(KEY));
    assert!(stream > Some(position(&flags)) && stream > Some(position(&segments)), "F018");
    for path in [&flags, &segments] {
        let request = &order[position(path)];
        assert_eq!(asks(request, "cluster").as_deref(), Some("2"), "F014");
        assert!(header(request, "authorization").is_some_and(|it| it.starts_with("Bearer ")), "F014");
    }
    let stream = &order[stream.expect("a stream")];
    assert_eq!(stream.path, "/api/1.0/stream?cluster=2", "F019 F020");
    assert_eq!(stream.header("accept"), Some("text/event-stream"), "F019");
    assert!(header(stream, "authorization").is_some_and(|it| it.starts_with("Bearer ")), "F019");
}

#[tokio::test]
async fn tokens_are_read_whatever_they_look_like() {
    for pads in [false, true] {
        let cloud = cloud().await;
        cloud.pads_tokens(pads);
        cloud.claims(KEY, &json!({"accountID": "Zürich", "clusterIdentifier": null}));
        let gateway = started(&cloud, "").await;
        let path = format!("/client/env/{ENV}/feature-configs");
        assert_eq!(asks(&cloud.gets(&path)[0], "cluster").as_deref(), Some("1"), "F003 F015");
        gateway.stop().await;
    }
    // F002 F004: a token without an environment is unusable, and does not affect the others.
    let cloud = cloud().await;
    cloud.claims(KEY, &json!({"environment": null}));
    let gateway = Running::before_harness(&cloud, &[KEY, OTHER_KEY], "").await;
    let call = Call::post("/client/auth", json!({ "apiKey": OTHER_KEY }).to_string());
    eventually(&gateway, &call, "F004", |status, _| status == 200).await;
    let call = Call::post("/client/auth", json!({ "apiKey": KEY }).to_string());
    assert_eq!(gateway.answers(&call).await.status, 500, "F004: not known yet");
}

#[tokio::test]
async fn failed_first_requests_are_retried() {
    let cloud = cloud().await;
    cloud.answers_next("/client/auth", [HarnessAnswer::from(500), HarnessAnswer::cut()]);
    cloud.answers_next("/admin/apikey", [500]);
    cloud.answers_next("/feature-configs", [HarnessAnswer::cut()]);
    let gateway = started(&cloud, "").await;
    serves(&gateway, "feature-configs/a", "F016 F009", |status, _| status == 200).await;
}

#[tokio::test]
async fn a_rejected_key_does_not_affect_others() {
    let cloud = cloud().await;
    let gateway = Running::before_harness(&cloud, &["revoked", KEY], "").await;
    let call = Call::post("/client/auth", json!({ "apiKey": KEY }).to_string());
    eventually(&gateway, &call, "F017: the other environment", |status, _| status == 200).await;
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    let tries = cloud.posts("/client/auth").iter().filter(|it| it.json()["apiKey"] == "revoked").count();
    assert!((1..4).contains(&tries), "F017: {tries}");
}

#[tokio::test]
async fn changes_are_fetched_and_served() {
    let cloud = cloud().await;
    let gateway = started(&cloud, "").await;
    let mut sdk = listens(&gateway, KEY).await;
    let single = |identifier: &str| format!("/client/env/{ENV}/feature-configs/{identifier}");
    cloud.changes_flag(ENV, &flag("new one", 1));
    let received = sdk.receives_event("*").await;
    assert_eq!(received["event"], "create", "F021");
    assert_eq!(cloud.gets(&single("new%20one")).len(), 1, "F036");
    serves(&gateway, "feature-configs/new%20one", "F021", |status, _| status == 200).await;

    cloud.deletes_flag(ENV, "b");
    assert_eq!(sdk.receives_event("*").await["event"], "delete", "F023");
    assert!(cloud.gets(&single("b")).is_empty(), "F023");
    serves(&gateway, "feature-configs/b", "F023", |status, _| status == 404).await;

    cloud.changes_segment(ENV, &segment("t", 1));
    assert_eq!(sdk.receives_event("*").await["identifier"], "t", "F024");
    cloud.deletes_segment(ENV, "t");
    assert_eq!(sdk.receives_event("*").await["event"], "delete", "F024");
    serves(&gateway, "target-segments/t", "F024", |status, _| status == 404).await;

    // F026 F027: unknown events have no effect.
    cloud.sends_bytes(ENV, "event: *\ndata: {\n\n");
    cloud.sends_bytes(
        ENV,
        "event: *\ndata: {\"event\":\"patch\",\"domain\":\"moon\",\"identifier\":\"x\",\"version\":1}\n\n",
    );
    // F025: an older state does not come back; F035: an item that cannot be fetched at first is retried.
    cloud.stores_flag(ENV, &flag("a", 1));
    cloud.sends_bytes(
        ENV,
        "event: *\ndata: {\"event\":\"patch\",\"domain\":\"flag\",\"identifier\":\"a\",\"version\":1}\n\n",
    );
    cloud.answers_next(&single("c"), [500, 500]);
    cloud.changes_flag(ENV, &flag("c", 1));
    // All of them are forwarded; SDKs compare versions themselves.
    while sdk.receives_event("*").await["identifier"] != "c" {}
    serves(&gateway, "feature-configs/c", "F035", |status, _| status == 200).await;
    serves(&gateway, "feature-configs/a", "F025", |_, it| it["version"] == 2).await;
}

#[tokio::test]
async fn flags_are_polled_where_streams_are_blocked() {
    // F032: a firewall that forwards requests, but never the response of a stream.
    let cloud = cloud().await;
    cloud.delays("/stream", std::time::Duration::from_secs(3600));
    let gateway = started(&cloud, "flag_poll_interval = \"100ms\"\nread_timeout = \"300ms\"").await;
    for version in 5..8 {
        cloud.stores_flag(ENV, &flag("a", version));
        serves(&gateway, "feature-configs/a", "F032: polled", |_, it| it["version"] == version).await;
    }
    let stream = Call::get("/stream").key(&token(&gateway, KEY).await).header("API-Key", KEY);
    assert_eq!(gateway.answers(&stream).await.status, 503, "F082: SDKs poll too");
}

#[tokio::test]
async fn rules_of_several_clauses_count_unless_they_are_switched_off() {
    let cloud = cloud().await;
    let mut plan = flag("plan", 1);
    plan["variationToTargetMap"] = json!([{"variation": "false", "targetSegments": ["s"]}]);
    cloud.changes_flag(ENV, &plan);
    // Old SDKs use only the first clause of a rule.
    let one = json!({"identifier": "ben", "name": "", "attributes": {"plan": "x", "city": "y"}});
    for (setting, expected) in [("and_rules = true", "true"), ("and_rules = false", "false")] {
        let gateway = started(&cloud, setting).await;
        let auth = json!({"apiKey": KEY, "target": one}).to_string();
        assert_eq!(gateway.answers(&Call::post("/client/auth", auth)).await.status, 200);
        serves(&gateway, "target/ben/evaluations/plan", setting, |_, it| it["value"] == expected).await;
        let segments = Call::get(format!("/client/env/{ENV}/target-segments/s?rules=v2"));
        let served = gateway.answers(&segments.key(&token(&gateway, KEY).await)).await.json();
        assert_eq!(served.get("servingRules").is_some(), setting.ends_with("true"), "F064 {served}");
    }
}

#[tokio::test]
async fn targets_are_registered_after_the_response() {
    let cloud = cloud().await;
    let gateway = started(&cloud, "").await;
    let before = cloud.registered_targets().len();
    token(&gateway, KEY).await;
    // F043: slow upstream responses do not delay SDKs.
    cloud.delays("/client/auth", std::time::Duration::from_secs(60));
    let target = json!({"identifier": "ada", "name": "Ada", "attributes": {"plan": "pro"}});
    let call = Call::post("/client/auth", json!({"apiKey": KEY, "target": target}).to_string());
    let start = tokio::time::Instant::now();
    assert_eq!(gateway.answers(&call).await.status, 200, "F043");
    assert!(start.elapsed() < std::time::Duration::from_secs(30), "F043");
    let is_forwarded = || cloud.posts("/client/auth").iter().any(|it| it.json()["target"]["identifier"] == "ada");
    until("F042: a forwarded target", is_forwarded).await;
    assert_eq!(cloud.registered_targets().len(), before, "F044: nothing without a target");
}

#[tokio::test]
async fn a_stream_may_be_written_in_any_way() {
    let cloud = cloud().await;
    let gateway = started(&cloud, "").await;
    let mut sdk = listens(&gateway, KEY).await;
    let event = |identifier: &str| json!({"event": "patch", "domain": "flag", "identifier": identifier, "version": 9});
    cloud.stores_flag(ENV, &flag("a", 9));
    cloud.stores_flag(ENV, &flag("b", 9));
    // F028: comments, blank lines, other line ends, and an event in pieces.
    let text = format!(":\r\n\r\n\r\n: hello\r\nevent: *\r\ndata: {}\r\n\r\n", event("a"));
    let (first, second) = text.split_at(text.len() / 2);
    cloud.sends_bytes(ENV, first.to_owned());
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    cloud.sends_bytes(ENV, second.to_owned());
    assert_eq!(sdk.receives_event("*").await, event("a"), "F028");
    // F029
    cloud.sends_bytes(ENV, format!("event: *\ndata: {}\n\nevent: *\ndata: {}\n\n", event("b"), event("a")));
    assert_eq!(sdk.receives_event("*").await, event("b"), "F029");
    assert_eq!(sdk.receives_event("*").await, event("a"), "F029");
}

#[tokio::test]
async fn a_silent_stream_is_opened_again() {
    let cloud = cloud().await;
    cloud.beats(None);
    let gateway = started(&cloud, "read_timeout = \"300ms\"").await;
    until("F030: a second stream", || cloud.gets("/stream").len() > 3).await;
    cloud.stores_flag(ENV, &flag("a", 9));
    serves(&gateway, "feature-configs/a", "F031 F033", |_, it| it["version"] == 9).await;
}

#[tokio::test]
async fn targets_are_downloaded_and_count() {
    let cloud = cloud().await;
    cloud.limits_pages(1);
    let mut by_plan = flag("plan", 1);
    by_plan["defaultServe"] = json!({"variation": "false"});
    by_plan["rules"] = json!([{"ruleId": "r", "priority": 1, "serve": {"variation": "true"},
        "clauses": [{"id": "c", "attribute": "plan", "op": "equal", "negate": false, "values": ["pro"]}]}]);
    cloud.puts(ENV, [by_plan], []);
    let target = |identifier: &str, plan: &str| json!({"identifier": identifier, "name": identifier, "attributes": {"plan": plan}});
    cloud.sets_targets(ENV, [target("ada", "free"), target("ben", "pro")]);
    let gateway = started(&cloud, "target_poll_interval = \"100ms\"").await;
    serves(&gateway, "target/ben/evaluations/plan", "F011 F012", |_, it| it["value"] == "true").await;
    serves(&gateway, "target/ada/evaluations/plan", "F012", |_, it| it["value"] == "false").await;
    cloud.sets_targets(ENV, [target("ada", "pro")]);
    serves(&gateway, "target/ada/evaluations/plan", "F011", |_, it| it["value"] == "true").await;
}

#[tokio::test]
async fn every_target_of_a_burst_is_registered_whatever_fails_at_first() {
    let cloud = cloud().await;
    let gateway = started(&cloud, "").await;
    cloud.answers_next("/client/auth", [503; 30]);
    cloud.delays("/client/auth", std::time::Duration::from_millis(50));
    let presents = |number: usize| {
        let target = json!({"identifier": format!("t{number}"), "attributes": {"n": number}});
        Call::post("/client/auth", json!({"apiKey": KEY, "target": target}).to_string())
    };
    let calls: Vec<_> = (0..400).map(presents).collect();
    let answers = futures_util::future::join_all(calls.iter().map(|it| gateway.answers(it))).await;
    assert!(answers.iter().all(|it| it.status == 200));
    let registered = || {
        let all = cloud.registered_targets();
        let all: std::collections::BTreeSet<_> =
            all.iter().filter_map(|it| it.1["identifier"].as_str().map(str::to_owned)).collect();
        all.len()
    };
    until("all of them", || registered() == 400).await;
    // The same target again is not registered; a changed one is.
    let before = cloud.posts("/client/auth").len();
    gateway.answers(&presents(7)).await;
    let changed = json!({"apiKey": KEY, "target": {"identifier": "t7", "attributes": {"n": "new"}}});
    gateway.answers(&Call::post("/client/auth", changed.to_string())).await;
    until("the new form", || cloud.registered_targets().iter().any(|it| it.1["attributes"]["n"] == "new")).await;
    assert_eq!(cloud.posts("/client/auth").len(), before + 1);
    // Counted when the response has been read, which is after upstream has the target.
    let series = "yardarm_harness_target_registrations_total{outcome=\"registered\"} 401";
    within("401 counted registrations", async {
        while !gateway.answers(&Call::get("/metrics")).await.text().contains(series) {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn targets_that_wait_are_registered_before_the_end() {
    let cloud = cloud().await;
    let gateway = started(&cloud, "").await;
    cloud.delays("/client/auth", std::time::Duration::from_millis(20));
    for number in 0..100 {
        let body = json!({"apiKey": KEY, "target": {"identifier": format!("t{number}")}});
        gateway.answers(&Call::post("/client/auth", body.to_string())).await;
    }
    gateway.stop().await;
    assert_eq!(cloud.registered_targets().len(), 100);
}
