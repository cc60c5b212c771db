//! Whether the fake Harness behaves as the real one.

use std::net::SocketAddr;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use crate::{Answer, Call, FakeHarness, HarnessAnswer, SseClient, StreamItem, until};

const ENV: &str = "0a1b2c3d-0000-4000-8000-000000000001";

fn address(cloud: &FakeHarness) -> SocketAddr {
    cloud.url().trim_start_matches("http://").parse().expect("an address")
}

async fn cloud() -> FakeHarness {
    let cloud = FakeHarness::start().await;
    cloud.adds_environment(ENV, "prod", ["server-key", "client-key"]);
    cloud
}

async fn authenticates(cloud: &FakeHarness, body: Value) -> Answer {
    Call::post("/api/1.0/client/auth", body.to_string()).to(address(cloud)).await
}

async fn bearer(cloud: &FakeHarness, api_key: &str) -> String {
    let answer = authenticates(cloud, json!({"apiKey": api_key})).await;
    format!("Bearer {}", answer.json()["authToken"].as_str().expect("a token"))
}

fn flag(identifier: &str, version: i64) -> Value {
    json!({"feature": identifier, "version": version})
}

#[tokio::test]
async fn tokens_contain_the_claims_set_by_a_test() {
    let cloud = cloud().await;
    for (is_padded, claims, expected) in [
        (false, json!({}), [json!(ENV), json!("prod"), json!("2")]),
        (true, json!({"clusterIdentifier": null}), [json!(ENV), json!("prod"), Value::Null]),
        (true, json!({"environmentIdentifier": "größe ÿþ"}), [json!(ENV), json!("größe ÿþ"), json!("2")]),
        (false, json!({"environment": 7}), [json!(7), json!("prod"), json!("2")]),
    ] {
        cloud.pads_tokens(is_padded);
        cloud.claims("server-key", &claims);
        let token = bearer(&cloud, "server-key").await;
        let parts: Vec<_> = token["Bearer ".len()..].split('.').collect();
        assert_eq!(parts.len(), 3);
        let engine = if is_padded { URL_SAFE } else { URL_SAFE_NO_PAD };
        let payload: Value = serde_json::from_slice(&engine.decode(parts[1]).expect("base64")).expect("JSON");
        let found = ["environment", "environmentIdentifier", "clusterIdentifier"].map(|it| payload[it].clone());
        assert_eq!(found, expected, "{claims}");
    }
    assert_eq!(authenticates(&cloud, json!({"apiKey": "nobody"})).await.status, 401);
    assert_eq!(authenticates(&cloud, json!({})).await.status, 400);
    let target = json!({"identifier": "ada", "attributes": {"plan": "pro"}});
    authenticates(&cloud, json!({"apiKey": "client-key", "target": target})).await;
    authenticates(&cloud, json!({"apiKey": "client-key", "target": {"identifier": "", "name": ""}})).await;
    assert_eq!(cloud.registered_targets(), [("client-key".to_owned(), target)]);
}

#[tokio::test]
async fn lists_come_in_pages_and_end_with_an_empty_one() {
    let cloud = cloud().await;
    cloud.adds_key(ENV, "cafe");
    let page = async |number: usize| {
        let query = "accountIdentifier=a&orgIdentifier=o&projectIdentifier=shop&environmentIdentifier=prod&pageSize=2";
        let call = Call::get(format!("/gateway/cf/admin/apikey?{query}&pageNumber={number}"));
        call.header("x-api-key", FakeHarness::ADMIN_TOKEN).to(address(&cloud)).await.json()
    };
    let mut hashes = Vec::new();
    for number in 0..3 {
        let page = page(number).await;
        hashes.extend(page["apiKeys"].as_array().expect("a list").iter().map(|it| it["key"].clone()));
        assert_eq!((&page["pageCount"], &page["pageIndex"]), (&json!(2), &json!(number)));
        assert_eq!(page["apiKeys"].as_array().map(Vec::len), Some([2, 1, 0][number]));
    }
    let expected = [FakeHarness::hash("server-key"), FakeHarness::hash("client-key"), "cafe".to_owned()];
    assert_eq!(hashes, expected);
    cloud.ends_without_list(true);
    assert_eq!(page(9).await["apiKeys"], Value::Null);
    let call = Call::get("/admin/apikey?environmentIdentifier=prod");
    assert_eq!(call.to(address(&cloud)).await.status, 403, "without the token of an administrator");
    assert_eq!(FakeHarness::hash("apikey1"), "d4f79b313f8106f5af108ad96ff516222dbfd5a0ab52f4308e4b1ad1d740de60");
}

#[tokio::test]
async fn items_are_served_to_their_own_environment_with_rules_of_one_generation() {
    let cloud = cloud().await;
    cloud.adds_environment("other", "dev", ["other-key"]);
    let segment = json!({"identifier": "a/b ü", "rules": [1], "servingRules": [2]});
    cloud.puts(ENV, [flag("one", 1)], [segment]);
    let token = bearer(&cloud, "server-key").await;
    let get = async |path: &str, token: &str| {
        Call::get(format!("/api/1.0/client/env/{path}")).key(token).to(address(&cloud)).await
    };
    assert_eq!(get(&format!("{ENV}/feature-configs?cluster=2"), &token).await.json(), json!([flag("one", 1)]));
    assert_eq!(get(&format!("{ENV}/feature-configs/one"), &token).await.json(), flag("one", 1));
    assert_eq!(get(&format!("{ENV}/feature-configs/two"), &token).await.status, 404);
    let old = get(&format!("{ENV}/target-segments/a%2Fb%20%C3%BC"), &token).await.json();
    assert_eq!(old, json!({"identifier": "a/b ü", "rules": [1]}));
    let new = get(&format!("{ENV}/target-segments?rules=v2&cluster=2"), &token).await.json();
    assert_eq!(new, json!([{"identifier": "a/b ü", "servingRules": [2]}]));
    cloud.sets_evaluations(ENV, "ada", &json!({"one": {"kind": "string", "identifier": "x", "value": "y"}}));
    let evaluation = json!({"flag": "one", "kind": "string", "identifier": "x", "value": "y"});
    assert_eq!(get(&format!("{ENV}/target/ada/evaluations"), &token).await.json(), json!([evaluation]));
    assert_eq!(get(&format!("{ENV}/target/ada/evaluations/one"), &token).await.json(), evaluation);
    assert_eq!(get("other/feature-configs", &token).await.status, 401);
    cloud.forgets_tokens();
    assert_eq!(get(&format!("{ENV}/feature-configs"), &token).await.status, 401);
}

#[tokio::test]
async fn streams_send_events_and_end_on_command() {
    let cloud = cloud().await;
    cloud.adds_proxy("proxy-key", [ENV]);
    let token = bearer(&cloud, "server-key").await;
    let open = async |path: &str| {
        let call = Call::get(path).key(&token).header("API-Key", "server-key");
        SseClient::open(address(&cloud), &call).await.with_framed_comments()
    };
    let answer = Call::post("/proxy/auth", json!({"proxyKey": "proxy-key"}).to_string()).to(address(&cloud)).await;
    let proxy_token = format!("Bearer {}", answer.json()["authToken"].as_str().expect("a token"));
    let call = Call::get("/stream").key(&proxy_token).header("API-Key", "proxy-key");
    let mut proxy = SseClient::open(address(&cloud), &call).await.with_framed_comments();

    let mut stream = open("/api/1.0/stream?cluster=2").await;
    let heartbeat = StreamItem::Comment(String::new());
    assert_eq!((stream.next().await, proxy.next().await), (heartbeat.clone(), heartbeat));
    let mut receives = async |expected: Value| {
        let StreamItem::Event { name, data } = stream.next().await else { panic!("no event") };
        assert_eq!((name.as_str(), serde_json::from_str::<Value>(&data).expect("JSON")), ("*", expected.clone()));
        let StreamItem::Event { data, .. } = proxy.next().await else { panic!("no event") };
        let mut expected = expected;
        expected["environment"] = ENV.into();
        assert_eq!(serde_json::from_str::<Value>(&data).expect("JSON"), expected);
    };
    cloud.changes_flag(ENV, &flag("one", 1));
    receives(json!({"event": "create", "domain": "flag", "identifier": "one", "version": 1})).await;
    cloud.changes_flag(ENV, &flag("one", 2));
    receives(json!({"event": "patch", "domain": "flag", "identifier": "one", "version": 2})).await;
    cloud.deletes_flag(ENV, "one");
    receives(json!({"event": "delete", "domain": "flag", "identifier": "one", "version": 3})).await;
    cloud.changes_segment(ENV, &json!({"identifier": "beta", "version": 5}));
    receives(json!({"event": "create", "domain": "target-segment", "identifier": "beta", "version": 5})).await;

    assert_eq!((cloud.open_streams(ENV), cloud.open_streams("proxy-key")), (1, 1));
    cloud.closes_streams(ENV);
    assert_eq!(stream.next().await, StreamItem::End);
    cloud.lists_streams(true);
    assert_eq!(open("/stream").await.head().status, 404);
    assert_eq!(open(&format!("/client/env/{ENV}/stream")).await.head().status, 200);
    cloud.streams_go_down();
    assert_eq!(open(&format!("/client/env/{ENV}/stream")).await.head().status, 503);
    until("streams that have ended", || cloud.open_streams(ENV) == 0).await;
}

#[tokio::test]
async fn proxy_keys_download_their_environments_in_pages_of_ten() {
    let cloud = FakeHarness::start().await;
    let ids: Vec<_> = (0..12).map(|it| format!("env-{it:02}")).collect();
    for id in &ids {
        cloud.adds_environment(id, id, [format!("key-{id}").as_str()]);
        cloud.puts(id, [flag("one", 1)], []);
    }
    cloud.adds_proxy("proxy-key", ids.iter().map(String::as_str));
    let answer = Call::post("/proxy/auth", json!({"proxyKey": "proxy-key"}).to_string()).to(address(&cloud)).await;
    let token = format!("Bearer {}", answer.json()["authToken"].as_str().expect("a token"));
    let page = async |query: &str| {
        let call = Call::get(format!("/proxy/config?pageSize=10&cluster=2&key=proxy-key&{query}")).key(&token);
        call.to(address(&cloud)).await.json()
    };
    for (query, count, pages) in
        [("pageNumber=0", 10, 2), ("pageNumber=1", 2, 2), ("pageNumber=0&environment=env-03", 1, 1)]
    {
        let page = page(query).await;
        let environments = page["environments"].as_array().expect("a list");
        assert_eq!((environments.len(), &page["pageCount"]), (count, &json!(pages)), "{query}");
        let id = environments[0]["id"].as_str().expect("an id");
        assert_eq!(environments[0]["apiKeys"], json!([FakeHarness::hash(&format!("key-{id}"))]));
        assert_eq!(environments[0]["featureConfigs"], json!([flag("one", 1)]));
    }
}

#[tokio::test]
async fn failures_follow_the_script() {
    let cloud = cloud().await;
    let auth = async || authenticates(&cloud, json!({"apiKey": "server-key"})).await;
    cloud.answers_next("/client/auth", [500, 503]);
    cloud.answers_next("/client/auth", [HarnessAnswer::from(200).body("text/html", "<p>")]);
    assert_eq!(auth().await.json(), json!({"code": "500", "message": "ordered by a test"}));
    assert_eq!(auth().await.status, 503);
    assert_eq!(auth().await.text(), "<p>");
    assert_eq!(auth().await.status, 200);
    cloud.delays("/auth", Duration::from_millis(60));
    let before = tokio::time::Instant::now();
    assert_eq!(auth().await.status, 200);
    assert!(before.elapsed() >= Duration::from_millis(60));
    cloud.delays("/auth", Duration::ZERO);
    cloud.goes_down();
    assert_eq!(auth().await.status, 503);
    cloud.comes_back();
    cloud.hangs_up().await;
    assert!(tokio::net::TcpStream::connect(address(&cloud)).await.is_err());
    cloud.picks_up().await;
    assert_eq!(auth().await.status, 200);
    assert_eq!(cloud.posts("/client/auth").len(), 7);
    assert_eq!(cloud.gets("/client/auth").len(), 0);
}
