//! Injected panics in the tasks of the Harness side: later changes are served.
#![cfg(debug_assertions)]

use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use yardarm_testkit::{Call, FakeHarness, until, within};

use super::offline::{self, writes};
use super::{ENV, KEY, OTHER_ENV, OTHER_KEY, eventually, flag, listens, started, token};
use crate::running::Running;

async fn sequence(gateway: &Running) -> u64 {
    let status = gateway.operator_gets("/api/status").await.json();
    status["environments"][0]["sequence"].as_u64().expect("a number")
}

/// Injects a panic into each task or place, and checks that a later change is served.
async fn survives(gateway: &Running, cloud: &FakeHarness, tasks: &[&str]) {
    let known = gateway.panics().await;
    for (version, task) in (10..).zip(tasks) {
        if *task == "apply change" {
            gateway.supervisor.faults().arm(task);
        } else {
            assert!(known.contains_key(*task), "{task} is counted from the start: {known:?}");
            gateway.panics_in(task).await;
        }
        let before = sequence(gateway).await;
        cloud.changes_flag(ENV, &flag("a", version));
        within(&format!("a change after a panic in `{task}`"), async {
            while sequence(gateway).await <= before || !gateway.supervisor.faults().are_over() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    }
}

#[tokio::test]
async fn the_tasks_of_keys_survive_a_panic() {
    let cloud = super::cloud().await;
    let gateway = started(&cloud, "").await;
    let tasks = ["harness key", "upstream stream", "heartbeat", "metrics", "event filter retries"];
    survives(&gateway, &cloud, &tasks).await;
    gateway.stop().await;
    // Within a change. With one environment it is known whose change it is.
    let gateway = Running::before_harness(&cloud, &[KEY], "").await;
    gateway.wait_until_ready().await;
    survives(&gateway, &cloud, &["apply change"]).await;
    let environment = gateway.operator_gets("/api/status").await.json()["environments"][0].clone();
    let message = environment["last_error"]["message"].as_str().expect("an error").to_owned();
    assert!(message.starts_with("internal error in task `upstream stream`"), "{message}");
    assert_eq!(environment["flags"], json!(2));
    gateway.stop().await;
}

#[tokio::test]
async fn the_task_of_a_proxy_key_survives_a_panic() {
    let cloud = super::cloud().await;
    cloud.adds_proxy("proxy-key-1", [ENV]);
    let gateway = Running::before_harness_proxy(&cloud, "proxy-key-1", "").await;
    gateway.wait_until_ready().await;
    survives(&gateway, &cloud, &["proxy key", "apply change", "heartbeat", "proxy key"]).await;
    // Environments and keys are still added and removed, and streams are served.
    gateway.panics_in("proxy key").await;
    cloud.adds_to_proxy("proxy-key-1", OTHER_ENV);
    let other = Call::post("/client/auth", json!({ "apiKey": OTHER_KEY }).to_string());
    eventually(&gateway, &other, "the other environment", |status, _| status == 200).await;
    let mut stream = listens(&gateway, OTHER_KEY).await;
    cloud.changes_flag(OTHER_ENV, &flag("other", 7));
    assert_eq!(stream.receives_event("*").await["identifier"], "other");
    gateway.stop().await;
}

#[tokio::test]
async fn targets_are_registered_after_a_panic() {
    let cloud = super::cloud().await;
    let gateway = started(&cloud, "").await;
    // Each of the tasks that share the work.
    for _ in 0..16 {
        gateway.supervisor.faults().arm("target registration");
    }
    gateway.eventually("a panic of each", || gateway.supervisor.faults().are_over()).await;
    for number in 0..20 {
        let target = json!({"identifier": format!("t{number}"), "attributes": {}});
        let call = Call::post("/client/auth", json!({"apiKey": KEY, "target": target}).to_string());
        assert_eq!(gateway.answers(&call).await.status, 200);
    }
    let count = || cloud.registered_targets().iter().filter(|it| it.1["identifier"] != "").count();
    until("all targets", || count() == 20).await;
    gateway.stop().await;
}

#[tokio::test]
async fn a_panic_on_a_large_target_ends_only_its_request() {
    let cloud = super::cloud().await;
    let gateway = started(&cloud, "").await;
    let target = json!({"identifier": "ada", "attributes": {"about": "x".repeat(100_000)}});
    let call = Call::post("/client/auth", json!({"apiKey": KEY, "target": target}).to_string());
    gateway.supervisor.faults().arm("target reader");
    assert_eq!(gateway.answers(&call).await.status, 503);
    assert!(gateway.supervisor.faults().are_over());
    assert_eq!(gateway.answers(&call).await.status, 200);
    gateway.stop().await;
}

#[tokio::test]
async fn an_offline_folder_is_served_although_its_task_or_its_reader_panicked() {
    let cloud = FakeHarness::start().await;
    let dir = TempDir::new().expect("a folder");
    let config = dir.path().join("config");
    let environment = |id: &str, key: &str, version: i64| {
        let keys = json!([FakeHarness::hash(key)]);
        writes(&config, id, &[("auth_config.json", keys), ("feature_config.json", json!([flag("a", version)]))]);
    };
    environment(ENV, KEY, 1);
    let gateway = offline::started(&cloud, dir).await;
    let mine = token(&gateway, KEY).await;
    let flag_a = Call::get(format!("/client/env/{ENV}/feature-configs/a")).key(&mine);
    let known = gateway.panics().await;
    assert!(known.contains_key("offline folder"), "counted from the start: {known:?}");
    for (version, place) in (2..).zip(["offline folder", "folder reader", "apply change"]) {
        gateway.supervisor.faults().arm(place);
        if place == "offline folder" {
            gateway.counts_a_panic(place, 0).await;
        }
        environment(ENV, KEY, version);
        eventually(&gateway, &flag_a, place, |_, it: &Value| it["version"] == version).await;
        assert!(gateway.supervisor.faults().are_over(), "{place}");
    }
    // While an environment is created.
    gateway.supervisor.faults().arm("apply change");
    environment(OTHER_ENV, OTHER_KEY, 5);
    let other = Call::post("/client/auth", json!({ "apiKey": OTHER_KEY }).to_string());
    eventually(&gateway, &other, "the new environment", |status, _| status == 200).await;
    assert!(gateway.supervisor.faults().are_over());
    let path = format!("/client/env/{OTHER_ENV}/feature-configs/a");
    let answer = gateway.answers(&Call::get(path).key(&token(&gateway, OTHER_KEY).await)).await;
    assert_eq!((answer.status, &answer.json()["version"]), (200, &json!(5)));
    gateway.stop().await;
}

#[tokio::test]
async fn primaries_and_read_replicas_survive_a_panic() {
    let Some(redis) = yardarm_testkit::RedisServer::start() else { return };
    let cloud = super::proxy_key::proxied_cloud().await;
    let primary = super::redis::primary(&cloud, &redis, "metric_post_interval = \"100ms\"").await;
    let gateway = Running::harness_replica(&redis.url(), "metric_post_interval = \"50ms\"").await;
    gateway.wait_until_ready().await;
    for task in ["shared Redis", "replica metrics"] {
        primary.panics_in(task).await;
    }
    // It runs only when there is something to write.
    primary.supervisor.faults().arm("shared targets");
    gateway.panics_in("read replica").await;
    let mut stream = listens(&gateway, KEY).await;
    cloud.changes_flag(ENV, &flag("a", 7));
    while stream.receives_event("*").await["version"] != 7 {}
    let path = format!("/metrics/{ENV}");
    let body = json!({"targetData": [{"identifier": "ada", "name": "Ada", "attributes": []}]}).to_string();
    let posted = gateway.answers(&Call::post(&path, body).key(&token(&gateway, KEY).await)).await;
    assert_eq!(posted.status, 200);
    gateway.eventually("metrics", || !cloud.posts(&path).is_empty()).await;
    let target = json!({"identifier": "eve", "name": "Eve", "attributes": {}});
    primary.answers(&Call::post("/client/auth", json!({"apiKey": KEY, "target": target}).to_string())).await;
    gateway.eventually("a target", || redis.get(&format!("env-{ENV}-target-config-eve")).is_some()).await;
    gateway.stop().await;
    primary.stop().await;
}
