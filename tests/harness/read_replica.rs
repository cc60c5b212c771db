//! A gateway that serves what a primary, or the vendor's relay, writes to Redis.

use serde_json::{Value, json};
use yardarm_testkit::{Call, FakeHarness, RedisServer, until};

use super::proxy_key::proxied_cloud;
use super::redis::{CONTROL_EVENTS, HEALTH, ITEM_EVENTS, primary};
use super::{ENV, KEY, OTHER_ENV, OTHER_KEY, eventually, flag, listens, segment, token};
use crate::running::Running;

async fn replica(redis: &RedisServer, more: &str) -> Running {
    let gateway = Running::harness_replica(&redis.url(), more).await;
    gateway.wait_until_ready().await;
    gateway
}

/// Requests a path as an SDK with this key, until the response is as expected.
async fn serves(gateway: &Running, key: &str, path: &str, what: &str, is_wanted: impl Fn(u16, &Value) -> bool) {
    let call = Call::get(path).key(&token(gateway, key).await);
    eventually(gateway, &call, what, is_wanted).await;
}

fn flags(id: &str) -> String {
    format!("/client/env/{id}/feature-configs")
}

fn has_version(body: &Value, version: i64) -> bool {
    body["version"] == version
}

fn set(redis: &RedisServer, key: &str, value: &Value) {
    redis.ask(&["SET", key, &value.to_string()]);
}

fn publish(redis: &RedisServer, stream: &str, event: &Value) {
    redis.ask(&["XADD", stream, "MAXLEN", "1000", "*", "event", &event.to_string()]);
}

fn control(redis: &RedisServer, state: &str) {
    publish(
        redis,
        CONTROL_EVENTS,
        &json!({"event": "stream_action", "domain": state, "identifier": "", "version": 0, "environment": "", "apiKey": ""}),
    );
}

fn changed(redis: &RedisServer, event: &str, domain: &str, identifier: &str) {
    publish(
        redis,
        ITEM_EVENTS,
        &json!({"event": event, "domain": domain, "identifier": identifier, "version": 0, "environment": ENV, "apiKey": ""}),
    );
}

/// Writes what the vendor's relay writes: without digests of lists that it has never changed, and in its order.
fn written_by_the_relay(redis: &RedisServer) {
    let auth_key = format!("auth-key-{}", FakeHarness::hash(KEY));
    let names = ["api-configs", "feature-configs", "feature-config-a", "segments", "segment-s"];
    let mut inventory: serde_json::Map<_, _> = names.iter().map(|it| (format!("env-{ENV}-{it}"), json!(""))).collect();
    inventory.insert(auth_key.clone(), json!(""));
    set(redis, "key-relay-key-inventory", &inventory.into());
    set(redis, &auth_key, &json!(ENV));
    set(redis, &format!("env-{ENV}-api-configs"), &json!([auth_key]));
    relay_flag(redis, 1);
    set(redis, &format!("env-{ENV}-segments"), &json!([segment("s", 1)]));
    set(redis, &format!("env-{ENV}-segment-s"), &segment("s", 1));
    set(redis, HEALTH, &json!({"state": "CONNECTED", "since": 1_699_877_509_155_u64}));
}

fn relay_flag(redis: &RedisServer, version: i64) {
    set(redis, &format!("env-{ENV}-feature-configs"), &json!([flag("a", version)]));
    set(redis, &format!("env-{ENV}-feature-configs-latest"), &json!(format!("digest-{version}")));
    set(redis, &format!("env-{ENV}-feature-config-a"), &flag("a", version));
}

#[tokio::test]
async fn it_serves_what_its_primary_writes_and_announces_changes() {
    // F118
    let Some(redis) = RedisServer::start() else { return };
    let cloud = proxied_cloud().await;
    let primary = primary(&cloud, &redis, "").await;
    let gateway = replica(&redis, "").await;
    for (key, id, count) in [(KEY, ENV, 2), (OTHER_KEY, OTHER_ENV, 1)] {
        let is_all = |_, it: &Value| it.as_array().is_some_and(|it| it.len() == count);
        serves(&gateway, key, &flags(id), "F118: flags", is_all).await;
    }
    for path in ["feature-configs", "target-segments?rules=v2", "target-segments", "target/ada/evaluations"] {
        let call = Call::get(format!("/client/env/{ENV}/{path}")).key(&token(&primary, KEY).await);
        // Both sign with a secret that is derived from the proxy key.
        let (mine, its) = (gateway.answers(&call).await, primary.answers(&call).await);
        assert_eq!((mine.status, mine.text()), (200, its.text()), "F118: {path}");
    }
    let mut sdk = listens(&gateway, KEY).await;
    cloud.changes_flag(ENV, &flag("a", 3));
    let event = sdk.receives_event("*").await;
    let expected = json!({"event": "patch", "domain": "flag", "identifier": "a", "version": 3});
    assert_eq!(event, expected, "F118");
    let call = Call::get(format!("{}/a", flags(ENV))).key(&token(&gateway, KEY).await);
    assert!(has_version(&gateway.answers(&call).await.json(), 3), "F118: the new version is there before its event");
    cloud.deletes_segment(ENV, "s");
    assert_eq!(sdk.receives_event("*").await["event"], "delete", "F118");

    let third = "0a1b2c3d-4e5f-4000-8000-000000000003";
    cloud.adds_environment(third, "third", ["third-key"]);
    cloud.puts(third, [flag("x", 1)], []);
    cloud.adds_to_proxy(super::proxy_key::PROXY, third);
    let exchange = Call::post("/client/auth", json!({"apiKey": "third-key"}).to_string());
    eventually(&gateway, &exchange, "F118: a new environment", |status, _| status == 200).await;
    cloud.removes_from_proxy(super::proxy_key::PROXY, third);
    eventually(&gateway, &exchange, "F118: a removed environment", |status, _| status == 401).await;
    let health = gateway.answers(&Call::get("/health")).await.json();
    assert_eq!(health["configStatus"]["state"], "READ_REPLICA", "F087: {health}");
    assert_eq!(health["streamStatus"]["state"], "CONNECTED", "F087: {health}");
    assert_eq!(health["cacheStatus"], "healthy", "F087: {health}");
}

#[tokio::test]
async fn it_serves_what_the_vendors_relay_writes() {
    // F118
    let Some(redis) = RedisServer::start() else { return };
    written_by_the_relay(&redis);
    let gateway = replica(&redis, "").await;
    let one = format!("{}/a", flags(ENV));
    serves(&gateway, KEY, &one, "F118: a flag", |_, it| has_version(it, 1)).await;
    let mut sdk = listens(&gateway, KEY).await;
    relay_flag(&redis, 2);
    changed(&redis, "patch", "flag", "a");
    assert_eq!(sdk.receives_event("*").await["event"], "patch", "F118");
    serves(&gateway, KEY, &one, "F118: a change", |_, it| has_version(it, 2)).await;

    // After a reconnect the relay announces changes before it writes them.
    changed(&redis, "patch", "flag", "a");
    assert_eq!(sdk.receives_event("*").await["event"], "patch");
    relay_flag(&redis, 3);
    let event = sdk.receives_event("*").await;
    assert_eq!((&event["event"], &event["version"]), (&json!("patch"), &json!(3)), "F118: a late write");

    // The relay does not announce new keys.
    let hash = FakeHarness::hash("new-key");
    set(&redis, &format!("auth-key-{hash}"), &json!(ENV));
    let keys = [FakeHarness::hash(KEY), hash].map(|it| format!("auth-key-{it}"));
    set(&redis, &format!("env-{ENV}-api-configs"), &json!(keys));
    let exchange = Call::post("/client/auth", json!({"apiKey": "new-key"}).to_string());
    eventually(&gateway, &exchange, "F118: a new key", |status, _| status == 200).await;
}

#[tokio::test]
async fn sdk_streams_follow_the_state_of_the_primary() {
    // F119
    let Some(redis) = RedisServer::start() else { return };
    written_by_the_relay(&redis);
    let gateway = replica(&redis, "").await;
    let mut sdk = listens(&gateway, KEY).await;
    control(&redis, "DISCONNECTED");
    sdk.receives_end().await;
    let stream = Call::get("/stream").key(&token(&gateway, KEY).await).header("API-Key", KEY);
    assert_eq!(gateway.answers(&stream).await.status, 503, "F119");
    let health = Call::get("/health");
    let is_lost = |_, it: &Value| it["streamStatus"]["state"] == "DISCONNECTED";
    eventually(&gateway, &health, "F119: it is shown", is_lost).await;
    relay_flag(&redis, 2);
    set(&redis, HEALTH, &json!({"state": "CONNECTED", "since": 1}));
    control(&redis, "CONNECTED");
    let mut sdk = listens(&gateway, KEY).await;
    assert_eq!(sdk.receives_event("*").await["version"], 2, "F119: what changed meanwhile");
}

#[tokio::test]
async fn an_outage_and_an_emptied_database_take_nothing_away() {
    // F120
    let Some(mut redis) = RedisServer::start() else { return };
    written_by_the_relay(&redis);
    let gateway = replica(&redis, "").await;
    let one = format!("{}/a", flags(ENV));
    serves(&gateway, KEY, &one, "a flag", |_, it| has_version(it, 1)).await;
    let mut sdk = listens(&gateway, KEY).await;
    redis.kill();
    // Without events SDKs must poll.
    sdk.receives_end().await;
    serves(&gateway, KEY, &one, "F120: last good data", |_, it| has_version(it, 1)).await;
    let health = Call::get("/health");
    eventually(&gateway, &health, "F120: it is shown", |_, it| it["cacheStatus"] == "unhealthy").await;
    redis.restart();
    eventually(&gateway, &health, "F120: connected again", |_, it| it["cacheStatus"] == "healthy").await;
    serves(&gateway, KEY, &one, "F120: last good data", |_, it| has_version(it, 1)).await;
    written_by_the_relay(&redis);
    relay_flag(&redis, 2);
    serves(&gateway, KEY, &one, "F120: written again", |_, it| has_version(it, 2)).await;
    listens(&gateway, KEY).await;
}

#[tokio::test]
async fn a_replica_waits_for_data_that_is_being_written() {
    let Some(redis) = RedisServer::start() else { return };
    let gateway = Running::harness_replica(&redis.url(), "").await;
    let exchange = Call::post("/client/auth", json!({"apiKey": KEY}).to_string());
    assert_eq!(gateway.answers(&exchange).await.status, 500, "F051: its keys are not known yet");
    let auth_key = format!("auth-key-{}", FakeHarness::hash(KEY));
    let list = format!("env-{ENV}-feature-configs");
    set(&redis, "key-k-inventory", &json!({&auth_key: "", &list: "", format!("env-{ENV}-segments"): ""}));
    set(&redis, &auth_key, &json!(ENV));
    tokio::time::sleep(std::time::Duration::from_millis(1200)).await;
    assert_eq!(gateway.answers(&exchange).await.status, 500, "F120: an environment without data is not served");
    written_by_the_relay(&redis);
    gateway.wait_until_ready().await;
    serves(&gateway, KEY, &flags(ENV), "the flags", |status, _| status == 200).await;
}

#[tokio::test]
async fn metrics_of_replicas_are_posted_once_by_the_primary() {
    // F121
    let Some(redis) = RedisServer::start() else { return };
    let cloud = proxied_cloud().await;
    let primary = primary(&cloud, &redis, "metric_post_interval = \"300ms\"").await;
    let replicas = [
        replica(&redis, "metric_post_interval = \"50ms\"").await,
        replica(&redis, "metric_post_interval = \"50ms\"").await,
    ];
    let attributes = [("featureIdentifier", "a"), ("variationIdentifier", "on"), ("SDK_LANGUAGE", "go")];
    let attributes = attributes.map(|(key, value)| json!({"key": key, "value": value}));
    let metric = json!({"timestamp": 1, "count": 2, "metricsType": "FFMETRICS", "attributes": attributes});
    let target = json!({"identifier": "ada", "name": "Ada", "attributes": []});
    let body = json!({"metricsData": [metric], "targetData": [target]}).to_string();
    let path = format!("/metrics/{ENV}");
    for gateway in &replicas {
        let call = Call::post(&path, body.clone()).key(&token(gateway, KEY).await);
        for _ in 0..2 {
            assert_eq!(gateway.answers(&call).await.status, 200);
        }
    }
    let count = || {
        let posts = cloud.posts(&path);
        let metrics = posts.iter().flat_map(|it| it.json()["metricsData"].as_array().cloned().unwrap_or_default());
        metrics.filter_map(|it| it["count"].as_i64()).sum::<i64>()
    };
    until("F121: all metrics", || count() >= 8).await;
    tokio::time::sleep(std::time::Duration::from_millis(700)).await;
    assert_eq!(count(), 8, "F121: each once");
    drop(primary);
}

#[tokio::test]
async fn targets_are_shared() {
    // F122
    let Some(redis) = RedisServer::start() else { return };
    let cloud = proxied_cloud().await;
    let rule = json!({
        "ruleId": "r", "priority": 1, "serve": {"variation": "false"},
        "clauses": [{"id": "c", "attribute": "plan", "op": "equal", "values": ["free"], "negate": false}],
    });
    let mut ruled = flag("ruled", 1);
    ruled["rules"] = json!([rule]);
    cloud.changes_flag(ENV, &ruled);
    let primary = primary(&cloud, &redis, "").await;
    let gateway = replica(&redis, "").await;
    let path = format!("/client/env/{ENV}/target/ada/evaluations/ruled");
    serves(&gateway, KEY, &path, "an unknown target", |_, it| it["value"] == "true").await;
    let target = json!({"identifier": "ada", "name": "Ada", "attributes": {"plan": "free"}});
    let exchange = Call::post("/client/auth", json!({"apiKey": KEY, "target": target}).to_string());
    assert_eq!(primary.answers(&exchange).await.status, 200);
    serves(&gateway, KEY, &path, "F122: its attributes count on every gateway", |_, it| it["value"] == "false").await;
    let expected = r#"{"account":"","attributes":{"plan":"free"},"environment":"","identifier":"ada","name":"Ada","org":"","project":""}"#;
    assert_eq!(redis.get(&format!("env-{ENV}-target-config-ada")).as_deref(), Some(expected), "F122");
    assert!(cloud.registered_targets().len() <= 1, "a replica registers nothing");
}
