//! A gateway that writes what it serves to Redis, in the layout of version 2 of the vendor's relay.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use yardarm_testkit::{Call, FakeHarness, RedisServer, Reply, until};

use super::proxy_key::{PROXY, proxied_cloud};
use super::{ENV, KEY, OTHER_ENV, OTHER_KEY, cloud, eventually, flag, segment, token};
use crate::running::Running;

pub(super) const ITEM_EVENTS: &str = "proxy:sse_events";
pub(super) const CONTROL_EVENTS: &str = "proxy:primary_to_replica_control_events";
pub(super) const HEALTH: &str = "ffproxy_saas_stream_health";

/// Starts a primary with a proxy key, and waits until it has written everything.
pub(super) async fn primary(cloud: &FakeHarness, redis: &RedisServer, more: &str) -> Running {
    let settings = format!("redis.url = {:?}\nredis.check_interval = \"200ms\"\n{more}", redis.url());
    let gateway = Running::before_harness_proxy(cloud, PROXY, &settings).await;
    gateway.wait_until_ready().await;
    wait_for_state(redis, "CONNECTED").await;
    gateway
}

pub(super) async fn wait_for_state(redis: &RedisServer, state: &str) {
    let is_there = || redis.get(HEALTH).unwrap_or_default().contains(&format!("\"{state}\""));
    until(&format!("the state {state} in Redis"), is_there).await;
}

/// Returns all keys that are no streams, with their values.
fn contents(redis: &RedisServer) -> BTreeMap<String, String> {
    let keys = redis.names(&["KEYS", "*"]).into_iter();
    // A key may be removed after it was listed.
    keys.filter(|it| !it.contains(':')).filter_map(|it| Some((it.clone(), redis.get(&it)?))).collect()
}

/// Returns the texts of a stream, in order.
pub(super) fn events(redis: &RedisServer, stream: &str) -> Vec<String> {
    let Reply::List(entries) = redis.ask(&["XRANGE", stream, "-", "+"]) else { panic!("a stream") };
    entries
        .into_iter()
        .map(|entry| {
            let Reply::List(mut parts) = entry else { panic!("an entry") };
            let Some(Reply::List(fields)) = parts.pop() else { panic!("fields") };
            let texts: Vec<_> = fields.into_iter().filter_map(Reply::text).collect();
            let [name, text] = &texts[..] else { panic!("one field: {texts:?}") };
            assert_eq!(name, "event");
            text.clone()
        })
        .collect()
}

/// Returns what the relay writes of an environment with one API key.
fn layout(id: &str, key: &str, flags: &[Value], segments: &[Value]) -> BTreeMap<String, String> {
    let auth_key = format!("auth-key-{}", FakeHarness::hash(key));
    let mut layout = BTreeMap::from([
        (auth_key.clone(), format!("\"{id}\"")),
        (format!("env-{id}-api-configs"), json!([auth_key]).to_string()),
    ]);
    for (kind, list, name, items) in
        [("feature-config", "feature-configs", "feature", flags), ("segment", "segments", "identifier", segments)]
    {
        let text = json!(items).to_string();
        layout
            .insert(format!("env-{id}-{list}-latest"), format!("\"{}\"", hex::encode(Sha256::digest(text.as_bytes()))));
        layout.insert(format!("env-{id}-{list}"), text);
        for item in items {
            layout.insert(format!("env-{id}-{kind}-{}", item[name].as_str().expect("a name")), item.to_string());
        }
    }
    layout
}

fn inventory(layout: &BTreeMap<String, String>) -> String {
    let assets = layout.keys().filter(|it| !it.ends_with("-latest"));
    json!(assets.map(|it| (it, "")).collect::<BTreeMap<_, _>>()).to_string()
}

fn item_event(event: &str, domain: &str, identifier: &str, version: i64) -> String {
    format!(
        r#"{{"event":"{event}","domain":"{domain}","identifier":"{identifier}","version":{version},"environment":"{ENV}","apiKey":""}}"#
    )
}

fn control_event(state: &str) -> String {
    format!(
        r#"{{"event":"stream_action","domain":"{state}","identifier":"","version":0,"environment":"","apiKey":""}}"#
    )
}

#[tokio::test]
async fn every_key_and_value_is_that_of_the_vendor() {
    // F115
    let Some(redis) = RedisServer::start() else { return };
    let cloud = proxied_cloud().await;
    let _gateway = primary(&cloud, &redis, "").await;
    let mut expected = layout(ENV, KEY, &[flag("b", 1), flag("a", 2)], &[segment("s", 1)]);
    expected.extend(layout(OTHER_ENV, OTHER_KEY, &[flag("other", 1)], &[]));
    expected.insert(format!("key-{PROXY}-inventory"), inventory(&expected));
    until("F115: every key", || contents(&redis).len() > expected.len()).await;
    let mut found = contents(&redis);
    let health: Value = serde_json::from_str(&found.remove(HEALTH).expect("a state")).expect("JSON");
    assert!(health["since"].as_u64().is_some_and(|it| it > 1_600_000_000_000), "milliseconds: {health}");
    assert_eq!(found, expected, "F115");
    let control = events(&redis, CONTROL_EVENTS);
    assert_eq!(control.last(), Some(&control_event("CONNECTED")), "F116: {control:?}");
    let before = control.len();
    until("F116: the state is repeated", || events(&redis, CONTROL_EVENTS).len() > before).await;
}

#[tokio::test]
async fn changes_are_written_and_then_announced() {
    let Some(redis) = RedisServer::start() else { return };
    let cloud = proxied_cloud().await;
    let _gateway = primary(&cloud, &redis, "").await;
    let mut announced = events(&redis, ITEM_EVENTS);
    let (sets, _) = redis.calls("set");
    let mut expect = async |event: String| {
        announced.push(event);
        let wanted = announced.clone();
        until("F116: an event", || events(&redis, ITEM_EVENTS) == wanted).await;
    };
    cloud.changes_flag(ENV, &flag("a", 3));
    expect(item_event("patch", "flag", "a", 3)).await;
    let mut expected = layout(ENV, KEY, &[flag("b", 1), flag("a", 3)], &[segment("s", 1)]);
    let found = contents(&redis);
    assert!(expected.iter().all(|(key, text)| found.get(key) == Some(text)), "F115: {found:?}");
    let writes = redis.calls("set").0 - sets;
    assert!(writes < 12, "F115: only the flag, its list and its digest, and the state: {writes}");

    cloud.changes_segment(ENV, &segment("t", 1));
    expect(item_event("create", "target-segment", "t", 1)).await;
    cloud.deletes_flag(ENV, "a");
    expect(item_event("delete", "flag", "a", 3)).await;
    expected = layout(ENV, KEY, &[flag("b", 1)], &[segment("s", 1), segment("t", 1)]);
    expected.extend(layout(OTHER_ENV, OTHER_KEY, &[flag("other", 1)], &[]));
    let mut found = contents(&redis);
    found.remove(HEALTH);
    expected.insert(format!("key-{PROXY}-inventory"), inventory(&expected));
    assert_eq!(found, expected, "F115: nothing is left of the flag");

    cloud.removes_from_proxy(PROXY, OTHER_ENV);
    expect(format!(
        r#"{{"event":"environmentsRemoved","domain":"proxy","identifier":"","version":0,"environment":"","environments":["{OTHER_ENV}"],"apiKey":""}}"#
    ))
    .await;
    let expected = layout(ENV, KEY, &[flag("b", 1)], &[segment("s", 1), segment("t", 1)]);
    let is_gone = || {
        let mut found = contents(&redis);
        found.remove(HEALTH);
        found.remove(&format!("key-{PROXY}-inventory")) == Some(inventory(&expected)) && found == expected
    };
    until("F115: nothing is left of the environment", is_gone).await;
}

#[tokio::test]
async fn what_another_process_left_is_removed_and_what_differs_is_announced() {
    let Some(redis) = RedisServer::start() else { return };
    let cloud = proxied_cloud().await;
    let old = layout("old", "old-key", &[flag("x", 1)], &[]);
    let earlier = layout(ENV, "withdrawn", &[flag("b", 1), flag("a", 1), flag("gone", 4)], &[]);
    for (key, text) in old.iter().chain(&earlier) {
        redis.ask(&["SET", key, text]);
    }
    redis.ask(&["SET", "key-another-inventory", &inventory(&old)]);
    redis.ask(&["SET", &format!("key-{PROXY}-inventory"), &inventory(&earlier)]);
    redis.ask(&["SET", "of another program", "stays"]);
    let _gateway = primary(&cloud, &redis, "").await;
    let mut expected = layout(ENV, KEY, &[flag("b", 1), flag("a", 2)], &[segment("s", 1)]);
    expected.extend(layout(OTHER_ENV, OTHER_KEY, &[flag("other", 1)], &[]));
    expected.insert(format!("key-{PROXY}-inventory"), inventory(&expected));
    expected.insert("of another program".to_owned(), "stays".to_owned());
    let is_clean = || {
        let mut found = contents(&redis);
        found.remove(HEALTH);
        found == expected
    };
    until("F115: exactly what is served", is_clean).await;
    let is_last = || events(&redis, ITEM_EVENTS).last().is_some_and(|it| it.contains("environmentsRemoved"));
    until("F116: the event of the environment", is_last).await;
    let events = events(&redis, ITEM_EVENTS);
    for event in [
        item_event("patch", "flag", "a", 2),
        item_event("delete", "flag", "gone", 4),
        item_event("create", "target-segment", "s", 1),
    ] {
        assert!(events.contains(&event), "F116: {event} of {events:?}");
    }
    assert!(!events.contains(&item_event("patch", "flag", "b", 1)), "F116: unchanged");
    assert!(events.iter().any(|it| it.contains("apiKeyRemoved")), "F116: {events:?}");
    assert!(events.iter().any(|it| it.contains("environmentsRemoved") && it.contains("\"old\"")), "F116: {events:?}");
}

#[tokio::test]
async fn an_outage_affects_no_sdk_and_everything_is_written_again() {
    // F117
    let Some(mut redis) = RedisServer::start() else { return };
    let cloud = proxied_cloud().await;
    let gateway = primary(&cloud, &redis, "").await;
    let cache = async |wanted: &str| {
        let health = Call::get("/health");
        eventually(&gateway, &health, "F117: the state of Redis", |_, it| it["cacheStatus"] == wanted).await;
    };
    cache("healthy").await;
    redis.kill();
    cloud.changes_flag(ENV, &flag("a", 3));
    let path = format!("/client/env/{ENV}/feature-configs/a");
    let call = Call::get(&path).key(&token(&gateway, KEY).await);
    eventually(&gateway, &call, "F117: served from memory", |_, it| it["version"] == 3).await;
    cache("unhealthy").await;
    redis.restart();
    let key = format!("env-{ENV}-feature-config-a");
    until("F117: written again", || redis.get(&key) == Some(flag("a", 3).to_string())).await;
    wait_for_state(&redis, "CONNECTED").await;
    cache("healthy").await;

    redis.ask(&["FLUSHALL"]);
    until("F117: written again after it was emptied", || redis.get(&key).is_some()).await;
    wait_for_state(&redis, "CONNECTED").await;
    let (before, _) = redis.calls("set");
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    let writes = redis.calls("set").0 - before;
    assert!(writes <= 5, "F117: not written again and again: {writes}");
}

#[tokio::test]
async fn data_of_an_earlier_process_does_not_replace_newer_data() {
    let Some(redis) = RedisServer::start() else { return };
    let cloud = proxied_cloud().await;
    let gateway = primary(&cloud, &redis, "").await;
    cloud.goes_down();
    let key = format!("env-{ENV}-feature-config-a");
    let gateway = {
        redis.ask(&["SET", &key, &flag("a", 9).to_string()]);
        gateway.restarted().await
    };
    let call = Call::get(format!("/client/env/{ENV}/feature-configs/a")).key(&token(&gateway, KEY).await);
    assert_eq!(gateway.answers(&call).await.json()["version"], 2, "from the data folder");
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    assert_eq!(redis.get(&key), Some(flag("a", 9).to_string()), "F115: upstream has not confirmed what is served");
}

#[tokio::test]
async fn a_primary_starts_from_redis_while_upstream_is_down() {
    // F123
    let Some(redis) = RedisServer::start() else { return };
    let cloud = proxied_cloud().await;
    primary(&cloud, &redis, "").await.stop().await;
    cloud.goes_down();
    let settings = format!("redis.url = {:?}", redis.url());
    let gateway = Running::before_harness_proxy(&cloud, PROXY, &settings).await;
    gateway.wait_until_ready().await;
    for (key, id, count) in [(KEY, ENV, 2), (OTHER_KEY, OTHER_ENV, 1)] {
        let call = Call::get(format!("/client/env/{id}/feature-configs")).key(&token(&gateway, key).await);
        let flags = gateway.answers(&call).await.json();
        assert_eq!(flags.as_array().map(Vec::len), Some(count), "F123: {flags}");
    }
    let other = Running::before_harness_proxy(&cloud, "another-proxy-key", &settings).await;
    let exchange = Call::post("/client/auth", json!({"apiKey": KEY}).to_string());
    assert_ne!(other.answers(&exchange).await.status, 200, "F123: the data belongs to another proxy key");
    cloud.comes_back();
    cloud.changes_flag(ENV, &flag("a", 3));
    let call = Call::get(format!("/client/env/{ENV}/feature-configs/a")).key(&token(&gateway, KEY).await);
    eventually(&gateway, &call, "F123: upstream goes on", |_, it| it["version"] == 3).await;
}

#[tokio::test]
async fn api_keys_share_their_environments_as_well() {
    let Some(redis) = RedisServer::start() else { return };
    let cloud = cloud().await;
    let settings = format!("redis.url = {:?}", redis.url());
    let gateway = Running::before_harness(&cloud, &[KEY, OTHER_KEY], &settings).await;
    gateway.wait_until_ready().await;
    wait_for_state(&redis, "CONNECTED").await;
    let mut expected = layout(ENV, KEY, &[flag("b", 1), flag("a", 2)], &[segment("s", 1)]);
    expected.extend(layout(OTHER_ENV, OTHER_KEY, &[flag("other", 1)], &[]));
    let mut found = contents(&redis);
    found.remove(HEALTH);
    assert_eq!(found, expected, "F115: without an inventory, which version 1 does not have");
}
