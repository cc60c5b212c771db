//! Invalid data from upstream and from SDKs: an invalid item affects only itself, and an invalid list changes nothing.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use yardarm_testkit::{Call, FakeHarness, HarnessAnswer, until, within};

use super::{ENV, KEY, OTHER_ENV, OTHER_KEY, cloud, eventually, flag, listens, segment, started, token};
use crate::running::Running;

const SOON: &str = "flag_poll_interval = \"100ms\"";

fn flags(id: &str) -> String {
    format!("/client/env/{id}/feature-configs")
}

async fn report(gateway: &Running, name: &str) -> Value {
    let all = gateway.operator_gets("/api/environments").await.json();
    all["environments"].as_array().expect("a list").iter().find(|it| it["name"] == name).cloned().unwrap_or_default()
}

async fn serves(gateway: &Running, key: &str, path: &str, what: &str, is_wanted: impl Fn(u16, &Value) -> bool) {
    let call = Call::get(path).key(&token(gateway, key).await);
    eventually(gateway, &call, what, is_wanted).await;
}

fn broken(identifier: &str) -> Value {
    json!({"feature": identifier, "version": 9, "rules": {"no": "list"}})
}

#[tokio::test]
async fn an_unreadable_item_affects_only_itself() {
    let cloud = cloud().await;
    let bad_segment = json!({"identifier": "bad", "version": 1, "included": "all"});
    cloud.puts(ENV, [flag("a", 2), broken("bad"), flag("b", 1)], [bad_segment, segment("s", 1)]);
    let gateway = started(&cloud, SOON).await;
    let is_served = |_: u16, it: &Value| *it == json!([flag("a", 2), flag("b", 1)]);
    serves(&gateway, KEY, &flags(ENV), "the others", is_served).await;
    let shown = report(&gateway, "prod").await;
    assert_eq!((&shown["skipped_items"], &shown["phase"]), (&json!(2), &json!("ready")), "{shown}");
    assert_eq!(shown["last_error"]["kind"], "invalid-data");
    assert!(shown["last_error"]["message"].as_str().is_some_and(|it| it.contains("`bad`")), "{shown}");
    let metrics = gateway.operator_gets("/metrics").await.text().to_owned();
    let row = "yardarm_environment_skipped_items{environment=\"prod\",vendor=\"harness\"} 2";
    assert!(metrics.contains(row), "{metrics}");
    let _sdk = listens(&gateway, KEY).await;
    let health = gateway.answers(&Call::get("/health")).await.json();
    assert_eq!(health["environments"][0]["streamStatus"]["state"], "CONNECTED");
    // It heals without an event.
    cloud.puts(ENV, [flag("a", 2), flag("bad", 10), flag("b", 1)], []);
    serves(&gateway, KEY, &format!("{}/bad", flags(ENV)), "healed", |_, it| it["version"] == 10).await;
    assert_eq!(report(&gateway, "prod").await["skipped_items"], 0);
}

#[tokio::test]
async fn the_last_good_version_of_an_unreadable_item_is_served() {
    let cloud = cloud().await;
    let gateway = started(&cloud, SOON).await;
    let mut sdk = listens(&gateway, KEY).await;
    // Triggered by an event.
    cloud.changes_flag(ENV, &broken("a"));
    cloud.changes_flag(ENV, &flag("b", 5));
    assert_eq!(sdk.receives_event("*").await["identifier"], "b", "nothing has changed of the other");
    let mine = token(&gateway, KEY).await;
    let kept = async |gateway: &Running| {
        for (path, version) in [("a", 2), ("b", 5)] {
            let answer = gateway.answers(&Call::get(format!("{}/{path}", flags(ENV))).key(&mine)).await;
            assert_eq!((answer.status, &answer.json()["version"]), (200, &json!(version)), "{path}");
        }
    };
    kept(&gateway).await;
    // Triggered by a full download.
    let before = cloud.gets(&flags(ENV)).len();
    until("downloads", || cloud.gets(&flags(ENV)).len() > before + 2).await;
    kept(&gateway).await;
    let shown = report(&gateway, "prod").await;
    assert_eq!((&shown["skipped_items"], &shown["connection"]), (&json!(1), &json!("valid")), "{shown}");
    // Read from disk, while upstream is down.
    cloud.goes_down();
    let gateway = gateway.restarted().await;
    kept(&gateway).await;
    cloud.comes_back();
    until("downloads", || cloud.gets(&flags(ENV)).len() > before + 5).await;
    kept(&gateway).await;
}

#[tokio::test]
async fn items_are_served_in_the_shape_that_sdks_can_read() {
    let cloud = cloud().await;
    // SDKs parse the whole list, and fail on a single item with a missing property or a wrong type.
    let thin = json!({"feature": "thin", "version": 5.0, "tags": 7, "defaultServe": {"distribution": null}});
    let odd = json!({"identifier": "odd", "version": 1, "name": null, "tags": "x", "createdAt": "x", "rules": null,
        "included": [{"identifier": "ada", "attributes": [1]}]});
    let typed = |name: &str, value: Value| {
        let mut bad = flag(&format!("bad {name}"), 1);
        bad[name] = value;
        bad
    };
    let bad = [
        typed("state", json!(7)),
        typed("version", json!(5.5)),
        typed("feature", json!("")),
        typed("rules", json!("x")),
    ];
    cloud.puts(ENV, bad.into_iter().chain([thin, flag("a", 2)]), [odd]);
    let gateway = started(&cloud, "").await;
    let mine = token(&gateway, KEY).await;
    let served = gateway.answers(&Call::get(flags(ENV)).key(&mine)).await.json();
    let expected = json!({
        "feature": "thin", "project": "", "environment": "", "state": "off", "kind": "string", "variations": [],
        "defaultServe": {}, "offVariation": "", "variationToTargetMap": [], "version": 5, "tags": 7,
    });
    assert_eq!(served, json!([expected, flag("a", 2)]));
    assert_eq!(served[0]["version"].to_string(), "5");
    let served = gateway.answers(&Call::get(format!("/client/env/{ENV}/target-segments")).key(&mine)).await.json();
    let target = json!({"identifier": "ada", "name": "", "account": "", "org": "", "environment": "", "project": ""});
    assert_eq!(served, json!([{"identifier": "odd", "name": "", "version": 1, "included": [target]}]));
    assert_eq!(report(&gateway, "prod").await["skipped_items"], 4);
}

#[tokio::test]
async fn any_json_in_place_of_an_item_affects_only_that_item() {
    let cloud = cloud().await;
    let gateway = started(&cloud, SOON).await;
    let deep = format!("{}1{}", "[".repeat(20_000), "]".repeat(20_000));
    let texts =
        ["7", "null", "[]", "{}", "\"x\"", "1e999", "{\"feature\":7}", "{\"feature\":\"x\",\"version\":1e308}", &deep];
    for (index, text) in texts.into_iter().enumerate() {
        let version = 10 + i64::try_from(index).expect("small");
        let list = format!("[{text},{},{}]", flag("a", version), flag("b", 1));
        // The reconnect downloads it, and later polls find the valid list again.
        cloud.answers_next(&flags(ENV), [HarnessAnswer::from(200).body("application/json", &list)]);
        cloud.stores_flag(ENV, &flag("a", version));
        cloud.closes_streams(ENV);
        let path = format!("{}/a", flags(ENV));
        serves(&gateway, KEY, &path, text.get(..40).unwrap_or(text), |_, it| it["version"] == version).await;
        serves(&gateway, KEY, &format!("{}/b", flags(ENV)), "the other", |status, _| status == 200).await;
    }
}

#[tokio::test]
async fn a_value_that_is_not_a_list_deletes_nothing() {
    let cloud = cloud().await;
    let gateway = started(&cloud, "flag_poll_interval = \"50ms\"").await;
    let is_served = async |what: &str| {
        let call = Call::get(flags(ENV)).key(&token(&gateway, KEY).await);
        let answer = gateway.answers(&call).await;
        assert_eq!((answer.status, answer.json().as_array().map(Vec::len)), (200, Some(2)), "{what}");
    };
    cloud.streams_go_down();
    for body in ["null", "{}", "", "[", "7", "{\"flags\":[]}"] {
        for list in ["feature-configs", "target-segments"] {
            let path = format!("/client/env/{ENV}/{list}");
            let before = cloud.gets(&path).len();
            cloud.answers_next(&path, [HarnessAnswer::from(200).body("application/json", body)]);
            until("a poll", || cloud.gets(&path).len() > before + 1).await;
            is_served(body).await;
        }
    }
}

fn text(body: String) -> HarnessAnswer {
    HarnessAnswer::from(200).body("application/json", &body)
}

#[tokio::test]
async fn pages_without_a_list_withdraw_no_keys() {
    let cloud = FakeHarness::start().await;
    cloud.adds_environment(ENV, "prod", [KEY]);
    cloud.adds_key(ENV, &FakeHarness::hash("second"));
    cloud.puts(ENV, [flag("a", 1)], []);
    let gateway = Running::before_harness(&cloud, &[KEY], "key_refresh_interval = \"50ms\"").await;
    gateway.wait_until_ready().await;
    let second = token(&gateway, "second").await;
    let entry = |key: &str| json!({"name": "k", "key": FakeHarness::hash(key)});
    let full = json!({"apiKeys": [entry(KEY)], "itemCount": 2, "pageCount": 2}).to_string();
    let many: Vec<_> = (0..100).map(|it| entry(&it.to_string())).collect();
    let endless = json!({ "apiKeys": many }).to_string();
    for (what, pages) in [
        ("no list", vec![text("{}".into())]),
        ("null", vec![text(json!({"apiKeys": null}).to_string())]),
        ("another type", vec![text(json!({"apiKeys": {}}).to_string())]),
        ("none, but there are some", vec![text(json!({"apiKeys": [], "itemCount": 2}).to_string()); 3]),
        ("no JSON", vec![text("<".into())]),
        ("no list in the second page", vec![text(full.clone()), text("{}".into())]),
        ("an error in the second page", vec![text(full.clone()), HarnessAnswer::from(500)]),
        ("a rejection", vec![HarnessAnswer::from(403)]),
        ("fewer than there are", vec![text(full.clone()), text(json!({"apiKeys": []}).to_string())]),
        ("an entry that cannot be read", vec![text(json!({"apiKeys": [entry(KEY), 7], "itemCount": 2}).to_string())]),
        ("always the same page", vec![text(endless); 2]),
    ] {
        let before = cloud.gets("/admin/apikey").len();
        let count = pages.len();
        cloud.answers_next("/admin/apikey", pages);
        until(what, || cloud.gets("/admin/apikey").len() > before + count + 2).await;
        let call = Call::get(flags(ENV)).key(&second);
        assert_eq!(gateway.answers(&call).await.status, 200, "{what}");
    }
    // Keys that are really gone are removed.
    cloud.removes_key(ENV, &FakeHarness::hash("second"));
    let call = Call::get(flags(ENV)).key(&second);
    eventually(&gateway, &call, "the end of the key", |status, _| status == 401).await;
}

#[tokio::test]
async fn pages_with_odd_counts_are_read() {
    let entry = |key: &str| json!({"name": "k", "key": FakeHarness::hash(key)});
    for count in [json!(-1), json!("2"), json!(1.5), json!(1e300), json!(null), json!([])] {
        let cloud = FakeHarness::start().await;
        cloud.adds_environment(ENV, "prod", [KEY]);
        let page = |keys: Value| text(json!({"apiKeys": keys, "itemCount": count, "pageCount": count}).to_string());
        cloud.answers_next("/admin/apikey", [page(json!([entry(KEY), entry("second")])), page(json!([]))]);
        let gateway = Running::before_harness(&cloud, &[KEY], "").await;
        let call = Call::post("/client/auth", json!({"apiKey": "second"}).to_string());
        eventually(&gateway, &call, &count.to_string(), |status, _| status == 200).await;
        gateway.stop().await;
    }
}

#[tokio::test]
async fn keys_of_available_pages_are_accepted_from_the_start() {
    let entry = |key: &str| json!({"name": "k", "key": FakeHarness::hash(key)});
    let first = json!({"apiKeys": [entry(KEY), entry("second")], "itemCount": 3, "pageCount": 2}).to_string();
    for second in ["{}".to_owned(), json!({"apiKeys": null, "itemCount": 3, "pageCount": 2}).to_string(), first.clone()]
    {
        let cloud = FakeHarness::start().await;
        cloud.adds_environment(ENV, "prod", [KEY]);
        let pages = [first.clone(), second.clone()].map(text);
        cloud.answers_next("/admin/apikey", pages.into_iter().cycle().take(600));
        let gateway = Running::before_harness(&cloud, &[KEY], "").await;
        let call = Call::post("/client/auth", json!({"apiKey": "second"}).to_string());
        eventually(&gateway, &call, &second, |status, _| status == 200).await;
        gateway.stop().await;
    }
}

#[tokio::test]
async fn pages_of_targets_are_read_entry_by_entry() {
    let cloud = cloud().await;
    let mut by_plan = flag("plan", 1);
    by_plan["defaultServe"] = json!({"variation": "false"});
    by_plan["rules"] = json!([{"ruleId": "r", "priority": 1, "serve": {"variation": "true"},
        "clauses": [{"id": "c", "attribute": "plan", "op": "equal", "negate": false, "values": ["pro"]}]}]);
    cloud.puts(ENV, [by_plan], []);
    let target =
        |identifier: &str| json!({"identifier": identifier, "name": identifier, "attributes": {"plan": "pro"}});
    cloud.sets_targets(
        ENV,
        [json!(7), target("ada"), json!({"identifier": 7}), json!({"identifier": "x", "attributes": 7})],
    );
    let gateway = started(&cloud, "target_poll_interval = \"50ms\"").await;
    let evaluation = |target: &str| format!("/client/env/{ENV}/target/{target}/evaluations/plan");
    serves(&gateway, KEY, &evaluation("ada"), "the readable one", |_, it| it["value"] == "true").await;
    for body in ["{}", r#"{"targets":null}"#, r#"{"targets":7}"#] {
        let before = cloud.gets("/admin/targets").len();
        cloud.answers_next("/admin/targets", [text(body.to_owned())]);
        until("a poll", || cloud.gets("/admin/targets").len() > before + 2).await;
        serves(&gateway, KEY, &evaluation("ada"), body, |_, it| it["value"] == "true").await;
    }
}

#[tokio::test]
async fn half_a_surrogate_pair_is_a_replacement_character() {
    let cloud = cloud().await;
    let mut by_name = flag("mood", 1);
    by_name["defaultServe"] = json!({"variation": "false"});
    by_name["rules"] = json!([{"ruleId": "r", "priority": 1, "serve": {"variation": "true"},
        "clauses": [{"id": "c", "attribute": "mood", "op": "equal", "negate": false, "values": ["a\u{fffd}b"]}]}]);
    cloud.puts(ENV, [by_name], []);
    let gateway = started(&cloud, "metric_post_interval = \"50ms\"").await;
    let mine = token(&gateway, KEY).await;
    let evaluation = |target: &str| Call::get(format!("/client/env/{ENV}/target/{target}/evaluations/mood")).key(&mine);
    for (index, mood) in [&br"a\ud83db"[..], br"a\ude00b", b"a\xffb"].into_iter().enumerate() {
        let json = |name: &str| {
            let start = format!(r#"{{"identifier":"{name}","attributes":{{"mood":""#);
            [start.as_bytes(), mood, br#"","x\ud83d":"\udead"}}"#].concat()
        };
        let call = evaluation("nobody").header("Harness-Target", &STANDARD.encode(json("header")));
        assert_eq!(gateway.answers(&call).await.json()["value"], "true", "in a header: {index}");
        let name = format!("body{index}");
        let body = [format!(r#"{{"apiKey":"{KEY}","target":"#).as_bytes(), &json(&name), b"}"].concat();
        assert_eq!(gateway.answers(&Call::post("/client/auth", body)).await.status, 200, "in a body: {index}");
        assert_eq!(gateway.answers(&evaluation(&name)).await.json()["value"], "true", "in a body: {index}");
    }
    // The same from upstream: in items, and in events.
    let list = format!("[{},{}]", flag("x", 1), flag("text", 3).to_string().replace("shop", r"sh\ud83dop"));
    cloud.answers_next(&flags(ENV), [text(list)]);
    cloud.closes_streams(ENV);
    serves(&gateway, KEY, &format!("{}/text", flags(ENV)), "an item", |_, it| it["project"] == "sh\u{fffd}op").await;
    let mut sdk = listens(&gateway, KEY).await;
    cloud.stores_flag(ENV, &flag("x", 2));
    let event = r#"{"event":"patch","domain":"flag","identifier":"x","version":2,"by":"\ud83d"}"#;
    cloud.sends_bytes(ENV, format!("event: *\ndata: {event}\n\n"));
    within("the event", async { while sdk.receives_event("*").await["version"] != 2 {} }).await;
}

#[tokio::test]
async fn targets_that_version_1_accepted_are_accepted() {
    let cloud = cloud().await;
    let mut only = flag("only", 1);
    let names = ["o'brien", "a,b", "a(b)", "+49 30", "urn:user:1", "jürgen", "a b", "a/b", "名前", "\"x\""];
    let targets: Vec<_> = names.iter().map(|it| json!({"identifier": it, "name": it})).collect();
    only["variationToTargetMap"] = json!([{"variation": "false", "targets": targets}]);
    cloud.puts(ENV, [only], []);
    let gateway = started(&cloud, "").await;
    for name in names {
        let body = json!({"apiKey": KEY, "target": {"identifier": name, "name": format!("{name}²")}});
        let answer = gateway.answers(&Call::post("/client/auth", body.to_string())).await;
        assert_eq!(answer.status, 200, "{name}");
        let token = format!("Bearer {}", answer.json()["authToken"].as_str().expect("a token"));
        let path: String = name.bytes().map(|it| format!("%{it:02X}")).collect();
        let call = Call::get(format!("/client/env/{ENV}/target/{path}/evaluations/only")).key(&token);
        assert_eq!(gateway.answers(&call).await.json()["value"], "false", "{name}");
    }
    until("registrations", || {
        let registered = cloud.registered_targets();
        names.iter().all(|name| registered.iter().any(|it| it.1["identifier"] == *name))
    })
    .await;
}

#[tokio::test]
async fn an_unreadable_environment_of_a_proxy_key_affects_only_itself() {
    const PROXY: &str = "proxy-key-0001";
    let cloud = cloud().await;
    cloud.adds_proxy(PROXY, [ENV, OTHER_ENV]);
    let gateway = Running::before_harness_proxy(&cloud, PROXY, SOON).await;
    gateway.wait_until_ready().await;
    cloud.streams_go_down();
    let mine = |version: i64| json!({"id": ENV, "apiKeys": [FakeHarness::hash(KEY)], "featureConfigs": [flag("a", version)], "segments": []});
    for (index, other) in [
        json!(7),
        json!({"id": 7}),
        json!({"apiKeys": []}),
        json!({"id": OTHER_ENV}),
        json!({"id": OTHER_ENV, "apiKeys": null, "featureConfigs": null, "segments": null}),
        json!({"id": OTHER_ENV, "apiKeys": [7], "featureConfigs": [7]}),
        json!({"id": OTHER_ENV, "apiKeys": [], "featureConfigs": 7})
            .as_object()
            .map(|it| {
                let mut it = it.clone();
                it.remove("apiKeys");
                json!(it)
            })
            .expect("an object"),
    ]
    .into_iter()
    .enumerate()
    {
        let version = 10 + i64::try_from(index).expect("small");
        cloud.stores_flag(ENV, &flag("a", version));
        let page = json!({"environments": [other, mine(version)], "itemCount": 2, "pageCount": 1}).to_string();
        let before = cloud.gets("/proxy/config").len();
        cloud.answers_next("/proxy/config", [text(page)]);
        until("a poll", || cloud.gets("/proxy/config").len() > before + 1).await;
        serves(&gateway, KEY, &format!("{}/a", flags(ENV)), "the readable environment", |_, it| {
            it["version"] == version
        })
        .await;
        let call = Call::get(flags(OTHER_ENV)).key(&token(&gateway, OTHER_KEY).await);
        assert_eq!(gateway.answers(&call).await.json(), json!([flag("other", 1)]), "{other}");
    }
}
