//! One proxy key for many environments: its requests, and how environments and keys are added and removed.

mod troubles;

use std::time::Duration;

use serde_json::{Value, json};
use yardarm_testkit::{Call, FakeHarness, HarnessAnswer, Recorded, until};

use super::{ENV, KEY, OTHER_ENV, OTHER_KEY, cloud, eventually, flag, listens, segment, token};
use crate::program::{Program, Signal};
use crate::running::{Running, proxy_toml};
use crate::sdk::Sdk;

pub(super) const PROXY: &str = "proxy-key-0001";

/// Starts the usual fake, with a proxy key for both environments.
pub(super) async fn proxied_cloud() -> FakeHarness {
    let cloud = cloud().await;
    cloud.adds_proxy(PROXY, [ENV, OTHER_ENV]);
    cloud
}

async fn started(cloud: &FakeHarness, more: &str) -> Running {
    let gateway = Running::before_harness_proxy(cloud, PROXY, more).await;
    gateway.wait_until_ready().await;
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

/// Returns the report that operators see, by name.
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

/// Returns all headers but those of HTTP itself, and only the first word of the token.
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
    // Before the stream, so that a stream that cannot be opened delays nothing, and again once it is open.
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
    sdk.receives_event("*").await;
    cloud.changes_segment(ENV, &segment("t", 1));
    sdk.receives_event("*").await;
    let requests = cloud.requests().split_off(before);
    let item = |path: &str| format!("GET /api/1.0/client/env/{ENV}/{path}");
    let wanted = [item("feature-configs/a%20b?cluster=2"), item("target-segments/t?cluster=2&rules=v2")];
    assert_eq!(paths(&requests), wanted, "F113: one item each");
    let environment = ("harness-environmentid", ENV);
    let item_headers =
        [("accept", "*/*"), ("authorization", "Bearer"), account, environment, ("harness-sdk-info", INFO)];
    assert_eq!(headers(&requests[0]), expected(&item_headers), "F113");

    // A new environment needs a new token that includes it.
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
    assert_eq!(headers(posted), expected(&metrics_headers), "F037");
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
    assert_eq!(empty.receives_event("*").await["identifier"], "new");
    serves(&gateway, "key of nothing", &flags("empty"), "D20", |_, it| *it == json!([flag("new", 1)])).await;
    cloud.changes_flag("environment-00", &flag("last", 1));
    assert_eq!(first.receives_event("*").await["identifier"], "last", "nothing of others before");
    // Names may be equal; IDs are not.
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
    let received = json!({"event": "create", "domain": "flag", "identifier": "c", "version": 1});
    mine.receives("*", received).await; // neither keys nor IDs of environments
    let bearer = token(&gateway, KEY).await;
    assert_eq!(gateway.answers(&Call::get(path("c")).key(&bearer)).await.status, 200, "available when it is announced");
    cloud.changes_segment(ENV, &segment("t", 1));
    assert_eq!(mine.receives_event("*").await["domain"], "target-segment");
    cloud.deletes_flag(ENV, "c");
    assert_eq!(mine.receives_event("*").await["event"], "delete");
    assert_eq!(gateway.answers(&Call::get(path("c")).key(&bearer)).await.status, 404);
    assert_eq!(cloud.gets(&path("c")).len(), 1, "a deleted item is not requested");
    cloud.deletes_segment(ENV, "t");
    assert_eq!(mine.receives_event("*").await["event"], "delete", "D11");
    let call = Call::get(format!("/client/env/{ENV}/target-segments/t")).key(&bearer);
    assert_eq!(gateway.answers(&call).await.status, 404, "D11");

    // Unknown events, and events about others, have no effect.
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
        cloud.sends_event(PROXY, &event);
    }
    cloud.sends_bytes(PROXY, "event: *\ndata: {\n\n");

    cloud.changes_flag(ENV, &flag("after", 1));
    assert_eq!(mine.receives_event("*").await["identifier"], "after", "and nothing before");

    // After a token expires, it is renewed once, and the item requested again.
    cloud.forgets_tokens();
    let before = cloud.posts("/proxy/auth").len();
    cloud.changes_flag(ENV, &flag("d", 1));
    assert_eq!(mine.receives_event("*").await["identifier"], "d");
    assert_eq!((cloud.posts("/proxy/auth").len() - before, cloud.gets(&path("d")).len()), (1, 2));
    // An item that cannot be fetched at first is announced once it can.
    cloud.answers_next(&path("e"), [500, 503]);
    cloud.changes_flag(ENV, &flag("e", 1));
    cloud.changes_flag(OTHER_ENV, &flag("f", 1));
    assert_eq!(mine.receives_event("*").await["identifier"], "e");
    assert_eq!(other.receives_event("*").await["identifier"], "f", "nothing of others before");
    assert_eq!(cloud.gets("/stream").len(), 1, "the same stream all the time");
}

#[tokio::test]
async fn an_item_that_cannot_be_fetched_ends_the_round() {
    let cloud = proxied_cloud().await;
    let gateway = started(&cloud, "").await;
    let mut sdk = listens(&gateway, KEY).await;
    cloud.answers_next(&format!("{}/c", flags(ENV)), [500; 4]);
    cloud.changes_flag(ENV, &flag("c", 1));
    // It is not announced before it is available; the SDK polls, and reconnects.
    sdk.receives_end().await;
    let _sdk = listens(&gateway, KEY).await;
    let call = Call::get(format!("{}/c", flags(ENV))).key(&token(&gateway, KEY).await);
    assert_eq!(gateway.answers(&call).await.status, 200);
}

#[tokio::test]
async fn environments_are_added_and_removed() {
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
    assert_eq!(new.receives_event("*").await["version"], 2, "F114");

    let bearer = token(&gateway, OTHER_KEY).await;
    cloud.removes_from_proxy(PROXY, OTHER_ENV);
    other.receives_end().await; // F114
    assert_eq!(gateway.answers(&exchange(OTHER_KEY)).await.status, 401, "F114: removed");
    let call = Call::get(flags(OTHER_ENV)).key(&bearer);
    assert_eq!(gateway.answers(&call).await.status, 401, "F114: and its tokens with it");
    cloud.changes_flag(ENV, &flag("a", 9));
    assert_eq!(mine.receives_event("*").await["version"], 9, "F114: the others go on");
    assert_eq!((cloud.gets("/stream").len(), states(&gateway).await.len()), (1, 2), "F114: without a new stream");
    // It may be added again.
    cloud.adds_to_proxy(PROXY, OTHER_ENV);
    exchanges(&gateway, OTHER_KEY, 200, "F114: added again").await;
}

#[tokio::test]
async fn keys_are_added_and_removed() {
    let cloud = proxied_cloud().await;
    let gateway = started(&cloud, "").await;
    let mut usual = listens(&gateway, KEY).await;
    cloud.adds_key(ENV, &FakeHarness::hash("second-key"));
    exchanges(&gateway, "second-key", 200, "F114: added").await;
    let mut second = listens(&gateway, "second-key").await;
    let bearer = token(&gateway, "second-key").await;
    cloud.removes_key(ENV, &FakeHarness::hash("second-key"));
    second.receives_end().await; // F114
    assert_eq!(gateway.answers(&exchange("second-key")).await.status, 401, "F114: removed");
    assert_eq!(gateway.answers(&Call::get(flags(ENV)).key(&bearer)).await.status, 401, "F114: and its tokens with it");
    cloud.changes_flag(ENV, &flag("a", 9));
    assert_eq!(usual.receives_event("*").await["version"], 9, "F114: streams of other keys are not affected");
    assert_eq!(cloud.gets("/stream").len(), 1, "F114: without a new stream");
}
