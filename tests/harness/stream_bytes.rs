//! Arbitrary bytes on an upstream stream: an invalid message affects only itself, and the next message on the same
//! connection takes effect.

use std::time::Duration;

use serde_json::{Value, json};
use yardarm_testkit::{Call, FakeHarness, until};

use super::{ENV, KEY, OTHER_ENV, cloud, eventually, flag, started, token};
use crate::running::Running;

const PROXY: &str = "proxy-key-0001";

/// Bytes in between, none of which are a valid message.
const ODD: [&[u8]; 8] = [
    b": a comment \xff\xfe\xc3\n",
    b"\xe2\x82: a field\n\n",
    b"unknown: \xff\n\n",
    b"event: *\ndata: \xff\n\n",
    b"id: \xff\x01\n\n",
    b"event: *\ndata: {\"event\":\"patch\",\"domain\":\"flag\",\"identifier\":\"\xff\",\"version\":1e308}\r\r",
    b"retry: x\rid: \0\r\r\n\r\n",
    b":\r:\r\n:\n\r",
];

async fn changes_arrive_behind_odd_bytes(cloud: &FakeHarness, gateway: &Running, stream: &str) {
    until("a stream", || cloud.open_streams(stream) == 1).await;
    let call = Call::get(format!("/client/env/{ENV}/feature-configs/a")).key(&token(gateway, KEY).await);
    for (version, odd) in (3..).zip(ODD) {
        cloud.sends_bytes(stream, odd);
        cloud.changes_flag(ENV, &flag("a", version));
        eventually(gateway, &call, "the next change", |_, it: &Value| it["version"] == version).await;
    }
    let streams = cloud.gets("/stream").into_iter().filter(|it| it.header("api-key") != Some(super::OTHER_KEY));
    assert_eq!(streams.count(), 1, "no reconnect");
}

#[tokio::test]
async fn changes_of_a_key_arrive_after_invalid_bytes() {
    let cloud = cloud().await;
    let gateway = started(&cloud, "").await;
    changes_arrive_behind_odd_bytes(&cloud, &gateway, ENV).await;
}

#[tokio::test]
async fn changes_of_a_proxy_key_arrive_after_invalid_bytes() {
    let cloud = cloud().await;
    cloud.adds_proxy(PROXY, [ENV, OTHER_ENV]);
    let gateway = Running::before_harness_proxy(&cloud, PROXY, "").await;
    gateway.wait_until_ready().await;
    changes_arrive_behind_odd_bytes(&cloud, &gateway, PROXY).await;
}

async fn no_hot_loop(cloud: &FakeHarness, gateway: Running, stream: &str) {
    until("a stream", || cloud.open_streams(stream) == 1).await;
    let before = cloud.gets("/stream").len();
    let until_then = tokio::time::Instant::now() + Duration::from_millis(2500);
    while tokio::time::Instant::now() < until_then {
        cloud.sends_bytes(stream, "retry: 0\n\n");
        cloud.closes_streams(stream);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // After 0.5 to 1 s each: a connection with a heartbeat counts as healthy.
    let tries = cloud.gets("/stream").len() - before;
    assert!((1..=5).contains(&tries), "{tries}");
    gateway.stop().await;
}

#[tokio::test]
async fn upstream_cannot_cause_a_hot_loop() {
    let cloud = cloud().await;
    let gateway = started(&cloud, "").await;
    no_hot_loop(&cloud, gateway, ENV).await;
    cloud.adds_proxy(PROXY, [ENV, OTHER_ENV]);
    let gateway = Running::before_harness_proxy(&cloud, PROXY, "").await;
    gateway.wait_until_ready().await;
    no_hot_loop(&cloud, gateway, PROXY).await;
}

#[tokio::test]
async fn an_invalid_version_freezes_no_item() {
    let cloud = cloud().await;
    let gateway = started(&cloud, "").await;
    until("a stream", || cloud.open_streams(ENV) == 1).await;
    let call = Call::get(format!("/client/env/{ENV}/feature-configs/a")).key(&token(&gateway, KEY).await);
    for (next, version) in (3..).zip([json!(1e308), json!(-1), json!(2.5), json!("7"), json!(i64::MAX), json!(1e15)]) {
        let mut bad = flag("a", 0);
        bad["version"] = version.clone();
        if version != json!(1e15) {
            cloud.changes_flag(ENV, &bad);
        }
        cloud.changes_flag(ENV, &flag("a", next));
        eventually(&gateway, &call, "the next version", |_, it: &Value| it["version"] == next).await;
    }
}
