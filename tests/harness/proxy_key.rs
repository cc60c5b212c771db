//! One proxy key for many environments: what is requested with it, and how environments and keys come and go.

use std::time::Duration;

use serde_json::{Value, json};
use yardarm_testkit::{Call, FakeHarness, HarnessAnswer, Recorded, until};

use super::{ENV, KEY, OTHER_ENV, OTHER_KEY, cloud, eventually, flag, listens, segment, token};
use crate::program::{Program, Signal};
use crate::running::{Running, proxy_toml};
use crate::sdk::Sdk;

const PROXY: &str = "proxy-key-0001";

/// The usual two environments, and a proxy key that leads to both.
async fn proxied_cloud() -> FakeHarness {
    let cloud = cloud().await;
    cloud.adds_proxy(PROXY, [ENV, OTHER_ENV]);
    cloud
}

async fn started(cloud: &FakeHarness, more: &str) -> Running {
    let gateway = Running::before_harness_proxy(cloud, PROXY, more).await;
    gateway.is_ready().await;
    gateway
}

fn exchange(key: &str) -> Call {
    Call::post("/client/auth", json!({ "apiKey": key }).to_string())
}

fn flags(id: &str) -> String {
    format!("/client/env/{id}/feature-configs")
}

async fn serves(gateway: &Running, key: &str, path: &str, what: &str, is_wanted: impl Fn(u16, &Value) -> bool) {
    let call = Call::get(path).key(&token(gateway, key).await);
    eventually(gateway, &call, what, is_wanted).await;
}

async fn exchanges(gateway: &Running, key: &str, status: u16, what: &str) {
    eventually(gateway, &exchange(key), what, |it, _| it == status).await;
}

/// What operators are shown, by name.
async fn report(gateway: &Running, name: &str) -> Value {
    let all = gateway.operator_gets("/api/environments").await.json();
    let all = all["environments"].as_array().expect("a list");
    all.iter().find(|it| it["name"] == name).unwrap_or_else(|| panic!("no {name} in {all:?}")).clone()
}

async fn states(gateway: &Running) -> Vec<String> {
    let health = gateway.answers(&Call::get("/health")).await.json();
    let states = health["environments"].as_array().expect("a list");
    states.iter().map(|it| it["streamStatus"]["state"].as_str().expect("a state").to_owned()).collect()
}

/// All headers but those of HTTP itself, and the token by its first word.
fn headers(request: &Recorded) -> Vec<(String, String)> {
    let is_own = |name: &str| !["host", "user-agent", "content-length"].contains(&name);
    let mut all: Vec<_> = request
        .headers
        .iter()
        .filter(|(name, _)| is_own(name.as_str()))
        .map(|(name, value)| (name.to_string(), value.to_str().expect("a text").to_owned()))
        .map(|(name, value)| match name.as_str() {
            "authorization" => (name, value.split(' ').next().unwrap_or_default().to_owned()),
            _ => (name, value),
        })
        .collect();
    all.sort();
    all
}

fn expected(headers: &[(&str, &str)]) -> Vec<(String, String)> {
    headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn paths(requests: &[Recorded]) -> Vec<String> {
    requests.iter().map(|it| format!("{} {}", it.method, it.path)).collect()
}

const INFO: &str = concat!("Yardarm ", env!("CARGO_PKG_VERSION"), " Proxy");

#[tokio::test]
async fn the_requests_are_those_of_the_vendor() {
    let cloud = proxied_cloud().await;
    cloud.limits_pages(1);
    let gateway = started(&cloud, "metric_post_interval = \"100ms\"").await;
    let mut sdk = listens(&gateway, KEY).await;
    let page = |number: u32| format!("GET /api/1.0/proxy/config?pageNumber={number}&pageSize=10&cluster=2&key={PROXY}");
    let stream = "GET /api/1.0/stream?cluster=2".to_owned();
    let auth = "POST /api/1.0/proxy/auth".to_owned();
    let requests = cloud.requests();
    // Before the stream, so that one that cannot be opened holds nothing back, and again when it is open.
    assert_eq!(paths(&requests), [auth.clone(), page(0), page(1), stream, page(0), page(1)], "F113");
    assert_eq!(requests[0].json(), json!({"proxyKey": PROXY}), "F113");
    let json_type = ("content-type", "application/json");
    assert_eq!(headers(&requests[0]), expected(&[("accept", "*/*"), json_type]), "F113");
    assert_eq!(headers(&requests[1]), expected(&[("accept", "*/*"), ("authorization", "Bearer")]), "F113");
    let account = ("harness-accountid", "account1");
    let stream_headers = [
        ("accept", "text/event-stream"),
        ("api-key", PROXY),
        ("authorization", "Bearer"),
        ("cache-control", "no-cache"),
        account,
        ("harness-sdk-info", INFO),
    ];
    assert_eq!(headers(&requests[3]), expected(&stream_headers), "F113");

    let before = cloud.requests().len();
    cloud.changes_flag(ENV, &flag("a b", 1));
    sdk.hears_event("*").await;
    cloud.changes_segment(ENV, &segment("t", 1));
    sdk.hears_event("*").await;
    let requests = cloud.requests().split_off(before);
    let item = |path: &str| format!("GET /api/1.0/client/env/{ENV}/{path}");
    let wanted = [item("feature-configs/a%20b?cluster=2"), item("target-segments/t?cluster=2&rules=v2")];
    assert_eq!(paths(&requests), wanted, "F113: one item each");
    let environment = ("harness-environmentid", ENV);
    let item_headers =
        [("accept", "*/*"), ("authorization", "Bearer"), account, environment, ("harness-sdk-info", INFO)];
    assert_eq!(headers(&requests[0]), expected(&item_headers), "F113");

    // An environment that comes needs a token that leads to it.
    let third = "0a1b2c3d-4e5f-4000-8000-000000000003";
    cloud.adds_environment(third, "third", ["third-key"]);
    let before = cloud.requests().len();
    cloud.adds_to_proxy(PROXY, third);
    exchanges(&gateway, "third-key", 200, "F114").await;
    let requests = cloud.requests().split_off(before);
    assert_eq!(paths(&requests), [auth, format!("{}&environment={third}", page(0))], "F113 F114");

    let body = json!({"targetData": [{"identifier": "ada", "name": "Ada", "attributes": []}]}).to_string();
    let path = format!("/metrics/{ENV}");
    gateway.answers(&Call::post(&path, body).key(&token(&gateway, KEY).await)).await;
    until("metrics", || !cloud.posts(&path).is_empty()).await;
    let posted = &cloud.posts(&path)[0];
    assert!(posted.path.ends_with("?cluster=2"), "{}", posted.path);
    let metrics_headers = [("accept", "*/*"), ("authorization", "Bearer"), json_type, account, environment];
    let metrics_headers = [&metrics_headers[..], &[("harness-sdk-info", INFO)]].concat();
    assert_eq!(headers(posted), expected(&metrics_headers), "6.6");
}

#[tokio::test]
async fn one_key_leads_to_all_environments() {
    let cloud = FakeHarness::start().await;
    let ids: Vec<_> = (0..23).map(|it| format!("environment-{it:02}")).collect();
    for id in &ids {
        cloud.adds_environment(id, "prod", [format!("key of {id}").as_str()]);
        cloud.puts(id, [flag(id, 1)], []);
    }
    cloud.adds_environment("empty", "prod", ["key of nothing"]);
    cloud.adds_proxy(PROXY, ids.iter().map(String::as_str).chain(["empty"]));
    let gateway = started(&cloud, "").await;
    for id in &ids {
        let key = format!("key of {id}");
        serves(&gateway, &key, &flags(id), "F113", |_, it| *it == json!([flag(id, 1)])).await;
    }
    serves(&gateway, "key of nothing", &flags("empty"), "F113: no flags yet", |_, it| *it == json!([])).await;
    let mut first = listens(&gateway, "key of environment-00").await;
    let mut empty = listens(&gateway, "key of nothing").await;
    assert_eq!((cloud.open_streams(PROXY), cloud.gets("/stream").len()), (1, 1), "F113: one for all");
    assert!(cloud.posts("/client/auth").is_empty() && cloud.gets("/admin/apikey").is_empty(), "F113");
    assert_eq!(states(&gateway).await, ["CONNECTED"; 24], "F113");
    // D20: the first flag of an environment that had none.
    cloud.changes_flag("empty", &flag("new", 1));
    assert_eq!(empty.hears_event("*").await["identifier"], "new");
    serves(&gateway, "key of nothing", &flags("empty"), "D20", |_, it| *it == json!([flag("new", 1)])).await;
    cloud.changes_flag("environment-00", &flag("last", 1));
    assert_eq!(first.hears_event("*").await["identifier"], "last", "nothing of others before");
    // Names may be the same; IDs are not.
    assert_eq!(report(&gateway, "prod").await["phase"], "ready");
    assert_eq!(report(&gateway, "environment-22").await["phase"], "ready");
}

#[tokio::test]
async fn a_change_reaches_its_own_environment() {
    let cloud = proxied_cloud().await;
    let gateway = started(&cloud, "").await;
    let mut mine = listens(&gateway, KEY).await;
    let mut other = listens(&gateway, OTHER_KEY).await;
    let path = |identifier: &str| format!("{}/{identifier}", flags(ENV));

    cloud.changes_flag(ENV, &flag("c", 1));
    let heard = json!({"event": "create", "domain": "flag", "identifier": "c", "version": 1});
    mine.hears("*", heard).await; // 4.9: neither keys nor IDs of environments
    let bearer = token(&gateway, KEY).await;
    assert_eq!(gateway.answers(&Call::get(path("c")).key(&bearer)).await.status, 200, "there when it is told");
    cloud.changes_segment(ENV, &segment("t", 1));
    assert_eq!(mine.hears_event("*").await["domain"], "target-segment");
    cloud.deletes_flag(ENV, "c");
    assert_eq!(mine.hears_event("*").await["event"], "delete");
    assert_eq!(gateway.answers(&Call::get(path("c")).key(&bearer)).await.status, 404);
    assert_eq!(cloud.gets(&path("c")).len(), 1, "what is deleted is not asked for");
    cloud.deletes_segment(ENV, "t");
    assert_eq!(mine.hears_event("*").await["event"], "delete", "D11");
    let call = Call::get(format!("/client/env/{ENV}/target-segments/t")).key(&bearer);
    assert_eq!(gateway.answers(&call).await.status, 404, "D11");

    // What nobody understands, and what is not ours, harms nobody.
    for event in [
        json!({"event": "patch", "domain": "flag", "identifier": "a", "version": 9, "environment": "unknown"}),
        json!({"event": "patch", "domain": "flag", "identifier": "a", "version": 9}),
        json!({"event": "patch", "domain": "flag", "environment": ENV}),
        json!({"event": "patch", "domain": "moon", "identifier": "a", "environment": ENV}),
        json!({"event": "newThing", "domain": "proxy", "environments": [ENV]}),
        json!({"event": "apiKeyRemoved", "domain": "proxy", "environments": [ENV], "apiKey": "no hash"}),
        json!({"event": "apiKeyRemoved", "domain": "proxy", "environments": ["unknown"], "apiKey": FakeHarness::hash(KEY)}),
        json!({"event": "environmentsAdded", "domain": "proxy", "environments": ["unknown"]}),
        json!({"event": "environmentsRemoved", "domain": "proxy", "environments": ["unknown"]}),
        json!([]),
    ] {
        cloud.tells(PROXY, &event);
    }
    cloud.says(PROXY, "event: *\ndata: {\n\n");

    cloud.changes_flag(ENV, &flag("after", 1));
    assert_eq!(mine.hears_event("*").await["identifier"], "after", "and nothing before");

    // A token that has run out is exchanged once, and the item asked for again.
    cloud.forgets_tokens();
    let before = cloud.posts("/proxy/auth").len();
    cloud.changes_flag(ENV, &flag("d", 1));
    assert_eq!(mine.hears_event("*").await["identifier"], "d");
    assert_eq!((cloud.posts("/proxy/auth").len() - before, cloud.gets(&path("d")).len()), (1, 2));
    // One that cannot be fetched at first is told when it can be.
    cloud.answers_next(&path("e"), [500, 503]);
    cloud.changes_flag(ENV, &flag("e", 1));
    cloud.changes_flag(OTHER_ENV, &flag("f", 1));
    assert_eq!(mine.hears_event("*").await["identifier"], "e");
    assert_eq!(other.hears_event("*").await["identifier"], "f", "nothing of others before");
    assert_eq!(cloud.gets("/stream").len(), 1, "the same stream all the time");
}

#[tokio::test]
async fn an_item_that_cannot_be_fetched_ends_the_round() {
    let cloud = proxied_cloud().await;
    let gateway = started(&cloud, "").await;
    let mut sdk = listens(&gateway, KEY).await;
    cloud.answers_next(&format!("{}/c", flags(ENV)), [500; 4]);
    cloud.changes_flag(ENV, &flag("c", 1));
    // It is not told before it is there; the SDK polls, and comes back to it.
    sdk.hears_the_end().await;
    let _sdk = listens(&gateway, KEY).await;
    let call = Call::get(format!("{}/c", flags(ENV))).key(&token(&gateway, KEY).await);
    assert_eq!(gateway.answers(&call).await.status, 200);
}

#[tokio::test]
async fn environments_come_and_go() {
    let cloud = proxied_cloud().await;
    let third = "0a1b2c3d-4e5f-4000-8000-000000000003";
    cloud.adds_environment(third, "third", ["third-key"]);
    cloud.puts(third, [flag("t", 1)], []);
    let gateway = started(&cloud, "").await;
    let (mut mine, mut other) = (listens(&gateway, KEY).await, listens(&gateway, OTHER_KEY).await);
    assert_eq!(gateway.answers(&exchange("third-key")).await.status, 401, "F114: not ours yet");
    // Also if it cannot be fetched at once.
    cloud.answers_next("/proxy/config", [500]);
    cloud.adds_to_proxy(PROXY, third);
    exchanges(&gateway, "third-key", 200, "F114: added").await;
    let mut new = listens(&gateway, "third-key").await;
    cloud.changes_flag(third, &flag("t", 2));
    assert_eq!(new.hears_event("*").await["version"], 2, "F114");

    let bearer = token(&gateway, OTHER_KEY).await;
    cloud.removes_from_proxy(PROXY, OTHER_ENV);
    other.hears_the_end().await; // F114
    assert_eq!(gateway.answers(&exchange(OTHER_KEY)).await.status, 401, "F114: removed");
    let call = Call::get(flags(OTHER_ENV)).key(&bearer);
    assert_eq!(gateway.answers(&call).await.status, 401, "F114: and its tokens with it");
    cloud.changes_flag(ENV, &flag("a", 9));
    assert_eq!(mine.hears_event("*").await["version"], 9, "F114: the others go on");
    assert_eq!((cloud.gets("/stream").len(), states(&gateway).await.len()), (1, 2), "F114: without a new stream");
    // It may come back.
    cloud.adds_to_proxy(PROXY, OTHER_ENV);
    exchanges(&gateway, OTHER_KEY, 200, "F114: added again").await;
}

#[tokio::test]
async fn keys_come_and_go() {
    let cloud = proxied_cloud().await;
    let gateway = started(&cloud, "").await;
    let mut usual = listens(&gateway, KEY).await;
    cloud.adds_key(ENV, &FakeHarness::hash("second-key"));
    exchanges(&gateway, "second-key", 200, "F114: added").await;
    let mut second = listens(&gateway, "second-key").await;
    let bearer = token(&gateway, "second-key").await;
    cloud.removes_key(ENV, &FakeHarness::hash("second-key"));
    second.hears_the_end().await; // F114
    assert_eq!(gateway.answers(&exchange("second-key")).await.status, 401, "F114: removed");
    assert_eq!(gateway.answers(&Call::get(flags(ENV)).key(&bearer)).await.status, 401, "F114: and its tokens with it");
    cloud.changes_flag(ENV, &flag("a", 9));
    assert_eq!(usual.hears_event("*").await["version"], 9, "F114: whoever has another key notices nothing");
    assert_eq!(cloud.gets("/stream").len(), 1, "F114: without a new stream");
}

#[tokio::test]
async fn nothing_is_missed_in_an_outage() {
    let cloud = proxied_cloud().await;
    let third = "0a1b2c3d-4e5f-4000-8000-000000000003";
    cloud.adds_environment(third, "third", ["third-key"]);
    let gateway = started(&cloud, "flag_poll_interval = \"100ms\"").await;
    let (mut mine, mut other) = (listens(&gateway, KEY).await, listens(&gateway, OTHER_KEY).await);
    cloud.streams_go_down();
    mine.hears_the_end().await;
    other.hears_the_end().await;
    until("polls", || cloud.gets("/proxy/config").len() > 4).await;
    assert_eq!(states(&gateway).await, ["DISCONNECTED"; 2]);
    let call = Call::get("/stream").key(&token(&gateway, KEY).await).header("API-Key", KEY);
    assert_eq!(gateway.answers(&call).await.status, 503, "SDKs poll, too");
    // 6.4: polls find changed flags, and environments and keys that come and go.
    cloud.stores_flag(ENV, &flag("a", 7));
    serves(&gateway, KEY, &format!("{}/a", flags(ENV)), "polled", |_, it| it["version"] == 7).await;
    cloud.adds_to_proxy(PROXY, third);
    exchanges(&gateway, "third-key", 200, "an environment that came").await;
    cloud.removes_from_proxy(PROXY, OTHER_ENV);
    exchanges(&gateway, OTHER_KEY, 401, "an environment that went").await;
    cloud.removes_key(third, &FakeHarness::hash("third-key"));
    exchanges(&gateway, "third-key", 401, "a key that went").await;
    // What is not there is not lost.
    cloud.goes_down();
    serves(&gateway, KEY, &format!("{}/a", flags(ENV)), "served while all is down", |_, it| it["version"] == 7).await;
    let before = report(&gateway, "prod").await["sequence"].clone();
    cloud.comes_back();
    cloud.streams_come_back();
    let mut mine = listens(&gateway, KEY).await;
    assert_eq!(report(&gateway, "prod").await["sequence"], before, "D15: nothing was different");
    cloud.changes_flag(ENV, &flag("b", 7));
    assert_eq!(mine.hears_event("*").await["identifier"], "b", "D15: and nothing before");
}

#[tokio::test]
async fn silence_is_a_loss() {
    let cloud = proxied_cloud().await;
    cloud.beats(None);
    let gateway = started(&cloud, "read_timeout = \"300ms\"").await;
    listens(&gateway, KEY).await.hears_the_end().await;
    until("another stream", || cloud.gets("/stream").len() > 1).await;
}

#[tokio::test]
async fn without_streams_everything_is_polled() {
    let cloud = proxied_cloud().await;
    let gateway = started(&cloud, "stream_enabled = false\nflag_poll_interval = \"50ms\"").await;
    cloud.stores_flag(ENV, &flag("a", 7));
    serves(&gateway, KEY, &format!("{}/a", flags(ENV)), "polled", |_, it| it["version"] == 7).await;
    cloud.removes_from_proxy(PROXY, OTHER_ENV);
    exchanges(&gateway, OTHER_KEY, 401, "an environment that went").await;
    let call = Call::get("/stream").key(&token(&gateway, KEY).await).header("API-Key", KEY);
    assert_eq!(gateway.answers(&call).await.status, 501);
    assert!(cloud.gets("/stream").is_empty());
}

#[tokio::test]
async fn a_restart_while_all_is_down_serves_what_was_kept() {
    let cloud = proxied_cloud().await;
    let third = "0a1b2c3d-4e5f-4000-8000-000000000003";
    cloud.adds_environment(third, "third", ["third-key"]);
    let gateway = started(&cloud, "").await;
    cloud.adds_key(ENV, &FakeHarness::hash("second-key"));
    exchanges(&gateway, "second-key", 200, "F114").await;
    cloud.adds_to_proxy(PROXY, third);
    exchanges(&gateway, "third-key", 200, "F114").await;
    cloud.removes_from_proxy(PROXY, third);
    exchanges(&gateway, "third-key", 401, "F114").await;
    cloud.goes_down();
    // Ready without upstream.
    let gateway = gateway.restarted().await;
    for (key, path, wanted) in [
        (KEY, flags(ENV), json!([flag("b", 1), flag("a", 2)])),
        ("second-key", flags(ENV), json!([flag("b", 1), flag("a", 2)])),
        (OTHER_KEY, flags(OTHER_ENV), json!([flag("other", 1)])),
    ] {
        let call = Call::get(path).key(&token(&gateway, key).await);
        assert_eq!(gateway.answers(&call).await.json(), wanted, "{key}");
    }
    assert_eq!(gateway.answers(&exchange("third-key")).await.status, 401, "what went is not kept");
    assert_eq!(report(&gateway, "prod").await["is_stale"], true);
    cloud.removes_from_proxy(PROXY, OTHER_ENV);
    cloud.adds_to_proxy(PROXY, third);
    cloud.stores_flag(ENV, &flag("a", 3));
    cloud.comes_back();
    exchanges(&gateway, "third-key", 200, "what came meanwhile").await;
    exchanges(&gateway, OTHER_KEY, 401, "what went meanwhile").await;
    serves(&gateway, KEY, &format!("{}/a", flags(ENV)), "the newest", |_, it| it["version"] == 3).await;
    assert_eq!(report(&gateway, "prod").await["is_stale"], false);
}

#[tokio::test]
async fn a_refused_key_is_left_alone_and_shown() {
    for status in [401, 403] {
        let cloud = cloud().await;
        cloud.delays("/proxy/auth", Duration::from_millis(300));
        cloud.answers_next("/proxy/auth", [status]);
        let gateway = Running::before_harness_proxy(&cloud, PROXY, "flag_poll_interval = \"20ms\"").await;
        assert_eq!(gateway.answers(&exchange(KEY)).await.status, 500, "nobody knows yet");
        assert_eq!(gateway.operator_gets("/ready").await.status, 503);
        let row = report(&gateway, "proxy key").await;
        assert_eq!((&row["phase"], &row["vendor"]), (&json!("starting"), &json!("harness")));
        // Whatever else this process serves need not wait for it.
        gateway.is_ready().await;
        let row = report(&gateway, "proxy key").await;
        assert_eq!((&row["phase"], &row["connection"]), (&json!("rejected"), &json!("off")));
        assert_eq!(row["last_error"]["status"], status);
        assert!(!row.to_string().contains(PROXY), "{row}");
        assert_eq!(gateway.answers(&exchange(KEY)).await.status, 401);
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(paths(&cloud.requests()), ["POST /api/1.0/proxy/auth"], "once, and then seldom");
    }
}

#[tokio::test]
async fn a_key_that_is_deleted_leaves_what_was_served() {
    let cloud = proxied_cloud().await;
    let more = "rejected_retry_interval = \"1500ms\"\nflag_poll_interval = \"20ms\"";
    let gateway = started(&cloud, more).await;
    let mut sdk: Sdk = listens(&gateway, KEY).await;
    cloud.deletes_proxy(PROXY);
    sdk.hears_the_end().await;
    let refused = async || report(&gateway, "prod").await["connection"] == "off";
    yardarm_testkit::within("a refusal", async {
        while !refused().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    let before = cloud.posts("/proxy/auth").len();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(cloud.posts("/proxy/auth").len(), before, "left alone");
    let call = Call::get(flags(ENV)).key(&token(&gateway, KEY).await);
    assert_eq!(gateway.answers(&call).await.status, 200, "the last good data");
    // A mistake is mended without a restart.
    cloud.adds_proxy(PROXY, [ENV, OTHER_ENV]);
    listens(&gateway, KEY).await;
}

#[tokio::test]
async fn malformed_answers_lose_nothing() {
    let cloud = proxied_cloud().await;
    let gateway = started(&cloud, "flag_poll_interval = \"100ms\"").await;
    let is_served = async |what: &str| {
        for (key, id) in [(KEY, ENV), (OTHER_KEY, OTHER_ENV)] {
            let call = Call::get(flags(id)).key(&token(&gateway, key).await);
            let answer = gateway.answers(&call).await.json();
            assert!(answer.as_array().is_some_and(|it| !it.is_empty()), "{what}: {answer}");
        }
    };
    cloud.streams_go_down();
    for body in [
        "{}",
        "[]",
        "{",
        r#"{"environments":null,"pageCount":1}"#,
        r#"{"environments":[{"apiKeys":[]}],"pageCount":1}"#,
        r#"{"environments":[{"id":7}],"pageCount":1}"#,
        r#"{"environments":"none","pageCount":1}"#,
    ] {
        let before = cloud.gets("/proxy/config").len();
        cloud.answers_next("/proxy/config", [HarnessAnswer::from(200).body("application/json", body)]);
        until("a poll", || cloud.gets("/proxy/config").len() > before + 1).await;
        is_served(body).await;
    }
    cloud.answers_next("/proxy/config", [HarnessAnswer::cut()]);
    cloud.answers_next("/proxy/config", [HarnessAnswer::from(200).body("text/html", "<p>")]);
    cloud.streams_come_back();
    let _sdk = listens(&gateway, KEY).await;
    is_served("cut").await;
}

#[tokio::test]
async fn an_environment_that_cannot_be_read_leaves_the_others_alone() {
    let cloud = proxied_cloud().await;
    let gateway = started(&cloud, "flag_poll_interval = \"100ms\"").await;
    listens(&gateway, KEY).await;
    cloud.puts(OTHER_ENV, [json!({"feature": 7})], []);
    cloud.stores_flag(ENV, &flag("a", 7));
    cloud.closes_streams(PROXY);
    serves(&gateway, KEY, &format!("{}/a", flags(ENV)), "the one that can be read", |_, it| it["version"] == 7).await;
    let call = Call::get(flags(OTHER_ENV)).key(&token(&gateway, OTHER_KEY).await);
    assert_eq!(gateway.answers(&call).await.json(), json!([flag("other", 1)]), "the last good data");
    assert_eq!(report(&gateway, OTHER_ENV).await["last_error"]["kind"], "invalid-data");
    // It is read again although there is a stream.
    listens(&gateway, KEY).await;
    cloud.puts(OTHER_ENV, [flag("other", 2)], []);
    serves(&gateway, OTHER_KEY, &flags(OTHER_ENV), "healed", |_, it| *it == json!([flag("other", 2)])).await;
}

#[tokio::test]
async fn a_list_that_changes_while_it_is_read_loses_nothing() {
    let cloud = proxied_cloud().await;
    let gateway = started(&cloud, "flag_poll_interval = \"100ms\"").await;
    cloud.streams_go_down();
    // The environments moved up while they were read, and the one between two pages was in none.
    let before = cloud.gets("/proxy/config").len();
    let page = |environments: Value, count: usize| {
        let body = json!({"environments": environments, "itemCount": count, "pageCount": 2}).to_string();
        HarnessAnswer::from(200).body("application/json", &body)
    };
    let first = json!([{"id": ENV, "apiKeys": [FakeHarness::hash(KEY)], "featureConfigs": [flag("a", 5)]}]);
    let reading = [page(first, 12), page(json!([]), 11)];
    cloud.answers_next("/proxy/config", [reading.clone(), reading.clone(), reading].concat());
    until("a few readings", || cloud.gets("/proxy/config").len() > before + 6).await;
    token(&gateway, OTHER_KEY).await;
}

#[tokio::test]
async fn no_key_is_printed_or_told_to_others() {
    const CANARY: &str = "0ca9a4e1";
    let (proxy, key) = (format!("proxy-{CANARY}-01"), format!("api-{CANARY}-02"));
    let cloud = FakeHarness::start().await;
    cloud.adds_environment(ENV, "prod", [key.as_str()]);
    cloud.puts(ENV, [flag("a", 1)], []);
    cloud.adds_proxy(&proxy, [ENV]);
    let dir = tempfile::TempDir::new().expect("a temporary folder");
    let more = "flag_poll_interval = \"50ms\"\nrejected_retry_interval = \"50ms\"";
    let toml =
        format!("log.format = \"json\"\nlog.level = \"trace\"\n{}", proxy_toml(dir.path(), &cloud, &proxy, more));
    std::fs::write(dir.path().join("yardarm.toml"), toml).expect("a file");
    // Every way in which a request with the key in its address can fail, one after the other.
    let json = |body: &str| HarnessAnswer::from(200).body("application/json", body);
    cloud.answers_next(
        "/proxy/config",
        [
            HarnessAnswer::from(307).header("location", "/elsewhere"),
            HarnessAnswer::from(307).header("location", "http://127.0.0.1:1/nobody"),
            HarnessAnswer::cut(),
            json("{"),
            HarnessAnswer::from(503),
            HarnessAnswer::from(403),
        ],
    );
    let program = Program::start(dir.path()).await;
    yardarm_testkit::within("data", async {
        while program.answers(&exchange(&key)).await.status != 200 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    // And while nobody is there at all.
    cloud.hangs_up().await;
    yardarm_testkit::until("a failed poll", || program.has_logged("poll failed")).await;
    let shown = program.operator_gets("/api/environments").await;
    program.signal(Signal::TERM);
    let (_, log) = program.ends().await;
    assert!(log.iter().any(|line| line.contains("\"level\":\"TRACE\"")), "the log is at its loudest");
    for line in log.iter().map(String::as_str).chain([shown.text()]) {
        assert!(!line.contains(CANARY), "a key in {line}");
    }
    for request in cloud.requests() {
        assert_eq!(request.header("referer"), None, "{}", request.path);
    }
    assert!(cloud.gets("/proxy/config").len() > 6, "all of the ways were gone");
    let (mut folders, mut files) = (vec![dir.path().join("data")], 0);
    while let Some(folder) = folders.pop() {
        for path in std::fs::read_dir(&folder).expect("a folder").map(|it| it.expect("an entry").path()) {
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let content = std::fs::read(&path).expect("a file");
            let has_key = content.windows(CANARY.len()).any(|it| it == CANARY.as_bytes());
            assert!(!has_key, "a key in {}", path.display());
            files += 1;
        }
    }
    assert!(files > 0, "something is kept");
}
